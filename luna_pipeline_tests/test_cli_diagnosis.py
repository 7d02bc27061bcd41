"""The command `luna diagnose`: what it prints, exit codes, and one line for each CT that cannot be diagnosed."""

from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.phantom.marker import MARKER
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline_tests.command_line import Done, run_here
from luna_pipeline_tests.diagnosis_models import save_models
from luna_pipeline_tests.phantoms import write_ct, write_dicom_series

UID = "1.2.840.5"
CHEST = make_series(PhantomConfig(seed=2, number=3, size_irc=(40, 72, 72)))
PLACE = {
    "spacing_mm": CHEST.grid.spacing_mm,
    "origin_xyz": CHEST.grid.origin_xyz,
    "direction": CHEST.grid.direction,
}
HOUNSFIELD = CHEST.hounsfield.clip(-1024)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("command")
    write_ct(root / "volume", UID, HOUNSFIELD, **PLACE)
    (root / "volume" / MARKER).write_text("")
    save_models(root / "home", decision=Decision.at(0.01))
    return root


def diagnose(root: Path, *arguments: str, home: str = "home") -> "Done[str]":
    return run_here(
        "diagnose", *arguments, cwd=root, environment={"LUNA_HOME": str(root / home), "LUNA_DATA_DIR": str(root)}
    )


def refused(done: "Done[str]", *parts: str, code: int = 1) -> None:
    """One line on standard error, no other output, and the exit code."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    text = done.stderr.strip()
    assert "Traceback" not in text
    if code == 1:
        assert len(text.splitlines()) == 1, text
    for part in parts:
        assert part in text


def test_it_prints_nodules_models_seconds_and_paths(root: Path):
    arguments = (f"volume/{UID}.mhd", "--out", "out", "--set", "merge_mm=0.5", "--set", "lung_margin_mm=0")
    first = diagnose(root, *arguments)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    header, table, *rows = first.stdout.splitlines()
    assert header.startswith(f"Series {UID}: ")
    assert table.split() == ["no.", "probability", "malignancy", "diameter", "mm", "x,", "y,", "z", "mm"]
    assert float(rows[0].split()[1]) >= float(rows[1].split()[1]) >= 0.01
    for part in (
        "Synthetic data",
        "segmenter nodule_segmenter 0.0.1, classifier nodule_classifier 0.0.1",
        "segmentation 0.",
        "Wrote out. Research use only",
    ):
        assert part in first.stdout
    assert (root / "out/diagnosis.json").exists()
    again = diagnose(root, *arguments)
    assert again.stdout.startswith("Unchanged: the same input, models and recipe")
    repeated, said = (
        [line for line in text.splitlines() if not line.startswith("Seconds: ")]
        for text in (again.stdout, first.stdout)
    )
    # Seconds are those until the line was printed.
    assert repeated[1:] == said
    assert not diagnose(root, *arguments, "--again").stdout.startswith("Unchanged")


def test_a_ct_that_cannot_be_diagnosed_is_one_line(root: Path):
    (root / "empty").mkdir()
    head = np.full((40, 64, 64), -1000, dtype=np.int16)
    head[:, 12:52, 12:52] = 40
    write_ct(root / "head", UID, head)
    write_dicom_series(root / "mr", UID, HOUNSFIELD, **PLACE, tags={"Modality": "MR"})
    write_dicom_series(root / "single", UID, HOUNSFIELD[:1], **PLACE)
    (root / "text.mhd").write_text("no header")
    cases = {
        "empty": ("got none", "empty"),
        "head": ("lungs", "got"),
        "mr": ("MR",),
        "single": ("got",),
        "text.mhd": ("got",),
    }
    for name, parts in cases.items():
        refused(diagnose(root, name, "--out", "refused"), *parts)
    assert not (root / "refused").exists()


def test_twenty_slices_are_diagnosed_or_refused_in_one_line(root: Path):
    write_ct(root / "twenty", UID, HOUNSFIELD[10:30], **PLACE)
    done = diagnose(root, "twenty", "--out", "twenty-out")
    assert done.returncode == 0, done.stderr
    write_ct(root / "thin", UID, HOUNSFIELD[20:22], **PLACE)
    refused(diagnose(root, "thin", "--out", "thin-out"), "axial slices", "got 2")
    cut_off = diagnose(root, "thin", "--out", "thin-out", "--recipe", "book")
    refused(cut_off, "edge rule 'shift'", "got (2, 72, 72)")


def test_no_models_wrong_models_and_damaged_files_are_one_line(root: Path):
    volume = f"volume/{UID}.mhd"
    refused(diagnose(root, volume, "--out", "none", home="nothing"), "got no segmenter", "import_book_weights")
    refused(diagnose(root, volume, "--out", "none", "--segmenter", "nodule_classifier"), "given as segmenter must be")
    refused(diagnose(root, volume, "--out", "none", "--classifier", "models:/nodule_classifier@best"), "got")
    (root / "damaged.pt").write_bytes(b"PK\x03\x04")
    refused(diagnose(root, volume, "--out", "none", "--classifier", "damaged.pt"), "damaged.pt")
    assert not (root / "none").exists()


def test_wrong_usage_has_code_2_before_anything_is_read(root: Path):
    volume = f"volume/{UID}.mhd"
    cases = {
        ("nowhere", "--out", "o"): "nowhere",
        (volume,): "--out",
        (volume, "--out", "o", "--recipe", "tiny"): "--recipe",
        (volume, "--out", "o", "--set", "merge_mm"): "PLACE=VALUE",
        (volume, "--out", "o", "--set", "merge=1"): "merge_mm",
        (volume, "--out", "o", "--set", "overlap=2"): "overlap must be in [0, 0.9]",
        (volume, "--out", "o", "--device", "tpu"): "--device",
        (volume, "--out", f"volume/{UID}.mhd"): "--out",
    }
    for arguments, part in cases.items():
        refused(diagnose(root, *arguments), part, code=2)


def test_several_series_are_listed_and_one_is_chosen(root: Path):
    for number in (1, 2):
        write_ct(root / "two", f"{UID}.{number}", HOUNSFIELD, **PLACE)
    refused(diagnose(root, "two", "--out", "two-out"), f"{UID}.1", f"{UID}.2", "--series UID")
    done = diagnose(root, "two", "--out", "two-out", "--series", f"{UID}.2")
    assert done.stdout.startswith(f"Series {UID}.2")


def test_the_help_names_the_recipes_and_the_outputs(root: Path):
    text = " ".join(diagnose(root, "--help").stdout.split())
    for part in ("default, or book", "diagnosis.json", "models:/NAME@ALIAS", "--assume-hu", "--no-dicom"):
        assert part in text
