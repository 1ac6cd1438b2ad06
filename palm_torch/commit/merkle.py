"""A binary Merkle tree over numbered 32-byte leaf digests, opened at any set of positions.

The tree of n leaves is ⌈log₂ n⌉ levels high. Level 0 are the leaves; node i of level k covers positions
[i·2^k, (i+1)·2^k). A node whose positions all lie at or beyond n is missing and counts as `MISSING`.
The root binds n. Level and place of every hash follow from n and the opened positions, never from the
proof: a proof is the bare hashes that cannot be derived, bottom-up and left to right, so each statement
has exactly one valid proof. An aligned run of positions is a subtree and opens with one short path.

Leaves travel as one byte string of n × 32 bytes: no Python object per leaf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.commit import merkle_blocks, merkle_nodes
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HASH_BYTES: Final = merkle_nodes.HASH_BYTES
MAX_LEAVES: Final = merkle_nodes.MAX_LEAVES
MISSING: Final = merkle_nodes.MISSING

_BLOCK: Final = 1 << merkle_nodes.BLOCK_LEVELS


def root(leaves: bytes | bytearray) -> bytes:
    """Returns the root over n × 32 bytes of leaf digests, 32 bytes.

    Raises:
        DataError: If the length is not a multiple of 32, or n is above `MAX_LEAVES`.
    """
    count = _count(leaves)
    top = merkle_nodes.node_of_leaves(leaves, merkle_nodes.height(count), 0) if count else MISSING
    return merkle_nodes.root_of_top(count, top)


class TreeBuilder:
    """Collects leaves one by one; a leaf can be replaced later.

    It keeps 32 bytes for each leaf and 64 bytes for each complete block of 1,024, so that a root, a proof or
    a replaced leaf costs one block and a path, not the whole tree. While no leaf changes it also keeps the
    nodes inside of the blocks that proofs were from last, 3 MiB at most: those cost no hash again.
    """

    __slots__ = ("_blocks", "_leaves", "_levels")

    def __init__(self) -> None:
        self._leaves = bytearray()
        # _levels[k]: the complete nodes of level BLOCK_LEVELS + k, one after the other.
        self._levels: list[bytearray] = []
        self._blocks = merkle_blocks.Blocks()

    def __len__(self) -> int:
        """Returns the number of leaves so far."""
        return len(self._leaves) // HASH_BYTES

    def append(self, leaf: bytes) -> int:
        """Appends one 32-byte leaf digest and returns its position.

        Raises:
            DataError: If the digest is not 32 bytes.
        """
        _check_leaf(leaf)
        self._blocks.forget()
        leaves = self._leaves
        leaves += leaf
        count = len(leaves) // HASH_BYTES
        if not count & (_BLOCK - 1):
            self._hash_block((count - 1) >> merkle_nodes.BLOCK_LEVELS)
        return count - 1

    def extend(self, leaves: bytes | bytearray) -> None:
        """Appends n × 32 bytes of leaf digests.

        Raises:
            DataError: If the length is not a multiple of 32.
        """
        _count(leaves)
        self._blocks.forget()
        before = len(self)
        self._leaves += leaves
        for block in range(before >> merkle_nodes.BLOCK_LEVELS, len(self) >> merkle_nodes.BLOCK_LEVELS):
            self._hash_block(block)

    def truncate(self, count: int) -> None:
        """Drops all leaves but the first `count`.

        Raises:
            DataError: If there are fewer.
        """
        if not 0 <= count <= len(self):
            raise DataError(f"merkle leaves: expected to keep at most {len(self)}, got {count}")
        self._blocks.forget()
        del self._leaves[count * HASH_BYTES :]
        for level, nodes in enumerate(self._levels, merkle_nodes.BLOCK_LEVELS):
            del nodes[(count >> level) * HASH_BYTES :]

    def leaf(self, position: int) -> bytes:
        """Returns the leaf digest at a position, 32 bytes.

        Raises:
            DataError: If there is no leaf at this position.
        """
        merkle_nodes.check_positions([position], len(self), DataError)
        return bytes(self._leaves[position * HASH_BYTES : (position + 1) * HASH_BYTES])

    def replace(self, position: int, leaf: bytes) -> None:
        """Puts another 32-byte leaf digest in the place of the one at `position`.

        Raises:
            DataError: If there is no leaf at this position, or the digest is not 32 bytes.
        """
        _check_leaf(leaf)
        merkle_nodes.check_positions([position], len(self), DataError)
        self._blocks.forget()
        self._leaves[position * HASH_BYTES : (position + 1) * HASH_BYTES] = leaf
        block = position >> merkle_nodes.BLOCK_LEVELS
        if (block + 1) << merkle_nodes.BLOCK_LEVELS <= len(self):
            self._hash_block(block)

    def leaves(self) -> bytes:
        """Returns all leaf digests, n × 32 bytes."""
        return bytes(self._leaves)

    def root(self) -> bytes:
        """Returns the root over the leaves so far, 32 bytes.

        Raises:
            DataError: If they are more than `MAX_LEAVES`.
        """
        count = _count(self._leaves)
        return merkle_nodes.root_of_top(count, self._node(merkle_nodes.height(count), 0))

    def open(self, positions: Iterable[int]) -> bytes:
        """Returns the proof for a set of positions; see `open_positions`."""
        wanted = sorted(positions)
        merkle_nodes.check_positions(wanted, _count(self._leaves), DataError)
        asked = merkle_nodes.proof_nodes(wanted, len(self))
        # from left to right, so that each block is come to once, however many there are
        made = {node: self._node(*node) for node in sorted(asked, key=lambda at: at[1] << at[0])}
        return b"".join(map(made.__getitem__, asked))

    def _hash_block(self, index: int) -> None:
        """Hashes a complete block again, and all complete nodes above it."""
        level, node = 0, merkle_nodes.node_of_leaves(self._leaves, merkle_nodes.BLOCK_LEVELS, index)
        while True:
            if level == len(self._levels):
                self._levels.append(bytearray())
            nodes = self._levels[level]
            nodes[index * HASH_BYTES : (index + 1) * HASH_BYTES] = node  # at the end, this appends
            pair = bytes(nodes[(index & ~1) * HASH_BYTES : (index | 1) * HASH_BYTES + HASH_BYTES])
            if len(pair) < 2 * HASH_BYTES:
                return
            level, index = level + 1, index >> 1
            node = merkle_nodes.node_hash(
                merkle_nodes.BLOCK_LEVELS + level, pair[:HASH_BYTES], pair[HASH_BYTES:]
            )

    def _node(self, level: int, index: int) -> bytes:
        """Returns a node: kept, hashed from its leaves, or, at the right edge, from the nodes below."""
        kept = level - merkle_nodes.BLOCK_LEVELS
        if 0 <= kept < len(self._levels):
            node = self._levels[kept][index * HASH_BYTES : (index + 1) * HASH_BYTES]
            if node:
                return bytes(node)
        if index << level >= len(self):
            return MISSING
        if kept <= 0:
            return self._blocks.node(self._leaves, level, index)
        return merkle_nodes.node_hash(
            level, self._node(level - 1, 2 * index), self._node(level - 1, 2 * index + 1)
        )


def open_positions(leaves: bytes | bytearray, positions: Iterable[int]) -> bytes:
    """Returns the proof that opens a set of positions: k × 32 bytes.

    Args:
        leaves: All leaf digests, n × 32 bytes.
        positions: What to open, in any order, without repeats.

    Raises:
        DataError: If there is no position, one is repeated or not below n, or the leaves are malformed.
    """
    count = _count(leaves)
    wanted = sorted(positions)
    merkle_nodes.check_positions(wanted, count, DataError)
    return b"".join(
        merkle_nodes.node_of_leaves(leaves, level, index)
        for level, index in merkle_nodes.proof_nodes(wanted, count)
    )


def proof_bytes(count: int, positions: Iterable[int]) -> int:
    """Returns the length, in bytes, of the one valid proof for these positions in a tree of `count` leaves.

    Raises:
        DataError: If there is no position, one is repeated or not below `count`.
    """
    wanted = sorted(positions)
    merkle_nodes.check_positions(wanted, count, DataError)
    return merkle_nodes.proof_hashes(wanted, count) * HASH_BYTES


def verify(tree_root: bytes, count: int, leaves: Mapping[int, bytes], proof: bytes) -> None:
    """Checks that the tree of `count` leaves under this root has these leaf digests at these positions.

    1. Positions lie below `count`; every leaf is 32 bytes.
    2. The proof has exactly the hashes that positions and `count` leave underivable.
    3. Level by level, known nodes are paired with their siblings: known, from the proof, or missing.
    4. The top, bound with `count`, is the root.

    Steps 1 to 3 are those of `opened_root`.

    Args:
        tree_root: 32 bytes.
        count: Number of leaves n in the tree.
        leaves: Leaf digest by position; not empty.
        proof: What `open_positions` returned.

    Raises:
        EvidenceError: At steps 1 and 2: malformed, nothing was compared.
        BindingError: At step 4: not the leaves that were committed to.
    """
    if opened_root(count, leaves, proof) != tree_root:  # 4
        opened = merkle_nodes.few(sorted(leaves))
        raise BindingError(
            f"merkle opening of positions {opened}: not the leaves under root {tree_root.hex()}"
        )


def opened_root(count: int, leaves: Mapping[int, bytes], proof: bytes) -> bytes:
    """Returns the root that leaves and proof make, 32 bytes; it says nothing until it is compared.

    For one who knows the root only as part of something else; everyone else calls `verify`.

    Args:
        count: Number of leaves n in the tree.
        leaves: Leaf digest by position; not empty.
        proof: What `open_positions` returned.

    Raises:
        EvidenceError: If a part is malformed; see `verify`, steps 1 and 2.
    """
    known = dict(sorted(leaves.items()))
    if not 0 < count <= MAX_LEAVES:
        raise EvidenceError(f"merkle opening: expected 1 to {MAX_LEAVES} leaves, got {count}")
    positions = list(known)
    merkle_nodes.check_positions(positions, count, EvidenceError)  # 1
    for position, leaf in known.items():
        if len(leaf) != HASH_BYTES:
            raise EvidenceError(f"merkle leaf {position}: expected {HASH_BYTES} bytes, got {len(leaf)}")
    frontiers = merkle_nodes.frontiers(positions, count)
    expected = sum(len(siblings) for _, siblings in frontiers) * HASH_BYTES  # 2
    if len(proof) != expected:
        raise EvidenceError(f"merkle opening: expected a proof of {expected} bytes, got {len(proof)}")
    brought = iter([proof[at : at + HASH_BYTES] for at in range(0, expected, HASH_BYTES)])
    for level, (parents, siblings) in enumerate(frontiers, 1):  # 3
        known.update(zip(siblings, brought, strict=False))
        known = merkle_nodes.parent_hashes(level, known, parents)
    return merkle_nodes.root_of_top(count, known[0])


def updated_root(
    tree_root: bytes, count: int, position: int, old_leaf: bytes, new_leaf: bytes, proof: bytes
) -> bytes:
    """Returns the root of the tree in which one leaf was replaced, for one who has the old root alone.

    1. The proof shows the old leaf under the old root; see `verify`.
    2. Its hashes are thus those of the tree beside the path, so with the new leaf they make the new root.

    Args:
        tree_root: Root before, 32 bytes.
        count: Number of leaves n in the tree, before and after.
        position: Which leaf is replaced.
        old_leaf: What is there before, 32 bytes.
        new_leaf: What is there afterwards, 32 bytes.
        proof: What `open_positions` returns for this one position, before or after.

    Raises:
        EvidenceError: If a part is malformed; nothing was compared.
        BindingError: If the old leaf does not stand at this position under the old root.
    """
    verify(tree_root, count, {position: old_leaf}, proof)  # 1
    return opened_root(count, {position: new_leaf}, proof)  # 2


def _count(leaves: bytes | bytearray) -> int:
    count, rest = divmod(len(leaves), HASH_BYTES)
    if rest or count > MAX_LEAVES:
        raise DataError(f"merkle leaves: expected n × {HASH_BYTES} bytes, got {len(leaves)}")
    return count


def _check_leaf(leaf: bytes) -> None:
    if len(leaf) != HASH_BYTES:
        raise DataError(f"merkle leaf: expected {HASH_BYTES} bytes, got {len(leaf)}")
