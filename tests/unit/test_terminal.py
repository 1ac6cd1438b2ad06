"""What people see: nothing that evidence says can move the cursor, and every table says what it shows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from palm_torch import terminal
from palm_torch.errors import BindingError


@pytest.fixture
def out() -> Console:
    return Console(file=io.StringIO(), width=200, highlight=False, markup=False, emoji=False)


def text_of(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_a_refusal_is_one_line() -> None:
    line = terminal.refusal("REJECTED", BindingError("one\ntwo"))
    assert line == r"REJECTED BindingError: one\ntwo"


def test_outcomes_show_what_was_expected_and_what_came(out: Console) -> None:
    terminal.show_outcomes(
        out,
        [
            ("a good one", "BindingError", BindingError(f"expected {'ab' * 32}, got it\nmore"), True),
            ("a bad one", "BindingError", None, False),
        ],
    )
    good, bad = (line for line in text_of(out).splitlines() if "Error" in line)
    assert "✓" in good
    assert "expected abababab…, got it" in good
    assert "more" not in text_of(out)
    assert "✗" in bad
    assert bad.split()[-1] == "accepted"


def test_markup_in_values_is_text(out: Console) -> None:
    terminal.show_outcomes(out, [("[bold]title[/bold]", "E", None, False)])
    assert "[bold]title[/bold]" in text_of(out)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    """Returns a terminal that keeps what is drawn on it."""
    made = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    monkeypatch.setattr(terminal, "console", lambda **_options: made)
    return made


def test_progress_shows_bytes_and_steps(screen: Console) -> None:
    with terminal.progress_bytes("reading\n") as advance:
        advance(500_000, 2_000_000)
    shown = text_of(screen)
    assert r"reading\n" in shown
    assert "0.5/2.0 MB" in shown
    with terminal.progress_steps("training", 3) as step:
        step(1, "loss\t5.5")
    shown = text_of(screen)
    assert "training" in shown
    assert "1/3" in shown
    assert r"loss\t5.5" in shown


def test_no_progress_is_drawn_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress_bytes("reading") as advance:
        advance(1, 2)
    with terminal.progress_steps("training", 3) as step:
        step(1, "loss 5.5")
    assert "reading" not in capsys.readouterr().err


def test_a_pipe_is_wide(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.console().print("x" * 150)
    assert capsys.readouterr().out == "x" * 150 + "\n"
