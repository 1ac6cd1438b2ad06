"""The lowest nodes of a Merkle tree, of a few blocks of its leaves: hashed once for many proofs.

A proof has nodes from inside of the blocks of 1,024 leaves that it opens. To hash them takes as long as to
hash the whole block, so all of its nodes are made at once, 32 KiB, and those of the blocks that were used
last stay at hand.
"""

from __future__ import annotations

from typing import Final

from palm_torch.commit import merkle_nodes

MOST_BLOCKS: Final = 96
"""Blocks whose nodes stay at hand: 3 MiB for each tree."""


class Blocks:
    """The nodes below the top of a tree's blocks; correct as long as the leaves stay as they are."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        # block → its levels from 1 on, each the hashes of its nodes, one after the other; the oldest first
        self._kept: dict[int, list[bytes]] = {}

    def __len__(self) -> int:
        """Returns how many blocks are at hand."""
        return len(self._kept)

    def forget(self) -> None:
        """Drops all nodes: leaves are about to change."""
        self._kept.clear()

    def node(self, leaves: bytearray, level: int, index: int) -> bytes:
        """Returns a node, 32 bytes.

        Args:
            leaves: All leaf digests of the tree, n × 32 bytes: the same in every call since `forget`.
            level: Level of the node, not above that of blocks, nor above the tree's own top.
            index: Index of the node in its level; it covers a leaf.
        """
        if not level:
            return bytes(leaves[index * merkle_nodes.HASH_BYTES : (index + 1) * merkle_nodes.HASH_BYTES])
        up = merkle_nodes.BLOCK_LEVELS - level
        levels = self._levels(leaves, index >> up)
        start = (index & ((1 << up) - 1)) * merkle_nodes.HASH_BYTES
        return levels[level - 1][start : start + merkle_nodes.HASH_BYTES]

    def _levels(self, leaves: bytearray, block: int) -> list[bytes]:
        levels = self._kept.pop(block, None)
        if levels is None:
            levels = merkle_nodes.levels_of_block(leaves, block)
            if len(self._kept) >= MOST_BLOCKS:
                self._kept.pop(next(iter(self._kept)), None)
        self._kept[block] = levels
        return levels
