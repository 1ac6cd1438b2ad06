"""The queue: order, back-pressure, failures in the thread, and an end in every case."""

from __future__ import annotations

import ctypes
import threading
import time

import pytest

from palm_torch.committing import lanes
from palm_torch.committing.lanes import Lane
from palm_torch.errors import CoverageError, RecordError

SMALL = 64


class Sink:
    """Takes buffers; waits for `gate`, if there is one, and fails when told to."""

    def __init__(self, *, gate: threading.Event | None = None, failure: BaseException | None = None) -> None:
        self.gate = gate
        self.entered = threading.Event()
        self.failure = failure
        self.pieces: list[tuple[str, bytes]] = []
        self.buffers = 0

    def __call__(self, data: memoryview, pieces: list[tuple[str, int, int]]) -> None:
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(60)
        self.buffers += 1
        if self.failure is not None:
            raise self.failure
        self.pieces += [(key, bytes(data[start:end])) for key, start, end in pieces]

    def of(self, key: str) -> bytes:
        return b"".join(data for name, data in self.pieces if name == key)


def lane(sink: Sink, *, threaded: bool = True, queue_bytes: int = 2 * SMALL) -> Lane[str]:
    return Lane(sink, queue_bytes=queue_bytes, threaded=threaded, buffer_bytes=SMALL)


def write(to: Lane[str], key: str, data: bytes) -> None:
    copy = (ctypes.c_char * len(data)).from_buffer_copy(data)
    to.write(key, ctypes.addressof(copy), len(data))


def write_buffers(to: Lane[str], count: int) -> None:
    for _ in range(count):
        write(to, "a", bytes(SMALL))


def threads() -> int:
    return sum(thread.name == "palm-torch hashing" for thread in threading.enumerate())


@pytest.mark.parametrize("threaded", [False, True])
def test_all_bytes_arrive_in_order(threaded: bool) -> None:  # noqa: FBT001
    sink = Sink()
    to = lane(sink, threaded=threaded)
    sent = {"a": b"", "b": b""}
    for number in range(200):
        key, data = "ab"[number % 2], bytes([number]) * (number * 7 % 150)
        write(to, key, data)
        sent[key] += data
    to.finish()
    assert {key: sink.of(key) for key in sent} == sent
    assert threads() == 0


def test_what_fits_into_a_whole_buffer_is_not_cut() -> None:
    sink = Sink()
    to = lane(sink, threaded=False)
    for size in (40, 40, 64, 30, 130):
        write(to, "a", bytes(size))
    to.finish()
    assert [len(data) for _, data in sink.pieces] == [40, 40, 64, 30, 34, 64, 32]


def test_nothing_written_starts_no_thread() -> None:
    to = lane(Sink())
    assert threads() == 0
    to.finish()
    to.abandon()


def test_a_full_queue_makes_the_loop_wait() -> None:
    gate = threading.Event()
    sink = Sink(gate=gate)
    to = lane(sink)
    done = threading.Event()

    def loop() -> None:
        for number in range(5):
            write(to, "a", bytes([number]) * SMALL)
        done.set()

    thread = threading.Thread(target=loop)
    thread.start()
    assert not done.wait(0.2)  # two buffers are full: the third has to wait
    gate.set()
    thread.join()
    to.finish()
    assert sink.of("a") == b"".join(bytes([number]) * SMALL for number in range(5))
    assert to._left == 0


def test_a_failure_in_the_thread_is_told_at_the_next_copy_and_at_the_end() -> None:
    sink = Sink(failure=OSError("the disk is gone"))
    to = lane(sink)
    with pytest.raises(CoverageError, match=r"could not be hashed: OSError: the disk is gone"):
        write_buffers(to, 1000)
    with pytest.raises(CoverageError, match="the disk is gone"):
        to.finish()
    assert (sink.buffers, threads()) == (1, 0)


@pytest.mark.parametrize("threaded", [False, True])
def test_errors_of_ours_keep_their_class(threaded: bool) -> None:  # noqa: FBT001
    to = lane(Sink(failure=RecordError("no")), threaded=threaded)
    with pytest.raises(RecordError, match=r"^no$"):
        write_buffers(to, 1000)
    to.abandon()


def test_ctrl_c_while_the_loop_hashes_stays_what_it_is() -> None:
    to = lane(Sink(failure=KeyboardInterrupt()), threaded=False)
    with pytest.raises(KeyboardInterrupt):
        write(to, "a", bytes(SMALL))
    with pytest.raises(KeyboardInterrupt):
        to.finish()


def test_an_abandoned_lane_consumes_no_more() -> None:
    gate = threading.Event()
    sink = Sink(gate=gate)
    to = lane(sink, queue_bytes=100 * SMALL)
    for _ in range(50):
        write(to, "a", bytes(SMALL))
    assert sink.entered.wait(60)
    closing = threading.Thread(target=to.abandon)
    closing.start()
    while not to._abandoned:
        time.sleep(0.001)
    gate.set()
    closing.join()
    assert (sink.buffers, threads()) == (1, 0)


def test_a_thread_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_PATIENCE_S", 0.01)
    to = lane(Sink())
    monkeypatch.setattr(to, "_run", lambda: None)
    with pytest.raises(CoverageError, match="the thread that hashes them is gone"):
        write_buffers(to, 5)


def test_a_slow_thread_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_PATIENCE_S", 0.01)
    gate = threading.Event()
    sink = Sink(gate=gate)
    to = lane(sink)
    threading.Timer(0.1, gate.set).start()
    for _ in range(5):
        write(to, "a", bytes(SMALL))
    to.finish()
    assert len(sink.of("a")) == 5 * SMALL
