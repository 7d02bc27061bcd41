"""The 48 ways in which the axes of one array can be those of another: permuted and flipped."""

from dataclasses import dataclass
from itertools import permutations, product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

ScalarT = TypeVar("ScalarT", bound=np.generic)
AXIS_NAMES = ("index", "row", "col")


@dataclass(frozen=True)
class Orientation:
    """A permutation and flips of an array's axes.

    Attributes:
        axes: The array's axis that becomes index, row, col.
        is_flipped: Whether the new index, row, col run against it.
    """

    axes: tuple[int, int, int]
    is_flipped: tuple[bool, bool, bool]

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return self.axes == (0, 1, 2) and not any(self.is_flipped)

    def __str__(self) -> str:
        """Return the old axes in the new order, such as ``+index -row -col``."""
        return " ".join(
            f"{'-' if flip else '+'}{AXIS_NAMES[axis]}" for axis, flip in zip(self.axes, self.is_flipped, strict=True)
        )

    def of(self, values: NDArray[ScalarT]) -> NDArray[ScalarT]:
        """Return a view of an array (I, R, C) in this orientation."""
        return values.transpose(self.axes)[tuple(slice(None, None, -1 if flip else 1) for flip in self.is_flipped)]

    def places(self, voxels_irc: NDArray[np.int64], size_irc: tuple[int, int, int]) -> NDArray[np.int64]:
        """Return voxels (N, 3) of the oriented view, given those of an array with ``size_irc`` voxels."""
        last = np.asarray(size_irc)[list(self.axes)] - 1
        permuted = voxels_irc[:, list(self.axes)]
        return np.where(self.is_flipped, last - permuted, permuted)


def _as_orientation(axes: tuple[int, ...], flips: tuple[bool, ...]) -> Orientation:
    return Orientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))


ORIENTATIONS = tuple(
    _as_orientation(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)
)
"""All 48; the identity is the first."""
