"""Grids: numbering, edges, covers; and what a leaf binds."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest

from palm_torch.commit.grid import Grid, leaf_maker, tile_header, tile_leaf
from palm_torch.errors import DataError

GRID = Grid((5, 7), (2, 3), ("tokens", "channels"))


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


def test_no_elements_no_tiles() -> None:
    assert Grid((0, 7), (2, 3)).tiles == 0


@pytest.mark.parametrize("position", [-1, 9])
def test_position_outside(position: int) -> None:
    with pytest.raises(DataError, match=r"expected a position in \[0, 9\)"):
        GRID.tile_at(position)


@pytest.mark.parametrize(
    "region",
    [
        (slice(0, 6), slice(None)),
        (slice(-1, 3), slice(None)),
        (slice(3, 3), slice(None)),
        (slice(0, 4, 2), slice(None)),
    ],
)
def test_region_outside(region: tuple[slice, slice]) -> None:
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


def test_header_bytes() -> None:
    assert tile_header("w", "int8", (2, 3), (0, 1)).hex() == (
        "0000000177" + "00000004696e7438" + "02" + "".join(f"{n:016x}" for n in (2, 3, 0, 1))
    )


def test_leaf_bytes() -> None:
    header, content = tile_header("w", "int8", (2,), (0,)), bytes(32)
    parts = len(header).to_bytes(4, "big") + header + b"\0\0\0\x04salt" + b"\0\0\0\x20" + content
    assert tile_leaf(header, content, salt=b"salt") == hashlib.sha256(b"palm-torch/tile/v1" + parts).digest()


@pytest.mark.parametrize("salt", [b"", b"salt"])
@pytest.mark.parametrize("axes", [1, 2, 4])
def test_prepared_leaves_are_the_same_leaves(axes: int, salt: bytes) -> None:
    leaf = leaf_maker("Gewicht·ß", "bfloat16", axes=axes, salt=salt)
    shape, coordinates = tuple(range(5, 5 + axes)), tuple(range(axes))
    header = tile_header("Gewicht·ß", "bfloat16", shape, coordinates)
    assert leaf(shape, coordinates, b"\x07" * 32) == tile_leaf(header, b"\x07" * 32, salt=salt)


def test_a_leaf_binds_everything_about_its_tile() -> None:
    choices = (("a", "b"), ("int8", "uint8"), ((1, 2), (2, 1), (1,)), ((0, 1), (1, 0), (0,)), (b"", b"\0"))
    seen = {
        tile_leaf(tile_header(tree, dtype, shape, at), bytes(32), salt=salt)
        for tree, dtype, shape, at, salt in itertools.product(*choices)
        if len(shape) == len(at)
    }
    assert len(seen) == 2 * 2 * (2 * 2 + 1) * 2
