"""Facts of scans from earlier descriptions, by ``scan_key``: only new, moved and changed scans are read."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luna_pipeline.core.quality.voxel_facts import VoxelFacts
from luna_pipeline.core.storage.files import write_bytes

_RULES = 2
"""Increased by hand when the same voxels give other facts, or scans other keys."""


class KeptFacts:
    """Facts of voxels in a JSON file that may be removed at any time.

    Args:
        path: The file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._facts = _read(path)

    def get(self, key: str) -> VoxelFacts | None:
        """Return the facts of a scan by its ``scan_key``, None if its files are new or changed."""
        found = self._facts.get(key)
        try:
            return None if found is None else VoxelFacts(**found)
        except TypeError:
            return None

    def put(self, key: str, facts: VoxelFacts) -> None:
        """Keep the facts of a scan; ``write`` stores them."""
        self._facts[key] = asdict(facts)

    def write(self) -> None:
        """Replace the file atomically."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self._path, json.dumps({"rules": _RULES, "facts": self._facts}).encode())


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the facts of a file; none of one that is absent, damaged or of other rules, which only costs time."""
    try:
        content = json.loads(path.read_bytes())
        if content["rules"] == _RULES and isinstance(content["facts"], dict):
            return content["facts"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return {}
