"""LUNA16 with the readers' database of LIDC-IDRI beside its tables."""

import os

import pytest

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.sources.lidc_database import DATABASE_FILE
from luna_pipeline.core.sources.luna16 import Luna16

KEY = b"k" * 32


def test_without_the_database_there_are_no_readers(phantom_source):
    assert Luna16().readers(phantom_source, catalogue_series(phantom_source, patient_key=KEY)) is None


@pytest.mark.real
def test_the_readers_of_its_scans_are_those_of_lidc(lidc_root, lidc_database, tmp_path):
    os.symlink(lidc_database, tmp_path / DATABASE_FILE)
    catalogue = catalogue_series(lidc_root, patient_key=KEY)
    readers = Luna16().readers(tmp_path, catalogue)
    # As in the XML files: one nodule by one reader and three by four in 0003, one by four in 0001.
    assert sorted(readers.groupby("series_instance_uid").size()) == [4, 13]
    assert readers["texture"].between(1, 5).all()
    solid = readers[readers["series_instance_uid"].str.endswith("179049373636438705059720603192")]
    assert solid["diameter_mm"].mean() == pytest.approx(23.35, abs=0.5)
