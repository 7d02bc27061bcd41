"""The store of checkpoints: one folder for each name and version, never overwritten, locked during training."""

import contextlib
import itertools
import logging
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from luna_pipeline.core.storage.files import AnyPath, listing, make_new_folder, remove_empty_folder, subfolders
from luna_pipeline.core.storage.limited_disks import locked
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

_log = logging.getLogger(__name__)
_NAME = re.compile(r"\w[\w .+-]{0,99}")
# Claims of this process, by the file that is locked.
_claims: dict[Path | None, contextlib.ExitStack] = {}

Kind = Literal["best", "last", "best_so_far"]


@dataclass(frozen=True)
class CheckpointStore:
    """Checkpoints below one folder: ``<root>/<name>/<version>/{best,last}.pt``.

    ``last.pt`` is the latest state of the run, ``best_so_far.pt`` its best epoch so far. ``best.pt`` is the chosen
    epoch; it is written last and marks the run as complete.

    Attributes:
        root: The folder, on a disk or in S3; created if it is missing.
        locks: Local folder for the locks, required if ``root`` is in S3. There a lock excludes only the other
            processes of this machine.
    """

    root: AnyPath
    locks: Path | None = None

    def claim(self, name: str, version: str) -> str:
        """Reserve ``version`` for a new run, or else its first free build (``0.0.1+1``, ``0.0.1+2``), and return it.

        A version without a file, whose process was killed, is free. A claim is held until ``end_claim``, ``release`` or
        the end of the process.
        """
        for build in itertools.count():
            claimed = version if build == 0 else f"{version}+{build}"
            if self._try_claim(name, claimed):
                return claimed
        raise AssertionError

    def release(self, name: str, version: str) -> None:
        """Release a claimed version by removing its folder, unless it contains a file."""
        remove_empty_folder(self.path(name, version).parent)
        self.end_claim(name, version)

    def end_claim(self, name: str, version: str) -> None:
        """End a claim of this process; a version with a file stays taken."""
        if (claim := _claims.pop(self._claim_file(name, version), None)) is not None:
            claim.close()

    def attempt_file(self, name: str, version: str) -> Path:
        """Return the path of a note on a run that has no checkpoint yet, on this machine."""
        return self._locks_of(name, version).with_name(f".{version}.attempt.json")

    def path(self, name: str, version: str, kind: Kind = "best") -> AnyPath:
        """Return the path of a checkpoint, whether it exists or not; names that no folder can have are a ValueError."""
        for word, value in (("name", name), ("version", version)):
            if not _NAME.fullmatch(value):
                msg = f"A checkpoint's {word} must be letters, digits, '.', '+', '-', '_' or blanks, got {value!r}."
                raise ValueError(f"{msg} Choose another {word}.")
        return self.root / name / version / f"{kind}.pt"

    def versions(self, name: str) -> list[str]:
        """Return all claimed versions, complete or not, sorted (``0.0.9`` before ``0.0.10``)."""
        folders = subfolders(self.path(name, "0").parent.parent)
        # Other folders are of other programs.
        return sorted(filter(_NAME.fullmatch, folders), key=_version_order)

    def latest(self, name: str) -> str:
        """Return the version whose run was completed last.

        Raises:
            FileNotFoundError: If no run of this name was completed.
        """
        files = listing(self.path(name, "0").parent.parent)
        complete = [version for version in self.versions(name) if f"{version}/best.pt" in files]
        if not complete:
            msg = f"A run of {name!r} must be complete, got none (folder {self.root}). Train one first."
            raise FileNotFoundError(msg)
        # S3 reports whole seconds: of two runs completed in the same second the newer version is the latest.
        return max(reversed(complete), key=lambda version: files[f"{version}/best.pt"].modified_seconds)

    def unfinished(self, name: str, config_digest: str, data_fingerprint: str) -> Checkpoint | None:
        """Return the last checkpoint of the newest unfinished run of the same configuration and data.

        Args:
            name: Name of the run.
            config_digest: ``TrainingConfig.digest`` of the run.
            data_fingerprint: ``DataModule.fingerprint`` of the run.

        Returns:
            The checkpoint; None if there is no such run, or if it is being trained now.
        """
        files = listing(self.path(name, "0").parent.parent)
        versions = [
            version
            for version in self.versions(name)
            if f"{version}/last.pt" in files
            and f"{version}/best.pt" not in files
            and not self._is_locked(name, version)
        ]
        return self._newest(name, versions, "last", (config_digest, data_fingerprint))

    def complete(self, name: str, config_digest: str, data_fingerprint: str) -> Checkpoint | None:
        """Return the chosen epoch of the newest complete run, None without one; arguments as for ``unfinished``."""
        files = listing(self.path(name, "0").parent.parent)
        versions = [version for version in self.versions(name) if f"{version}/best.pt" in files]
        return self._newest(name, versions, "best", (config_digest, data_fingerprint))

    def _newest(self, name: str, versions: Sequence[str], kind: Kind, wanted: tuple[str, str]) -> Checkpoint | None:
        """Return the checkpoint of the newest version whose digests of configuration and data are the wanted ones."""
        for version in reversed(versions):
            try:
                checkpoint = load_checkpoint(self.path(name, version, kind))
            except CheckpointError as error:
                purpose = "resumed" if kind == "last" else "used"
                _log.warning("The run %s %s cannot be %s: %s", name, version, purpose, error)
                continue
            if (checkpoint.config.digest, checkpoint.data_fingerprint) == wanted:
                return checkpoint
        return None

    @contextlib.contextmanager
    def locked(self, name: str, version: str) -> Iterator[None]:
        """Lock a version against training by other processes; the lock of a killed process is released.

        Raises:
            BlockingIOError: If another process trains it.
        """
        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(locked(self._locks_of(name, version) / ".lock", waits=False))
            except BlockingIOError as error:
                msg = (
                    f"A version must be trained by one process, got another that trains it ({name} {version}). "
                    "Wait for it, or choose another version."
                )
                raise BlockingIOError(msg) from error
            yield

    def _try_claim(self, name: str, version: str) -> bool:
        """Claim a version that does not exist, or whose process was killed before it wrote a file."""
        folder, lock_file = self.path(name, version).parent, self._claim_file(name, version)
        was_claimed_here = lock_file is not None and lock_file.exists()
        with contextlib.ExitStack() as lock:
            # Of two simultaneous runs one gets the lock and the other the next build.
            try:
                if lock_file is not None:
                    lock.enter_context(locked(lock_file, waits=False))
                make_new_folder(folder)
            except BlockingIOError:
                return False
            except FileExistsError:
                # In S3 the claim may be that of a living process of another machine.
                is_of_this_disk = isinstance(self.root, Path) or was_claimed_here
                if lock_file is None or not is_of_this_disk or _has_entries(folder) or self._is_locked(name, version):
                    return False
                _log.warning(
                    "The version %s %s is taken up: its process was killed before a checkpoint.", name, version
                )
            if lock_file is not None:
                _claims[lock_file] = lock.pop_all()
        return True

    def _claim_file(self, name: str, version: str) -> Path | None:
        is_local = self.locks is not None or isinstance(self.root, Path)
        return self._locks_of(name, version).with_name(f".{version}.claim") if is_local else None

    def _locks_of(self, name: str, version: str) -> Path:
        folder = self.path(name, version).parent if self.locks is None else self.locks / name / version
        if not isinstance(folder, Path):
            msg = f"Locks must lie on this machine, got no folder for them (checkpoints {self.root}). Set `locks`."
            raise ValueError(msg)
        return folder

    def _is_locked(self, name: str, version: str) -> bool:
        try:
            with self.locked(name, version):
                return False
        except BlockingIOError:
            return True


def _has_entries(folder: AnyPath) -> bool:
    """Return whether a version has anything but locks and temporary files, also a FIFO or a folder."""
    if isinstance(folder, Path):
        return any(not entry.name.startswith(".") for entry in folder.iterdir())
    return bool(listing(folder))


def _version_order(version: str) -> list[tuple[int, int, str]]:
    """Return the sort key of a version, numbers by their value: 0.0.9, 0.0.10, 0.0.10+1."""
    # ASCII only: other scripts have digits without a value, such as superscripts.
    parts = re.findall(r"[0-9]+|[^0-9]+", version)
    return [(0, int(part), "") if part[0] in string.digits else (1, 0, part) for part in parts]
