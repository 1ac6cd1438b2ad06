"""A queue of copied bytes that is bounded in bytes: full, it makes the loop wait; nothing is ever dropped.

A lane is a row of buffers between the loop's thread, which fills them, and one thread, which empties them.
Without a thread, the loop empties a buffer whenever it is full. What a thread fails at is told at the next
copy and at the end; from then on it only gives buffers back, so that nobody waits for it.
"""

from __future__ import annotations

import ctypes
import queue
import threading
from typing import Any, Final, Generic, Protocol, TypeVar

from palm_torch.errors import CoverageError, PalmTorchError

BUFFER_BYTES: Final = 1 << 20
LEAST_BUFFERS: Final = 2
"""One that is filled and one that is emptied."""

_PATIENCE_S: Final = 1.0

Key = TypeVar("Key")

_move: Final[Any] = ctypes.PyDLL(
    None
).memmove  # keeps the interpreter's lock: it is faster than to hand it over
_move.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_move.restype = None


class Consumer(Protocol[Key]):
    """Takes what a buffer holds."""

    def __call__(self, data: memoryview, pieces: list[tuple[Key, int, int]]) -> None:
        """Takes a full buffer.

        Args:
            data: What was written to it.
            pieces: Whose bytes these are: key, start, end; in the order of writing.
        """


class Buffer(Generic[Key]):
    """Bytes that were copied, and whose they are."""

    __slots__ = ("_keep", "address", "pieces", "size", "used", "view")

    def __init__(self, size: int) -> None:
        data = bytearray(size)
        self._keep = (ctypes.c_char * size).from_buffer(data)
        self.address = ctypes.addressof(self._keep)
        self.view = memoryview(data)
        self.size = size
        self.used = 0
        self.pieces: list[tuple[Key, int, int]] = []

    def clear(self) -> None:
        """Makes room."""
        self.used = 0
        self.pieces = []


class Lane(Generic[Key]):
    """One row of buffers; only one thread may write at a time.

    Args:
        consume: Takes the contents of each buffer, in order.
        queue_bytes: Most bytes that wait, at least two buffers.
        threaded: Whether a thread of its own empties the buffers.
        buffer_bytes: Size of one buffer.
    """

    def __init__(
        self,
        consume: Consumer[Key],
        *,
        queue_bytes: int,
        threaded: bool,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self._consume = consume
        self._buffer_bytes = buffer_bytes
        self._left = max(queue_bytes // buffer_bytes, LEAST_BUFFERS) if threaded else 1
        self._current: Buffer[Key] | None = None
        self._free: queue.SimpleQueue[Buffer[Key]] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[Buffer[Key] | None] = queue.SimpleQueue()
        self._abandoned = False
        self.threaded: Final = threaded
        """Whether a thread of its own empties the buffers."""
        self._thread: threading.Thread | None = None
        self.failure: BaseException | None = None
        """What the consumer raised."""

    def write(self, key: Key, address: int, nbytes: int) -> None:
        """Copies bytes, waiting for room if there is none.

        Args:
            key: Whose bytes they are.
            address: Where they lie in memory.
            nbytes: How many they are.

        Raises:
            PalmTorchError: What the consumer raised, in a thread perhaps a while ago.
        """
        buffer = self._current
        if buffer is not None and (end := (start := buffer.used) + nbytes) < buffer.size:  # as it mostly is
            _move(buffer.address + start, address, nbytes)
            buffer.used = end
            buffer.pieces.append((key, start, end))
            return
        while nbytes:
            buffer = self._room(nbytes)
            start = buffer.used
            size = min(nbytes, buffer.size - start)
            _move(buffer.address + start, address, size)
            end = buffer.used = start + size
            buffer.pieces.append((key, start, end))
            address += size
            nbytes -= size
            if end == buffer.size:
                self._hand_over(buffer)

    def finish(self) -> None:
        """Has everything consumed that was written, and ends the thread.

        Raises:
            PalmTorchError: What the consumer raised.
        """
        self.flush()
        self._end()
        self.check()

    def flush(self) -> None:
        """Hands over what was written; without a thread, it is consumed when this returns.

        Raises:
            PalmTorchError: Without a thread: what the consumer raised.
        """
        if self._current is not None:
            self._hand_over(self._current)

    def abandon(self) -> None:
        """Ends the thread without having the rest consumed."""
        self._abandoned = True
        self._end()

    def check(self) -> None:
        """Raises what the consumer raised, if it did.

        Raises:
            PalmTorchError: Of the class that it was, or a CoverageError for what is no error of ours.
            BaseException: As it was, if it is no error, such as Ctrl-C.
        """
        if self.failure is None:
            return
        if not isinstance(self.failure, Exception):
            raise self.failure
        if isinstance(self.failure, PalmTorchError):
            raise type(self.failure)(str(self.failure)) from self.failure
        raise CoverageError(
            f"captured tensors could not be hashed: {type(self.failure).__name__}: {self.failure}"
        ) from self.failure

    def _room(self, nbytes: int) -> Buffer[Key]:
        """Returns the buffer to write to; one that would cut what fits into a whole one is handed over."""
        buffer = self._current
        if buffer is not None:
            if nbytes <= buffer.size - buffer.used or nbytes > buffer.size:
                return buffer
            self._hand_over(buffer)
        self._current = buffer = self._take()
        return buffer

    def _take(self) -> Buffer[Key]:
        self.check()
        try:
            return self._free.get_nowait()
        except queue.Empty:
            if self._left:
                self._left -= 1
                return Buffer(self._buffer_bytes)
        while True:  # the queue is full
            try:
                return self._free.get(timeout=_PATIENCE_S)
            except queue.Empty:
                if self._thread is None or not self._thread.is_alive():
                    raise CoverageError("captured tensors: the thread that hashes them is gone") from None

    def _hand_over(self, buffer: Buffer[Key]) -> None:
        self._current = None
        if not self.threaded:
            self._empty(buffer)
            self.check()
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="palm-torch hashing", daemon=True)
            self._thread.start()
        self._full.put(buffer)

    def _empty(self, buffer: Buffer[Key]) -> None:
        """Has a buffer consumed, unless something failed before, and gives it back in any case."""
        try:
            if self.failure is None and not self._abandoned:
                self._consume(buffer.view[: buffer.used], buffer.pieces)
        except BaseException as error:  # noqa: BLE001 (`check` raises it where somebody hears it)
            self.failure = error
        buffer.clear()
        self._free.put(buffer)

    def _run(self) -> None:
        while (buffer := self._full.get()) is not None:
            self._empty(buffer)

    def _end(self) -> None:
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()
            self._thread = None
