"""Folders of studies: ``tuning/<name>/<version>`` below the home; never overwritten, resumed after a crash."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.storage.files import AnyPath, exists, write_bytes
from luna_pipeline.core.training.checkpoints import CheckpointStore
from luna_pipeline.settings import Settings

NOTE = "study.json"


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyNote:
    """Content of a study's file ``study.json``.

    Attributes:
        digest: Digest of the configuration, see ``StudyConfig.digest``.
        index_digest: Digest of the cutout index.
        test_fold: Fold that is not used.
        validation_fold: Fold that scores the trials.
        study: The configuration as plain values.
        mlflow_run_id: MLflow run of the study.
        is_complete: Whether the study is done.
    """

    digest: str
    index_digest: str
    test_fold: int
    validation_fold: int
    study: Mapping[str, Any]
    mlflow_run_id: str | None = None
    is_complete: bool = False

    def is_of(self, other: "StudyNote") -> bool:
        """Return whether both are the same study."""
        mine, others = ((n.digest, n.index_digest, n.test_fold, n.validation_fold) for n in (self, other))
        return mine == others

    def differences(self, other: "StudyNote") -> list[str]:
        """Return the names of what differs from another study."""
        mine, others = (
            {"index": n.index_digest, "test_fold": n.test_fold, "validation_fold": n.validation_fold, **n.study}
            for n in (self, other)
        )
        return [name for name in {**mine, **others} if mine.get(name) != others.get(name)]


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """Folders of a study.

    Attributes:
        folder: Shared by all processes, on a disk or in S3.
        local_folder: On each machine, for locks, TensorBoard logs and Ray's state.
        is_new: Whether the study starts from scratch.
    """

    folder: AnyPath
    local_folder: Path
    is_new: bool

    @property
    def title(self) -> str:
        """Name and version: ``nodule_classifier 0.0.1-fold0``."""
        return " ".join(self.folder.parts[-2:])

    def note(self) -> StudyNote:
        """Read ``study.json``."""
        return _read_note(self.folder / NOTE)

    def keep(self, note: StudyNote) -> None:
        """Write ``study.json``."""
        self.write(NOTE, json.dumps(asdict(note), indent=1).encode())

    def write(self, name: str, content: bytes) -> AnyPath:
        """Write a file of results and return its path."""
        write_bytes(self.folder / name, content)
        return self.folder / name


def _read_note(path: AnyPath) -> StudyNote:
    values = read_json_object(path, "A study's note", advice="Remove its folder, or start another study.")
    try:
        return StudyNote(**values)
    except TypeError as error:
        rule = f"A study's note must hold the entries of a study, got {sorted(values)!s:.200} ({path})."
        raise ValueError(f"{rule} Remove its folder, or start another study.") from error


@contextlib.contextmanager
def study_folder(
    settings: Settings, name: str, version: str, note: StudyNote, *, resume: bool
) -> Iterator[StudyFolder]:
    """Lock the folder of the same study if it was interrupted, else create a new one.

    Args:
        settings: Paths.
        name: Name of the tuned classifier.
        version: Version of the study; if it exists, the next build is created.
        note: Content of a new ``study.json``.
        resume: Whether an unfinished study with the same configuration is resumed.

    Yields:
        The folder, locked against other processes of this machine.
    """
    studies = CheckpointStore(settings.home / "tuning", locks=settings.local_home / "tuning")
    with contextlib.ExitStack() as stack:
        unfinished = _locked_unfinished(studies, name, version, note, stack) if resume else None
        claimed = unfinished or studies.claim(name, version)
        if unfinished is None:
            stack.enter_context(studies.locked(name, claimed))
            studies.end_claim(name, claimed)
        taken = StudyFolder(
            folder=studies.path(name, claimed).parent,
            local_folder=settings.local_home / "tuning" / name / claimed,
            is_new=unfinished is None,
        )
        if taken.is_new:
            taken.keep(note)
        yield taken


def _locked_unfinished(
    studies: CheckpointStore, name: str, wanted: str, note: StudyNote, stack: contextlib.ExitStack
) -> str | None:
    for version in reversed(studies.versions(name)):
        path = studies.path(name, version).parent / NOTE
        if not exists(path):
            continue
        try:
            found = _read_note(path)
        except ValueError as error:
            _log.warning("The study %s %s cannot be resumed: %s", name, version, error)
            continue
        if found.is_complete:
            continue
        if not found.is_of(note):
            if version.partition("+")[0] == wanted:
                differing = ", ".join(found.differences(note)) or "an earlier version of luna_pipeline"
                text = "The unfinished study %s %s is not resumed, a new one starts. What differs: %s."
                _log.warning(text, name, version, differing)
            continue
        # A locked study is still running.
        with contextlib.suppress(BlockingIOError):
            stack.enter_context(studies.locked(name, version))
            return version
    return None
