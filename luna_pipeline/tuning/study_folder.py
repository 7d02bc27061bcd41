"""Where studies lie: ``tuning/<name>/<version>`` below the home, never overwritten, taken up where they were lost."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luna_pipeline.core.storage.files import AnyPath, exists, read_bytes, write_bytes
from luna_pipeline.core.training.checkpoints import CheckpointStore
from luna_pipeline.settings import Settings

NOTE = "study.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyNote:
    """What a study is, in its file ``study.json``.

    Attributes:
        digest: Identity of its configuration, see ``StudyConfig.digest``.
        index_digest: Identity of the cutout index.
        test_fold: The fold that it does not touch.
        validation_fold: The fold that its scores are of.
        study: The configuration as plain values.
        mlflow_run_id: Its MLflow run, where there is one.
        is_complete: Whether all is done.
    """

    digest: str
    index_digest: str
    test_fold: int
    validation_fold: int
    study: Mapping[str, Any]
    mlflow_run_id: str | None = None
    is_complete: bool = False

    def is_of(self, other: "StudyNote") -> bool:
        """Say whether both are the same study."""
        mine, others = ((n.digest, n.index_digest, n.test_fold, n.validation_fold) for n in (self, other))
        return mine == others


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """A study's place.

    Attributes:
        folder: What all its processes reach, on a disk or in S3.
        local_folder: Of each machine, for locks, TensorBoard's logs and Ray's notes.
        is_new: Whether nothing was done yet.
    """

    folder: AnyPath
    local_folder: Path
    is_new: bool

    @property
    def title(self) -> str:
        """What the study is called: ``nodule_classifier 0.0.1-fold0``."""
        return " ".join(self.folder.parts[-2:])

    def note(self) -> StudyNote:
        """Return what the study is."""
        return StudyNote(**json.loads(read_bytes(self.folder / NOTE)))

    def keep(self, note: StudyNote) -> None:
        """Write what the study is."""
        self.write(NOTE, json.dumps(asdict(note), indent=1).encode())

    def write(self, name: str, content: bytes) -> AnyPath:
        """Write a file of the study's results, and return where it is."""
        write_bytes(self.folder / name, content)
        return self.folder / name


@contextlib.contextmanager
def study_folder(
    settings: Settings, name: str, version: str, note: StudyNote, *, resume: bool
) -> Iterator[StudyFolder]:
    """Take a study's folder for as long as it is worked on: that of the same study, if it was lost; else a new one.

    Args:
        settings: Where everything lies.
        name: What is tuned.
        version: Version asked for; where it exists, the next build of it is taken.
        note: What the study is.
        resume: Whether an unfinished study of the same kind is gone on with.

    Yields:
        The folder; nobody else of this machine works in it.
    """
    studies = CheckpointStore(settings.home / "tuning", locks=settings.local_home / "tuning")
    with contextlib.ExitStack() as stack:
        unfinished = _locked_unfinished(studies, name, note, stack) if resume else None
        claimed = unfinished or studies.claim(name, version)
        if unfinished is None:
            stack.enter_context(studies.locked(name, claimed))
        taken = StudyFolder(
            folder=studies.path(name, claimed).parent,
            local_folder=settings.local_home / "tuning" / name / claimed,
            is_new=unfinished is None,
        )
        if taken.is_new:
            taken.keep(note)
        yield taken


def _locked_unfinished(studies: CheckpointStore, name: str, note: StudyNote, stack: contextlib.ExitStack) -> str | None:
    for version in reversed(studies.versions(name)):
        path = studies.path(name, version).parent / NOTE
        if not exists(path):
            continue
        found = StudyNote(**json.loads(read_bytes(path)))
        if found.is_complete or not found.is_of(note):
            continue
        # One that somebody works on is not lost.
        with contextlib.suppress(BlockingIOError):
            stack.enter_context(studies.locked(name, version))
            return version
    return None
