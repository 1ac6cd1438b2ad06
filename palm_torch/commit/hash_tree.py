"""The binary tree of hashes as one of the two schemes of a Terkle tree: leaves row-major, nothing else.

An aligned run of tiles along the last axis is a subtree and opens with one short path. A column is not: each
of its tiles needs a path of its own, which is what the scheme in `kzg_tree` is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.commit import merkle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.commit.tree_context import Context


class Nodes:
    """The leaves of one tree, and what its root and proofs are made of; see `kzg_tree.Nodes`."""

    __slots__ = ("_tree",)

    def __init__(self, context: Context) -> None:  # noqa: ARG002 (both schemes are begun alike)
        self._tree = merkle.TreeBuilder()

    def __len__(self) -> int:
        """Returns the number of leaves so far."""
        return len(self._tree)

    def leaf(self, position: int) -> bytes:
        """Returns the leaf at a position, 32 bytes."""
        return self._tree.leaf(position)

    def extend(self, leaves: bytes) -> None:
        """Appends leaves, 32 bytes each."""
        self._tree.extend(leaves)

    def grow(self, context: Context, kept: int) -> None:  # noqa: ARG002 (as above)
        """Drops all leaves but the first `kept`; the tree goes on as the larger one."""
        self._tree.truncate(kept)

    def replace(self, position: int, leaf: bytes) -> None:
        """Puts another leaf in the place of the one at `position`."""
        self._tree.replace(position, leaf)

    def top(self) -> bytes:
        """Returns the Merkle root, 32 bytes."""
        return self._tree.root()

    def open(self, positions: Sequence[int]) -> bytes:
        """Returns the proof for ascending positions: the hashes that they leave underivable."""
        return self._tree.open(positions)


def proof_bytes(context: Context, positions: Sequence[int]) -> int:
    """Returns the length of the one valid proof for ascending positions, in bytes."""
    return merkle.proof_bytes(context.grid.tiles, positions)


def opened_top(context: Context, leaves: Mapping[int, bytes], proof: bytes) -> bytes:
    """Returns the Merkle root that leaves and proof make, 32 bytes.

    Args:
        context: Of the tree.
        leaves: Leaf by position: those that are opened.
        proof: What `Nodes.open` returned.

    Raises:
        EvidenceError: If leaves or proof are malformed.
    """
    return merkle.opened_root(context.grid.tiles, leaves, proof)
