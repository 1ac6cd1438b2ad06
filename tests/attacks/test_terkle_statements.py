"""An honest opening is shown as one of something else: another array, other places, other numbers."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import pytest
from trees import opened, tiles_of, tree_of

from palm_torch.commit import terkle
from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context, Opening, Tree
from palm_torch.errors import BindingError, DataError, EvidenceError

GRID = Grid((8, 12), (2, 3), ("token", "channel"))
SCHEMES = ("hash", "kzg")
BLOCK = [(slice(2, 4), slice(3, 6))]
"""One tile, number 5."""


def context(scheme: Any, **changes: Any) -> Context:
    return dataclasses.replace(Context("layer 3", "int16", GRID, scheme), **changes)


def refused(tree: Tree, told: Context, regions: Any, opening: Opening) -> None:
    with pytest.raises((BindingError, EvidenceError)):
        terkle.verify(tree.root(), told, regions, opening)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_twin_is_accepted(scheme: str) -> None:
    tree = tree_of(context(scheme))
    values = terkle.verify(tree.root(), tree.context, BLOCK, opened(tree, BLOCK))
    assert values.region(0) == tiles_of(tree.context)[5]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "other",
    [
        {"tree_id": "layer 4"},
        {"dtype": "float16"},  # as many bytes, read as other numbers
        {"dtype": "bfloat16"},
        {"grid": Grid((9, 12), (2, 3), GRID.axes)},
        {"grid": Grid((8, 13), (2, 3), GRID.axes)},
        {"grid": Grid((12, 8), (2, 3), GRID.axes)},
        {"grid": Grid((8, 12), (3, 2), GRID.axes)},
        {"grid": Grid((8, 12), (2, 3), ("channel", "token"))},
        {"grid": Grid((8, 12), (2, 3))},
        {"grid": Grid((8, 12, 1), (2, 3, 1))},
    ],
)
def test_attack_57_another_array(scheme: str, other: dict[str, Any]) -> None:
    """Same tiles, same proof; only what they are said to be is another thing."""
    tree = tree_of(context(scheme))
    told = context(scheme, **other)
    regions = [told.grid.tile_at(5)]
    refused(tree, told, regions, opened(tree, BLOCK))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_attack_57_another_scheme(scheme: str) -> None:
    tree = tree_of(context(scheme))
    refused(tree, context("kzg" if scheme == "hash" else "hash"), BLOCK, opened(tree, BLOCK))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_attack_57_the_prover_does_not_choose_the_context(scheme: str) -> None:
    """An opening says no name, shape or scheme, and two arrays of equal tiles differ in the root."""
    one, other = context(scheme), context(scheme, tree_id="layer 4")
    trees = [Tree(one), Tree(other)]
    for tree in trees:
        tree.extend(tiles_of(one))
    assert trees[0].root() != trees[1].root()
    opening = opened(trees[0], BLOCK)
    for parts in (opening.tiles, opening.salts, (opening.proof,)):
        assert not any(b"layer" in part for part in parts)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("axis", [0, 1])
def test_attack_58_values_of_another_place(scheme: str, axis: int) -> None:
    tree = tree_of(context(scheme))
    step = GRID.tile[axis]
    for shift in (-step, step):
        elsewhere = list(BLOCK[0])
        elsewhere[axis] = slice(elsewhere[axis].start + shift, elsewhere[axis].stop + shift)
        refused(tree, tree.context, [tuple(elsewhere)], opened(tree, BLOCK))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_attack_58_a_row_as_a_column(scheme: str) -> None:
    """As many tiles of equal size; only the axis is another one."""
    square = context(scheme, grid=Grid((8, 8), (2, 2)))
    tree = tree_of(square)
    row, column = [(slice(0, 2), slice(0, 8))], [(slice(0, 8), slice(0, 2))]
    terkle.verify(tree.root(), square, row, opened(tree, row))
    refused(tree, square, column, opened(tree, row))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_attack_58_equal_bytes_at_two_places(scheme: str) -> None:
    """Even where the bytes are the same, what was proven is one place."""
    plain = context(scheme)
    tree, tile = Tree(plain), bytes(12)
    tree.extend([tile] * plain.grid.tiles)
    opening = tree.open(BLOCK, lambda _: tile)
    refused(tree, plain, [(slice(4, 6), slice(3, 6))], opening)


def one_number(dtype: str, data: bytes) -> tuple[Tree, Opening]:
    tree = Tree(Context("logits", dtype, Grid((1,), (1,)), "hash"))
    tree.add(data)
    return tree, tree.open([(0,)], lambda _: data)


@pytest.mark.parametrize(
    ("dtype", "committed", "shown"),
    [
        ("float32", struct.pack("<f", 0.0), struct.pack("<f", -0.0)),
        ("float16", struct.pack("<e", -0.0), struct.pack("<e", 0.0)),
        ("float32", bytes.fromhex("0000c07f"), bytes.fromhex("0100c07f")),  # two NaNs
        ("float32", bytes.fromhex("0000c07f"), bytes.fromhex("0000a07f")),  # a quiet one and a signalling one
        ("bfloat16", bytes.fromhex("803f"), bytes.fromhex("813f")),  # 1 and the next number
        ("float64", struct.pack("<d", 1.0), struct.pack("<d", 1.0 + 2.0**-52)),
        ("float32", struct.pack("<f", 1e-45), struct.pack("<f", 0.0)),  # the smallest of all numbers
    ],
)
def test_attack_59_numbers_that_are_nearly_equal(dtype: str, committed: bytes, shown: bytes) -> None:
    """Nothing is rounded, scaled or compared as a number: bytes are what was committed to."""
    tree, opening = one_number(dtype, committed)
    assert terkle.verify(tree.root(), tree.context, [(0,)], opening).region(0) == committed
    refused(tree, tree.context, [(0,)], dataclasses.replace(opening, tiles=(shown,)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_attack_60_a_place_beyond_the_edge(scheme: str) -> None:
    """Uneven edges are not padded, and places of a node without a child hold no tile, whatever is shown."""
    uneven = context(scheme, grid=Grid((3, 5), (2, 3)))
    tree = tree_of(uneven)
    last = [uneven.grid.tile_at(3)]
    opening = opened(tree, last)
    terkle.verify(tree.root(), uneven, last, opening)
    for beyond in ([(slice(2, 4), slice(3, 5))], [(slice(2, 3), slice(3, 6))], [(slice(4, 6), slice(0, 3))]):
        with pytest.raises(DataError, match="expected a range within"):
            terkle.verify(tree.root(), uneven, beyond, opening)
    with pytest.raises(DataError, match="expected a position in"):
        uneven.grid.tile_at(4)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_attack_60_an_array_that_is_said_to_be_larger(scheme: str) -> None:
    """With one more row the missing tile would be zeros; the root says how long the array is."""
    uneven = context(scheme, grid=Grid((3,), (1,)))
    tree = tree_of(uneven)
    larger = dataclasses.replace(uneven, grid=Grid((4,), (1,)))
    proof = opened(tree, [(2,)]).proof
    for length in {len(proof), terkle.proof_bytes(larger, [(3,)])}:
        padded = Opening((bytes(2),), (), proof.ljust(length, b"\0")[:length])
        refused(tree, larger, [(3,)], padded)
