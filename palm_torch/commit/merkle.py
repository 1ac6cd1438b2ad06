"""A binary Merkle tree over numbered 32-byte leaf digests, opened at any set of positions.

The tree of n leaves is ⌈log₂ n⌉ levels high. Level 0 are the leaves; node i of level k covers positions
[i·2^k, (i+1)·2^k). A node whose positions all lie at or beyond n is missing and counts as `MISSING`.
The root binds n. Level and place of every hash follow from n and the opened positions, never from the
proof: a proof is the bare hashes that cannot be derived, bottom-up and left to right, so each statement
has exactly one valid proof. An aligned run of positions is a subtree and opens with one short path.

Leaves travel as one byte string of n × 32 bytes: no Python object per leaf.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Final

from palm_torch.digest import tagged_hash
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HASH_BYTES: Final = 32
MAX_LEAVES: Final = 2**40

MISSING: Final = tagged_hash("palm-torch/merkle-missing/v1")
"""Stands for a node that covers no leaf."""

_ROOT_TAG: Final = "palm-torch/merkle-root/v1"
_NODE_TAG: Final = b"palm-torch/merkle-node/v1"


def root(leaves: bytes | bytearray) -> bytes:
    """Returns the root over n × 32 bytes of leaf digests, 32 bytes.

    Raises:
        DataError: If the length is not a multiple of 32, or n is above `MAX_LEAVES`.
    """
    count = _count(leaves)
    level = 0
    nodes = bytes(leaves)
    while len(nodes) > HASH_BYTES:
        level += 1
        nodes = _next_level(nodes, level)
    return _root_of_top(count, nodes or MISSING)


class TreeBuilder:
    """Collects leaves one by one; keeps 32 bytes for each."""

    __slots__ = ("_leaves",)

    def __init__(self) -> None:
        self._leaves = bytearray()

    def __len__(self) -> int:
        """Returns the number of leaves so far."""
        return len(self._leaves) // HASH_BYTES

    def append(self, leaf: bytes) -> int:
        """Appends one 32-byte leaf digest and returns its position.

        Raises:
            DataError: If the digest is not 32 bytes.
        """
        if len(leaf) != HASH_BYTES:
            raise DataError(f"merkle leaf: expected {HASH_BYTES} bytes, got {len(leaf)}")
        self._leaves += leaf
        return len(self) - 1

    def leaves(self) -> bytes:
        """Returns all leaf digests, n × 32 bytes."""
        return bytes(self._leaves)

    def root(self) -> bytes:
        """Returns the root over the leaves so far, 32 bytes."""
        return root(self._leaves)

    def open(self, positions: Iterable[int]) -> bytes:
        """Returns the proof for a set of positions; see `open_positions`."""
        return open_positions(self._leaves, positions)


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
    _check_positions(wanted, count, DataError)
    proof: list[bytes] = []
    nodes, level = bytes(leaves), 0
    while len(nodes) > HASH_BYTES:
        wanted, siblings = _frontier(wanted, len(nodes) // HASH_BYTES)
        proof.extend(nodes[at * HASH_BYTES : (at + 1) * HASH_BYTES] for at in siblings)
        level += 1
        nodes = _next_level(nodes, level)
    return b"".join(proof)


def verify(tree_root: bytes, count: int, leaves: Mapping[int, bytes], proof: bytes) -> None:
    """Checks that the tree of `count` leaves under this root has these leaf digests at these positions.

    1. Positions lie below `count`; every leaf is 32 bytes.
    2. The proof has exactly the hashes that positions and `count` leave underivable.
    3. Level by level, known nodes are paired with their siblings: known, from the proof, or missing.
    4. The top, bound with `count`, is the root.

    Args:
        tree_root: 32 bytes.
        count: Number of leaves n in the tree.
        leaves: Leaf digest by position; not empty.
        proof: What `open_positions` returned.

    Raises:
        EvidenceError: At steps 1 and 2: malformed, nothing was compared.
        BindingError: At step 4: not the leaves that were committed to.
    """
    known = dict(sorted(leaves.items()))
    if not 0 < count <= MAX_LEAVES:
        raise EvidenceError(f"merkle opening: expected 1 to {MAX_LEAVES} leaves, got {count}")
    _check_positions(list(known), count, EvidenceError)  # 1
    for position, leaf in known.items():
        if len(leaf) != HASH_BYTES:
            raise EvidenceError(f"merkle leaf {position}: expected {HASH_BYTES} bytes, got {len(leaf)}")
    expected = _siblings_needed(list(known), count) * HASH_BYTES  # 2
    if len(proof) != expected:
        raise EvidenceError(f"merkle opening: expected a proof of {expected} bytes, got {len(proof)}")
    level, width, at = 0, count, 0
    while width > 1:  # 3
        parents, siblings = _frontier(list(known), width)
        for sibling in siblings:
            known[sibling] = proof[at : at + HASH_BYTES]
            at += HASH_BYTES
        level += 1
        known = {p: _node(level, known[2 * p], known.get(2 * p + 1, MISSING)) for p in parents}
        width = (width + 1) // 2
    if _root_of_top(count, known[0]) != tree_root:  # 4
        raise BindingError(
            f"merkle opening of positions {_few(sorted(leaves))}: not the leaves under root {tree_root.hex()}"
        )


def _node(level: int, left: bytes, right: bytes) -> bytes:
    """Hashes one inner node; every part has a fixed length, so none needs a prefix."""
    return hashlib.sha256(b"%b%c%b%b" % (_NODE_TAG, level, left, right)).digest()


def _next_level(nodes: bytes, level: int) -> bytes:
    sha256, prefix, pair = hashlib.sha256, _NODE_TAG + bytes((level,)), 2 * HASH_BYTES
    if len(nodes) % pair:
        nodes += MISSING
    return b"".join([sha256(prefix + nodes[at : at + pair]).digest() for at in range(0, len(nodes), pair)])


def _root_of_top(count: int, top: bytes) -> bytes:
    return tagged_hash(_ROOT_TAG, count.to_bytes(8, "big"), top)


def _frontier(positions: list[int], width: int) -> tuple[list[int], list[int]]:
    """Returns parents of sorted positions in a level of `width` nodes, and siblings a proof must bring."""
    parents: list[int] = []
    siblings: list[int] = []
    for index, position in enumerate(positions):
        sibling = position ^ 1
        if sibling < position:
            if index and positions[index - 1] == sibling:
                continue  # the pair was handled at its left half
            siblings.append(sibling)
        elif sibling < width and (index + 1 == len(positions) or positions[index + 1] != sibling):
            siblings.append(sibling)
        parents.append(position >> 1)
    return parents, siblings


def _siblings_needed(positions: list[int], width: int) -> int:
    total = 0
    while width > 1:
        positions, siblings = _frontier(positions, width)
        total += len(siblings)
        width = (width + 1) // 2
    return total


def _count(leaves: bytes | bytearray) -> int:
    count, rest = divmod(len(leaves), HASH_BYTES)
    if rest or count > MAX_LEAVES:
        raise DataError(f"merkle leaves: expected n × {HASH_BYTES} bytes, got {len(leaves)}")
    return count


def _check_positions(positions: list[int], count: int, error: type[DataError | EvidenceError]) -> None:
    if not positions:
        raise error("merkle opening: expected at least one position, got none")
    if positions[0] < 0 or positions[-1] >= count:
        raise error(f"merkle opening: expected positions in [0, {count}), got {_few(positions)}")
    if any(a == b for a, b in itertools.pairwise(positions)):
        raise error(f"merkle opening: repeated position in {_few(positions)}")


def _few(positions: list[int]) -> str:
    shown = ", ".join(map(str, positions[:8]))
    return f"[{shown}, … {len(positions)} in all]" if len(positions) > 8 else f"[{shown}]"  # noqa: PLR2004 (one line)
