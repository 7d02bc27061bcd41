"""Where checkpoints lie: a folder a name and version, never overwritten, locked while it is trained."""

import contextlib
import fcntl
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from luna_pipeline.core.training.checkpoint_file import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CheckpointStore",
    "Kind",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
]

Kind = Literal["best", "last", "best_so_far"]


@dataclass(frozen=True)
class CheckpointStore:
    """Checkpoints below one folder: ``<root>/<name>/<version>/{best,last}.pt``.

    ``last.pt`` is the run at the end of its last epoch, ``best_so_far.pt`` the weights that would be chosen
    now, and ``best.pt`` the chosen ones: it comes last and says that the run is complete.

    Attributes:
        root: The folder; made where it is missing.
    """

    root: Path

    def claim(self, name: str, version: str) -> str:
        """Take a version for a new run.

        Returns:
            ``version``, or its first free build: ``0.0.1+1``, ``0.0.1+2``. Two runs never get the same.
        """
        for build in itertools.count():
            claimed = version if build == 0 else f"{version}+{build}"
            folder = self.path(name, claimed).parent
            folder.parent.mkdir(parents=True, exist_ok=True)
            # mkdir fails where the folder is: of two runs at the same moment one gets the next build.
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return claimed
        raise AssertionError

    def path(self, name: str, version: str, kind: Kind = "best") -> Path:
        """Return where a checkpoint is or will be.

        Raises:
            ValueError: If name or version cannot be a folder's name.
        """
        for word, value in (("name", name), ("version", version)):
            if not re.fullmatch(r"\w[\w .+-]{0,99}", value):
                msg = f"A checkpoint's {word} must be letters, digits, '.', '+', '-', '_' or blanks, got {value!r}."
                raise ValueError(f"{msg} Choose another {word}.")
        return self.root / name / version / f"{kind}.pt"

    def versions(self, name: str) -> list[str]:
        """Return all claimed versions, complete or not, in their order (``0.0.9`` before ``0.0.10``)."""
        folder = self.path(name, "0").parent.parent
        found = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        return sorted(found, key=_version_order)

    def latest(self, name: str) -> str:
        """Return the version whose run was completed last.

        Raises:
            FileNotFoundError: If no run of this name was completed.
        """
        complete = [version for version in self.versions(name) if self.path(name, version).is_file()]
        if not complete:
            msg = f"A run of {name!r} must be complete, got none (folder {self.root}). Train one first."
            raise FileNotFoundError(msg)
        return max(complete, key=lambda version: self.path(name, version).stat().st_mtime_ns)

    def unfinished(self, name: str, config_digest: str, data_fingerprint: str) -> Checkpoint | None:
        """Return the last checkpoint of a run that was ended before its time and can be continued.

        Args:
            name: Name of the run.
            config_digest: ``TrainingConfig.digest`` of the run wanted.
            data_fingerprint: ``DataModule.fingerprint`` of the run wanted.

        Returns:
            Its last checkpoint, of the newest version; None where there is none, or where it is being trained
            now.
        """
        for version in reversed(self.versions(name)):
            path = self.path(name, version, "last")
            if not path.is_file() or self.path(name, version).is_file() or self._is_locked(name, version):
                continue
            with contextlib.suppress(CheckpointError):
                checkpoint = load_checkpoint(path)
                wanted = (config_digest, data_fingerprint)
                if (checkpoint.config.digest, checkpoint.data_fingerprint) == wanted:
                    return checkpoint
        return None

    @contextlib.contextmanager
    def locked(self, name: str, version: str) -> Iterator[None]:
        """Keep other processes from training this version; a killed process lets go by itself.

        Raises:
            BlockingIOError: If another process trains it.
        """
        folder = self.path(name, version).parent
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                msg = (
                    f"A version must be trained by one process, got another that trains it ({name} {version}). "
                    "Wait for it, or choose another version."
                )
                raise BlockingIOError(msg) from error
            yield

    def _is_locked(self, name: str, version: str) -> bool:
        try:
            with self.locked(name, version):
                return False
        except BlockingIOError:
            return True


def _version_order(version: str) -> list[tuple[int, int, str]]:
    """Numbers by value, everything else by letters: 0.0.9, 0.0.10, 0.0.10+1."""
    parts = re.findall(r"\d+|\D+", version)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
