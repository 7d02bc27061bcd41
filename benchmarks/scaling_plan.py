"""A calculated plan: the time for many CTs on several machines, and the bottleneck.

``python -m benchmarks.scaling_plan --series 75000``. Nothing is measured here: rates are from `bench_cutting` and
`bench_training` on two cores, and bandwidths are assumptions that you replace by yours.
"""

import argparse
import sys
from dataclasses import dataclass

CUTOUT_BYTES = 32 * 48 * 48 * 2 + 44
"""A chunk as int16, its voxel, its place and its id."""
INDEX_ROW_BYTES = 80
"""A row of the cutout index in memory, 40 bytes, and once more among those that train."""
HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The work, and the capacity of a machine of the plan.

    Attributes:
        num_series: CTs.
        raw_bytes: Bytes of a CT; LUNA16's mean is 512 x 512 x 240 voxels of int16.
        num_cutouts: Cut from each CT.
        cutouts_per_second: Rate of a machine with files in memory; more processes are not faster.
        seconds_unpacking: Seconds of one core to decompress a CT; 0 for raw CTs.
        cores: Cores of a machine.
        machine_gb_per_second: Between a machine and the shared disk or S3.
        store_gb_per_second: Of the shared disk or S3, all machines together.
    """

    num_series: int = 75_000
    raw_bytes: float = 512 * 512 * 240 * 2
    num_cutouts: int = 850
    cutouts_per_second: float = 20_000.0
    seconds_unpacking: float = 0.0
    cores: int = 8
    machine_gb_per_second: float = 1.0
    store_gb_per_second: float = 10.0

    @property
    def bytes_read(self) -> float:
        """Of all CTs."""
        return self.num_series * self.raw_bytes

    @property
    def bytes_written(self) -> float:
        """Of all cutouts."""
        return float(self.num_series * self.num_cutouts * CUTOUT_BYTES)

    @property
    def index_bytes(self) -> float:
        """Of the cutout index, in each process that trains."""
        return float(self.num_series * self.num_cutouts * INDEX_ROW_BYTES)

    def limits_hours(self, num_machines: int) -> dict[str, float]:
        """Return the seconds of each part alone on this many machines; the longest one decides."""
        all_bytes = self.bytes_read + self.bytes_written
        cutting = self.num_series * self.num_cutouts / self.cutouts_per_second
        unpacking = self.num_series * self.seconds_unpacking / self.cores
        return {
            "machine's cores": (cutting + unpacking) / num_machines / HOUR,
            "machine's line": all_bytes / (self.machine_gb_per_second * 1e9) / num_machines / HOUR,
            "store": all_bytes / (self.store_gb_per_second * 1e9) / HOUR,
        }

    def hours(self, num_machines: int) -> tuple[float, str]:
        """Return the time of cutting on this many machines, and the bottleneck."""
        limits = self.limits_hours(num_machines)
        slowest = max(limits, key=lambda name: limits[name])
        return limits[slowest], slowest

    @property
    def num_useful_machines(self) -> int:
        """Largest useful number of machines: with one more, the store is the bottleneck."""
        number = 1
        while self.hours(number)[1] != "store" and number < self.num_series:
            number += 1
        return number


def epochs_of_a_search(num_trials: int, num_epochs: int, *, reduction_factor: int = 3, grace_epochs: int = 1) -> int:
    """Return the approximate total of epochs that a search with successive halving trains.

    Args:
        num_trials: Trials.
        num_epochs: Epochs of a trial that is not stopped early.
        reduction_factor: At each comparison one of this many trials continues.
        grace_epochs: Epochs before the first comparison.
    """
    total, left, done, look = 0, num_trials, 0, grace_epochs
    while look < num_epochs:
        total += left * (look - done)
        done, look, left = look, look * reduction_factor, max(1, left // reduction_factor)
    return total + left * (num_epochs - done)


def main(arguments: list[str]) -> int:
    """Print the plan as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=Plan.num_series)
    parser.add_argument("--machine-gb-per-second", type=float, default=Plan.machine_gb_per_second)
    parser.add_argument("--store-gb-per-second", type=float, default=Plan.store_gb_per_second)
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 4, 10, 20])
    given = parser.parse_args(arguments)
    shared = {
        "num_series": given.series,
        "machine_gb_per_second": given.machine_gb_per_second,
        "store_gb_per_second": given.store_gb_per_second,
    }
    plans = {"all 850 candidates": Plan(**shared), "one nodule and 20 others": Plan(**shared, num_cutouts=21)}
    machines = " | ".join(f"{number} machine{'s' * (number > 1)}" for number in given.machines)
    print(f"| cutouts a CT | read | written | index | {machines} | useful |")
    print("|---" * (5 + len(given.machines)) + "|")
    for name, plan in plans.items():
        cells = [f"{hours:.1f} h ({limit})" for hours, limit in map(plan.hours, given.machines)]
        sizes = (f"{size / 1e12:.2f} TB" for size in (plan.bytes_read, plan.bytes_written))
        row = [name, *sizes, f"{plan.index_bytes / 1e9:.1f} GB", *cells, str(plan.num_useful_machines)]
        print(f"| {' | '.join(row)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
