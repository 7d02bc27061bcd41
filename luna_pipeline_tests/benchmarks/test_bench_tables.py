import json
from functools import partial

import numpy as np
import pytest

from benchmarks import bench_tables
from benchmarks.bench_tables import Sizes, book_rows, from_csv, from_parquet, make_tables, whole
from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.storage.tables import write_table

SMALL = Sizes(num_candidates=3000, num_series=20, num_annotations=60, num_annotated_series=12)
A, B = "1.2.3", "1.2.4"


@pytest.fixture
def folder(tmp_path):
    """Two annotations around one point, one of another series at the same place."""
    annotations = [(A, 0, 0, 0, 10), (A, 4, 0, 0, 6), (B, 0, 0, 0, 3)]
    candidates = [(A, 1, 0, 0, 1), (A, 3, 0, 0, 1), (A, 0, 5, 0, 0), (A, 3, 3, 3, 0), (B, 1, 1, 0, 1), (B, 1, 1, 1, 0)]
    for name, value, rows in (("annotations", "diameter_mm", annotations), ("candidates_V2", "class", candidates)):
        lines = [",".join(map(str, row)) for row in rows]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"seriesuid,coordX,coordY,coordZ,{value}", *lines]))
    return tmp_path


# By hand: 1 mm and 3 mm away; on the surface; in the box around the sphere only (5.2 mm); 1.41 and 1.73 of 1.5 mm.
EXPECTED = [10, 6, 0, 0, 3, 0]


def test_the_books_way_and_the_projects_give_what_is_computed_by_hand(folder):
    assert [row.diameter_mm for row in book_rows(folder)] == EXPECTED
    assert from_csv(folder).tolist() == EXPECTED
    assert [row.is_nodule for row in book_rows(folder)] == [True, True, False, False, True, False]


def test_the_parquet_way_gives_the_same(folder, tmp_path):
    catalogue = make_tables(tmp_path / "other", SMALL).iloc[:2].assign(series_instance_uid=[A, B])
    write_table(folder / bench_tables.TABLE, build_candidates(folder, catalogue).candidates)
    assert sorted(from_parquet(folder)) == sorted(EXPECTED) == sorted(whole(folder, catalogue))


def test_tables_have_luna16s_numbers_of_rows_and_series(tmp_path):
    make_tables(tmp_path, SMALL)
    rows = [line.split(",") for line in (tmp_path / "annotations.csv").read_text().splitlines()[1:]]
    assert (len(rows), len({row[0] for row in rows})) == (60, 12)
    assert len({len(row[0]) for row in rows}) == 1
    candidates = (tmp_path / "candidates_V2.csv").read_text().splitlines()[1:]
    assert len(candidates) == 3000
    assert np.mean([float(line.split(",")[1]) for line in candidates]) == pytest.approx(0, abs=10)


def test_all_ways_are_measured_and_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_tables, "run", partial(bench_tables.run, sizes=SMALL))
    assert bench_tables.main(["--out", str(tmp_path), "--repeats", "2"]) == 0
    results = json.loads((tmp_path / "tables.json").read_text())
    assert 0 < results["num_matched"] < 60
    assert set(results["times_book"]) == {"book", "csv", "parquet", "build_candidates"}
    assert len(results["csv"]["runs_ms"]) == 2
    assert "from files to matched diameters" in capsys.readouterr().out


def test_ways_that_disagree_are_not_compared_in_speed(monkeypatch):
    monkeypatch.setattr(bench_tables, "from_csv", lambda folder: np.zeros(3000))
    with pytest.raises(RuntimeError, match="got others from csv"):
        bench_tables.run(1, sizes=SMALL)
