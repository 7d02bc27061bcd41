"""Recall and false matches of the search for the same scan: ``python -m benchmarks.bench_same_scans``.

Copies of the real scans below LUNA_TEST_DATA and of synthetic ones are written as files in all formats, orientations
and as blocks; the search of ``luna find_same_scans`` compares all of them with each other.
"""

import argparse
import os
import sys
import tarfile
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

# Before NumPy starts its threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.same_scans_copies import Copy, write_copies
from luna_pipeline.core.ct.catalogue import catalogue_series, grid_of_row
from luna_pipeline.core.ct.reading import read_ct
from luna_pipeline.core.phantom.dicom import write_dicom
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline.core.same_scans.anchors import Anchors
from luna_pipeline.core.same_scans.search import suspected_pairs
from luna_pipeline.core.same_scans.signatures import ScanSignature
from luna_pipeline.launchers.same_scans import SameScans, find_same_scans_below
from luna_pipeline.settings import Settings

ARCHIVES = ("lidc/LIDC-IDRI-0001.tar.xz", "lidc/LIDC-IDRI-0003.tar.xz", "chest_dicom/C3N-00247.tar.xz")
FIXTURES = ("cip-ct64/ct-64.nrrd", "PartSolidLesionCropped.mha")


def write_phantoms(
    root: Path, *, num_small: int, num_large: int, num_blocks: int = 4, seed: int = 5
) -> dict[str, list[Copy]]:
    """Write synthetic scans as DICOM with their copies; return the copies by the scan's series uid."""
    made = {}
    for number in range(num_small + num_large):
        size_irc = (48, 64, 64) if number < num_small else (96, 192, 192)
        series = make_series(PhantomConfig(seed, number, size_irc))
        uid = series.config.series_instance_uid
        write_dicom(root / f"dicom_{number}", series)
        spacing_mm = series.grid.spacing_mm
        folder = root / f"copies_{number}"
        made[uid] = write_copies(folder, uid, series.hounsfield, spacing_mm, num_blocks=num_blocks)
    return made


def write_real(root: Path, source: Path) -> dict[str, list[Copy]]:
    """Unpack the real scans with their copies, and link the real cutouts; return the copies by the series uid."""
    for archive in ARCHIVES:
        with tarfile.open(source / archive) as packed:
            packed.extractall(root / Path(archive).name.removesuffix(".tar.xz"), filter="data")
    (root / "fixtures").mkdir()
    for fixture in FIXTURES:
        (root / "fixtures" / Path(fixture).name).symlink_to(source / "fixtures" / fixture)
    made = {}
    for number, row in enumerate(catalogue_series(root, patient_key=b"benchmark").to_dict("records")):
        uid, grid = row["series_instance_uid"], grid_of_row(row)
        hounsfield = np.asarray(read_ct(root / row["path"], series_instance_uid=uid).hounsfield)
        # A name of a file is limited to 64 letters, as long as these uids are.
        made[uid] = write_copies(root / f"copies_{number}", f"real_{number}", hounsfield, grid.spacing_mm)
    for number, cutout in enumerate(sorted((source / "cutouts").glob("*.npz"))):
        (root / f"cutout_{number}.npz").symlink_to(cutout)
        made[f"cutout_{number}"] = []
    return made


def recall_table(made: dict[str, list[Copy]], result: SameScans) -> Iterator[str]:
    """Yield the recall of each kind of copy against its original, and the false matches, as lines of Markdown."""
    scan_of = {copy.name: scan for scan, copies in made.items() for copy in copies} | {scan: scan for scan in made}
    found = {
        frozenset((_stem(row["series_a"]), _stem(row["series_b"]))): str(row["kind"])
        for row in result.table.to_dict("records")
    }
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for scan, copies in made.items():
        for copy in copies:
            kind = found.get(frozenset((scan, copy.name)))
            counts[copy.kind].update(copies=1, found=int(kind is not None), right=int(kind == copy.expected))
    false = [sorted(pair) for pair in found if len({scan_of[name] for name in pair}) > 1]
    sizes = Counter(scan_of.values())
    num_other = sum(one * other for one, other in combinations(sizes.values(), 2))
    yield "| copy | copies | found | of the right kind |"
    yield "|---|---|---|---|"
    for kind, count in counts.items():
        yield f"| {kind} | {count['copies']} | {count['found']} | {count['right']} |"
    yield f"\nFalse matches: {len(false)} of {num_other} pairs of different scans. {false[:3] or ''}".rstrip()


def time_search(num_scans: int, num_blocks: int) -> Iterator[str]:
    """Yield how long the search of suspected pairs takes among made-up signatures of whole scans and blocks."""
    rng = np.random.default_rng(0)
    signatures = []
    for number in range(num_scans + num_blocks):
        num_anchors = 12_000 if number < num_scans else 300
        found = np.sort(rng.integers(0, 2**63, num_anchors).astype(np.uint64))
        anchors = Anchors(found, np.zeros((num_anchors, 3), np.int16))
        thumbnail = gaussian_filter(rng.normal(size=(16, 16, 16)), 3)
        thumbnail = np.rint(-500 + 350 * thumbnail / thumbnail.std()).astype(np.int16)
        signatures.append(ScanSignature((64, 128, 128), 10**6, anchors, thumbnail))
    started = time.perf_counter()
    pairs = suspected_pairs(signatures)
    seconds = time.perf_counter() - started
    yield f"Search among {num_scans} scans and {num_blocks} blocks: {seconds:.1f} s, {len(pairs)} suspected pairs."


def _stem(name: Any) -> str:
    """Return a compared scan's name without its folder."""
    return str(name).rpartition("/")[2]


def main(arguments: list[str]) -> None:
    """Write the copies, search them, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=36, help="synthetic scans of 48x64x64 voxels")
    parser.add_argument("--large", type=int, default=4, help="synthetic scans of 96x192x192 voxels")
    parser.add_argument(
        "--real", default=os.environ.get("LUNA_TEST_DATA"), help="folder of the real scans; '' for none"
    )
    parser.add_argument("--scratch", type=Path, help="folder for several GB; default: the system's temporary one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        root = Path(folder)
        settings = Settings.from_environment({"LUNA_HOME": str(root / "home")})
        sets = [("synthetic", root / "synthetic")]
        made = {"synthetic": write_phantoms(root / "synthetic", num_small=options.small, num_large=options.large)}
        if options.real:
            (root / "real").mkdir()
            made["real"] = write_real(root / "real", Path(options.real))
            sets.append(("real", root / "real"))
        started = time.perf_counter()
        result = find_same_scans_below(settings, [path for _, path in sets], report=print)
        print(f"{result.num_scans} scans, {len(result.table)} pairs, {time.perf_counter() - started:.0f} s.")
        print("\n".join(f"Left out {name}: {reason}" for name, reason in result.failed.items()))
        for title, _ in sets:
            print(f"\n{title} scans and their copies\n")
            print("\n".join(recall_table(made[title], _only(result, made[title]))))
        print("\nall scans\n")
        print(
            "\n".join(recall_table({scan: copies for each in made.values() for scan, copies in each.items()}, result))
        )
    for numbers in ((888 + 1018, 0), (888 + 1018, 6163)):
        print(*time_search(*numbers))


def _only(result: SameScans, made: dict[str, list[Copy]]) -> SameScans:
    """Return a result with the pairs of some scans."""
    names = {*made, *(copy.name for copies in made.values() for copy in copies)}
    table = result.table
    is_in = table["series_a"].map(_stem).isin(names) & table["series_b"].map(_stem).isin(names)
    return SameScans(table=table[is_in], num_scans=result.num_scans)


if __name__ == "__main__":
    main(sys.argv[1:])
