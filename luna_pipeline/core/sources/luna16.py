"""LUNA16: MetaImage files in subset folders and CSV tables. Any CTs with tables in its form are read by it, too."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pandas as pd

from luna_pipeline.core.candidates.folds import read_subsets
from luna_pipeline.core.candidates.table_places import ANNOTATION_FILES, CANDIDATE_FILES, find_table
from luna_pipeline.core.ct.catalogue import grid_of_row
from luna_pipeline.core.sources.card import SourceCard
from luna_pipeline.core.sources.lidc_database import patients_of_series
from luna_pipeline.core.sources.lidc_readings import find_database, readings_in_database
from luna_pipeline.core.sources.lidc_tables import lidc_tables
from luna_pipeline.core.sources.luna16_archives import ANNOTATIONS, ARCHIVES
from luna_pipeline.core.sources.luna16_form import read_luna16_form
from luna_pipeline.core.sources.source import DataSource, SourceTables
from luna_pipeline.core.sources.table_forms import LUNA16_FORMS


class Luna16(DataSource):
    """888 CTs of LIDC-IDRI with slices of 2.5 mm or less, 1,186 nodules and 754,975 candidates."""

    card: ClassVar[SourceCard] = SourceCard(
        name="luna16",
        title="LUNA16 (LUng Nodule Analysis 2016)",
        licence="CT images: CC BY 3.0 (LIDC-IDRI); tables: terms of LUNA16, CC BY 4.0 on Zenodo",
        citation="Setio et al., Medical Image Analysis 42 (2017) 1-13, doi:10.1016/j.media.2017.06.015",
        address="https://luna16.grand-challenge.org",
        size="888 CTs, about 66 GB packed and 120 GB unpacked",
        layout="Folders subset0 to subset9 with <SeriesInstanceUID>.mhd and .raw, and LUNA16's CSV tables at the top.",
        checksums={it.name: it.md5 for it in (*ARCHIVES.values(), ANNOTATIONS)},
        traps=(
            "An older record has a subset5.zip of the right size with two members that do not unpack.",
            "The lung masks (seg-lungs*) have the names of the CTs; they are not read as CTs.",
            "No file names the patients. `luna import_lidc_annotations` gives them, since all scans are of LIDC-IDRI.",
        ),
    )
    is_in_luna16_form = True
    table_forms = LUNA16_FORMS

    def is_at(self, root: Path) -> bool:
        """Return whether the folder holds candidates or annotations under LUNA16's names."""
        return find_table(root, (*CANDIDATE_FILES, *ANNOTATION_FILES)) is not None

    def patients(self, root: Path) -> Mapping[str, str]:
        """Return the patients from ``lidc_annotations.sqlite`` in the folder or above it, if it is there."""
        return patients_of_series(root)

    def tables(self, root: Path, catalogue: pd.DataFrame) -> SourceTables:
        """Read the tables as text: they are in LUNA16's form."""
        return read_luna16_form(root)

    def readers(self, root: Path, catalogue: pd.DataFrame) -> pd.DataFrame | None:
        """Return LIDC-IDRI's readers, whose scans these are, from the same file; None without it."""
        database = find_database(root)
        if database is None:
            return None
        readable = catalogue[catalogue["is_readable"].astype(bool)].to_dict("records")
        grids = {row["series_instance_uid"]: grid_of_row(row) for row in readable}
        return lidc_tables(readings_in_database(database, grids), grids).readers

    def folds(self, root: Path, catalogue: pd.DataFrame) -> Mapping[str, int]:
        """Return the subsets of ``luna16_subsets.csv``; folders ``subset<k>`` need none."""
        return read_subsets(root)
