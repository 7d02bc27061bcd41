"""Data roots of good series and malformed inputs: the work of `luna create_cutouts` on them, and what must hold."""

import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from luna_pipeline.core.ct.reading import read_ct
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.selection import CandidateSelection
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.launchers.cutout_maintenance import verify_cutouts
from luna_pipeline.launchers.cutting import CuttingRequest, create_cutouts
from luna_pipeline.settings import Settings
from luna_pipeline_tests.fuzz import oracles
from luna_pipeline_tests.fuzz.ct_files import SIZE_IRC
from luna_pipeline_tests.fuzz.inputs import Malformed
from luna_pipeline_tests.fuzz.limits import TooMuchError, complaint_of, limited
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct, write_dicom_series

GOOD = {"1.2.1": 1, "1.2.2": 2}
"""Seeds of the voxels of the good series: a MetaImage and a DICOM series."""

SHAPE_IRC = (2, 4, 4)
_REQUEST = CuttingRequest(CuttingParameters(chunk_shape_irc=SHAPE_IRC), CandidateSelection())
# Voxel (3, 4, 5) of a CT of the tests' size.
_POINT_XYZ = (-50 + 5 * 0.7, -40 + 4 * 0.8, -300 + 3 * 2.5)


class Lines:
    """Keeps what the command line would show."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failed: dict[str, str] = {}

    def report(self, line: str) -> None:
        self.lines.append(line)

    def on_plan(self, *_: object) -> None:
        pass

    def on_outcome(self, _: object) -> None:
        pass

    def on_failure(self, series_instance_uid: str, reason: str) -> None:
        self.failed[series_instance_uid] = reason


def complaints_about(inputs: Sequence[Malformed], check: Callable[[Sequence[Malformed]], list[str]]) -> list[str]:
    """Return what is wrong; of inputs that fail together the single ones are found by halving."""
    try:
        return check(inputs)
    except (Exception, RecursionError, TooMuchError) as error:
        if len(inputs) == 1:
            (item,) = inputs
            return [f"{item.name} ({item.change}): {type(error).__name__}: {str(error)[:800]}"]
        told = f"{type(error).__name__}: {str(error)[:800]}"
    middle = len(inputs) // 2
    found = [*complaints_about(inputs[:middle], check), *complaints_about(inputs[middle:], check)]
    return found or [f"only together: {', '.join(item.name for item in inputs)}: {told}"]


def check_root(inputs: Sequence[Malformed]) -> list[str]:
    """Cut a root with good series and these inputs; return what is wrong, by input."""
    place = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        settings = Settings.from_environment(
            {
                "LUNA_DATA_DIR": str(place / "data"),
                "LUNA_HOME": str(place / "home"),
                "LUNA_CACHE": str(place / "cache"),
                "MLFLOW_TRACKING_URI": "",
            }
        )
        _write_root(settings.data_dir, inputs)
        lines = Lines()
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            create_cutouts(settings, _REQUEST, lines, workers=1, is_synced=False)
            _check_good(settings)
            catalogue = pd.read_parquet(settings.tables_dir / "ct_series.parquet")
            return list(_complaints(inputs, settings, catalogue, lines))
    finally:
        # Python's own removal recurses, too deep for one of the inputs.
        subprocess.run(["rm", "-rf", str(place)], check=True)


def _write_root(root: Path, inputs: Sequence[Malformed]) -> None:
    uids = list(GOOD)
    spacing = {"spacing_mm": (0.7, 0.8, 2.5), "origin_xyz": (-50.0, -40.0, -300.0)}
    write_ct(root / "subset0", uids[0], random_hounsfield(SIZE_IRC, seed=GOOD[uids[0]]), **spacing)
    write_dicom_series(root / "subset1" / "good", uids[1], random_hounsfield(SIZE_IRC, seed=GOOD[uids[1]]), **spacing)
    for item in inputs:
        item.write(root / "odd" / item.name)
    point = ",".join(f"{value:.6g}" for value in _POINT_XYZ)
    rows = [f"{uid},{point},{number % 2}" for number, uid in enumerate([*uids, *(item.uid for item in inputs)])]
    (root / "candidates.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,class", *rows, ""]))


def _check_good(settings: Settings) -> None:
    """Compare the cutouts of the good series with their voxels, and verify every file."""
    store = CutoutStore(settings.cutouts_dir)
    for uid, seed in GOOD.items():
        expected = random_hounsfield(SIZE_IRC, seed=seed)[2:4, 2:6, 3:7]
        cutouts = store.read(uid)
        np.testing.assert_array_equal(np.asarray(cutouts.ct_chunks[0]), np.clip(expected, -1000, 1000), err_msg=uid)
    assert verify_cutouts(settings, repair=False, report=lambda _: None) == {}


def _complaints(
    inputs: Sequence[Malformed], settings: Settings, catalogue: pd.DataFrame, lines: Lines
) -> Iterator[str]:
    """Yield for each input what is wrong with its rows, its line, or its voxels."""
    folders = catalogue["path"].map(lambda path: tuple(path.split("/")[:2]))
    for item in inputs:
        about = f"{item.name} ({item.change})"
        rows = catalogue[folders == ("odd", item.name)]
        if rows.empty and oracles.must_be_listed(settings.data_dir / "odd" / item.name):
            yield f"{about}: it is not in the catalogue"
        for row in rows.itertuples():
            reason = lines.failed.get(row.series_instance_uid) if row.is_readable else row.reason
            if reason is None:
                yield from (f"{about}: {text}" for text in _differences(settings.data_dir, row))
                continue
            if complaint := complaint_of(reason):
                yield f"{about}: {complaint}"
            told = [line for line in lines.lines if reason in line and item.name in line.split(": ")[0].split("/")]
            told += [line for uid, line in lines.failed.items() if uid == row.series_instance_uid]
            if len(told) != 1 or "\n" in told[0]:
                yield f"{about}: it must be told in one line, got {told!r} of {reason!r}"


def _differences(root: Path, row: object) -> Iterator[str]:
    """Yield how the accepted voxels differ from those of SimpleITK or pydicom."""
    path = root / row.path
    try:
        ct = read_ct(path, series_instance_uid=row.series_instance_uid)
    except Exception as error:
        yield f"it was cut, and then not read: {type(error).__name__}: {error}"
        return
    difference = oracles.difference(path, ct)
    if difference is not None:
        yield f"accepted, but {difference}"
