"""A tree of polynomial commitments over the leaves of a grid: how it is built, grown, changed and opened.

A node is a polynomial through the values of its up to 4096 children, committed to in 48 bytes. The value of
a child is a hash of the child to the field; it says in which tree, at which level, in which node and at which
place the child is, and whether it is a leaf or a node. A place without a child holds 0. Which node a tile
belongs to is said in `layout`.

The prover keeps the commitments, 48 bytes for each node; values are made of the leaves again when needed.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Final

from palm_torch.commit import curve, field, kzg, layout, proving, shplonk
from palm_torch.encoding import length_prefixed
from palm_torch.errors import DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.commit.layout import Level, OpenedNode
    from palm_torch.commit.tree_context import Context

LEAF_BYTES: Final = 32
LEAF: Final = 0
NODE: Final = 1

EMPTY_TOP: Final = curve.INFINITY
"""Top of a tree without tiles: the commitment to nothing. Nothing can be opened under it."""

_CHILD_TAG: Final = b"palm-torch/kzg-child/v1"
_PLACES: Final = [place.to_bytes(2, "big") for place in range(layout.WIDTH)]
_NO_CHILD: Final = bytes(kzg.FIELD_BYTES)


def child_prefix(stem: bytes, level: int, node: int) -> bytes:
    """Returns what the hashes of all children of one node begin with.

    ``LP(tag) ‖ stem ‖ u8 level ‖ u8 kind ‖ u64 node``: the kind follows from the level.

    Args:
        stem: `Context.stem` of the tree, 32 bytes.
        level: Number of the node's level, 1 above the tiles.
        node: Row-major index of the node in its level.
    """
    kind = LEAF if level == 1 else NODE
    return length_prefixed(_CHILD_TAG) + stem + bytes((level, kind)) + node.to_bytes(8, "big")


def child_value(prefix: bytes, place: int, child: bytes) -> int:
    """Returns the value of a child in its node: the hash of ``prefix ‖ u16 place ‖ child`` to the field.

    Args:
        prefix: What `child_prefix` returned.
        place: In [0, 4096).
        child: The 32 bytes of a leaf or the 48 of a commitment.

    Raises:
        DataError: If the value is 0, which stands for a missing child: one chance in 2^255.
    """
    value = kzg.hash_to_field(prefix + _PLACES[place] + child)
    if not value:
        raise DataError(f"place {place}: the value of a child is 0, which stands for no child")
    return value


class Nodes:
    """The leaves and commitments of one tree, on the side that made it.

    It keeps 32 bytes for each leaf and 48 for each node. The commitments of a level are one byte string from
    its first node on, as far as they are made; the values of a node are made of its children when needed.
    """

    __slots__ = ("_commitments", "_context", "_leaves", "_levels", "_stem")

    def __init__(self, context: Context) -> None:
        """Begins a tree without leaves."""
        self._context = context
        self._stem = context.stem()
        self._levels = layout.levels(context.grid.counts)
        self._leaves = bytearray()
        self._commitments = [bytearray() for _ in self._levels]

    def __len__(self) -> int:
        """Returns the number of leaves so far."""
        return len(self._leaves) // LEAF_BYTES

    def leaf(self, position: int) -> bytes:
        """Returns the leaf at a position, 32 bytes."""
        return bytes(self._leaves[position * LEAF_BYTES : (position + 1) * LEAF_BYTES])

    def extend(self, leaves: bytes) -> None:
        """Appends leaves, 32 bytes each."""
        self._leaves += leaves

    def grow(self, context: Context, kept: int) -> None:
        """Drops all leaves but the first `kept`; the tree goes on as the larger one.

        Commitments are kept where nothing changes: where a level and all below it take the same digits as
        before, and all tiles under a node are kept. Those are the first nodes of their level, because axis 0
        counts most in every index.

        Args:
            context: As before but for a longer axis 0.
            kept: Tiles, from the first on, that stay as they were.
        """
        before, made = self._levels, self._commitments
        counts = context.grid.counts
        self._context = context
        self._levels = layout.levels(counts)
        self._commitments = [bytearray() for _ in self._levels]
        del self._leaves[kept * LEAF_BYTES :]
        slices = kept // math.prod(counts[1:]) if kept else 0  # coordinates of axis 0 where all stays
        for at, (old, new) in enumerate(zip(before, self._levels, strict=False)):
            if old.digits != new.digits:
                return
            slices >>= new.digits[0]
            whole = slices * math.prod(new.extents[1:])
            self._commitments[at] = made[at][: whole * kzg.COMMITMENT_BYTES]

    def replace(self, position: int, leaf: bytes) -> None:
        """Puts another leaf in the place of the one at `position`.

        The commitments above it change by what the values differ: one multiplication for each level. All
        are computed before any is stored.
        """
        child, old, new = position, self.leaf(position), leaf
        changed: list[tuple[bytearray, slice, bytes]] = []
        for level, made in zip(self._levels, self._commitments, strict=True):
            node, place = level.place(child)
            at = slice(node * kzg.COMMITMENT_BYTES, (node + 1) * kzg.COMMITMENT_BYTES)
            before = bytes(made[at])
            if not before or old == new:
                break  # not committed to yet, and neither are the nodes above; or nothing changes
            prefix = child_prefix(self._stem, level.number, node)
            values = child_value(prefix, place, old), child_value(prefix, place, new)
            child, old, new = node, before, kzg.update(before, place, *values)
            changed.append((made, at, new))
        self._leaves[position * LEAF_BYTES : (position + 1) * LEAF_BYTES] = leaf
        for made, at, commitment in changed:
            made[at] = commitment

    def top(self) -> bytes:
        """Returns the commitment of the topmost node, 48 bytes; commits to the nodes that have none yet.

        All leaves must be there.
        """
        for level, made in zip(self._levels, self._commitments, strict=True):
            for node in range(len(made) // kzg.COMMITMENT_BYTES, level.nodes):
                made.extend(kzg.commit(self._blob(level, node)))
        return bytes(self._commitments[-1]) or EMPTY_TOP

    def open(self, positions: Sequence[int]) -> bytes:
        """Returns the proof for ascending positions; see `opened_top`. All leaves must be there."""
        self.top()
        nodes = _above(self._levels, positions)
        commitments = [self._commitment(node) for node in nodes]
        blobs = [self._blob(self._levels[node.level - 1], node.index) for node in nodes]
        places = [node.places for node in nodes]
        if not _is_alone(nodes):
            proof = shplonk.open_sets(
                list(zip(commitments, blobs, places, strict=True)), self._context.digest()
            )
        elif len(positions) == 1:
            proof = kzg.open_point(blobs[0], places[0][0])
        else:
            proof = kzg.open_row(blobs[0], places[0][0] // kzg.ROW)
        return b"".join(commitments) + proof

    def point_inputs(self, position: int) -> list[bytes]:
        """Returns an input of Ethereum's point evaluation precompile for each node above a tile."""
        self.top()
        inputs: list[bytes] = []
        for node in layout.opened(self._levels, (position,)):
            blob, place = self._blob(self._levels[node.level - 1], node.index), node.places[0]
            value = int.from_bytes(blob[place * kzg.FIELD_BYTES : (place + 1) * kzg.FIELD_BYTES], "big")
            proof = kzg.open_point(blob, place)
            inputs.append(kzg.point_evaluation_input(self._commitment(node), place, value, proof))
        return inputs

    def _commitment(self, node: OpenedNode) -> bytes:
        start = node.index * kzg.COMMITMENT_BYTES
        return bytes(self._commitments[node.level - 1][start : start + kzg.COMMITMENT_BYTES])

    def _blob(self, level: Level, node: int) -> bytes:
        """Returns the 4096 values of a node, 32 bytes each, made of its children."""
        prefix = child_prefix(self._stem, level.number, node)
        if level.number == 1:
            children, size = self._leaves, LEAF_BYTES
        else:
            children, size = self._commitments[level.number - 2], kzg.COMMITMENT_BYTES
        values = [_NO_CHILD] * layout.WIDTH
        for child, place, count in level.runs(node):
            run = bytes(children[child * size : (child + count) * size])
            values[place : place + count] = _values(prefix, place, run, size)
        return b"".join(values)


def proof_bytes(context: Context, positions: Sequence[int]) -> int:
    """Returns the length of every valid proof for ascending positions, in bytes.

    Raises:
        DataError: If there is no such position, or too many are opened at once.
    """
    return _proof_bytes(_above(layout.levels(context.grid.counts), positions))


def opened_top(context: Context, leaves: Mapping[int, bytes], proof: bytes) -> bytes:
    """Returns the commitment of the topmost node, under which these leaves are.

    1. Grid and positions say which nodes lie above the tiles: from the top down, then by index.
    2. The proof has exactly one commitment of 48 bytes for each, in that order, and what opens them.
    3. Each node's children on the way have the values of leaves (level 1) or of commitments of the proof.
       Level, kind, node and place in a value come from step 1, never from the proof.
    4. One node and one place: the proof of a point. One node and one row of 64: the proof of a cell. Else
       one proof for all sets of all nodes, bound to the context.

    Args:
        context: Of the tree.
        leaves: Leaf by position: those that are opened, 32 bytes each.
        proof: What `Nodes.open` returned.

    Raises:
        DataError: If there is no such position, or too many are opened at once.
        EvidenceError: If the proof has another length or holds what is not a point of the group.
        BindingError: If the commitments do not open to these leaves.
    """
    nodes = _above(layout.levels(context.grid.counts), sorted(leaves))  # 1
    expected = _proof_bytes(nodes)  # 2
    if len(proof) != expected:
        raise EvidenceError(f"kzg opening: expected a proof of {expected} bytes, got {len(proof)}")
    starts = range(0, len(nodes) * kzg.COMMITMENT_BYTES, kzg.COMMITMENT_BYTES)
    commitments = {
        (node.level, node.index): proof[start : start + kzg.COMMITMENT_BYTES]
        for node, start in zip(nodes, starts, strict=True)
    }
    opening = proof[len(nodes) * kzg.COMMITMENT_BYTES :]
    stem = context.stem()
    claims: list[shplonk.Claim] = []
    for node in nodes:  # 3
        prefix = child_prefix(stem, node.level, node.index)
        values = [
            child_value(
                prefix, place, leaves[child] if node.level == 1 else commitments[node.level - 1, child]
            )
            for place, child in zip(node.places, node.children, strict=True)
        ]
        claims.append(shplonk.Claim(commitments[node.level, node.index], node.places, tuple(values)))
    top = claims[0]
    if not _is_alone(nodes):  # 4
        shplonk.verify_sets(claims, context.digest(), opening)
    elif len(leaves) == 1:
        kzg.verify_point(top.commitment, top.positions[0], top.values[0], opening)
    else:
        kzg.verify_row(top.commitment, top.positions[0] // kzg.ROW, top.values, opening)
    return top.commitment


def _values(prefix: bytes, first: int, children: bytes, size: int) -> list[bytes]:
    """Returns the values of children in places one after the other: `child_value`, for many."""
    decode, sha512, size_of_value = proving.fast_decoder(), hashlib.sha512, kzg.FIELD_BYTES
    order = proving.fast_number()(field.MODULUS)
    hashes = [
        sha512(prefix + place + children[at : at + size]).digest()
        for place, at in zip(_PLACES[first:], range(0, len(children), size), strict=False)
    ]
    values = [(decode(hashed, "big") % order).to_bytes(size_of_value, "big") for hashed in hashes]
    if _NO_CHILD in values:
        raise DataError(f"places from {first} on: the value of a child is 0, which stands for no child")
    return values


def _above(levels: Sequence[Level], positions: Sequence[int]) -> tuple[OpenedNode, ...]:
    """Returns the nodes above tiles, unless they have more places on the way than one proof may speak of."""
    nodes = layout.opened(levels, positions)
    if (places := sum(len(node.places) for node in nodes)) > shplonk.MAX_POSITIONS:
        raise DataError(
            f"kzg opening: expected at most {shplonk.MAX_POSITIONS} places in all nodes on the way, got "
            f"{places}: open fewer tiles at a time"
        )
    return nodes


def _proof_bytes(nodes: Sequence[OpenedNode]) -> int:
    opening = kzg.PROOF_BYTES if _is_alone(nodes) else shplonk.PROOF_BYTES
    return len(nodes) * kzg.COMMITMENT_BYTES + opening


def _is_alone(nodes: Sequence[OpenedNode]) -> bool:
    """Says whether there is one node, opened at one place or at one row: 64 from a multiple of 64 on."""
    places = nodes[0].places
    first = places[0]
    is_row = first % kzg.ROW == 0 and places == tuple(range(first, first + kzg.ROW))
    return len(nodes) == 1 and (len(places) == 1 or is_row)
