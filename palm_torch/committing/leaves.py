"""One site's tensors, byte by byte in the order of the calls, into leaf digests.

Whole tiles are hashed out of the buffer they lie in. What is left of a tile waits for the rows of the next
call, so that leaves depend on the bytes alone and never on how they were cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

from palm_torch.commit import tile_leaf, trace
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

    __slots__ = ("_at", "_columns", "_last_leaf", "_rest", "_row_bytes", "_width", "digests")

    def __init__(self, site: Site, dtype: str, channels: int) -> None:
        rows, width = trace.tiling(dtype, channels)
        shapes = [(rows, min(width, channels - left)) for left in range(0, channels, width)]
        item_bytes = ITEM_BYTES[dtype]
        self._row_bytes = channels * item_bytes
        self._width = shapes[0][1] if shapes else 0
        self._columns = [  # of each: bytes of a whole tile, and what makes its leaf
            (shape[0] * shape[1] * item_bytes, tile_leaf.maker_of_shape(site.tree_id, dtype, shape))
            for shape in shapes
        ]
        self._last_leaf = tile_leaf.maker(site.tree_id, dtype, axes=2)
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
            size, _ = self._columns[self._at[1]]
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
            shape = (len(self._rest) // self._row_bytes, self._width)
            self.digests += self._last_leaf(shape, self._at, blake3(self._rest).digest())
            self._rest.clear()
        return bytes(self.digests)

    def _hash(self, data: memoryview, start: int) -> int:
        """Hashes the whole tiles from `start` on, and returns where the last of them ends."""
        columns, digests = self._columns, self.digests
        if not columns:
            return start
        hasher = blake3()
        reset, update, digest = hasher.reset, hasher.update, hasher.digest
        row, column = self._at
        size, leaf = columns[column]
        while (end := start + size) <= len(data):
            reset()
            update(data[start:end])
            digests += leaf((row, column), digest())
            start = end
            column += 1
            if column == len(columns):
                row, column = row + 1, 0
            size, leaf = columns[column]
        self._at = (row, column)
        return start
