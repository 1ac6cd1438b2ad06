"""The nodes of the Merkle tree: how they are hashed, and which of them an opening has to bring.

Everything here is arithmetic on levels and indices: node i of level k covers positions [i·2^k, (i+1)·2^k).
Leaves travel as one byte string of n × 32 bytes: no Python object per leaf.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Final

from palm_torch.digest import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from palm_torch.errors import DataError, EvidenceError

HASH_BYTES: Final = 32
MAX_LEAVES: Final = 2**40

MISSING: Final = tagged_hash("palm-torch/merkle-missing/v1")
"""Stands for a node that covers no leaf."""

BLOCK_LEVELS: Final = 10
"""Levels of a block: leaves are hashed in blocks of 2^10, so that no level below is ever held as a whole."""

_ROOT_TAG: Final = "palm-torch/merkle-root/v1"
_NODE_TAG: Final = b"palm-torch/merkle-node/v1"


def node_hash(level: int, left: bytes, right: bytes) -> bytes:
    """Returns the hash of one node; every part has a fixed length, so none needs a prefix."""
    return hashlib.sha256(b"%b%c%b%b" % (_NODE_TAG, level, left, right)).digest()


def parent_hashes(level: int, children: Mapping[int, bytes], parents: Iterable[int]) -> dict[int, bytes]:
    """Returns the hashes of some nodes of a level by index: `node_hash`, for many.

    Args:
        level: Level of the nodes.
        children: Hashes of the level below, by index; a right one that is not there is missing.
        parents: Indices of the nodes.
    """
    sha256, prefix, right = hashlib.sha256, _NODE_TAG + bytes((level,)), children.get
    return {at: sha256(prefix + children[2 * at] + right(2 * at + 1, MISSING)).digest() for at in parents}


def root_of_top(count: int, top: bytes) -> bytes:
    """Returns the root: the top node, bound with the number of leaves."""
    return tagged_hash(_ROOT_TAG, count.to_bytes(8, "big"), top)


def height(count: int) -> int:
    """Returns the level of the top of a tree of `count` leaves: ⌈log₂ count⌉, 0 for none."""
    return (count - 1).bit_length() if count else 0


def node_of_leaves(leaves: bytes | bytearray, level: int, index: int) -> bytes:
    """Returns node `index` of a level, hashed from the leaves that it covers; at least one is there.

    Takes, beside the leaves, room for one block and for one hash per block.

    Args:
        leaves: All leaf digests of the tree, n × 32 bytes.
        level: Level of the node.
        index: Index of the node in its level.
    """
    low = min(level, BLOCK_LEVELS)
    block_bytes = HASH_BYTES << low
    start, end = (HASH_BYTES * (at << level) for at in (index, index + 1))
    tops = [
        _climb(bytes(leaves[at : at + block_bytes]), 0, low)
        for at in range(start, min(end, len(leaves)), block_bytes)
    ]
    return _climb(b"".join(tops), low, level)


def levels_of_block(leaves: bytes | bytearray, block: int) -> list[bytes]:
    """Returns all nodes of a block of 2^10 leaves, level by level from 1 up to its top, or to the tree's.

    Args:
        leaves: All leaf digests of the tree, n × 32 bytes.
        block: Number of the block; it has a leaf.

    Returns:
        For each level: the hashes of its nodes that cover a leaf, one after the other.
    """
    block_bytes = HASH_BYTES << BLOCK_LEVELS
    nodes = bytes(leaves[block * block_bytes : (block + 1) * block_bytes])
    levels: list[bytes] = []
    for level in range(1, 1 + min(BLOCK_LEVELS, height(len(leaves) // HASH_BYTES))):
        nodes = _next_level(nodes, level)
        levels.append(nodes)
    return levels


def check_positions(positions: list[int], count: int, error: type[DataError | EvidenceError]) -> None:
    """Raises the error unless sorted positions are some, lie below `count` and none stands there twice."""
    if not positions:
        raise error("merkle opening: expected at least one position, got none")
    if positions[0] < 0 or positions[-1] >= count:
        raise error(f"merkle opening: expected positions in [0, {count}), got {few(positions)}")
    if any(a == b for a, b in itertools.pairwise(positions)):
        raise error(f"merkle opening: repeated position in {few(positions)}")


def few(positions: list[int]) -> str:
    """Returns the first positions and how many there are, for messages."""
    shown = ", ".join(map(str, positions[:8]))
    return f"[{shown}, … {len(positions)} in all]" if len(positions) > 8 else f"[{shown}]"  # noqa: PLR2004 (one line)


def frontiers(positions: list[int], count: int) -> list[tuple[list[int], list[int]]]:
    """Returns what an opening knows and needs, level by level from the leaves up to below the top.

    Args:
        positions: What is opened: ascending, not empty, each once and below `count`.
        count: Number of leaves of the tree.

    Returns:
        For each level: the parents of its known nodes, which are the known nodes of the next level, and the
        siblings that the proof must bring; both ascending.
    """
    levels: list[tuple[list[int], list[int]]] = []
    while count > 1:
        positions, siblings = _frontier(positions, count)
        levels.append((positions, siblings))
        count = (count + 1) // 2
    return levels


def proof_nodes(positions: list[int], count: int) -> list[tuple[int, int]]:
    """Returns level and index of every node of a proof, in its order: bottom-up, left to right.

    Args:
        positions: As in `frontiers`.
        count: As in `frontiers`.
    """
    return [
        (level, index)
        for level, (_, siblings) in enumerate(frontiers(positions, count))
        for index in siblings
    ]


def proof_hashes(positions: list[int], count: int) -> int:
    """Returns how many hashes a proof has, without listing them: as many as `proof_nodes` returns.

    A path alone asks for one hash at each level. One that joins its left neighbour's path at level b, the
    length in bits of what the positions differ by, asks for b - 1 below that, and spares one: at level b - 1
    the two nodes are each other's siblings. Nothing is asked for beyond the right edge.

    Args:
        positions: As in `frontiers`.
        count: As in `frontiers`.
    """
    levels = range(height(count))
    meetings = [(left ^ right).bit_length() for left, right in itertools.pairwise(positions)]
    last, edge = positions[-1], count - 1
    beyond = sum(last >> level == edge >> level and not edge >> level & 1 for level in levels)
    return len(levels) + sum(meetings) - 2 * len(meetings) - beyond


def _frontier(positions: list[int], width: int) -> tuple[list[int], list[int]]:
    """Returns the parents of known nodes in a level of `width` nodes, and the siblings they miss."""
    parents: list[int] = []
    siblings: list[int] = []
    for position in positions:
        if parents and parents[-1] == position >> 1:
            siblings.pop()  # this one, which its left half asked for
        else:
            parents.append(position >> 1)
            siblings.append(position ^ 1)
    if siblings and siblings[-1] == width:
        siblings.pop()  # beyond the right edge: missing, and no part of a proof
    return parents, siblings


def _climb(nodes: bytes, level: int, top: int) -> bytes:
    """Returns what neighbouring nodes of one level make at a higher one."""
    while level < top:
        level += 1
        nodes = _next_level(nodes, level)
    return nodes


def _next_level(nodes: bytes, level: int) -> bytes:
    sha256, prefix, pair = hashlib.sha256, _NODE_TAG + bytes((level,)), 2 * HASH_BYTES
    if len(nodes) % pair:
        nodes += MISSING
    return b"".join([sha256(prefix + nodes[at : at + pair]).digest() for at in range(0, len(nodes), pair)])
