"""Giving work out to workers, here or elsewhere, and taking their results in.

A worker that digests a file sends block after block. Who multiplies a block is decided when it comes: a
worker that has nothing else to do, or the one that sent it. So the work divides evenly even where one large
file, which must be read from its beginning to its end, is all there is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from palm_torch.commit.records import DIGEST_BYTES
from palm_torch.data.measuring import messages, worker
from palm_torch.data.measuring.reading import Block
from palm_torch.data.measuring.units import Unit, block_records
from palm_torch.errors import EncodingError, MeasurementError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from palm_torch.data.measuring.job import Work
    from palm_torch.data.measuring.reading import Digester
    from palm_torch.data.shards import ShardFile


def run_here(work: Work, digester: Digester) -> None:
    """Does all the work in this process."""
    while (unit := work.next()) is not None:
        sha256 = None
        for found in digester.run(unit):
            if not isinstance(found, Block):
                sha256 = found.sha256
            elif work.block(unit, found.first, found.digests):
                work.fold(found.digests, worker.product_of(found.digests))
        work.done(unit, sha256)


@dataclass(slots=True)
class _Worker:
    """One worker: what it is doing.

    Attributes:
        name: For messages.
        greeted: Whether it said what it opened.
        unit: What it digests, if anything.
        next: Number of the next record it must send.
        folding: The block it multiplies, if any.
    """

    name: str
    greeted: bool = False
    unit: Unit | None = None
    next: int = 0
    folding: bytes | None = field(default=None, repr=False)

    @property
    def idle(self) -> bool:
        return self.greeted and self.unit is None and self.folding is None


class Pool:
    """Workers at work.

    Args:
        work: What there is to do.
        files: The dataset's files.
        workers: Connection → name of the worker behind it.
        expected: What a worker must have opened: `units.fingerprint`.
    """

    def __init__(
        self,
        work: Work,
        files: Sequence[ShardFile],
        workers: dict[Connection, str],
        *,
        expected: bytes,
    ) -> None:
        self._work = work
        self._step = block_records(files[0].view.layout)
        self._workers = {connection: _Worker(name) for connection, name in workers.items()}
        self._expected = expected
        self._blocks: deque[bytes] = deque()

    def run(self) -> None:
        """Gives work out until none is left, and says so to the workers.

        Raises:
            PalmTorchError: The first error that a worker met.
            MeasurementError: If a worker is gone, or opened other data.
            EncodingError: If one sent what it must not.
        """
        self._give_out()
        while any(not one.idle for one in self._workers.values()):
            for connection in wait(list(self._workers)):
                one = self._workers[connection]  # type: ignore[index]  # they are what was waited for
                try:
                    self._take(connection, one)  # type: ignore[arg-type]  # likewise
                except (EOFError, OSError) as error:
                    raise MeasurementError(
                        f"{one.name} ended before its work was done: if it was killed for lack of memory, or "
                        "a file was cut off while it was read, mend that and measure again"
                    ) from error
            self._give_out()
        for connection, one in self._workers.items():
            self._send(connection, one, messages.END)

    def _give_out(self) -> None:
        for connection, one in self._workers.items():
            if not one.idle:
                continue
            if self._blocks:
                one.folding = self._blocks.popleft()
                self._send(connection, one, messages.FOLD, one.folding)
            elif (unit := self._work.next()) is not None:
                one.unit, one.next = unit, unit.first
                self._send(connection, one, messages.UNIT, messages.unit(unit))

    def _take(self, connection: Connection, one: _Worker) -> None:
        letter, body = messages.receive(connection)
        if letter == messages.FAILED:
            raise messages.read_failure(body)
        if letter == messages.HELLO and not one.greeted:
            self._greet(one, body)
        elif letter == messages.PRODUCT and one.folding is not None:
            self._work.fold(one.folding, messages.read_product(body))
            one.folding = None
        elif letter == messages.BLOCK and one.unit is not None and one.folding is None:
            self._block(connection, one, one.unit, messages.read_block(body))
        elif letter == messages.DONE and one.unit is not None and one.folding is None:
            sha256 = messages.read_done(body)
            if one.next != one.unit.first + one.unit.count or (sha256 is not None) != one.unit.hash_file:
                raise EncodingError(f"{one.name} sent less than its work")
            self._work.done(one.unit, sha256)
            one.unit = None
        else:
            raise EncodingError(f"{one.name} sent a message {letter!r} that nobody asked for")

    def _block(self, connection: Connection, one: _Worker, unit: Unit, block: Block) -> None:
        expected = min(self._step, unit.first + unit.count - one.next)
        if block.first != one.next or len(block.digests) != expected * DIGEST_BYTES:
            raise EncodingError(
                f"{one.name} sent {len(block.digests)} bytes of digests of record {block.first}, expected "
                f"{expected * DIGEST_BYTES} of record {one.next}"
            )
        one.next += expected
        wanted = self._work.block(unit, block.first, block.digests)
        if wanted and len(self._blocks) >= sum(other.unit is None for other in self._workers.values()):
            one.folding = block.digests
            self._send(connection, one, messages.YOURS)
            return
        if wanted:
            self._blocks.append(block.digests)
        self._send(connection, one, messages.TAKEN)

    def _greet(self, one: _Worker, body: bytes) -> None:
        if messages.read_hello(body) != self._expected:
            raise MeasurementError(
                f"{one.name} sees another dataset: names, sizes, records, layout and salt must be the same "
                "everywhere; look for a folder that is not shared, or files that are still written"
            )
        one.greeted = True

    def _send(self, connection: Connection, one: _Worker, letter: bytes, body: bytes = b"") -> None:
        try:
            messages.send(connection, letter, body)
        except OSError as error:
            raise MeasurementError(f"{one.name} ended before its work was done") from error
