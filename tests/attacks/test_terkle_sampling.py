"""A prover alters one tile of many and hopes that nobody asks for that one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from trees import opened, tile, tree_of

from palm_torch.commit import selection, terkle
from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context
from palm_torch.errors import BindingError

SIDE = 6
TILES = SIDE * SIDE
WRONG = 22
WHOLE = [(slice(None), slice(None))]


def altered(scheme: Any) -> tuple[terkle.Tree, list[bytes]]:
    """Returns a tree in which one tile is another one, and the tiles as they should be."""
    context = Context("w", "uint8", Grid((SIDE, SIDE), (1, 1)), scheme)
    made = tree_of(context)
    made.update(WRONG, tile(context, WRONG, seed=1))
    return made, [tile(context, position) for position in range(TILES)]


def differing(made: terkle.Tree, expected: list[bytes], regions: list[tuple[Any, ...]]) -> list[int]:
    """Opens regions, verifies what came, and returns the positions that are not as they should be."""
    honest = list(expected)
    honest[WRONG] = tile(made.context, WRONG, seed=1)
    values = terkle.verify(made.root(), made.context, regions, made.open(regions, honest.__getitem__))
    return [position for position, content in values.tiles.items() if content != expected[position]]


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_whoever_asks_for_everything_finds_it(scheme: Any) -> None:
    made, expected = altered(scheme)
    assert differing(made, expected, WHOLE) == [WRONG]


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_twin_a_sample_that_misses_it_holds(scheme: Any) -> None:
    """Not stopped: what was not opened may be anything. The proof of the sample is as good as any."""
    made, expected = altered(scheme)
    elsewhere = [divmod(position, SIDE) for position in (0, 7, 21, 23, 35)]
    assert differing(made, expected, elsewhere) == []
    assert differing(made, expected, [*elsewhere, divmod(WRONG, SIDE)]) == [WRONG]


def test_samples_find_it_as_often_as_is_said() -> None:
    """Of all samples of two places, 2/N have the wrong one: what `selection.detection` says of one draw."""
    made, expected = altered("hash")
    pairs = list(itertools.combinations(range(TILES), 2))
    found = sum(
        bool(differing(made, expected, [divmod(position, SIDE) for position in pair])) for pair in pairs
    )
    assert found * TILES == 2 * len(pairs)
    assert selection.detection(1 / TILES, 1, 1) == pytest.approx(1 / TILES)
    assert selection.detection(1 / TILES, 1, 2) < 2 / TILES  # draws that may repeat find less
    needed = selection.queries_for(1 / TILES, 1e-6)
    assert needed > 13 * TILES  # to be sure by drawing costs more than to open everything


def test_an_opening_of_the_tiles_as_they_should_be() -> None:
    """Once it was asked for, the wrong tile cannot be replaced by the right one under the same root."""
    made, _ = altered("hash")
    shown = opened(tree_of(made.context), WHOLE)
    with pytest.raises(BindingError):
        terkle.verify(made.root(), made.context, WHOLE, shown)
