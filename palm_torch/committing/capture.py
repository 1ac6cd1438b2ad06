"""Copies of tensors, taken in the hook that sees them, before anything can change them.

A capture on the loop's thread is a few comparisons, one copy and a list entry; everything else happens
later, for many copies at a time, which `lanes` carry to the threads that hash them. Without threads the loop
hashes them itself when a buffer is full, and large tensors where they lie, without a copy. A stream is hashed
in the order of its bytes, and leaves follow from those: a root does not depend on threads.
"""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import numpy as np
import torch

from palm_torch.commit.trace import Site
from palm_torch.committing.lanes import Lane
from palm_torch.committing.ring import Ring
from palm_torch.committing.streams import Stream
from palm_torch.errors import CoverageError, SessionError
from palm_torch.hooks import tap_outputs, tensors

if TYPE_CHECKING:
    from palm_torch.commit.trace_gathering import Captured
    from palm_torch.committing.spill import Kept

QUEUE_BYTES: Final = 32 << 20
MAX_THREADS: Final = 16

AT_ONCE_BYTES: Final = 64 << 10
"""Without threads: smallest tensor that is hashed where it lies, in bytes; copies of others are gathered."""

_Tensor: Final = torch.Tensor
_READ: Final = 0x100  # PyBUF_READ
_look: Final[Any] = ctypes.pythonapi.PyMemoryView_FromMemory
_look.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
_look.restype = ctypes.py_object


class Tapped(Protocol):
    """What the taps name a site by; one object for each site is fastest."""

    @property
    def module(self) -> str:
        """Canonical path of the module."""

    @property
    def output(self) -> str:
        """Path within what the module returned."""


class Capture:
    """The sink of the taps of one block.

    Args:
        threads: How many threads hash; with 0 the loop does it. None has one thread for what comes from a
            device or is kept, and has the loop hash other tensors: on a processor the model uses all cores.
        queue_bytes: Most bytes that wait to be hashed; when it is reached, the loop waits.
        kept: Where the tensors are kept for openings, or None.

    Attributes:
        streams: What was captured, in the order of the first calls.
        environment: Versions, threads and switches at the first capture.

    Raises:
        SessionError: If a number is out of range.
    """

    def __init__(
        self, *, threads: int | None = None, queue_bytes: int = QUEUE_BYTES, kept: Kept | None = None
    ) -> None:
        if threads is not None and not 0 <= threads <= MAX_THREADS:
            raise SessionError(f"threads: expected 0 to {MAX_THREADS}, got {threads}")
        if queue_bytes < 0:
            raise SessionError(f"queue_bytes: expected a number of bytes, got {queue_bytes}")
        self._kept = kept
        self._queue_bytes = queue_bytes
        self._lanes = self._new_lanes(int(kept is not None) if threads is None else threads)
        self._device_lanes = self._lanes if self._lanes[0].threaded or threads == 0 else self._new_lanes(1)
        self._rings: dict[torch.device, Ring[Stream]] = {}
        self._of_object: dict[int, Stream] = {}  # by the identity of what names the site
        self._objects: list[Tapped] = []  # so that no other object gets the identity of one of these
        self._of_site: dict[Site, Stream] = {}
        self._of_kind: dict[tuple[Site, str, int], Stream] = {}
        self._stopped = False  # also while a capture is under way: one that does not get to its end stops all
        self._broken: BaseException | None = None
        self._forked = False
        self.streams: list[Stream] = []
        self.environment: dict[str, str] = {}
        _live.add(self)

    def capture(self, site: Tapped, tensor: torch.Tensor, call: int) -> None:
        """Copies a tensor.

        Args:
            site: Whose it is.
            tensor: Any dense tensor, of any shape, strides and device; it may change afterwards.
            call: Number of the call of the module, from 0; above that of the site's last tensor.

        Raises:
            CoverageError: If its bytes cannot be read, a call comes twice or out of order, or hashing or
                keeping failed, now or since the last capture.
            SessionError: If it is called in a forked process, or while another capture is under way.
        """
        if self._stopped:
            self._refuse(site)
        self._stopped = True
        try:
            stream = self._of_object.get(id(site))
            shape = tensor.shape
            if (
                stream is None
                or call != stream.next_call
                or shape != stream.shape
                or tensor.dtype is not stream.kind
            ):
                stream = self._stream(site, tensor)
                stream.note(call, shape)
            else:  # as `note` does for a call like the last one
                stream.next_call = call + 1
                stream.run[1] += 1
            if (
                type(tensor) is _Tensor
                and tensor.is_cpu
                and stream.direct
                and tensor.is_contiguous()
                and not tensor.is_neg()
                and (address := tensor.data_ptr())
            ):
                if stream.nbytes < stream.at_once:
                    stream.lane.write(stream, address, stream.nbytes)
                else:
                    stream.lane.flush()  # what was before comes before
                    stream.add(_look(address, stream.nbytes, _READ), None, 0)
            else:
                self._copy_otherwise(stream, tensor)
        except RuntimeError as error:  # of torch: sparse, nested, wrapped by a transform
            self._broken = _unreadable(site, tensor, error)
            raise self._broken from error
        except BaseException as error:  # Ctrl-C too: the stream may have noted what was not copied
            self._broken = error
            raise
        self._stopped = False

    def close(self) -> list[Captured]:
        """Waits until everything is hashed, and returns it in the order of the first calls.

        Raises:
            CoverageError: If anything could not be captured, hashed or kept.
            SessionError: If the process is a fork of the one that captured.
        """
        if self._stopped:
            self._refuse(None)
        for ring in self._rings.values():
            ring.flush()
        for lane in {*self._lanes, *self._device_lanes}:
            lane.finish()
        return [stream.finish() for stream in self.streams]

    def abandon(self) -> None:
        """Ends the threads and forgets what was captured."""
        if not self._stopped:
            self._stopped, self._broken = True, SessionError("the block has ended")
        if not self._forked:  # a fork has none of the threads
            for lane in {*self._lanes, *self._device_lanes}:
                lane.abandon()

    def _new_lanes(self, threads: int) -> list[Lane[Stream]]:
        share = self._queue_bytes // max(threads, 1)
        return [Lane(self._consume, queue_bytes=share, threaded=threads > 0) for _ in range(max(threads, 1))]

    def _refuse(self, site: Tapped | None) -> NoReturn:
        if self._forked:
            raise SessionError(
                f"this process ({os.getpid()}) was forked inside the block of another: run the model in that "
                "one, or open a block in the new one"
            )
        if self._broken is None and site is not None:
            self._broken = SessionError(
                f"{site.module}: captured while another tensor was: expected one forward pass at a time; run "
                "models that share a block one after the other"
            )
            raise self._broken
        raise CoverageError(f"the commitment has failed before: {self._broken}") from self._broken

    def _stream(self, tapped: Tapped, tensor: torch.Tensor) -> Stream:
        """Returns the stream of a tensor unlike the last one of its site, or of a site not seen before."""
        if not self.streams:
            self.environment = environment()
        site = Site(tapped.module, tapped.output)
        tensors.require_bytes(tensor, what=str(site))
        shape, dtype = tensor.shape, tensors.dtype_name(tensor)
        channels = shape[-1] if shape else 1
        stream = self._of_kind.get((site, dtype, channels))
        if stream is None:
            lanes = self._device_lanes if tensor.is_cuda else self._lanes
            stream = Stream(site, dtype, channels, lanes[len(self.streams) % len(lanes)])
            self._of_kind[site, dtype, channels] = stream
            stream.kind, stream.direct = tensor.dtype, not tensor.is_complex()  # it may be lazily conjugate
            if self._kept is None and not stream.lane.threaded:
                stream.at_once = AT_ONCE_BYTES
            self.streams.append(stream)
        before = self._of_site.get(site)
        if before is None:
            self._objects.append(tapped)
        elif before is not stream:
            stream.next_call, before.shape = before.next_call, None
        self._of_site[site] = stream
        if before is None or self._of_object.get(id(tapped)) is before:
            self._of_object[id(tapped)] = stream
        return stream

    def _copy_otherwise(self, stream: Stream, tensor: torch.Tensor) -> None:
        """Copies a tensor that is not one run of bytes in main memory."""
        tap_outputs.require_dense(tensor, what=str(stream.site))
        ring = self._ring(tensor)
        if stream.source is not None and stream.source is not ring:
            stream.source.flush()  # what was before comes before
        stream.source, stream.direct = ring, ring is None and not tensor.is_complex()
        if not stream.nbytes:
            return
        if ring is not None:
            ring.put(stream, tensor)
            return
        if tensor.is_cpu and not tensor.untyped_storage().nbytes():
            raise CoverageError(f"{stream.site}: the memory of its output was given back already")
        data = tensors.tensor_bytes(tensor, what=str(stream.site))
        _write(stream, np.frombuffer(data, np.uint8).ctypes.data, len(data))

    def _ring(self, tensor: torch.Tensor) -> Ring[Stream] | None:
        """Returns what brings tensors from where this one is; None if nothing has to."""
        if not tensor.is_cuda:
            return None
        ring = self._rings.get(tensor.device)
        if ring is None:
            ring = self._rings[tensor.device] = Ring(tensor.device, _write)
        return ring

    def _consume(self, data: memoryview, pieces: list[tuple[Stream, int, int]]) -> None:
        """Hashes a buffer, in the thread of its lane."""
        block = None if self._kept is None else self._kept.add(data)
        for stream, start, end in pieces:
            stream.add(data[start:end], block, start)


def _unreadable(site: Tapped, tensor: torch.Tensor, error: RuntimeError) -> CoverageError:
    """Returns what to say of a tensor whose bytes torch does not show."""
    what = str(Site(site.module, site.output))
    try:
        tap_outputs.require_dense(tensor, what=what)
    except CoverageError as known:
        return known
    return CoverageError(f"{what}: its output has no bytes to copy: {error}")


def _write(stream: Stream, address: int, nbytes: int) -> None:
    stream.lane.write(stream, address, nbytes)


_live: Final[weakref.WeakSet[Capture]] = weakref.WeakSet()


def _mark_forked() -> None:
    for capture in _live:
        capture._stopped = capture._forked = True  # noqa: SLF001 (of this file)


os.register_at_fork(after_in_child=_mark_forked)


def environment() -> dict[str, str]:
    """Returns what changes the last bits of a result: versions, threads and switches, as they are now."""
    found: dict[str, Any] = {
        "autocast.cpu": _autocast("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "palm-torch": sys.modules["palm_torch"].__version__,  # which has doors to higher floors
        "python": sys.version.partition(" ")[0],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        found["autocast.cuda"] = _autocast("cuda")
        found["cudnn.deterministic"] = torch.backends.cudnn.deterministic
        found["cudnn.benchmark"] = torch.backends.cudnn.benchmark
    return {name: str(value) for name, value in found.items()}


def _autocast(kind: str) -> str:
    if not torch.is_autocast_enabled(kind):
        return "off"
    return str(torch.get_autocast_dtype(kind)).removeprefix("torch.")
