"""Text that somebody else chose: nothing in it moves a cursor or begins a new line."""

from __future__ import annotations

import pytest

from palm_torch import escaping


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
    assert escaping.printable(text) == shown


@pytest.mark.parametrize(
    ("name", "listed"),
    [("größer 模型", "größer 模型"), ("a\nb\x1b", r"a\u000ab\u001b"), ("\udc80", r"\udc80")],
)
def test_a_files_name_in_evidence_has_numbers_for_what_cannot_be_printed(name: str, listed: str) -> None:
    assert escaping.file_name(name) == listed
