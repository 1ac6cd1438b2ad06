"""The root of a Merkle tree whose leaves pass by and are not kept."""

from __future__ import annotations

from typing import Final

from palm_torch.commit import merkle_nodes
from palm_torch.errors import DataError

_BLOCK_BYTES: Final = merkle_nodes.HASH_BYTES << merkle_nodes.BLOCK_LEVELS
_MAX_BLOCKS: Final = merkle_nodes.MAX_LEAVES >> merkle_nodes.BLOCK_LEVELS


class StreamingRoot:
    """Takes leaves one by one and knows their root: that of `merkle.root` over all of them.

    It keeps the leaves of the block that is not yet complete, at most 32 KiB, and one hash for each complete
    subtree to the left of it, at most one per level.
    """

    __slots__ = ("_block", "_blocks", "_peaks")

    def __init__(self) -> None:
        self._block = bytearray()
        self._blocks = 0
        # (level, hash) of the largest complete subtrees, from left to right: levels fall.
        self._peaks: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        """Returns the number of leaves so far."""
        return (self._blocks << merkle_nodes.BLOCK_LEVELS) + len(self._block) // merkle_nodes.HASH_BYTES

    def append(self, leaf: bytes) -> int:
        """Takes one 32-byte leaf digest and returns its position.

        Raises:
            DataError: If the digest is not 32 bytes, or there are `merkle.MAX_LEAVES` leaves already.
        """
        if len(leaf) != merkle_nodes.HASH_BYTES:
            raise DataError(f"merkle leaf: expected {merkle_nodes.HASH_BYTES} bytes, got {len(leaf)}")
        if self._blocks == _MAX_BLOCKS:
            raise DataError(f"merkle leaves: expected at most {merkle_nodes.MAX_LEAVES}, got one more")
        block = self._block
        block += leaf
        position = len(self) - 1
        if len(block) == _BLOCK_BYTES:
            self._close_block()
        return position

    def root(self) -> bytes:
        """Returns the root over the leaves so far, 32 bytes; more leaves may follow."""
        count = len(self)
        peaks = list(self._peaks)
        if self._block:
            # The last block: as high as the others, or the whole tree if it is the only one.
            level = min(merkle_nodes.height(count), merkle_nodes.BLOCK_LEVELS)
            node = merkle_nodes.node_of_leaves(self._block, level, 0)
        elif peaks:
            level, node = peaks.pop()
        else:
            return merkle_nodes.root_of_top(0, merkle_nodes.MISSING)
        for peak_level, peak in reversed(peaks):
            while level < peak_level:
                level += 1
                node = merkle_nodes.node_hash(level, node, merkle_nodes.MISSING)
            level += 1
            node = merkle_nodes.node_hash(level, peak, node)
        return merkle_nodes.root_of_top(count, node)

    def _close_block(self) -> None:
        """Replaces the leaves of a complete block by its top, and two complete neighbours by their parent."""
        level = merkle_nodes.BLOCK_LEVELS
        node = merkle_nodes.node_of_leaves(self._block, level, 0)
        while self._peaks and self._peaks[-1][0] == level:
            level += 1
            node = merkle_nodes.node_hash(level, self._peaks.pop()[1], node)
        self._peaks.append((level, node))
        self._block.clear()
        self._blocks += 1
