"""A stream: all tensors of one site that have one element type and one number of channels, as bytes.

The loop's thread counts the calls and their shapes; the thread that hashes makes leaves of the bytes and,
where they are kept, notes where they lie.
"""

from __future__ import annotations

import bisect
import itertools
import math
import sys
from array import array
from typing import TYPE_CHECKING, Any, Final

from palm_torch.commit.trace import Calls
from palm_torch.commit.trace_gathering import Captured
from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.committing.leaves import Leaves
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from palm_torch.commit.trace import Site
    from palm_torch.committing.lanes import Lane
    from palm_torch.committing.spill import Kept

_OFFSET_BITS: Final = 32


class Stream:
    """One stream; `note` is called by the loop's thread, `add` by the one that hashes.

    Args:
        site: The site.
        dtype: torch's name of the element type.
        channels: Extent of the last dimension; 1 for tensors without dimensions.
        lane: What carries its bytes to the thread that hashes them.

    Attributes:
        shape: Whole shape of the last tensor noted; None if the site's last tensor was not of this stream.
        nbytes: Size of a tensor of this shape.
        next_call: The least number that the next call can have.
        run: First call, count and leading shape of the calls that were like the last one.
        kind: What the owner knows tensors of this element type by.
        direct: Whether bytes in main memory are, as they lie, those of the tensor; the owner's.
        at_once: Smallest tensor, in bytes, that is hashed where it lies; the owner's.
        source: Where bytes still wait that are in no lane yet; None if none do; the owner's.
    """

    __slots__ = (
        "_ends",
        "_leaves",
        "_places",
        "_runs",
        "at_once",
        "channels",
        "direct",
        "dtype",
        "kind",
        "lane",
        "nbytes",
        "next_call",
        "run",
        "shape",
        "site",
        "source",
    )

    def __init__(self, site: Site, dtype: str, channels: int, lane: Lane[Stream]) -> None:
        self.site = site
        self.dtype = dtype
        self.channels = channels
        self.lane = lane
        self.shape: tuple[int, ...] | None = None
        self.nbytes = self.next_call = 0
        self.run: list[Any] = []
        self.kind: Any = None
        self.direct = True
        self.at_once = sys.maxsize
        self.source: Any = None
        self._runs: list[list[Any]] = []
        self._leaves = Leaves(site, dtype, channels)
        self._ends = array("Q")  # of each piece: where it ends in the stream
        self._places = array("Q")  # of each piece: number of its block and where it begins there

    def note(self, call: int, shape: tuple[int, ...]) -> None:
        """Counts a call.

        Args:
            call: Its number, above all that were noted.
            shape: Whole shape of the tensor; its last extent is the stream's.

        Raises:
            CoverageError: If that call, or a later one, was noted before.
        """
        if call < self.next_call:
            raise CoverageError(
                f"{self.site}: call {call} was captured after call {self.next_call - 1}: expected each call "
                "once and in order; tap a model in one block at a time"
            )
        leading = tuple(shape[:-1]) if shape else None
        if self.run and self.run[0] + self.run[1] == call and self.run[2] == leading:
            self.run[1] += 1
        else:
            self.run = [call, 1, leading]
            self._runs.append(self.run)
        self.next_call = call + 1
        self.shape = shape
        self.nbytes = math.prod(shape) * ITEM_BYTES[self.dtype]

    def add(self, data: memoryview, block: int | None, start: int) -> None:
        """Takes the next bytes.

        Args:
            data: The bytes.
            block: Number of the block in which they are kept, or None.
            start: Where in the block.
        """
        self._leaves.add(data)
        if block is not None:
            self._ends.append((self._ends[-1] if self._ends else 0) + len(data))
            self._places.append(block << _OFFSET_BITS | start)

    def finish(self) -> Captured:
        """Returns what there was; nothing may come after."""
        schedule = tuple(itertools.starmap(Calls, self._runs))
        return Captured(self.site, self.dtype, self.channels, schedule, self._leaves.finish())

    def read(self, kept: Kept, start: int, stop: int) -> bytes:
        """Returns a range of the stream's bytes, out of those that were kept.

        Args:
            kept: Where they are kept.
            start: First byte.
            stop: The byte after the last.
        """
        parts: list[bytes] = []
        piece = bisect.bisect_right(self._ends, start)
        while start < stop:
            begins = self._ends[piece - 1] if piece else 0
            end = min(stop, self._ends[piece])
            block, offset = divmod(self._places[piece], 1 << _OFFSET_BITS)
            parts.append(kept.read(block, offset + start - begins, offset + end - begins))
            start, piece = end, piece + 1
        return b"".join(parts)
