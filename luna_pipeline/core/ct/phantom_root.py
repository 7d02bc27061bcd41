"""The phantom as a data root: used where it is whole, made where it is not, refused where other data lie."""

import json
from collections.abc import Callable
from pathlib import Path

from luna_pipeline.core.ct.phantom_files import make_phantom
from luna_pipeline.core.ct.phantom_marker import MARKER


def ensure_phantom(
    root: Path,
    *,
    num_series: int,
    num_subsets: int,
    seed: int,
    size_irc: tuple[int, int, int],
    report: Callable[[str], None],
) -> None:
    """Make sure that ``root`` holds a whole phantom data set.

    Args:
        root: Data root; an interrupted phantom there is made again.
        num_series: Number of CT series.
        num_subsets: Number of subset folders, that is folds.
        seed: Decides everything.
        size_irc: Voxels of each CT.
        report: Takes a line of progress a series.

    Raises:
        FileExistsError: If ``root`` holds data that are no phantom; they are left alone.
    """
    marker = root / MARKER
    if marker.exists():
        made = json.loads(marker.read_text())
        report(f"The synthetic phantom is there: {made['num_series']} series, seed {made['seed']}.")
        return

    def on_series(uid: str, done: int, total: int) -> None:
        report(f"Synthetic series {done} of {total}: {uid}")

    make_phantom(
        root, num_series=num_series, num_subsets=num_subsets, seed=seed, size_irc=size_irc, on_series=on_series
    )
