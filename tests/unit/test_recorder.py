"""How the running session is reached: from its thread and process, and from nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from typing import Any

import pytest

from palm_torch import recorder
from palm_torch.errors import SessionError


class Deaf:
    def deliver(self, reads: Any, *, grad_enabled: bool) -> None:
        """Records nothing."""


DEAF = Deaf()


def elsewhere(function: Any) -> list[Any]:
    """Calls a function in another thread and returns its value or the session error it raised."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        except SessionError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


def test_without_a_session_nobody_records() -> None:
    assert recorder.current() is None
    assert recorder.session_id() is None
    recorder.failed(ValueError("nobody listens"))
    assert elsewhere(recorder.current) == [None]


def test_inside_a_session_its_recorder_is_current() -> None:
    with recorder.install(DEAF, "first"):
        assert recorder.current() is DEAF
        assert recorder.session_id() == "first"
    assert recorder.current() is None
    with recorder.install(DEAF, "second"):
        assert recorder.session_id() == "second"


def test_one_session_at_a_time() -> None:
    with recorder.install(DEAF, "first"):
        with pytest.raises(SessionError, match="session first is still open"), recorder.install(DEAF, "x"):
            pass
        assert recorder.session_id() == "first"


def test_a_session_that_ends_with_an_error_is_over() -> None:
    with pytest.raises(KeyError), recorder.install(DEAF, "first"):
        raise KeyError
    assert recorder.current() is None


def test_another_thread_is_told_and_the_session_hears_of_it() -> None:
    with recorder.install(DEAF, "first") as failures:
        (error,) = elsewhere(recorder.current)
        assert isinstance(error, SessionError)
        assert "another thread or context" in str(error)
        assert failures == [error]
        assert elsewhere(recorder.session_id) == ["first"]
        assert recorder.current() is DEAF


def test_a_thread_that_carries_the_context_is_still_another_thread() -> None:
    with recorder.install(DEAF, "first"):
        context = contextvars.copy_context()
        (error,) = elsewhere(lambda: context.run(recorder.current))
        assert isinstance(error, SessionError)


def test_another_context_of_the_same_thread() -> None:
    outside = contextvars.copy_context()
    with recorder.install(DEAF, "first"), pytest.raises(SessionError, match="another thread or context"):
        outside.run(recorder.current)


def test_a_task_started_inside_inherits_the_session() -> None:
    async def ask() -> Any:
        return recorder.current()

    async def main() -> Any:
        return await asyncio.create_task(ask())

    with recorder.install(DEAF, "first"):
        assert asyncio.run(main()) is DEAF


def test_a_forked_process_is_told_and_the_session_does_not_hear_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = os.getpid()
    with recorder.install(DEAF, "first") as failures:
        monkeypatch.setattr(os, "getpid", lambda: parent + 1)
        with pytest.raises(SessionError, match=f"was forked inside a session of process {parent}"):
            recorder.current()
        recorder.failed(ValueError("in the child"))
        assert failures == []
        monkeypatch.undo()
        error = ValueError("in the parent")
        recorder.failed(error)
        assert failures == [error]


def test_reads_are_plain_bytes() -> None:
    reads = recorder.Reads("uid", b"\0" * 8, b"\1" * 32, b"")
    assert (reads.dataset, len(reads.indices), len(reads.digests), reads.product) == ("uid", 8, 32, b"")


# what the recorder tells whoever asks from the wrong place: what happened, and what to do


def test_a_forked_process_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    with recorder.install(Deaf(), "first"):
        monkeypatch.setattr(os, "getpid", lambda: parent + 1)
        with pytest.raises(SessionError) as caught:
            recorder.current()
        monkeypatch.undo()
    assert str(caught.value) == (
        f"this process ({parent + 1}) was forked inside a session of process {parent}: what happens here is"
        " not measured; end the session first, or read data through palm_torch.DataLoader workers"
    )


def test_another_context_is_told_what_to_do() -> None:
    outside = contextvars.copy_context()
    with recorder.install(Deaf(), "first"), pytest.raises(SessionError) as caught:
        outside.run(recorder.current)
    assert str(caught.value) == (
        "a session is open in another thread or context: run the loop in the thread that opened it"
    )


def test_reads_are_not_exact_unless_somebody_says_so() -> None:
    assert recorder.Reads("uid", b"", b"", b"").exact is False


def test_the_session_that_is_in_the_way_is_named() -> None:
    second = recorder.install(Deaf(), "second")
    with recorder.install(Deaf(), "first"), pytest.raises(SessionError) as caught, second:
        pass
    assert str(caught.value) == "session first is still open: end it before beginning another"


def test_the_observer_is_that_of_the_innermost_block() -> None:
    first: Any = object()
    second: Any = object()
    assert recorder.observer() is None
    with recorder.observing(first):
        assert recorder.observer() is first
        with contextlib.suppress(ValueError), recorder.observing(second):
            assert recorder.observer() is second
            raise ValueError
        assert recorder.observer() is first
    assert recorder.observer() is None
