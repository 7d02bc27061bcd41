"""The same cutouts on a disk in both forms: the project's file per series, the tutorial's file per candidate."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.data import IDENTITY, NOISE_HU, ORIGIN_XYZ, SPACING_MM, table_of, uid_of
from benchmarks.tutorial import save_chunk
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.fingerprint import Fingerprint
from luna_pipeline.core.cutouts.index import build_cutout_index
from luna_pipeline.core.cutouts.series_cutouts import SeriesCutouts, build_header
from luna_pipeline.core.cutouts.store import CutoutStore

LUNG_HU, NODULE_HU, HU_WINDOW = -850, 60, (-1000, 1000)
NODULE_EVERY = 6


@dataclass(frozen=True)
class TrainingWorkload:
    """Sizes of what is loaded and trained.

    Attributes:
        chunk_shape_irc: Voxels of a cutout.
        num_series: Series on the disk; the last one is for validation.
        cutouts_of_series: Cutouts of each.
        num_loaded: Random samples of a timed loading.
        batch_size: Samples of a batch, and of a timed training step.
        num_evaluated: Samples of a timed evaluation.
        num_equal_steps: Training steps whose losses are compared.
        conv_channels: Channels of the network's first block.
        n_blocks: Blocks of the network.
        repeats: Timed runs of each procedure, after an uncounted one.
        has_compiled: Whether ``torch.compile`` is measured, too.
        seed: Seed of voxels, order and weights.
    """

    chunk_shape_irc: tuple[int, int, int] = (32, 48, 48)
    num_series: int = 8
    cutouts_of_series: int = 128
    num_loaded: int = 256
    batch_size: int = 64
    num_evaluated: int = 128
    num_equal_steps: int = 10
    conv_channels: int = 8
    n_blocks: int = 4
    repeats: int = 5
    has_compiled: bool = True
    seed: int = 0


@dataclass(frozen=True, eq=False)
class TrainingSite:
    """The same cutouts in both forms.

    Attributes:
        store: The project's files.
        index: Their rows, see ``build_cutout_index``; the last series has fold 1, the others fold 0.
        table: The tutorial's table, a row per candidate in the order of ``index``, with the name of its file.
    """

    store: CutoutStore
    index: pd.DataFrame
    table: pd.DataFrame


def make_training_site(folder: Path, workload: TrainingWorkload) -> TrainingSite:
    """Write the files of all series; every sixth cutout has a nodule, a bright ball in its middle.

    Args:
        folder: A new folder.
        workload: Sizes.
    """
    tutorial = folder / "tutorial"
    tutorial.mkdir(parents=True)
    store = CutoutStore(folder / "project", is_synced=False)
    uids = [uid_of(number) for number in range(workload.num_series)]
    count = workload.cutouts_of_series
    candidates = table_of(
        np.repeat(np.asarray(uids, dtype=object), count), np.zeros((count * len(uids), 3), dtype=np.float64)
    )
    candidates["class"] = (candidates["candidate_id"] % NODULE_EVERY == 0).astype(np.int8)
    for number, uid in enumerate(uids):
        rows = candidates.iloc[number * count : (number + 1) * count]
        chunks = make_chunks(rows["class"].to_numpy(), workload, number=number)
        store.write(uid, _series(uid, rows["candidate_id"].to_numpy(dtype=np.int64), chunks))
        for candidate_id, chunk in zip(rows["candidate_id"], chunks, strict=True):
            save_chunk(_file_of(tutorial, candidate_id), chunk.astype(np.float32), np.zeros(3, dtype=np.int16))
    folds = pd.DataFrame({"series_instance_uid": uids, "fold": [0] * (len(uids) - 1) + [1]})
    index = build_cutout_index(candidates, folds, store)
    return TrainingSite(store, index, _tutorial_table(index, tutorial))


def make_chunks(classes: NDArray[np.int8], workload: TrainingWorkload, *, number: int) -> NDArray[np.int16]:
    """Return HU, int16 (N, I, R, C): a scanner's noise, and a ball where the class is 1."""
    shape = workload.chunk_shape_irc
    rng = np.random.default_rng((workload.seed, number))
    offsets = np.meshgrid(*(np.arange(size) - size / 2 for size in shape), indexing="ij")
    ball = (NODULE_HU - LUNG_HU) * (sum(offset**2 for offset in offsets) < (min(shape) / 5) ** 2)
    chunks = np.empty((len(classes), *shape), dtype=np.int16)
    for chunk, is_nodule in zip(chunks, classes, strict=True):
        noise = np.float32(NOISE_HU) * rng.standard_normal(shape, dtype=np.float32)
        chunk[:] = np.clip(np.rint(LUNG_HU + is_nodule * ball + noise), *HU_WINDOW)
    return chunks


def _series(uid: str, candidate_id: NDArray[np.int64], chunks: NDArray[np.int16]) -> SeriesCutouts:
    shape: tuple[int, int, int] = chunks.shape[1:]
    header = build_header(
        uid,
        grid=VoxelGrid(shape, SPACING_MM, ORIGIN_XYZ, IDENTITY),
        parameters=CuttingParameters(shape),
        fingerprint=Fingerprint(ct=uid, rows="rows", parameters="parameters", code="1"),
    )
    centers = np.zeros((len(chunks), 3))
    return SeriesCutouts(
        ct_chunks=chunks,
        center_irc=centers.astype(np.int32),
        center_xyz=centers,
        candidate_id=candidate_id,
        header=header,
    )


def _tutorial_table(index: pd.DataFrame, folder: Path) -> pd.DataFrame:
    table = index[["series_instance_uid", "class", "diameter_mm"]].rename(columns={"series_instance_uid": "seriesuid"})
    return table.assign(file_path=[str(_file_of(folder, candidate_id)) for candidate_id in index["candidate_id"]])


def _file_of(folder: Path, candidate_id: int) -> Path:
    return folder / f"{candidate_id}.npz"
