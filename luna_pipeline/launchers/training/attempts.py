"""Notes on runs before their first checkpoint, so that the next attempt takes on the MLflow run of a killed one."""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.storage.files import write_bytes
from luna_pipeline.tracking.mlflow_run import KILLED, MlflowRun


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A run that has opened its MLflow run.

    Attributes:
        mlflow_run_id: Id of the MLflow run.
        config_digest: ``TrainingConfig.digest`` of the run.
        data_fingerprint: ``DataModule.fingerprint`` of the run.
    """

    mlflow_run_id: str
    config_digest: str
    data_fingerprint: str

    def is_of(self, config_digest: str, data_fingerprint: str) -> bool:
        """Return whether it is of this configuration and these data."""
        return (self.config_digest, self.data_fingerprint) == (config_digest, data_fingerprint)


def read_attempt(file: Path) -> Attempt | None:
    """Return the attempt of a killed process; None if there is none, or its note is damaged."""
    try:
        return Attempt(**read_json_object(file, "A note of an attempt", advice="Remove it."))
    except (OSError, ValueError, TypeError):
        return None


def write_attempt(file: Path, attempt: Attempt) -> None:
    """Write the note of an attempt."""
    write_bytes(file, json.dumps(asdict(attempt)).encode())


def end_killed(run: MlflowRun, attempt: Attempt) -> None:
    """Set the MLflow run of a killed attempt, of another configuration or data, to KILLED; best effort."""
    # It may have been logged to another server, or removed.
    with contextlib.suppress(Exception):
        if run.client.get_run(attempt.mlflow_run_id).info.status == "RUNNING":
            run.client.set_terminated(attempt.mlflow_run_id, KILLED)
