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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("größer 模型 ✓", "größer 模型 ✓"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202egnp", r"\u202egnp"),
        ("\udc80", r"\udc80"),
        ("\u2028", r"\u2028"),
    ],
)
def test_unprintable_characters_are_written_out(text: str, shown: str) -> None:
    assert terminal.printable(text) == shown


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


def test_progress_takes_bytes_and_steps() -> None:
    with terminal.progress_bytes("reading") as advance:
        advance(1, 2)
    with terminal.progress_steps("training", 3) as step:
        step(1, "loss 5.5")


def test_a_pipe_is_wide(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.console().print("x" * 150)
    assert capsys.readouterr().out == "x" * 150 + "\n"
