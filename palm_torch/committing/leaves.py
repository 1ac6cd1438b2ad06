"""One site's tensors, byte by byte in the order of the calls, into leaf digests.

Whole tiles are hashed out of the buffer they lie in. What is left of a tile waits for the rows of the next
call, so that leaves depend on the bytes alone and never on how they were cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

from palm_torch.commit import grid, trace
from palm_torch.commit.weights_root import ITEM_BYTES

if TYPE_CHECKING:
    from palm_torch.commit.trace import Site


class Leaves:
    """The leaves of one site, as its bytes arrive; one owner at a time.

    Args:
        site: The site.
        dtype: torch's name of the element type.
        channels: Extent of the last dimension.

    Attributes:
        digests: Leaf digests so far, 32 bytes each, by row and channel.
    """

    __slots__ = ("_at", "_leaf", "_rest", "_row_bytes", "_rows", "_sizes", "_widths", "digests")

    def __init__(self, site: Site, dtype: str, channels: int) -> None:
        self._rows, width = trace.tiling(dtype, channels)
        self._widths = [min(width, channels - left) for left in range(0, channels, width)]
        item_bytes = ITEM_BYTES[dtype]
        self._row_bytes = channels * item_bytes
        self._sizes = [self._rows * width * item_bytes for width in self._widths]
        self._leaf = grid.leaf_maker(site.tree_id, dtype, axes=2)
        self._at = (0, 0)  # coordinates of the next tile
        self._rest = bytearray()  # what there is of it
        self.digests = bytearray()

    def add(self, data: memoryview) -> None:
        """Takes the next bytes, as many as there are; hashes the tiles that they complete.

        Args:
            data: Contiguous bytes; they are not kept, but for a part of the last tile, which is copied.
        """
        rest, start = self._rest, 0
        if rest:
            size = self._sizes[self._at[1]]
            start = min(size - len(rest), len(data))
            rest += data[:start]
            if len(rest) < size:
                return
            with memoryview(rest) as whole:
                self._hash(whole, 0)
            rest.clear()
        start = self._hash(data, start)
        if start < len(data):
            rest += data[start:]

    def finish(self) -> bytes:
        """Returns all leaf digests; the last tile may have fewer rows. Nothing may be added afterwards."""
        if self._rest:
            shape = (len(self._rest) // self._row_bytes, self._widths[0])
            self.digests += self._leaf(shape, self._at, blake3(self._rest).digest())
            self._rest.clear()
        return bytes(self.digests)

    def _hash(self, data: memoryview, start: int) -> int:
        """Hashes the whole tiles from `start` on, and returns where the last of them ends."""
        leaf, rows, widths, sizes, digests = self._leaf, self._rows, self._widths, self._sizes, self.digests
        row, column = self._at
        if not sizes:
            return start
        while (end := start + sizes[column]) <= len(data):
            digests += leaf((rows, widths[column]), (row, column), blake3(data[start:end]).digest())
            start = end
            column += 1
            if column == len(sizes):
                row, column = row + 1, 0
        self._at = (row, column)
        return start
