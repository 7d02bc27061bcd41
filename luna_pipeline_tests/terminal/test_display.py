"""Displays: lines without control characters elsewhere than on a terminal, one moving line there."""

import io

import pytest
from rich.console import Console

from luna_pipeline.terminal import display
from luna_pipeline.terminal.display import PlainDisplay, TerminalDisplay, display_for
from luna_pipeline.terminal.log_lines import Counter
from luna_pipeline.terminal.plans import Stage

STAGE = Stage("Network", "trains a classifier")


def test_plain_lines_say_start_progress_now_and_then_and_result(capsys):
    now = [0.0]
    shown = PlainDisplay(6, 10, clock=lambda: now[0])
    shown.begin(3, STAGE)
    for now[0], epoch in ((20.0, 1), (31.0, 2), (40.0, 3)):
        shown.progress(3, STAGE, Counter(epoch / 5, f"epoch {epoch} of 5"))
    shown.warn("WARNING", "look")
    shown.end(3, STAGE, "validation AUC 0.95", 41.25)
    shown.end(4, Stage("Baselines", ""), "", 0.0)
    assert capsys.readouterr().out.splitlines() == [
        "[4/6] Network    trains a classifier ...",
        "[4/6] Network    epoch 2 of 5",
        "warning: look",
        "[4/6] Network    validation AUC 0.95 (41.2 s)",
        "[5/6] Baselines  done (0.0 s)",
    ]


def test_a_terminal_gets_a_bar_that_vanishes(monkeypatch):
    output = io.StringIO()

    def console(**options):
        return Console(file=output, force_terminal=True, width=80, **options)

    monkeypatch.setattr("rich.console.Console", console)
    shown = TerminalDisplay(6, 10)
    shown.begin(3, STAGE)
    shown.progress(3, STAGE, Counter(1.0, "epoch [5] of 5"))
    shown._bar.refresh()
    shown.end(3, STAGE, "validation AUC [0.95]", 1.0)
    shown.close()
    text = output.getvalue()
    assert "epoch [5] of 5" in text
    assert "✓ [4/6] Network    validation AUC [0.95] (1.0 s)\n" in text
    assert text.rstrip().endswith(("\x1b[2K", "\x1b[?25h"))


@pytest.mark.parametrize(
    ("is_terminal", "term", "kind"), [(True, "dumb", PlainDisplay), (False, "xterm", PlainDisplay)]
)
def test_a_pipe_and_a_terminal_that_cannot_move_get_plain_lines(monkeypatch, is_terminal, term, kind):
    monkeypatch.setattr(display.sys.stdout, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setenv("TERM", term)
    assert isinstance(display_for(6, 10), PlainDisplay)
