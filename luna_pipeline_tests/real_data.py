"""Lay out two LIDC-IDRI scans with LUNA16's tables as a data root.

Run it as ``python -m luna_pipeline_tests.real_data SOURCE ROOT``. The source folder holds ``lidc/*.tar.xz``
(DICOM) and ``luna16/*.csv``; the scans are published by The Cancer Imaging Archive under CC BY 3.0, the tables
by LUNA16.
"""

import gzip
import shutil
import sys
import tarfile
from pathlib import Path

TABLES = {
    "annotations.csv": "annotations.csv",
    "candidates_lidc_0001_0003.csv": "candidates_V2.csv",
    "annotations_with_malignancy.csv": "annotations_with_malignancy.csv",
    "luna16_subsets.csv": "luna16_subsets.csv",
    "seriesuids.csv": "seriesuids.csv",
}


def make_lidc_root(source: Path, root: Path) -> None:
    """Unpack the scans of ``source`` below ``root`` and put the tables there under LUNA16's names."""
    archives = sorted((source / "lidc").glob("*.tar.xz"))
    if not archives:
        msg = f"Real test data must hold lidc/*.tar.xz, got none (in {source}). Name the right folder."
        raise FileNotFoundError(msg)
    root.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        target = root / archive.name.removesuffix(".tar.xz")
        if not target.exists():
            unpacked = target.with_suffix(".part")
            shutil.rmtree(unpacked, ignore_errors=True)
            with tarfile.open(archive) as tar:
                tar.extractall(unpacked, filter="data")
            unpacked.rename(target)
    for name, final in TABLES.items():
        shutil.copyfile(source / "luna16" / name, root / final)
    with gzip.open(source / "luna16" / "annotations_excluded.csv.gz") as packed:
        (root / "annotations_excluded.csv").write_bytes(packed.read())


if __name__ == "__main__":
    make_lidc_root(Path(sys.argv[1]), Path(sys.argv[2]))
