"""Listening to audit events: who hears what."""

from __future__ import annotations

import sys

import pytest

from palm_torch.hooks import auditing


@pytest.fixture(autouse=True)
def _traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets coverage see inside the audit hook, which Python does not trace unless told."""
    monkeypatch.setattr(auditing._audit, "__cantrace__", True, raising=False)


class Ear(auditing.Listener):
    def __init__(self, *events: str) -> None:
        super().__init__(dict.fromkeys(events, self.note))
        self.heard: list[object] = []

    def note(self, word: object) -> None:
        self.heard.append((word, sys._getframe(3).f_code.co_name))
        sys.audit("palm_test.one", "by itself")


def say(word: str) -> None:
    sys.audit("palm_test.one", f"{word} one")
    sys.audit("palm_test.two", f"{word} two")


def test_the_innermost_of_each_event_hears_it_and_none_hears_itself() -> None:
    outer, inner = Ear("palm_test.one", "palm_test.two"), Ear("palm_test.one")
    say("before")
    with auditing.listen(outer):
        say("outer")
        with auditing.listen(inner):
            say("inner")
        say("again")
    say("after")
    assert inner.heard == [("inner one", "say"), ("by itself", "note")]  # what the outer one does is heard
    assert outer.heard == [
        ("outer one", "say"),
        ("outer two", "say"),
        ("inner two", "say"),
        ("again one", "say"),
        ("again two", "say"),
    ]


def test_a_block_that_raises_ends_the_listening_and_what_a_handler_raises_comes_through() -> None:
    def refuse(_word: object) -> None:
        raise ValueError("heard")

    listener = auditing.Listener({"palm_test.one": refuse})
    for _ in range(2):
        with pytest.raises(ValueError, match="heard"), auditing.listen(listener):
            say("inside")
    say("outside")
