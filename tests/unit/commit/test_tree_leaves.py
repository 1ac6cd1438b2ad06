"""Leaves by the run against leaves one by one, and the tiles that are refused."""

from __future__ import annotations

import array
import hashlib
import hmac

import pytest
from blake3 import blake3
from trees import SALT_KEY, tiles_of

from palm_torch.commit import tile_leaf, tree_leaves
from palm_torch.commit.grid import Grid
from palm_torch.commit.tree_context import Context
from palm_torch.errors import DataError

GRIDS = [
    Grid((1,), (1,)),
    Grid((10,), (3,)),
    Grid((5, 7), (2, 3)),
    Grid((9, 4), (2, 4)),
    Grid((9, 4), (2, 5)),
    Grid((4, 6), (2, 3)),
    Grid((3, 4, 5), (2, 4, 5)),
    Grid((3, 2, 5, 2), (2, 1, 2, 2)),
    Grid((4100,), (1,)),
]


@pytest.mark.parametrize("salted", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_runs_make_the_leaves_that_tiles_have(grid: Grid, salted: bool) -> None:  # noqa: FBT001 (a case)
    context = Context("Gewicht·ß", "int16", grid, "hash", salted)
    salts = tree_leaves.salts_of(context, SALT_KEY if salted else None)
    tiles, made, runs = tiles_of(context), b"", 0
    rest = iter(tiles)
    while len(made) < 32 * grid.tiles:
        run = tree_leaves.Run(context, len(made) // 32, salts)
        made += run.leaves(run.first, rest)
        assert len(made) == 32 * run.end
        runs += 1
    assert runs <= max(2 * grid.tiles // grid.counts[-1], 2)
    expected = b""
    for position, content in enumerate(tiles):
        header = tile_leaf.header("Gewicht·ß", "int16", grid.tile_shape(position), grid.coordinates(position))
        salt = salts.salt(position)
        leaf = tile_leaf.leaf(header, blake3(content).digest(), salt=salt)
        assert tree_leaves.leaf(context, position, content, salt) == leaf
        expected += leaf
    assert made == expected


def test_a_run_goes_on_where_it_stopped() -> None:
    context = Context("w", "int8", Grid((10,), (1,)), "hash")
    tiles = tiles_of(context)
    run = tree_leaves.Run(context, 0, tree_leaves.salts_of(context, None))
    whole = run.leaves(0, tiles)
    assert run.leaves(0, tiles[:3]) + run.leaves(3, tiles[3:]) == whole
    assert run.leaves(10, tiles) == b""


def test_salts_are_keyed_by_stem_and_position() -> None:
    context = Context("w", "int8", Grid((10,), (1,)), "hash", salted=True)
    message = b"palm-torch/tile-salt/v1" + context.stem() + (7).to_bytes(8, "big")
    expected = hmac.new(SALT_KEY, message, hashlib.sha256).digest()
    salts = tree_leaves.salts_of(context, SALT_KEY)
    assert salts.salt(7) == expected
    again = hmac.new(SALT_KEY, message + (1).to_bytes(8, "big"), hashlib.sha256).digest()
    assert salts.salt(7, again=1) == again
    salts.write_again((6, 7))
    assert salts.salt(7) == again
    salts.write_again(range(7, 8))
    assert salts.salt(7) == hmac.new(SALT_KEY, message + (2).to_bytes(8, "big"), hashlib.sha256).digest()
    assert salts.writes == {6: 1, 7: 2}
    assert SALT_KEY.hex() not in repr(salts)
    assert repr(SALT_KEY) not in repr(salts)


@pytest.mark.parametrize(
    ("salted", "key", "message"),
    [
        (False, SALT_KEY, "expected no salt key, got one"),
        (True, None, "expected a salt key of 32 bytes, got none"),
        (True, b"", "expected a salt key of 32 bytes, got none"),
        (True, SALT_KEY[:31], "expected 32 bytes, got 31"),
    ],
)
def test_keys_that_do_not_fit(salted: bool, key: bytes | None, message: str) -> None:  # noqa: FBT001 (a case)
    context = Context("w", "int8", Grid((10,), (1,)), "hash", salted)
    with pytest.raises(DataError, match=message):
        tree_leaves.salts_of(context, key)


def test_a_tree_without_salts_counts_nothing() -> None:
    salts = tree_leaves.salts_of(Context("w", "int8", Grid((10,), (1,)), "hash"), None)
    salts.write_again((7,))
    assert salts.salt(7, again=1) == b""
    assert not salts.writes


def test_other_elements_count_as_their_bytes() -> None:
    context = Context("w", "float32", Grid((4,), (2,)), "hash")
    run = tree_leaves.Run(context, 0, tree_leaves.salts_of(context, None))
    numbers = array.array("f", [1.0, -0.0])
    assert run.leaves(0, [memoryview(numbers)]) == run.leaves(0, [numbers.tobytes()])


@pytest.mark.parametrize("content", [b"abc", b"", b"abcde", memoryview(b"abcdefgh")[::2]])
def test_tiles_of_another_length_or_with_gaps(content: bytes) -> None:
    context = Context("w", "int8", Grid((12,), (4,)), "hash")
    run = tree_leaves.Run(context, 0, tree_leaves.salts_of(context, None))
    with pytest.raises(DataError, match="tile 1: expected 4 bytes, back to back, got"):
        run.leaves(0, [b"1234", content])


def test_any_view_of_exactly_these_bytes() -> None:
    context = Context("w", "int8", Grid((8,), (4,)), "hash")
    run = tree_leaves.Run(context, 0, tree_leaves.salts_of(context, None))
    square = memoryview(b"1234").cast("B", (2, 2))
    expected = run.leaves(0, [b"1234", b"1234"])
    assert run.leaves(0, [bytearray(b"1234"), square]) == expected
    tall = memoryview(bytes(8)).cast("B", (4, 2))  # four rows, and eight bytes
    with pytest.raises(DataError, match="tile 0: expected 4 bytes, back to back, got 8"):
        run.leaves(0, [tall])


@pytest.mark.parametrize("position", [-1, 3])
def test_leaves_that_are_not_there(position: int) -> None:
    context = Context("w", "int8", Grid((12,), (4,)), "hash")
    with pytest.raises(DataError, match=r"expected a position in \[0, 3\)"):
        tree_leaves.leaf(context, position, b"1234", b"")
