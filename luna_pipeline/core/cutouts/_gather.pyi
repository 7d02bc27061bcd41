from typing import Any

from numpy.typing import NDArray

def copy_clipped(
    ct: NDArray[Any],
    size: tuple[int, ...],
    starts: NDArray[Any],
    shape: tuple[int, ...],
    lower: int,
    upper: int,
    out: NDArray[Any],
    /,
) -> None: ...
