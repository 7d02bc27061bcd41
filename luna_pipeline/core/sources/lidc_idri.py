"""LIDC-IDRI as The Cancer Imaging Archive lays it out: DICOM folders with the four readers' marks as XML files."""

from pathlib import Path
from typing import ClassVar

import pandas as pd

from luna_pipeline.core.ct.catalogue import catalogue_of_rows, grid_of_row, rows_below
from luna_pipeline.core.ct.catalogue_cache import kept_rows
from luna_pipeline.core.ct.catalogue_rows import CATALOGUE_COLUMNS
from luna_pipeline.core.ct.reading import FORMATS
from luna_pipeline.core.sources.card import SourceCard
from luna_pipeline.core.sources.lidc_readings import find_readings
from luna_pipeline.core.sources.lidc_tables import lidc_tables
from luna_pipeline.core.sources.source import DataSource, SourceTables

PATIENT_FOLDERS = ("LIDC-IDRI-*", "LIDC-IDRI/LIDC-IDRI-*", "manifest-*/LIDC-IDRI")
"""Folders of patients at the top, below the collection's, or as the NBIA Data Retriever writes them."""


class LidcIdri(DataSource):
    """1,018 CTs of 1,010 patients, with outlines and ratings of nodules by four readers."""

    card: ClassVar[SourceCard] = SourceCard(
        name="lidc_idri",
        title="LIDC-IDRI (Lung Image Database Consortium and Image Database Resource Initiative)",
        licence="Images and readers' XML files: CC BY 3.0",
        citation=(
            "Armato et al., Medical Physics 38 (2011) 915-931, doi:10.1118/1.3528204; "
            "data: doi:10.7937/K9/TCIA.2015.LO9QL9SX"
        ),
        address="https://www.cancerimagingarchive.net/collection/lidc-idri",
        size="1,018 CTs of 1,010 patients, about 125 GB with 290 chest X-rays",
        layout="LIDC-IDRI-<number>/<study>/<series>/*.dcm with the readers' XML file beside the DICOM files.",
        traps=(
            "Outlines are drawn through the first voxels outside the nodule: a mask leaves their points out.",
            "Readers' numbers of nodules are their own: the marks of one nodule are put together by their distance.",
            "Some patients have chest X-rays (CR, DX) with XML files of their own; neither is read.",
            "Slices are up to 5 mm thick. LUNA16 left out scans above 2.5 mm; compare scores on its 888 series only.",
            "A few series have uneven or missing slices: they are not readable, with the reason in the catalogue.",
            "Eight patients have two scans, which are always in one fold.",
        ),
    )

    def is_at(self, root: Path) -> bool:
        """Return whether the folder holds patients' folders under the collection's names."""
        return any(path.is_dir() for pattern in PATIENT_FOLDERS for path in root.glob(pattern))

    def catalogue(
        self, root: Path, *, data_root: Path, patient_key: bytes, kept: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """List the CTs below the root; X-rays, segmentations and reports in the patients' folders are left out.

        Args:
            root: Folder of this source.
            data_root: As for ``DataSource.catalogue``.
            patient_key: As for ``DataSource.catalogue``.
            kept: As for ``DataSource.catalogue``.

        Raises:
            FileNotFoundError: If there is no CT.
        """
        known = kept_rows(kept, columns=CATALOGUE_COLUMNS)
        # An earlier catalogue, of another source, may have X-rays: as series that are not readable.
        known = {digest: rows for digest, rows in known.items() if all(row["is_readable"] for row in rows)}
        found = rows_below(data_root, folder=root, patient_key=patient_key, known=known)
        rows = [row for row in found if row.get("is_ct", True)]
        if not rows:
            rule = f"The data folder must hold CTs ({', '.join(FORMATS)} or DICOM), got images of other kinds only"
            raise FileNotFoundError(f"{rule} (below {root}). Copy CTs there.")
        return catalogue_of_rows([{name: row[name] for name in CATALOGUE_COLUMNS} for row in rows])

    def tables(self, root: Path, catalogue: pd.DataFrame) -> SourceTables:
        """Read the readers' marks and place them on the CTs' voxels.

        Raises:
            ValueError: If an XML file or the database is malformed.
        """
        readable = catalogue[catalogue["is_readable"].astype(bool)]
        grids = {row["series_instance_uid"]: grid_of_row(row) for row in readable.to_dict("records")}
        readings = find_readings(root, grids)
        tables = lidc_tables(readings.of_series, grids)
        scans = sorted(readings.of_series) if len(readings.of_series) < len(grids) else None
        return SourceTables(
            annotations=tables.annotations,
            excluded=tables.excluded,
            ratings=tables.ratings,
            readers=tables.readers,
            scans=scans,
            notes=(*readings.notes, *tables.notes),
        )
