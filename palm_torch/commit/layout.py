"""Which node of a tensor-shaped tree a tile belongs to, and at which place.

A node has up to 4096 children in the shape of the grid: of every axis it takes some low binary digits of the
coordinate. From the tiles upward each level takes up to 12 digits in all, one at a time, in turn over the
axes that have digits left, the last axis first; the turn begins anew at every level. A grid of 4096 × 4096
tiles thus has nodes of 64 × 64 on two levels, one of 256 × 256 × 256 nodes of 16 × 16 × 16, and a short axis
wastes no place. Everything follows from the number of tiles along each axis, never from a proof.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DIGITS: Final = 12
"""Most binary digits that one level takes: a node has 2^12 places."""

WIDTH: Final = 1 << DIGITS
"""Places of a node."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of nodes; its children are the tiles, or the nodes of the level below.

    Attributes:
        number: 1 for the nodes above the tiles.
        digits: Binary digits of each axis's coordinate that say the place within a node; at most 12 in all.
        children: Number of children along each axis; as many axes as `digits`.
    """

    number: int
    digits: tuple[int, ...]
    children: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """Number of nodes along each axis."""
        return tuple(-(-count >> taken) for count, taken in zip(self.children, self.digits, strict=True))

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return math.prod(self.extents)

    def place(self, child: int) -> tuple[int, int]:
        """Returns the node that holds a child, and the child's place in it.

        Args:
            child: Row-major index among the children of this level; at level 1 a tile's position.

        Returns:
            Row-major index among the nodes of this level, and the place in [0, 4096): row-major over the
            digits that the level takes.

        Raises:
            DataError: If there is no such child.
        """
        ((node, place),) = self.places((child,))
        return node, place

    def places(self, children: Iterable[int]) -> list[tuple[int, int]]:
        """Returns what `place` returns for each of several children.

        Raises:
            DataError: If there is no such child.
        """
        axes = list(zip(self.children, self.digits, self.extents, strict=True))[::-1]
        total = math.prod(self.children)
        found: list[tuple[int, int]] = []
        for child in children:
            if not 0 <= child < total:
                raise DataError(f"level {self.number}: expected a child in [0, {total}), got {child}")
            rest, node, place, nodes, places = child, 0, 0, 1, 0  # nodes, places: of the axes behind
            for count, taken, extent in axes:
                rest, at = divmod(rest, count)
                node += (at >> taken) * nodes
                place |= (at & (1 << taken) - 1) << places
                nodes *= extent
                places += taken
            found.append((node, place))
        return found

    def runs(self, node: int) -> Iterator[tuple[int, int, int]]:
        """Yields the children of a node as runs: first child, its place, number of children.

        Within a run, indices and places both rise by one. Runs come in the order of places; places that
        belong to no run have no child.

        Args:
            node: Row-major index in [0, `nodes`).
        """
        firsts = [
            at << taken for at, taken in zip(_coordinates(node, self.extents), self.digits, strict=True)
        ]
        sizes = [
            min(1 << taken, count - first)
            for first, taken, count in zip(firsts, self.digits, self.children, strict=True)
        ]
        cut = len(sizes) - 1
        while cut and self.children[cut] == 1 << self.digits[cut]:
            cut -= 1  # this axis lies wholly in every node: a run goes on across its end
        for outer in itertools.product(*map(range, sizes[:cut])):
            child = place = 0
            within = (*outer, *(0,) * (len(sizes) - cut))
            for at, first, taken, count in zip(within, firsts, self.digits, self.children, strict=True):
                child = child * count + first + at
                place = place << taken | at
            yield child, place, math.prod(sizes[cut:])


@dataclass(frozen=True, slots=True)
class OpenedNode:
    """A node on the way from the top to the tiles that are opened.

    Attributes:
        level: Number of its level, 1 above the tiles.
        index: Row-major index among the nodes of its level.
        places: Its children on the way, ascending.
        children: Their indices: row-major at the level below, or positions of tiles; as many as `places`.
    """

    level: int
    index: int
    places: tuple[int, ...]
    children: tuple[int, ...]


def levels(counts: Sequence[int]) -> tuple[Level, ...]:
    """Returns the levels of the tree over a grid, from the tiles upward; the last has one node.

    Args:
        counts: Number of tiles along each axis; with an axis of 0 the one level has no node.
    """
    made: list[Level] = []
    children = tuple(counts)
    left = [max(count - 1, 0).bit_length() for count in children]
    while not made or any(left):
        taken = _taken(left)
        left = [bits - digits for bits, digits in zip(left, taken, strict=True)]
        made.append(Level(len(made) + 1, taken, children))
        children = made[-1].extents
    return tuple(made)


def opened(tree: Sequence[Level], positions: Sequence[int]) -> tuple[OpenedNode, ...]:
    """Returns the nodes above a set of tiles: from the top down, within a level by index.

    Args:
        tree: What `levels` returned.
        positions: Positions of tiles, ascending, none twice; at least one.

    Raises:
        DataError: If there is no position, or no such tile.
    """
    if not positions:
        raise DataError("tree: expected at least one position, got none")
    found: list[OpenedNode] = []
    wanted = list(positions)
    for level in tree:
        nodes: dict[int, list[tuple[int, int]]] = {}
        for child, (node, place) in zip(wanted, level.places(wanted), strict=True):
            nodes.setdefault(node, []).append((place, child))
        wanted = sorted(nodes)
        found[:0] = [
            OpenedNode(level.number, node, *zip(*sorted(nodes[node]), strict=True)) for node in wanted
        ]
    return tuple(found)


def _taken(left: Sequence[int]) -> tuple[int, ...]:
    """Returns how many of each axis's remaining digits the next level takes."""
    taken = [0] * len(left)
    room = DIGITS
    while room and taken != list(left):
        for axis in reversed(range(len(left))):
            if room and taken[axis] < left[axis]:
                taken[axis] += 1
                room -= 1
    return tuple(taken)


def _coordinates(index: int, extents: Sequence[int]) -> tuple[int, ...]:
    coordinates: list[int] = []
    for extent in reversed(extents):
        index, at = divmod(index, extent)
        coordinates.append(at)
    return tuple(reversed(coordinates))
