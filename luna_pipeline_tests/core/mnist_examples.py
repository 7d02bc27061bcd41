"""Small files in NoduleMNIST3D's form."""

from pathlib import Path

import numpy as np

NUMBERS = {"train": 3, "val": 1, "test": 2}


def arrays_of(numbers=NUMBERS, *, edge: int = 28, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, number in numbers.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (number, edge, edge, edge), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(number, dtype=np.uint8) % 2).reshape(-1, 1)
    return arrays


def write_npz(root: Path, arrays=None, *, name: str = "nodulemnist3d.npz") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(root / name, **(arrays_of() if arrays is None else arrays))
    return root / name
