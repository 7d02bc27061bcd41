"""Progress bars: on a terminal only, never on standard output, without colours where they are not wanted."""

import re
import sys

import pytest

from luna_pipeline.cli.terminal import Bars

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


def show_two_stages() -> None:
    with Bars() as bars:
        bars.show("reading", 1, 2)
        bars.line("A [line] as it is")
        bars.show("writing", 2, 2, "soon")


def pretend_terminal(patch: pytest.MonkeyPatch, kind: str = "xterm") -> None:
    """Make standard error a terminal; standard output stays none."""
    patch.setattr(sys.stderr, "isatty", lambda: True)
    patch.setenv("TERM", kind)


def test_without_a_terminal_there_are_lines_alone_and_rich_is_not_loaded(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    show_two_stages()
    assert capsys.readouterr() == ("A [line] as it is\n", "")


def test_bars_are_drawn_on_standard_error(monkeypatch, capsys):
    pretend_terminal(monkeypatch)
    show_two_stages()
    output, errors = capsys.readouterr()
    assert output == "A [line] as it is\n"
    assert COLOUR.search(errors)
    assert "1/2" in errors
    assert re.search(r"writing.*2/2.*soon", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", errors))


def test_no_color_leaves_bars_without_colours(monkeypatch, capsys):
    pretend_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    show_two_stages()
    errors = capsys.readouterr().err
    assert "1/2" in errors
    assert not COLOUR.search(errors)


def test_a_terminal_that_cannot_move_its_cursor_shows_no_bar(monkeypatch, capsys):
    pretend_terminal(monkeypatch, "dumb")
    show_two_stages()
    assert capsys.readouterr().err == ""
