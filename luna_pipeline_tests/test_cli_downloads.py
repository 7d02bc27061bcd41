"""The command `luna download_luna16`: options, lines, progress, exit codes."""

import sys
from pathlib import Path

import pytest
import rich.progress

from luna_pipeline.cli import downloads
from luna_pipeline.core.storage.transfer_progress import Progress
from luna_pipeline_tests.archive_server import checksums, refuses, serving, zipped
from luna_pipeline_tests.command_line import run_here


@pytest.fixture
def server(phantom_source: Path):
    with serving({"subset0.zip": zipped(phantom_source, 0)}) as server:
        yield server


def luna(*options: str, home: Path, **environment: str):
    own = {"HOME": str(home), "LUNA_HOME": str(home / "luna"), "NO_PROXY": "*"}
    return run_here("download_luna16", *options, cwd=home, environment={**own, **environment})


def options_of(server, folder: Path) -> list[str]:
    return ["--from", server.base, "--checksums", str(checksums(server.files, folder / "sums.txt"))]


def test_a_subset_arrives_in_the_data_root_with_progress_and_citation(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_LINE_EVERY_SECONDS", 0.0)
    done = luna(
        "--subsets", "0", "--no-tables", *options_of(server, tmp_path), home=tmp_path, LUNA_DATA_DIR=str(tmp_path / "d")
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "d/subset0").glob("*.mhd"))) == 2
    *_, usable, last = done.stdout.splitlines()
    assert usable.startswith("subset0.zip: 4 members, 4 of them unpacked now, are usable")
    assert "cite Setio et al. 2017" in last
    assert "Research use only" in last


def test_tables_alone_can_be_asked_for(server, tmp_path, phantom_source):
    server.files |= {name: (phantom_source / name).read_bytes() for name in ("annotations.csv", "candidates_V2.csv")}
    server.files |= {"annotations_excluded.csv": b"seriesuid\n", "seriesuids.csv": b"1.2\n"}
    done = luna("--subsets", "none", "--to", "here", *options_of(server, tmp_path), home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": written.") == 4
    assert (tmp_path / "here/seriesuids.csv").read_bytes() == b"1.2\n"


def test_a_failure_is_a_line_and_exit_code_1(server, tmp_path):
    server.fault = lambda name, start, stop, number: refuses(404)
    done = luna("--subsets", "0", "--to", "here", "--no-tables", *options_of(server, tmp_path), home=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert "subset0.zip: The server must serve the file as it is, got status 404" in done.stdout
    assert "got 1 failures, named above. Run the command again" in done.stderr


@pytest.mark.parametrize("subsets", ["10", "a", "0,,1", "0-3", ""])
def test_what_is_no_subset_is_an_error_of_usage(subsets, tmp_path):
    done = luna("--subsets", subsets, home=tmp_path)
    assert done.returncode == 2
    assert "Subsets must be numbers from 0 to 9, `all` or `none`" in done.stderr


def test_a_terminal_shows_a_bar_with_the_seconds_left(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with rich.progress.Progress(disable=False), downloads._Terminal() as terminal:
        terminal.report("subset0.zip: [a line] as it is")
        terminal.on_progress(Progress(50, 100, 10.0, 5.0))
        terminal.on_progress(Progress(50, 100, 0.0, None))
    captured = capsys.readouterr()
    assert captured.out.strip() == "subset0.zip: [a line] as it is"
    shown = captured.err
    assert "50/100 bytes" in shown


def test_a_terminal_that_cannot_draw_shows_lines(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(downloads, "_LINE_EVERY_SECONDS", 0.0)
    with downloads._Terminal() as terminal:
        terminal.on_progress(Progress(50, 100, 10.0, 5.0))
    assert capsys.readouterr().out.splitlines() == [Progress(50, 100, 10.0, 5.0).as_line()]
