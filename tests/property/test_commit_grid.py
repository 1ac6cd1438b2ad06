"""Laws of openings over a grid: honest ones give the exact bytes, and nothing else is accepted."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.commit import merkle, regions, tile_leaf
from palm_torch.commit.grid import Grid
from palm_torch.errors import BindingError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

ITEM_BYTES = {"int8": 1, "bfloat16": 2, "float32": 4}

grids = st.integers(1, 4).flatmap(
    lambda axes: st.builds(
        Grid, st.tuples(*[st.integers(1, 5)] * axes), st.tuples(*[st.integers(1, 6)] * axes)
    )
)


def regions_of(grid: Grid) -> st.SearchStrategy[list[tuple[slice, ...]]]:
    def part(extent: int) -> st.SearchStrategy[slice]:
        return st.integers(0, extent - 1).flatmap(
            lambda start: st.integers(start + 1, extent).map(lambda stop: slice(start, stop))
        )

    return st.lists(st.tuples(*map(part, grid.shape)), min_size=1, max_size=4)


def naive_cut(grid: Grid, data: bytes, item: int, spans: Sequence[range]) -> bytes:
    strides = [math.prod(grid.shape[axis + 1 :]) for axis in range(len(grid.shape))]
    numbers = (
        sum(at * stride for at, stride in zip(element, strides, strict=True))
        for element in itertools.product(*spans)
    )
    return b"".join(data[number * item : (number + 1) * item] for number in numbers)


@dataclass(frozen=True)
class Tile:
    dtype: str
    shape: tuple[int, ...]
    coordinates: tuple[int, ...]
    content: bytes

    def leaf(self) -> bytes:
        header = tile_leaf.header("activations", self.dtype, self.shape, self.coordinates)
        return tile_leaf.leaf(header, blake3(self.content).digest())


def verify(root: bytes, count: int, tiles: dict[int, Tile], proof: bytes) -> None:
    merkle.verify(root, count, {position: tile.leaf() for position, tile in tiles.items()}, proof)


def flipped(data: bytes, choice: int) -> bytes:
    changed = bytearray(data)
    changed[choice // 8 % len(data)] ^= 1 << choice % 8
    return bytes(changed)


def shifted(numbers: tuple[int, ...], choice: int) -> tuple[int, ...]:
    axis = choice % len(numbers)
    return (*numbers[:axis], numbers[axis] + 1, *numbers[axis + 1 :])


@given(st.data(), grids, st.sampled_from(sorted(ITEM_BYTES)), st.integers(0, 2**32))
def test_honest_regions_open_and_nothing_else_does(
    data: st.DataObject, grid: Grid, dtype: str, choice: int
) -> None:
    wanted, item = data.draw(regions_of(grid)), ITEM_BYTES[dtype]
    array = hashlib.shake_128(b"array").digest(math.prod(grid.shape) * item)
    tiles = [
        Tile(
            dtype,
            grid.tile_shape(position),
            grid.coordinates(position),
            naive_cut(grid, array, item, grid.ranges(grid.tile_at(position))),
        )
        for position in range(grid.tiles)
    ]
    builder = merkle.TreeBuilder()
    for tile in tiles:
        builder.append(tile.leaf())
    root, positions = builder.root(), grid.cover(*wanted)
    proof, opened = builder.open(positions), {position: tiles[position] for position in positions}
    assert len(proof) == merkle.proof_bytes(grid.tiles, positions)

    verify(root, grid.tiles, opened, proof)
    contents = {position: tile.content for position, tile in opened.items()}
    for region in wanted:
        cut = regions.cut(grid, region, contents, item_bytes=item)
        assert cut == naive_cut(grid, array, item, grid.ranges(region))

    at = positions[choice % len(positions)]
    tile = opened[at]
    others = [other for other in sorted(ITEM_BYTES) if other != dtype]
    changed_tiles = [
        replace(tile, content=flipped(tile.content, choice)),
        replace(tile, content=tile.content + b"\0"),
        replace(tile, dtype=others[choice % len(others)]),
        replace(tile, shape=shifted(tile.shape, choice)),
        replace(tile, shape=(*tile.shape, 1), coordinates=(*tile.coordinates, 0)),
        replace(tile, coordinates=shifted(tile.coordinates, choice)),
    ]
    for changed in changed_tiles:
        with pytest.raises(BindingError):
            verify(root, grid.tiles, opened | {at: changed}, proof)
    with pytest.raises(BindingError):
        verify(flipped(root, choice), grid.tiles, opened, proof)
    for count in (grid.tiles - 1, grid.tiles + 1, 2 * grid.tiles):
        with pytest.raises((BindingError, EvidenceError)):
            verify(root, count, opened, proof)
    for wrong in (proof + b"\0", proof + proof[:32] + bytes(32), proof[:-1] + bytes(2)):
        with pytest.raises(EvidenceError):
            verify(root, grid.tiles, opened, wrong)
    if proof:
        with pytest.raises(BindingError):
            verify(root, grid.tiles, opened, flipped(proof, choice))
        with pytest.raises(EvidenceError):
            verify(root, grid.tiles, opened, proof[:-32])
    moved = {(position + 1) % grid.tiles: tile for position, tile in opened.items()}
    if grid.tiles > 1:
        with pytest.raises((BindingError, EvidenceError)):
            verify(root, grid.tiles, moved, proof)


@given(grids, st.data())
def test_the_cover_of_a_set_is_the_union_of_the_covers(grid: Grid, data: st.DataObject) -> None:
    wanted = data.draw(regions_of(grid))
    single = [set(grid.cover(region)) for region in wanted]
    assert grid.cover(*wanted) == tuple(sorted(set().union(*single)))


@given(grids, st.integers(0, 9))
def test_growth_names_exactly_what_is_new(grid: Grid, more: int) -> None:
    larger, changed = grid.grown(grid.shape[0] + more)
    new = [
        position
        for position in range(larger.tiles)
        if position >= grid.tiles or grid.tile_at(position) != larger.tile_at(position)
    ]
    assert list(changed) == new


LEAVES = [hashlib.sha256(b"%d" % n).digest() for n in range(2600)]


@given(
    st.integers(1, 2600), st.lists(st.tuples(st.integers(0), st.integers(0, 9)), max_size=4), st.integers(0)
)
def test_replaced_leaves_are_those_of_a_fresh_tree(
    count: int, changes: list[tuple[int, int]], opened: int
) -> None:
    builder, leaves = merkle.TreeBuilder(), LEAVES[:count]
    for leaf in leaves:
        builder.append(leaf)
    for place, value in changes:
        position, root = place % count, builder.root()
        proof = builder.open([position])
        builder.replace(position, LEAVES[value])
        old, leaves[position] = leaves[position], LEAVES[value]
        assert merkle.updated_root(root, count, position, old, LEAVES[value], proof) == builder.root()
    fresh = b"".join(leaves)
    assert builder.root() == merkle.root(fresh)
    assert builder.open([opened % count]) == merkle.open_positions(fresh, [opened % count])
