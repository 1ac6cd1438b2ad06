"""Grids: numbering, edges, regions by name, covers, growth."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from palm_torch.commit.grid import MAX_OPENED, Grid
from palm_torch.errors import DataError

GRID = Grid((5, 7), (2, 3), ("tokens", "channels"))
LARGE = Grid((2**20, 2**20), (1, 1))


def test_positions_are_row_major_and_edges_keep_their_shape() -> None:
    assert GRID.counts == (3, 3)
    assert GRID.tiles == 9
    assert GRID.coordinates(5) == (1, 2)
    assert GRID.tile_at(0) == (slice(0, 2), slice(0, 3))
    assert GRID.tile_at(8) == (slice(4, 5), slice(6, 7))


def test_cover_of_a_row_and_of_everything() -> None:
    assert GRID.cover((slice(2, 3), slice(None))) == (3, 4, 5)
    assert GRID.cover((slice(None), slice(None))) == tuple(range(9))
    assert GRID.cover((slice(1, 3), slice(2, 4, 1))) == (0, 1, 3, 4)


def test_cover_of_several_regions_names_each_tile_once() -> None:
    assert GRID.cover((4, 0), (slice(0, 1), slice(None)), (0, 2), (4, 1)) == (0, 1, 2, 6)
    with pytest.raises(DataError, match="at least one region"):
        GRID.cover()


def test_too_many_tiles_are_refused_before_one_is_listed() -> None:
    assert len(LARGE.cover((7, slice(None)))) == MAX_OPENED
    assert LARGE.cover(*[(1, 1)] * 3) == (2**20 + 1,)
    with pytest.raises(DataError, match=f"1 regions touch {2**40} tiles, expected at most {MAX_OPENED}"):
        LARGE.cover((slice(None), slice(None)))
    with pytest.raises(DataError, match=f"2 regions touch {2**20 + 1} tiles"):
        LARGE.cover((7, slice(None)), (7, 0))


def test_no_elements_no_tiles() -> None:
    assert Grid((0, 7), (2, 3)).tiles == 0


@pytest.mark.parametrize("position", [-1, 9])
def test_position_outside(position: int) -> None:
    for ask in (GRID.tile_at, GRID.tile_shape, GRID.coordinates):
        with pytest.raises(DataError, match=r"expected a position in \[0, 9\)"):
            ask(position)


@pytest.mark.parametrize("coordinates", [(3, 0), (0, 3), (-1, 0), (0,), (0, 0, 0), ()])
def test_coordinates_outside(coordinates: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"expected coordinates below \(3, 3\)"):
        GRID.position(coordinates)


@pytest.mark.parametrize(
    "grid",
    [
        GRID,
        Grid((5,), (2,)),
        Grid((4,), (9,)),
        Grid((5, 7), (2, 9)),
        Grid((3, 2, 5, 3), (2, 1, 2, 2)),
        Grid((3, 4, 5, 3), (1, 4, 5, 4)),
        Grid((2, 1, 3), (2, 1, 2)),
    ],
)
def test_positions_and_coordinates_are_inverses(grid: Grid) -> None:
    coordinates = list(itertools.product(*map(range, grid.counts)))
    assert [grid.position(at) for at in coordinates] == list(range(grid.tiles))
    assert [grid.coordinates(position) for position in range(grid.tiles)] == coordinates
    assert grid.tile_shape(0) == tuple(map(min, grid.shape, grid.tile))


def test_regions_by_name() -> None:
    grid = Grid((6, 20, 512), (1, 4, 256), ("layer", "token", "channel"))
    assert grid.region(layer=3, token=slice(0, 4)) == (slice(3, 4), slice(0, 4), slice(0, 512))
    assert grid.region() == (slice(0, 6), slice(0, 20), slice(0, 512))
    assert grid.cover(grid.region(layer=3, token=slice(0, 4))) == (30, 31)
    assert grid.cover(grid.region(layer=np.int64(3), token=np.uint8(19), channel=256)) == (39,)


def test_an_axis_may_have_any_name() -> None:
    assert Grid((2, 3), (1, 1), ("self", "a b")).region(**{"self": 1, "a b": 2}) == (slice(1, 2), slice(2, 3))


def test_unknown_axes() -> None:
    with pytest.raises(DataError, match="no axis 'rows'; its axes are 'tokens', 'channels'"):
        GRID.region(tokens=1, rows=0)
    with pytest.raises(DataError, match="no axis 'rows'; its axes are none: this grid was made without"):
        LARGE.region(rows=0)


def test_numbers_of_other_libraries_become_plain_ones() -> None:
    grid = Grid(np.array([5, 7]), [np.int64(2), 3], ["tokens", "channels"])  # type: ignore[arg-type]
    assert grid == GRID
    assert hash(grid) == hash(GRID)
    assert all(type(number) is int for number in (*grid.shape, *grid.tile))
    assert grid.position(np.array([1, 2])) == 5  # type: ignore[arg-type]
    assert grid.coordinates(np.uint8(5)) == (1, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "tile", "axes", "message"),
    [
        ((5.0, 7), (2, 3), (), "expected shape of whole numbers"),
        (5, (2, 3), (), "expected shape of whole numbers, got 5"),
        ((5, 7), (True, 3), (), "expected tile of whole numbers"),
        ((5, 7), "23", (), "expected tile of whole numbers"),
        ((5, 7), (2, 3), "xy", "names of axes as several texts, got 'xy'"),
        ((5, 7), (2, 3), (1, 2), "names of axes as several texts"),
        ((5, 7), (2, 3), None, "names of axes as several texts, got None"),
    ],
)
def test_grids_of_other_things(shape: Any, tile: Any, axes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Grid(shape, tile, axes)


def test_positions_that_are_no_whole_numbers() -> None:
    position: Any
    for position in (0.0, "0", None, False):
        for ask in (GRID.tile_at, GRID.tile_shape, GRID.coordinates):
            with pytest.raises(DataError, match="expected a position as a whole number"):
                ask(position)
    with pytest.raises(DataError, match="expected coordinates of whole numbers"):
        GRID.position((0.0, 1))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="expected an extent as a whole number"):
        GRID.grown(6.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("region", [None, 5, 1.5])
def test_regions_that_are_no_rows_of_parts(region: Any) -> None:
    with pytest.raises(DataError, match="expected a region of 2 slices"):
        GRID.ranges(region)


def test_ranges_say_what_a_region_takes() -> None:
    assert GRID.ranges((3, slice(2, None))) == (range(3, 4), range(2, 7))
    assert GRID.ranges((slice(None, 2), slice(None, None, 1))) == (range(2), range(7))


@pytest.mark.parametrize("part", [1.0, "1", None, True, slice(0.0, 1), slice(0, "2"), slice(0, 2, 1.0), [0]])
def test_parts_that_are_neither_slices_nor_numbers(part: Any) -> None:
    with pytest.raises(DataError, match="axis 1: expected a slice or a whole number"):
        GRID.cover((0, part))


@pytest.mark.parametrize(
    ("grid", "extent", "changed"),
    [
        (GRID, 5, range(9, 9)),
        (GRID, 6, range(6, 9)),  # the last row of tiles grows from one element to two
        (GRID, 9, range(6, 15)),
        (Grid((4, 7), (2, 3)), 6, range(6, 9)),  # nothing grew: one more row of tiles
        (Grid((0, 7), (2, 3)), 2, range(3)),
        (Grid((3,), (8,)), 4, range(1)),
        (Grid((4, 0), (2, 3)), 9, range(0)),
    ],
)
def test_growth_says_what_changes(grid: Grid, extent: int, changed: range) -> None:
    larger, positions = grid.grown(extent)
    assert larger == Grid((extent, *grid.shape[1:]), grid.tile, grid.axes)
    assert positions == changed
    for position in range(larger.tiles):
        old = grid.tile_at(position) if position < grid.tiles else None
        assert (larger.tile_at(position) != old) == (position in positions)


def test_growth_has_limits() -> None:
    with pytest.raises(DataError, match="axis 0 can only grow: expected at least 5, got 4"):
        GRID.grown(4)
    with pytest.raises(DataError, match="at most 2"):
        GRID.grown(2**41)


@pytest.mark.parametrize(
    "region",
    [
        (slice(0, 6), slice(None)),
        (slice(-1, 3), slice(None)),
        (slice(3, 3), slice(None)),
        (slice(0, 4, 2), slice(None)),
        (slice(4, 0, -1), slice(None)),
        (5, slice(None)),
        (-1, slice(None)),
        (2**70, slice(None)),
    ],
)
def test_region_outside(region: tuple[slice | int, slice]) -> None:
    with pytest.raises(DataError, match="axis 0: expected a range"):
        GRID.cover(region)


def test_region_of_other_axes() -> None:
    with pytest.raises(DataError, match="expected 2 slices, got 1"):
        GRID.cover((slice(0, 1),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), ()), "1 to 4 axes"),
        (((1,) * 5, (1,) * 5), "1 to 4 axes"),
        (((1, 2), (1,)), "a tile of 2 axes"),
        (((1, 2), (1, 2), ("a",)), "2 different axis names"),
        (((1, 2), (1, 2), ("a", "a")), "2 different axis names"),
        (((-1,), (1,)), "extents in"),
        (((2**53,), (1,)), "extents in"),
        (((1,), (0,)), "tile extents in"),
        (((2**41,), (1,)), "at most 2"),
    ],
)
def test_malformed_grids(arguments: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Grid(*arguments)
