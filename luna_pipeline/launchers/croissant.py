"""Export of the Croissant description of an installation's tables and cutouts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.launchers.data_sources import catalogued_sources
from luna_pipeline.launchers.installation import cutout_store, read_table
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.croissant.files import DescribedFile

FILE, MANIFEST = "croissant.json", "croissant_cutouts.csv"
_PARQUET = "application/x-parquet"


@dataclass(frozen=True)
class ExportedCroissant:
    """An exported description.

    Attributes:
        path: Its file.
        num_candidates: Rows of the candidate table.
        num_cutout_files: Cutout files in the manifest.
        warnings: What mlcroissant recommends and is missing.
    """

    path: Path
    num_candidates: int
    num_cutout_files: int
    warnings: list[str]


def export_croissant(settings: Settings, *, out: Path | None = None, has_cutouts: bool = True) -> ExportedCroissant:
    """Write the description, and validate it with mlcroissant; no network is used.

    Args:
        settings: Paths of the installation.
        out: The file; None for ``croissant.json`` in LUNA_HOME. It must lie in the folder LUNA_HOME.
        has_cutouts: Whether to describe the cutout files: every byte of them is read for their digests.

    Raises:
        FileNotFoundError: If the candidate table or the folds are missing.
        ValueError: If LUNA_HOME is in S3, or the file lies elsewhere.
    """
    import json

    from luna_pipeline.core.croissant.files import described_file, write_manifest
    from luna_pipeline.core.croissant.loading import check_croissant
    from luna_pipeline.core.croissant.metadata import DescribedTables, croissant_json
    from luna_pipeline.core.storage.files import write_bytes

    home = _local_home(settings)
    path = (out or home / FILE).absolute()
    if path.parent != home:
        msg = (
            f"A description must lie in LUNA_HOME, where its addresses of files hold, got {path.parent} ({path.name})."
        )
        raise ValueError(f"{msg} Give --out {home / path.name}, and copy both together.")
    store = cutout_store(settings)
    files = {uid: Path(str(store.path(uid))) for uid in store.uids()} if has_cutouts else {}
    manifest = None
    if files:
        write_manifest(home / MANIFEST, files)
        about = "Cutout file of each CT, with size and SHA-256."
        manifest = described_file(home, home / MANIFEST, encoding="text/csv", description=about)
    candidates = _described_table(settings, home, "candidates", "Candidates and annotated nodules, a row each.")
    described = DescribedTables(
        cards=[it.source.card for it in catalogued_sources(settings)],
        is_synthetic=settings.is_synthetic,
        version="1.0.0",
        published=datetime.now(UTC),
        candidates=candidates,
        folds=_described_table(settings, home, "folds", "Fold of each CT."),
        manifest=manifest,
        cutouts=f"{Path(str(settings.cutouts_dir)).relative_to(home).as_posix()}/*.npz",
    )
    write_bytes(path, json.dumps(croissant_json(described), indent=2).encode())
    return ExportedCroissant(path, len(candidates[1]), len(files), check_croissant(path))


def _local_home(settings: Settings) -> Path:
    if not isinstance(settings.home, Path):
        msg = f"A description must name files of this machine, got LUNA_HOME {settings.home}."
        raise ValueError(f"{msg} Copy the tables and cutouts to a folder, and set LUNA_HOME to it.")
    return settings.home.absolute()


def _described_table(settings: Settings, home: Path, name: str, about: str) -> "tuple[DescribedFile, pd.DataFrame]":
    from luna_pipeline.core.croissant.files import described_file

    table = read_table(settings, name)
    path = Path(str(settings.tables_dir)).absolute() / f"{name}.parquet"
    return described_file(home, path, encoding=_PARQUET, description=about), table
