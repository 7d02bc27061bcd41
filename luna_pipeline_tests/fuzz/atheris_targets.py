"""Coverage-guided fuzzing of the project's own parsers by atheris: any exception but the documented ones is a crash.

``python -m luna_pipeline_tests.fuzz.atheris_targets TARGET FOLDER [libFuzzer options, such as -max_total_time=1200]``
keeps its corpus and the inputs that crash in FOLDER. Needs ``pip install atheris``; see docs/development.md.
"""

import gzip
import logging
import os
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["luna_pipeline"], enable_loader_override=False):
    from luna_pipeline.core.candidates.csv_tables import parse_numbers, read_table
    from luna_pipeline.core.ct.reading import read_ct
    from luna_pipeline.core.cutouts.store import CutoutStore
    from luna_pipeline.core.evaluation.froc_files import check_marks, read_froc_tables
    from luna_pipeline.core.evaluation.official import evaluate_froc

COLUMNS = ("series_instance_uid", "x", "y", "z", "class")
HEADER = b"seriesuid,coordX,coordY,coordZ"
UID = "1.2.3"
METAIMAGE = (
    b"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    b"TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\nDimSize = 2 2 2\n"
    b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n" + bytes(16)
)
NRRD = (
    b"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\n"
    b"space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
    b"space origin: (0,0,0)\n\n" + bytes(16)
)


def check_message(error: Exception) -> None:
    """A documented error says in one line what was got."""
    text = str(error)
    if isinstance(error, UnicodeError) or "\n" in text or (", got" not in text and not isinstance(error, OSError)):
        raise AssertionError(f"a message must be one line with what was got: {text!r}") from error


def run_ct(path: Path) -> None:
    read_ct(path, series_instance_uid=UID)


def run_table(path: Path) -> None:
    table = read_table(path, COLUMNS, optional=("is_malignant",))
    for column in ("x", "y", "z", "class"):
        parse_numbers(table[column])


def run_submission(path: Path) -> None:
    folder = path.parent
    tables = read_froc_tables(
        annotations=folder / "annotations.csv", excluded=None, series=folder / "series.csv", predictions=path
    )
    check_marks(tables)
    evaluate_froc(tables, num_bootstraps=2, seed=0)


def run_npz(path: Path) -> None:
    store = CutoutStore(path.parent)
    store.check(UID)
    store.read(UID)


def cutout_file() -> bytes:
    from luna_pipeline_tests.core.cutout_examples import write_examples

    with tempfile.TemporaryDirectory() as folder:
        write_examples(Path(folder), folds={UID: 0}, num_per_series=2, shape_irc=(2, 2, 2))
        return (Path(folder) / f"{UID}.npz").read_bytes()


def nifti() -> bytes:
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, 2, 2, 2, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 4, 16)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<3f", head, 108, 352, 1, 0)
    struct.pack_into("<B2h", head, 123, 2, 1, 1)
    struct.pack_into("<12f", head, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    head[344:348] = b"n+1\0"
    return bytes(head) + bytes(16)


TABLE = HEADER + b",class\n" + UID.encode() + b",1.5,-2,3e1,1\n" + UID.encode() + b",1,2,3,0\n"
SUBMISSION = HEADER + b",probability\n" + UID.encode() + b",1,2,3,0.5\n" + UID.encode() + b",9,9,9,0.1\n"
TARGETS: dict[str, tuple[str, Callable[[Path], None], Callable[[], list[bytes]]]] = {
    "tables": ("table.csv", run_table, lambda: [TABLE, TABLE.replace(b"1.5", b'"1.5"'), TABLE.replace(b"\n", b"\r\n")]),
    "packed_tables": ("table.csv.gz", run_table, lambda: [gzip.compress(TABLE)]),
    "submissions": ("marks.csv", run_submission, lambda: [SUBMISSION, SUBMISSION.replace(b"0.5", b'"0.5"')]),
    "aligned_npz": (f"{UID}.npz", run_npz, lambda: [cutout_file()]),
    "metaimage": (f"{UID}.mha", run_ct, lambda: [METAIMAGE, METAIMAGE.replace(b"MET_SHORT", b"MET_DOUBLE")]),
    "nrrd": (f"{UID}.nrrd", run_ct, lambda: [NRRD]),
    "nifti": (f"{UID}.nii", run_ct, lambda: [nifti()]),
}


def main() -> None:
    """Fuzz one target."""
    name, place, *options = sys.argv[1:]
    file_name, run, make_seeds = TARGETS[name]
    logging.disable()
    # What a header may announce, and so the time of an input, is small.
    os.environ.update(LUNA_MAX_CT_GIB="0.01", LUNA_VERIFY_READS="0")
    corpus = Path(place) / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(make_seeds()):
        (corpus / f"seed{number}").write_bytes(seed)
    folder = corpus.parent / f"{name}-input"
    folder.mkdir(exist_ok=True)
    (folder / "annotations.csv").write_bytes(HEADER + b",diameter_mm\n" + UID.encode() + b",1,2,3,6\n")
    (folder / "series.csv").write_text(UID + "\n")

    def test_one_input(data: bytes) -> None:
        (folder / file_name).write_bytes(data)
        try:
            run(folder / file_name)
        except (ValueError, OSError) as error:
            check_message(error)

    atheris.Setup([sys.argv[0], f"-artifact_prefix={corpus.parent}/{name}-", *options, str(corpus)], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
