"""Laws of Terkle trees: whatever was committed to opens, and nothing else does."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Literal
from unittest import mock

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from trees import opened, salt_key, tile, tiles_of, tree_of

from palm_torch.commit import layout, terkle
from palm_torch.commit.grid import Grid
from palm_torch.commit.regions import cut
from palm_torch.commit.steps import Step, Steps, verify_consistency, verify_inclusion
from palm_torch.commit.terkle import Context, Opening
from palm_torch.errors import BindingError, EvidenceError, InputError

Scheme = Literal["hash", "kzg"]
Slices = tuple[slice, ...]

KZG = settings(max_examples=12, phases=(Phase.explicit, Phase.generate))  # commitments take their time


@st.composite
def contexts(draw: st.DrawFn, scheme: Scheme, least: int = 1) -> Context:
    axes = draw(st.integers(1, 4))
    shape = draw(st.tuples(*[st.integers(least, 11 if axes < 4 else 5)] * axes))
    tiles = draw(st.tuples(*[st.integers(1, 5)] * axes))
    names = draw(st.sampled_from([(), ("layer", "token", "head", "channel")[:axes]]))
    dtype = draw(st.sampled_from(["int8", "bfloat16", "float32"]))
    return Context(
        draw(st.sampled_from(["w", "ß·1"])), dtype, Grid(shape, tiles, names), scheme, draw(st.booleans())
    )


@st.composite
def region_of(draw: st.DrawFn, grid: Grid) -> Slices:
    starts = [draw(st.integers(0, extent - 1)) for extent in grid.shape]
    return tuple(
        slice(start, draw(st.integers(start + 1, extent)))
        for start, extent in zip(starts, grid.shape, strict=True)
    )


@st.composite
def statements(draw: st.DrawFn, scheme: Scheme) -> tuple[Context, list[Slices]]:
    context = draw(contexts(scheme))
    return context, draw(st.lists(region_of(context.grid), min_size=1, max_size=3))


def element_bytes(context: Context, tiles: list[bytes], region: Slices) -> bytes:
    """A region, element by element."""
    grid, size = context.grid, context.item_bytes
    found = []
    for at in itertools.product(*(range(part.start, part.stop) for part in region)):
        position = grid.position([a // step for a, step in zip(at, grid.tile, strict=True)])
        inside = 0
        for a, part in zip(at, grid.tile_at(position), strict=True):
            inside = inside * (part.stop - part.start) + a - part.start
        found.append(tiles[position][inside * size : (inside + 1) * size])
    return b"".join(found)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


def others(context: Context) -> list[Context]:
    """Contexts that differ in one part."""
    grid = context.grid
    last = len(grid.shape) - 1

    def with_last(numbers: tuple[int, ...]) -> tuple[int, ...]:
        return (*numbers[:last], numbers[last] + 1)

    grids = [
        Grid((grid.shape[0] + 1, *grid.shape[1:]), grid.tile, grid.axes),
        Grid(with_last(grid.shape), grid.tile, grid.axes),
        Grid(grid.shape, with_last(grid.tile), grid.axes),
        Grid(
            grid.shape, grid.tile, tuple(f"{axis}{axis}" for axis in grid.axes) or tuple("abcd"[: last + 1])
        ),
    ]
    return [
        dataclasses.replace(context, tree_id=context.tree_id + "1"),
        dataclasses.replace(
            context, dtype={"int8": "uint8", "bfloat16": "float16"}.get(context.dtype, "int32")
        ),
        dataclasses.replace(context, scheme="hash" if context.scheme == "kzg" else "kzg"),
        dataclasses.replace(context, salted=not context.salted),
        *(dataclasses.replace(context, grid=other) for other in grids),
    ]


def check(context: Context, regions: list[Slices], choice: int) -> None:
    tree, tiles = tree_of(context), tiles_of(context)
    root, opening = tree.root(), opened(tree, regions)
    assert Opening.decode(opening.encode()) == opening
    assert len(opening.proof) == terkle.proof_bytes(context, regions)
    values = terkle.verify(root, context, regions, opening)
    for index, region in enumerate(regions):
        assert values.region(index) == element_bytes(context, tiles, region)
        assert values.shape(index) == tuple(part.stop - part.start for part in region)

    def refused(
        opening: Opening, *, root: bytes = root, context: Context = context, regions: list[Slices] = regions
    ) -> None:
        with pytest.raises((BindingError, InputError)):
            terkle.verify(root, context, regions, opening)

    refused(opening, root=flipped(root, choice))
    at = choice % len(opening.tiles)
    changed = (*opening.tiles[:at], flipped(opening.tiles[at], choice), *opening.tiles[at + 1 :])
    refused(dataclasses.replace(opening, tiles=changed))
    if opening.proof:
        refused(dataclasses.replace(opening, proof=flipped(opening.proof, choice)))
    if opening.salts:
        salts = (*opening.salts[:at], flipped(opening.salts[at], choice), *opening.salts[at + 1 :])
        refused(dataclasses.replace(opening, salts=salts))
        refused(dataclasses.replace(opening, salts=()))
    for other in others(context):
        refused(opening, context=other)
    covered = set(context.grid.cover(*regions))
    elsewhere = choice % context.grid.tiles
    if {elsewhere} != covered:
        refused(opening, regions=[context.grid.tile_at(elsewhere)])


@given(statements("hash"), st.integers(0, 2**32))
def test_hash_trees_open_to_what_was_committed_to_and_to_nothing_else(
    statement: tuple[Context, list[Slices]], choice: int
) -> None:
    check(*statement, choice)


@KZG
@given(statements("kzg"), st.integers(0, 2**32), st.sampled_from([2, 3, 12]))
def test_kzg_trees_open_to_what_was_committed_to_and_to_nothing_else(
    statement: tuple[Context, list[Slices]], choice: int, digits: int
) -> None:
    with mock.patch.object(layout, "DIGITS", digits):
        check(*statement, choice)


def grow(context: Context, extents: list[int]) -> None:
    empty = dataclasses.replace(
        context, grid=dataclasses.replace(context.grid, shape=(0, *context.grid.shape[1:]))
    )
    tree = terkle.Tree(empty, salt_key=salt_key(context))
    for extent in extents:
        grid, new = tree.context.grid.grown(extent)
        larger = dataclasses.replace(context, grid=grid)
        tree.append(extent, [tile(larger, position) for position in new])
        assert context.salted or tree.root() == tree_of(larger).root()
    tiles, count = tiles_of(tree.context), tree.context.grid.tiles
    for position in {0, count // 2, count - 1}:
        tiles[position] = tile(tree.context, position, seed=1)
        tree.update(position, tiles[position])
    if context.salted:  # tiles that were written again have other salts
        whole = [tuple(slice(0, end) for end in tree.context.grid.shape)]
        terkle.verify(tree.root(), tree.context, whole, tree.open(whole, tiles.__getitem__))
        return
    fresh = terkle.Tree(tree.context)
    fresh.extend(tiles)
    assert tree.root() == fresh.root()


extents = st.lists(st.integers(1, 40), min_size=1, max_size=5).map(sorted)


@given(contexts("hash"), extents)
def test_grown_and_updated_hash_trees_are_fresh_trees(context: Context, extents: list[int]) -> None:
    grow(context, extents)


@KZG
@given(contexts("kzg"), extents, st.sampled_from([2, 3, 12]))
def test_grown_and_updated_kzg_trees_are_fresh_trees(
    context: Context, extents: list[int], digits: int
) -> None:
    with mock.patch.object(layout, "DIGITS", digits):
        grow(context, extents)


@given(st.lists(st.integers(0, 70), min_size=1, max_size=4), st.integers(1, 12))
def test_every_tile_has_one_place_and_every_level_fits(counts: list[int], digits: int) -> None:
    with mock.patch.object(layout, "DIGITS", digits):
        levels = layout.levels(counts)
    left = [max(count - 1, 0).bit_length() for count in counts]
    for level in levels:
        assert sum(level.digits) == min(digits, sum(left))
        left = [have - took for have, took in zip(left, level.digits, strict=True)]
    assert not any(left)
    assert math.prod(levels[-1].extents) == (1 if all(counts) else 0)
    if math.prod(counts) > 3000:
        return
    for level in levels:
        held = [
            (node, place + step, child + step)
            for node in range(level.nodes)
            for child, place, count in level.runs(node)
            for step in range(count)
        ]
        assert sorted(child for _, _, child in held) == list(range(math.prod(level.children)))
        assert all(level.place(child) == (node, place) for node, place, child in held)
        assert held == sorted(held)


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40), st.data())
def test_steps_are_shown_by_number_and_never_rewritten(roots: list[bytes], data: st.DataObject) -> None:
    steps = Steps()
    made = [steps.append(bytes(32), root) for root in roots]
    number = data.draw(st.integers(0, len(roots) - 1))
    proof = steps.inclusion_proof(number)
    verify_inclusion(made[number], len(roots), steps.root(), proof)
    other = Step(number, bytes(32), flipped(roots[number], data.draw(st.integers(0, 255))))
    with pytest.raises(BindingError):
        verify_inclusion(other, len(roots), steps.root(), proof)
    old = data.draw(st.integers(0, len(roots)))
    verify_consistency(old, len(roots), steps.root(old), steps.root(), steps.consistency_proof(old))


@given(contexts("hash"))
def test_whole_arrays_come_back(context: Context) -> None:
    tree = tree_of(context)
    whole = tuple(slice(0, extent) for extent in context.grid.shape)
    values = terkle.verify(tree.root(), context, [whole], opened(tree, [whole]))
    tiles = dict(enumerate(tiles_of(context)))
    assert values.region(0) == cut(context.grid, whole, tiles, item_bytes=context.item_bytes)


encodings = st.builds(
    lambda tiles, salted, proof: Opening(tuple(tiles), (bytes(32),) * (salted * len(tiles)), proof).encode(),
    st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=4),
    st.booleans(),
    st.binary(max_size=9),
)


@given(st.one_of(st.binary(max_size=80), encodings), st.lists(st.integers(0, 2**20), max_size=2))
def test_what_decodes_is_what_was_encoded(data: bytes, bits: list[int]) -> None:
    for bit in bits if data else []:
        data = flipped(data, bit)
    for decoder in (Opening, Step):
        try:
            decoded = decoder.decode(data)
        except EvidenceError:
            continue
        assert decoded.encode() == data
