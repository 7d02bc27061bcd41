"""The store's buckets: `make NAME …`, `save NAME` as a tar to standard output, `load NAME` from one, `count NAME …`.

Address and key are read from AWS's environment variables. Messages go to standard error.
"""

import sys
import tarfile
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

PART_BYTES = 16 << 20
"""As `luna_pipeline.core.storage.s3` has it: an object that is loaded again gets the ETag that it had."""


def make(store: Any, *names: str) -> None:
    """Make missing buckets."""
    there = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
    for name in names:
        if name not in there:
            store.create_bucket(Bucket=name)
            _say(f"Bucket {name} made")


def objects(store: Any, name: str) -> Iterator[str]:
    """Return the keys of a bucket, without those of folders, which end with a slash."""
    for page in store.get_paginator("list_objects_v2").paginate(Bucket=name):
        yield from (entry["Key"] for entry in page.get("Contents", []) if not entry["Key"].endswith("/"))


def save(store: Any, name: str) -> None:
    """Write all objects of a bucket as a tar. Each is consistent, because one request returns the whole object."""
    num_saved = 0
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for key in list(objects(store, name)):
            try:
                answer = store.get_object(Bucket=name, Key=key)
            except store.exceptions.NoSuchKey:
                # Deleted since it was listed, for example by `luna prune`.
                _say(f"{key} of {name} is gone meanwhile")
                continue
            member = tarfile.TarInfo(key)
            member.size, member.mtime = answer["ContentLength"], answer["LastModified"].timestamp()
            tar.addfile(member, answer["Body"])
            num_saved += 1
            if num_saved % 1000 == 0:
                _say(f"{num_saved} objects of {name}")
    _say(f"{num_saved} objects of {name} saved")


def load(store: Any, name: str) -> None:
    """Restore a bucket from a tar: other objects are removed."""
    make(store, name)
    before, loaded = set(objects(store, name)), set()
    parts = TransferConfig(multipart_threshold=2 * PART_BYTES, multipart_chunksize=PART_BYTES)
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None, member.name
            # As a stream: it is uploaded in parts, because the container has no disk space.
            store.upload_fileobj(SimpleNamespace(read=content.read), name, member.name, Config=parts)
            loaded.add(member.name)
    for key in sorted(before - loaded):
        store.delete_object(Bucket=name, Key=key)
    _say(f"{len(loaded)} objects of {name} loaded, {len(before - loaded)} others removed")


def count(store: Any, *names: str) -> None:
    """Print the number of objects in buckets; a missing bucket has none."""
    there = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
    print(sum(1 for name in names if name in there for _ in objects(store, name)))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(command: str, *names: str) -> int:
    """Run the command."""
    # By path: the buckets of this store have no DNS names.
    store = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    commands: dict[str, Callable[..., None]] = {"make": make, "save": save, "load": load, "count": count}
    try:
        commands[command](store, *names)
    except (BotoCoreError, ClientError) as error:
        said = " ".join(str(error).split())
        _say(f"The store must execute the command, got {said} ({command} {' '.join(names)}). Look at its log.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
