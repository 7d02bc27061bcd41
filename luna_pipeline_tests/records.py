"""What a pipeline test had made at its end, as digests: by them runs of the tests on different storages are compared.

Two runs are equal where only what is said here to be left out differs. So that hashes of patients and looks of CTs can
be compared as well, a session that keeps a record gives all installations the same key and all CTs the same times.
"""

import hashlib
import io
import json
import os
import re
import zipfile
from collections import Counter
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.storage.files import content_of
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline_tests.installation import Luna

SETTLED_SECONDS = 1_600_000_000
KEY = bytes(range(32))

LEFT_OUT_COLUMNS = {
    "training_seconds": "measured time",
    "scoring_seconds": "measured time",
    "candidates_per_second": "of measured time",
    "seconds": "measured time",
}
"""Columns of any table that are not compared, and why; that they are there is."""
LEFT_OUT_METRICS = {"system/": "what the machine was at"}
"""Beginnings of names of metrics that are not compared, and why."""
TIME_OF_TRAINING = re.compile(r"(?<=\| training \| )[^|]+ s(?= \|)")
"""Where a model card says how long training took."""
FACTS = (
    "epoch",
    "num_samples_seen",
    "best_score",
    "decision",
    "training_series",
    "validation_series",
    "data_fingerprint",
)
"""What is compared of a checkpoint beside its weights."""
MAX_RUNS = 1000

Parts = dict[str, Any]
"""What there is of one table, file or run, by name: digests, numbers."""


class Record:
    """A file with a line of JSON a test."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def begun(cls, path: Path) -> "Record":
        path.write_text("")
        return cls(path)

    def settle(self, data: Path) -> None:
        """Give all files the same time: how a CT looks from outside is part of its fingerprint."""
        for path in data.rglob("*"):
            if path.is_file():
                os.utime(path, (SETTLED_SECONDS, SETTLED_SECONDS))

    def prepare(self, luna: Luna) -> None:
        """Give the installation the same key as all others have."""
        luna.settings.local_home.mkdir(parents=True, exist_ok=True)
        (luna.settings.local_home / "patient_key").write_bytes(KEY)

    def add(self, test: str, luna: Luna) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"test": test, **made_by(luna)}) + "\n")


def made_by(luna: Luna) -> dict[str, dict[str, Parts]]:
    """Return what there is in the home and in MLflow, kind by kind."""
    touched, runs = _touched(luna), _runs_in_mlflow(luna)
    plain = _Plain(luna, runs)
    names = {kind: luna.names(kind) for kind in ("tables", "checkpoints", "submissions")}
    return {
        "tables": {
            name.removesuffix(".parquet"): _table(luna, f"tables/{name}", touched, plain)
            for name in names["tables"]
            if name.endswith(".parquet")
        },
        "cutouts": {PurePath(name).stem: _cutouts(luna.read(name), touched) for name in luna.cutout_files},
        "checkpoints": {
            name.removesuffix(".pt"): _checkpoint(luna, f"checkpoints/{name}")
            for name in names["checkpoints"]
            if name.endswith(".pt")
        },
        "submissions": {name: {"content": _digest(luna.read(f"submissions/{name}"))} for name in names["submissions"]},
        "runs in MLflow": {name: _metrics(luna, run) for name, run in runs.items()},
    }


def _touched(luna: Luna) -> set[str]:
    """Names of CTs whose files the test wrote itself, at a time that is another in each run, and of their folders."""
    files = [path for path in luna.data.rglob("*") if path.is_file()]
    return {name for path in files if path.stat().st_mtime != SETTLED_SECONDS for name in (path.stem, path.parent.name)}


class _Plain:
    """Text as every run of the tests would have it: without places, random ids and measured times."""

    def __init__(self, luna: Luna, runs: dict[str, Any]) -> None:
        self._words = {str(luna.home): "<home>", str(luna.root): "<root>"}
        # Whose run it is that a table names is compared: by its name, where the id is another each time.
        self._words |= {run.info.run_id: f"<{name}>" for name, run in runs.items()}

    def __call__(self, text: str) -> str:
        for word, name in self._words.items():
            text = text.replace(word, name)
        return TIME_OF_TRAINING.sub("<time>", text)


def _table(luna: Luna, name: str, touched: set[str], plain: _Plain) -> Parts:
    table = pd.read_parquet(content_of(luna.file(name)))
    if name == "tables/ct_series.parquet":
        # A CT's fingerprint is of its own files, its stat_digest of all in its folder,
        # which may be a DICOM series.
        is_own = table["series_instance_uid"].isin(touched)
        is_in_own = table["path"].map(lambda path: bool({PurePath(path).name, PurePath(path).parent.name} & touched))
        for column, rows in {"fingerprint": is_own, "stat_digest": is_own | is_in_own}.items():
            table.loc[rows, column] = "of the test's own time"
    compared = [column for column in table if column not in LEFT_OUT_COLUMNS]
    digests = {f"column {column}": _column(table[column], plain) for column in compared}
    return {"rows": len(table), "columns": list(table.columns), **digests}


def _column(column: pd.Series, plain: _Plain) -> str:
    values = [value.tolist() if isinstance(value, np.ndarray) else value for value in column.tolist()]
    return _digest(plain(f"{column.dtype} {values!r}").encode())


def _cutouts(content: bytes, touched: set[str]) -> Parts:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as members:
            arrays = {name: members[name] for name in members.files}
    except zipfile.BadZipFile:
        # The test has damaged it, and nobody has cut it again.
        return {"damaged file": _digest(content)}
    header = json.loads(arrays.pop("header").tobytes())
    parts = {f"member {name}": _array(array) for name, array in arrays.items()}
    if header["series_instance_uid"] not in touched:
        return {**parts, "header": header, "file": _digest(content)}
    # Of the CT's looks, which the file as a whole holds as well.
    header["fingerprints"].pop("ct")
    return {**parts, "header": header}


def _checkpoint(luna: Luna, name: str) -> Parts:
    checkpoint = load_checkpoint(luna.file(name))
    weights = {f"tensor {name}": _array(tensor.numpy()) for name, tensor in checkpoint.model_state.items()}
    return {**weights, **{name: repr(getattr(checkpoint, name)) for name in FACTS}}


def _runs_in_mlflow(luna: Luna) -> dict[str, Any]:
    """Return all runs by their names; those of one name are numbered in the order of their start."""
    from mlflow import MlflowClient

    address = luna.settings.mlflow_tracking_uri
    if address.startswith("sqlite:///") and not Path(address.removeprefix("sqlite:///")).exists():
        return {}
    client, found, times = MlflowClient(address), {}, Counter[str]()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(ids, max_results=MAX_RUNS, order_by=["attributes.start_time ASC"]):
        times[run.info.run_name] += 1
        found[f"{run.info.run_name} ({times[run.info.run_name]})"] = run
    assert len(found) < MAX_RUNS
    return found


def _metrics(luna: Luna, run: Any) -> Parts:
    from mlflow import MlflowClient

    client = MlflowClient(luna.settings.mlflow_tracking_uri)
    keys = [key for key in sorted(run.data.metrics) if not key.startswith(tuple(LEFT_OUT_METRICS))]
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in keys}
    values = {f"metric {key}": sorted([v.step, repr(v.value)] for v in history) for key, history in histories.items()}
    return {"status": run.info.status, **values}


def _array(array: np.ndarray) -> str:
    return _digest(f"{array.dtype} {array.shape} ".encode() + array.tobytes())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
