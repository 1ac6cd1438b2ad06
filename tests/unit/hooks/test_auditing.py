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
        if word != "by itself":
            sys.audit("palm_test.one", "by itself")


def say(word: str) -> None:
    sys.audit("palm_test.one", f"{word} one")
    sys.audit("palm_test.two", f"{word} two")


def test_the_innermost_of_each_event_hears_it_and_itself_too() -> None:
    outer, inner = Ear("palm_test.one", "palm_test.two"), Ear("palm_test.one")
    say("before")
    with auditing.listen(outer):
        say("outer")
        with auditing.listen(inner):
            say("inner")
        say("again")
    say("after")
    itself = ("by itself", "note")
    assert inner.heard == [("inner one", "say"), itself, itself]  # what the outer one does is heard
    assert outer.heard == [
        ("outer one", "say"),
        itself,
        ("outer two", "say"),
        itself,
        ("inner two", "say"),
        ("again one", "say"),
        itself,
        ("again two", "say"),
        itself,
    ]


def test_a_listener_hears_one_process_and_can_be_moved() -> None:
    listener = Ear("palm_test.one")
    listener._process += 1
    with auditing.listen(listener):
        say("deaf")
        listener.move_here()
        say("here")
    assert listener.heard[0] == ("here one", "say")


def test_a_block_that_raises_ends_the_listening_and_what_a_handler_raises_comes_through() -> None:
    def refuse(_word: object) -> None:
        raise ValueError("heard")

    listener = auditing.Listener({"palm_test.one": refuse})
    for _ in range(2):
        with pytest.raises(ValueError, match="heard"), auditing.listen(listener):
            say("inside")
    say("outside")
