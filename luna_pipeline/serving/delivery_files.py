"""State of a job's deliveries, a file per peer in the job's folder."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from luna_pipeline.core.storage.files import write_bytes
from luna_pipeline.serving.config import Peer
from luna_pipeline.serving.job import Delivery


def peer_key(peer_name: str) -> str:
    """Return eight hexadecimal digits that stand for a peer's name in file names and workflow ids."""
    return hashlib.sha256(peer_name.encode()).hexdigest()[:8]


def deliveries_of(folder: Path, peers: Sequence[Peer]) -> tuple[Delivery, ...]:
    """Return the deliveries of a job that have begun, in the order of the peers."""
    begun = [read_delivery(folder, peer.name, now=0.0)[0] for peer in peers]
    return tuple(delivery for delivery in begun if delivery.attempts)


def read_delivery(folder: Path, peer_name: str, *, now: float) -> tuple[Delivery, float]:
    """Return a delivery, and when its first attempt began; ``now`` before the first one."""
    # Missing, or damaged by the disk.
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        values = json.loads(_path(folder, peer_name).read_bytes())
        since = values.pop("since")
        return Delivery(**values), since
    return Delivery(peer=peer_name, state="waiting", attempts=0), now


def write_delivery(folder: Path, delivery: Delivery, *, since: float) -> None:
    """Write a delivery, unless the job was deleted: it must not get its folder back."""
    if folder.is_dir():
        write_bytes(_path(folder, delivery.peer), json.dumps(asdict(delivery) | {"since": since}).encode())


def _path(folder: Path, peer_name: str) -> Path:
    return folder / f"delivery-{peer_key(peer_name)}.json"
