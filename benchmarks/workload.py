"""Sizes of the benchmarks: LUNA16's, or smaller ones."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Workload:
    """Sizes of everything that is made and measured.

    Attributes:
        size_irc: Voxels of a CT along index, row, col.
        chunk_shape_irc: Voxels of a cutout.
        num_candidates: Candidates of a series.
        num_series: CTs that are made.
        num_rate_series: Series for measuring the long-run rate; beyond ``num_series`` they are further headers for the
        same voxel files.
        num_table_series: Series in the candidate table, most of them without a CT.
        num_table_rows: Rows of the candidate table.
        candidate_counts: Numbers of candidates per series for which the cost is measured.
        check_counts: Numbers of series for which the cost of an unchanged check is measured.
        check_candidates: Candidates of each of these series.
        repeats: Timed runs of each procedure, after an uncounted one.
        seed: Seed of voxels and positions.
    """

    size_irc: tuple[int, int, int] = (240, 512, 512)
    chunk_shape_irc: tuple[int, int, int] = (32, 48, 48)
    num_candidates: int = 850
    num_series: int = 4
    num_rate_series: int = 12
    num_table_series: int = 888
    num_table_rows: int = 754_600
    candidate_counts: tuple[int, ...] = (100, 200, 500, 850, 1000, 2000)
    check_counts: tuple[int, ...] = (100, 300, 888, 3000, 10_000)
    check_candidates: int = 85
    repeats: int = 5
    seed: int = 0

    @property
    def num_ct_bytes(self) -> int:
        """Bytes of a CT's voxels."""
        num_slices, num_rows, num_cols = self.size_irc
        return 2 * num_slices * num_rows * num_cols

    @property
    def num_chunk_bytes(self) -> int:
        """Bytes of a series' cutouts."""
        num_slices, num_rows, num_cols = self.chunk_shape_irc
        return 2 * num_slices * num_rows * num_cols * self.num_candidates


def quick(workload: Workload) -> Workload:
    """Return the same sizes with fewer points and runs, to test that the benchmark works."""
    return replace(
        workload,
        num_rate_series=workload.num_series,
        candidate_counts=workload.candidate_counts[::2],
        check_counts=workload.check_counts[:2],
        repeats=min(workload.repeats, 2),
    )
