"""Regions cut out of tiles: exact bytes, one element after the other."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import pytest

from palm_torch.commit import regions
from palm_torch.commit.grid import MAX_OPENED, Grid, Region
from palm_torch.errors import DataError

ITEM = 2


def naive_cut(grid: Grid, region: Region) -> bytes:
    """Element e of the array, row-major, is the number e."""
    parts = []
    for element in itertools.product(*grid.ranges(region)):
        number = 0
        for at, extent in zip(element, grid.shape, strict=True):
            number = number * extent + at
        parts.append(number.to_bytes(ITEM, "big"))
    return b"".join(parts)


def tiles_of(grid: Grid) -> dict[int, bytes]:
    return {position: naive_cut(grid, grid.tile_at(position)) for position in range(grid.tiles)}


@pytest.mark.parametrize(
    ("grid", "region"),
    [
        (Grid((7,), (3,)), (slice(1, 7),)),
        (Grid((7,), (9,)), (slice(2, 3),)),
        (Grid((5, 7), (2, 3)), (slice(1, 5), slice(2, 6))),
        (Grid((5, 7), (2, 3)), (slice(1, 5), slice(None))),  # a row is cut by the tiles
        (Grid((5, 7), (2, 7)), (slice(1, 5), slice(None))),  # whole rows
        (Grid((5, 7), (2, 9)), (3, slice(None))),
        (Grid((5, 7), (2, 7)), (slice(1, 5), slice(3, 7))),
        (Grid((5, 7), (5, 1)), (slice(None), 6)),
        (Grid((3, 4, 5), (2, 4, 5)), (slice(1, 3), slice(None), slice(None))),
        (Grid((3, 4, 5), (2, 4, 5)), (slice(1, 3), slice(1, 2), slice(None))),
        (Grid((3, 4, 5, 2), (2, 3, 2, 2)), (slice(None), slice(1, 4), slice(1, 5), slice(None))),
        (Grid((3, 4, 5, 2), (2, 3, 2, 1)), (2, slice(1, 4), slice(1, 5), 1)),
    ],
)
def test_the_cut_is_the_naive_one(grid: Grid, region: Region) -> None:
    cut = regions.cut(grid, region, tiles_of(grid), item_bytes=ITEM)
    assert cut == naive_cut(grid, region)
    assert math.prod(regions.region_shape(grid, region)) * ITEM == len(cut)


@pytest.mark.parametrize(
    ("grid", "region", "axes"),
    [
        (Grid((5, 7), (2, 7)), (slice(1, 3), slice(None)), 1),
        (Grid((5, 7), (2, 9)), (slice(1, 3), slice(None)), 1),
        (Grid((5, 7), (2, 6)), (slice(1, 3), slice(None)), 2),
        (Grid((5, 7), (2, 7)), (slice(1, 3), slice(1, 7)), 2),
        (Grid((5, 7, 2), (5, 7, 2)), (slice(None),) * 3, 1),
    ],
)
def test_axes_that_nothing_cuts_are_copied_in_one_piece(grid: Grid, region: Region, axes: int) -> None:
    assert regions._axes_cut(grid, grid.ranges(region)) == axes


@pytest.mark.parametrize(
    ("grid", "region"),
    [
        (Grid((50, 4), (30, 4)), (slice(None), slice(1, 2))),  # a column: more pieces than bytes in one
        (Grid((50, 4), (30, 4)), (slice(7, 50), slice(1, 4))),
        (Grid((2, 50, 3, 2), (2, 30, 2, 2)), (slice(None), slice(3, 49), slice(1, 3), 1)),
        (Grid((50, 2, 50), (50, 2, 9)), (slice(2, 40), slice(None), slice(3, 5))),
    ],
)
def test_pieces_that_are_many_and_short(grid: Grid, region: Region) -> None:
    assert regions.cut(grid, region, tiles_of(grid), item_bytes=ITEM) == naive_cut(grid, region)


def test_a_column_takes_no_more_room_than_its_bytes() -> None:
    grid = Grid((1 << 18, 4), (1 << 18, 4))
    content = bytes(range(256)) * (1 << 12)
    tracemalloc.start()
    try:
        column = regions.cut(grid, (slice(None), 2), {0: content}, item_bytes=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert column == content[2::4]
    assert peak < 4 * len(column)


def test_tiles_that_are_no_bytes() -> None:
    with pytest.raises(DataError, match="tile 0: expected bytes that lie back to back, got str"):
        regions.cut(Grid((2,), (2,)), (0,), {0: "abcd"}, item_bytes=ITEM)  # type: ignore[dict-item]


def test_only_the_tiles_of_the_region_are_needed() -> None:
    grid, region = Grid((5, 7), (2, 3)), (slice(2, 3), slice(0, 4))
    needed = {position: tiles_of(grid)[position] for position in (3, 4)}
    views = {position: memoryview(bytearray(content)) for position, content in needed.items()}
    assert regions.cut(grid, region, views, item_bytes=ITEM) == naive_cut(grid, region)
    needed[0] = b"not looked at"
    assert regions.cut(grid, region, needed, item_bytes=ITEM) == naive_cut(grid, region)


def test_tiles_that_are_missing_or_of_another_length() -> None:
    grid, region = Grid((5, 7), (2, 3)), (slice(4, 5), slice(0, 4))
    tiles = tiles_of(grid)
    with pytest.raises(DataError, match="tile 7: expected 6 bytes, got 12"):
        regions.cut(grid, region, tiles | {7: bytes(12)}, item_bytes=ITEM)
    del tiles[6]
    with pytest.raises(DataError, match="tile 6: expected its 6 bytes, got none"):
        regions.cut(grid, region, tiles, item_bytes=ITEM)


def test_no_room_is_made_for_what_cannot_be_there() -> None:
    whole = (slice(None), slice(None))
    with pytest.raises(DataError, match="got none"):
        regions.cut(Grid((2**53 - 1, 2**53 - 1), (2**52, 2**52)), whole, {}, item_bytes=16)
    with pytest.raises(DataError, match=f"expected at most {MAX_OPENED}"):
        regions.cut(Grid((2**20, 2**20), (1, 1)), whole, {}, item_bytes=16)
