"""Messages of measuring: what is sent is read back, and nothing else is read."""

from __future__ import annotations

import contextlib
import socket
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from recording import LENGTH

from palm_torch.data import shards
from palm_torch.data.measuring import messages, units, worker
from palm_torch.data.measuring.job import Measurement
from palm_torch.data.measuring.pool import Pool
from palm_torch.data.measuring.reading import Block, FileDigest
from palm_torch.data.measuring.writing import ManifestWriter
from palm_torch.errors import DataError, EncodingError, MeasurementError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = some.integers(0, 2**64 - 1)


@given(some.integers(0, 2**32 - 1), COUNT, COUNT, some.booleans(), some.booleans())
def test_units(shard: int, first: int, count: int, hash_file: bool, aside: bool) -> None:  # noqa: FBT001 (drawn)
    one = units.Unit(shard, first, count, hash_file, aside)
    assert messages.read_unit(messages.unit(one)) == one


@given(COUNT, some.integers(1, 5), some.randoms(use_true_random=False))
def test_blocks(first: int, count: int, random: Any) -> None:
    one = Block(first, random.randbytes(32 * count))
    assert messages.read_block(messages.block(one)) == one


@pytest.mark.parametrize("last", [None, FileDigest(bytes(32))])
def test_end_of_a_unit(last: FileDigest | None) -> None:
    assert messages.read_done(messages.done(last)) == (last and last.sha256)


@pytest.mark.parametrize("error", [DataError("a: b"), MeasurementError("c"), RecordError("\udcff" * 20_000)])
def test_errors_keep_their_class_where_it_means_something(error: Any) -> None:
    told = messages.read_failure(messages.failure(error))
    assert type(told) is (DataError if isinstance(error, RecordError) else type(error))
    assert str(error)[:3] == str(told)[:3] or "\\udcff" in str(told)


@pytest.mark.parametrize(
    "read",
    [
        messages.read_unit,
        messages.read_block,
        messages.read_product,
        messages.read_done,
        messages.read_hello,
        messages.read_failure,
    ],
)
@given(some.binary(max_size=100))
def test_only_our_errors_escape(read: Callable[[bytes], object], body: bytes) -> None:
    with contextlib.suppress(EncodingError):
        read(body)


HELLO = messages.HELLO + bytes(32)
FIRST = messages.BLOCK + bytes(8)


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ([messages.DONE], "sent a message b'D' that nobody asked for"),
        ([HELLO, HELLO], "sent a message b'H' that nobody asked for"),
        ([messages.HELLO + bytes([1]) * 32], "sees another dataset"),
        ([HELLO, messages.PRODUCT + bytes(384)], "sent a message b'P' that nobody asked for"),
        ([HELLO, FIRST + bytes(32)], "sent 32 bytes of digests of record 0, expected 1280 of record 0"),
        (
            [HELLO, messages.BLOCK + bytes(7) + b"\x01" + bytes(1280)],
            "of record 1, expected 1280 of record 0",
        ),
        ([HELLO, FIRST + bytes(31)], "a message b'B' of measuring has 39 bytes that it cannot have"),
        ([HELLO, messages.DONE + bytes(32)], "sent less than its work"),
        ([HELLO, FIRST + bytes(1280), messages.DONE], "that nobody asked for"),
        ([HELLO, FIRST + bytes(1280), messages.PRODUCT + bytes(384)], r"expected a number in \(0"),
        ([HELLO, b"?"], r"sent a message b'\?'"),
        ([HELLO, b""], "sent a message b''"),
        ([HELLO], "ended before its work was done"),
    ],
)
def test_worker_that_sends_what_it_must_not(tokens: Path, sent: list[bytes], says: str) -> None:
    files = shards.open_all(tokens / "part-0.bin", shards.table.Wanted(LENGTH))
    ours, theirs = socket.socketpair()
    other = Connection(theirs.detach())
    with Connection(ours.detach()) as mine, other, ManifestWriter(tokens / "m") as writer:
        for message in sent:
            other.send_bytes(message)
        if sent == [HELLO]:
            other.close()
        work = Measurement(files, writer, file_digests=True, workers=1, known=None, progress=None)
        pool = Pool(work, files, {mine: "a worker"}, expected=bytes(32))
        with pytest.raises((EncodingError, MeasurementError, DataError), match=says):
            pool.run()


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"Q", "expected work"),
        (messages.UNIT + bytes(5), "5 bytes that it cannot have"),
        (messages.FOLD + bytes(31), "n × 32 bytes"),
    ],
)
def test_work_that_cannot_be_done(tokens: Path, sent: bytes, says: str) -> None:
    files = shards.open_all(tokens, shards.table.Wanted(LENGTH))
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as mine, Connection(theirs.detach()) as other:
        other.send_bytes(sent)
        with pytest.raises((EncodingError, DataError), match=says):
            worker.serve(mine, files, bytes(32))
        assert messages.receive(other)[0] == messages.HELLO
        assert messages.receive(other)[0] == messages.FAILED


@pytest.mark.parametrize("setup", [b"U", b"S{}", b"Snot JSON", b'S{"path":1}'])
def test_process_that_is_not_told_what_to_open_ends(setup: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as mine:
        mine.send_bytes(setup)
        worker.main(theirs.detach())
        with pytest.raises(EOFError):
            mine.recv_bytes()


def test_process_does_what_it_is_told(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    wanted = shards.table.Wanted(LENGTH)
    files = shards.open_all(tokens, wanted)
    for path, letters in ((tokens, b"HBD"), (tokens / "nothing", b"X")):
        ours, theirs = socket.socketpair()
        with Connection(ours.detach()) as mine:
            mine.send_bytes(worker.setup(path, wanted, bytes(32)))
            for message in (messages.UNIT + messages.unit(units.Unit(0, 0, 40, hash_file=True)), b"T", b"E"):
                mine.send_bytes(message)
            worker.main(theirs.detach())
            said = [messages.receive(mine) for _ in letters]
        assert b"".join(letter for letter, _ in said) == letters
        if letters == b"HBD":
            assert said[0][1] == units.fingerprint(files, bytes(32))
