"""Back up, restore and upgrade the stack: `make backup`, `make restore BACKUP=FOLDER`, `make upgrade`.

Runs on the machine of the stack with Python alone; databases and store are reached through their containers. All data
flow through this process into files with their SHA-256, so no container needs the folder, and no other user can read
them on the way. docs/how_to/backup.md lists the contents of a backup.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from services import (
    DATABASES,
    STORAGES,
    Compose,
    NotPossibleError,
    ask,
    by_role,
    make_databases,
    refuse_failure,
    said,
    schemas,
    versions,
)

FORMAT = 2
"""Format 1 has no database of the service's jobs."""
BUCKETS = ("luna", "mlflow")
WRITERS = (
    "receive",
    "serve",
    "daemon",
    "webserver",
    "code",
    "mlflow",
    "tensorboard",
    "ray-worker",
    "ray-head",
    "prepare",
)
"""What uses databases, store and local files; in the order in which it is stopped."""
LOCAL = ("cache/local", "dagster", "service")
"""Below /luna: the patient key and TensorBoard's logs; output of runs and values passed between steps; CTs and
results of the service, and the digests of its tokens."""
MANIFEST = "manifest.json"
UNFINISHED = ".unfinished"
BLOCK_BYTES = 1 << 20
MLFLOW_DATABASE = "postgresql+psycopg2://mlflow@postgres:5432/mlflow"
# Everything, because tables of a newer version would break a later upgrade.
EMPTIED = """
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS dbos CASCADE;
DROP SCHEMA IF EXISTS public CASCADE;
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC;
COMMENT ON SCHEMA public IS 'standard public schema';
"""


@dataclass(frozen=True)
class Part:
    """One file of a backup: the commands that write it, and that restore it."""

    name: str
    save: list[str]
    load: list[str]
    accepted: tuple[int, ...] = (0,)


def parts(stack: Compose) -> list[Part]:
    """Return the files of a backup in order: databases first, so that the objects they name are in later copies."""
    found = []
    for name in DATABASES:
        dump = by_role(name, "pg_dump", "--format=custom")
        load = by_role(name, "pg_restore", "--no-owner", "--exit-on-error", "--single-transaction")
        found.append(Part(f"{name}.dump", stack.inside("postgres", *dump), stack.inside("postgres", *load)))
    for name in BUCKETS:
        script = ("python", "/opt/luna/stack/buckets.py")
        save, load = (stack.beside("prepare", *script, command, name) for command in ("save", "load"))
        found.append(Part(f"bucket_{name}.tar", save, load))
    # A log grows while it is read, and locks are meaningless after a restart.
    tar = ["tar", "--create", "--directory=/luna", "--exclude=.lock", "--exclude=service/staging"]
    tar += ["--warning=no-file-changed", "--warning=no-file-removed", *LOCAL]
    untar = ["tar", "--extract", "--directory=/luna", "--preserve-permissions", "--no-same-owner"]
    save, load = stack.beside("prepare", *tar), stack.beside("prepare", *untar)
    return [*found, Part("local.tar", save, load, accepted=(0, 1))]


def back_up(stack: Compose, root: Path, *, running: dict[str, str] | None = None) -> Path:
    """Copy all data into a new folder below ``root``, which exists only if it is complete.

    Args:
        stack: The stack; database and store must run.
        root: Folder of the backups; created if it is missing.
        running: The versions to record, if the services that made the data no longer run.

    Returns:
        The new folder.
    """
    missing = sorted(set(STORAGES) - stack.running())
    if missing:
        msg = f"Database and store must run to be backed up, got none of {', '.join(missing)}."
        raise NotPossibleError(f"{msg} Run `make up` first.")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(root):
        for left in root.glob(f"*{UNFINISHED}"):
            shutil.rmtree(left)
        moment = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
        folder = root / f"{moment}{UNFINISHED}"
        folder.mkdir(mode=0o700)
        try:
            noted = {"versions": running or versions(stack), "schemas": schemas(stack)}
            files = {part.name: _saved(part, folder) for part in parts(stack)}
            manifest = {"format": FORMAT, "time": moment, **noted, "files": files}
            with _new_file(folder / MANIFEST) as file:
                file.write(json.dumps(manifest, indent=2).encode() + b"\n")
            _sync(folder)
        except BaseException:
            shutil.rmtree(folder)
            raise
        folder.rename(root / moment)
        _sync(root)
    num_bytes = sum(entry["bytes"] for entry in files.values())
    print(f"Backup {root / moment}: {len(files)} files, {num_bytes / 1e6:.1f} MB")
    return root / moment


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"One backup at a time is made, got another at work ({root}). Wait for its end."
            raise NotPossibleError(msg) from None
        yield


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _saved(part: Part, folder: Path) -> dict[str, Any]:
    """Write one file; its bytes are counted and hashed on the way."""
    digest, num_bytes = hashlib.sha256(), 0
    with _new_file(folder / part.name) as file:
        with subprocess.Popen(part.save, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while block := process.stdout.read(BLOCK_BYTES):
                digest.update(block)
                file.write(block)
                num_bytes += len(block)
        refuse_failure(process.returncode, part.save, accepted=part.accepted)
    print(f"{part.name}: {num_bytes / 1e6:.1f} MB", flush=True)
    return {"bytes": num_bytes, "sha256": digest.hexdigest()}


def checked(folder: Path) -> dict[str, Any]:
    """Return the manifest of a backup after checking that it is complete."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        files, form = dict(manifest["files"]), manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"A backup must have a manifest, got {type(error).__name__} ({folder / MANIFEST})."
        raise NotPossibleError(f"{msg} Name the folder of a whole backup.") from None
    if form not in (1, FORMAT):
        raise NotPossibleError(
            f"A backup must be of format 1 or {FORMAT}, got {form} ({folder}). Take the scripts it is of."
        )
    for name, entry in files.items():
        path, digest = folder / name, hashlib.sha256()
        num_bytes = path.stat().st_size if path.is_file() else None
        if num_bytes == entry["bytes"]:
            with path.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
        if num_bytes != entry["bytes"] or digest.hexdigest() != entry["sha256"]:
            sizes = "no file" if num_bytes is None else f"{num_bytes} bytes"
            found = f"{digest.hexdigest()[:12]}…" if num_bytes == entry["bytes"] else sizes
            msg = f"A backup's file must be as its manifest says ({entry['bytes']} bytes, {entry['sha256'][:12]}…)"
            raise NotPossibleError(f"{msg}, got {found} ({path}). Take another backup.")
    return manifest


def restore(stack: Compose, folder: Path, *, is_replacing: bool) -> None:
    """Restore databases, store and local files from a backup.

    Databases are emptied first and filled last, so that they never refer to missing objects. An interrupted restore can
    be repeated with ``is_replacing``.
    """
    manifest = checked(folder)
    working = [name for name in WRITERS if name in stack.running()]
    if working:
        msg = f"The services that use the data must be stopped, got {', '.join(working)} at work."
        raise NotPossibleError(f"{msg} Run `make down` first.")
    known = {part.name: part for part in parts(stack) if manifest["format"] > 1 or part.name != "jobs.dump"}
    if set(known) != set(manifest["files"]):
        raise NotPossibleError(f"A backup must hold {', '.join(known)}, got other files ({folder}). Take another.")
    stack.start_storages()
    make_databases(stack)
    found = _what_is_there(stack)
    if found and not is_replacing:
        msg = f"A backup is restored into an empty stack, got {', '.join(found)}."
        raise NotPossibleError(f"{msg} If that may be lost: the same with REPLACE=1.")
    for name in DATABASES:
        ask(stack, name, EMPTIED)
    said(stack.beside("prepare", "find", *(f"/luna/{name}" for name in LOCAL), "-mindepth", "1", "-delete"))
    for part in reversed(list(known.values())):
        with (folder / part.name).open("rb") as file:
            done = subprocess.run(part.load, stdin=file, stdout=subprocess.DEVNULL, check=False)
        refuse_failure(done.returncode, part.load)
        print(f"{part.name} restored", flush=True)
    print(f"Restored what {manifest['time']} was. `make up` starts it; after a newer image, `make upgrade` first.")


def _what_is_there(stack: Compose) -> list[str]:
    """Return the data that a restore would replace."""
    found = []
    for name in DATABASES:
        num_tables = int(ask(stack, name, "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'dbos')"))
        found += [f"{num_tables} tables of {name}"] if num_tables else []
    num_objects = int(said(stack.beside("prepare", "python", "/opt/luna/stack/buckets.py", "count", *BUCKETS)))
    found += [f"{num_objects} objects"] if num_objects else []
    places = [f"/luna/{name}" for name in LOCAL]
    files = said(stack.beside("prepare", "find", *places, "-type", "f")).splitlines()
    return [*found, *([f"{len(files)} local files"] if files else [])]


def upgrade(stack: Compose, root: Path) -> None:
    """Stop the services that use the databases, back up, and migrate the tables to the versions of the image.

    The service migrates its jobs' tables itself when it starts.
    """
    stack.start_storages()
    make_databases(stack)
    running = versions(stack)
    stack.stop([name for name in WRITERS if name in stack.running()])
    folder = back_up(stack, root, running=running)
    before = schemas(stack)
    print("Migrating; if it fails:", f"make restore BACKUP={folder} REPLACE=1, with the image of before", flush=True)
    for command in (
        stack.beside("prepare", "dagster", "instance", "migrate"),
        # The password is in the service's environment.
        stack.beside("mlflow", "mlflow", "db", "upgrade", MLFLOW_DATABASE),
    ):
        refuse_failure(subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode, command)
    after = schemas(stack)
    for name in DATABASES:
        change = f" -> {after[name]}" if after[name] != before[name] else ", as they were"
        print(f"Tables of {name}: {before[name] or 'none'}{change}")


def main(arguments: Sequence[str] | None = None, stack: Compose | None = None) -> int:
    """Run the command; exit code 0, or 1 and one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compose", default="docker compose", help="the command, with its options")
    parser.add_argument("--backups", type=Path, default=Path("backups"), help="folder of the backups")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("backup", help="make a backup, also while the stack works")
    commands.add_parser("databases", help="make the databases that an older version of the stack did not have")
    commands.add_parser("upgrade", help="stop, back up, migrate the databases")
    for name, about in (("check", "is every byte of a backup there?"), ("restore", "into an empty stack")):
        command = commands.add_parser(name, help=about)
        command.add_argument("folder", type=Path)
        if name == "restore":
            command.add_argument("--replace", action="store_true", help="what is there may be lost")
    asked = parser.parse_args(arguments)
    stack = stack or Compose(shlex.split(asked.compose))
    try:
        if asked.command == "backup":
            back_up(stack, asked.backups)
        elif asked.command == "databases":
            stack.start_storages()
            make_databases(stack)
        elif asked.command == "upgrade":
            upgrade(stack, asked.backups)
        elif asked.command == "check":
            print(f"Whole: {asked.folder}, {len(checked(asked.folder)['files'])} files")
        else:
            restore(stack, asked.folder, is_replacing=asked.replace)
    except NotPossibleError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"Files must be readable and fit on the disk, got {error}. Check the folder and its disk space.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
