from typing import Any

from numpy.typing import NDArray

def augment_chunks(
    chunks: NDArray[Any],
    shape_irc: tuple[int, ...],
    maps: NDArray[Any],
    noise_std_hu: NDArray[Any],
    noise_key: NDArray[Any],
    normal: NDArray[Any],
    out: NDArray[Any],
    /,
) -> None: ...
