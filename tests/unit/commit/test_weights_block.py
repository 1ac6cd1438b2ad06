"""Blocks of a tensor: which tiles they touch, what those disclose, and the block cut out of them."""

from __future__ import annotations

import pytest

from palm_torch.commit import weights_root
from palm_torch.commit.weights_block import MAX_COVER_BYTES, MAX_COVER_TILES, Block
from palm_torch.commit.weights_root import TensorSpec
from palm_torch.errors import DataError

MATRIX = TensorSpec("m", "float32", (200, 1024))  # tiles of 64 rows
WIDE = TensorSpec("w", "float32", (3, 600_000))  # tiles of 262,144 columns


def content(spec: TensorSpec) -> bytes:
    return b"".join((number % 65_521).to_bytes(4, "little") for number in range(spec.nbytes // 4))


def cover(spec: TensorSpec, block: Block) -> bytes:
    places = [(start, end) for _, _, start, end in weights_root.tiles(spec)]
    return b"".join(content(spec)[slice(*places[position])] for position, _, _ in block.tiles(spec))


def naive(spec: TensorSpec, block: Block) -> bytes:
    data, width = content(spec), spec.view()[1]
    return b"".join(
        data[(row * width + column) * 4 :][:4]
        for row in range(*block.rows)
        for column in range(*block.columns)
    )


@pytest.mark.parametrize(
    ("spec", "rows", "columns", "covered"),
    [
        (MATRIX, (0, 1), None, Block((0, 64), (0, 1024))),
        (MATRIX, (63, 65), (5, 9), Block((0, 128), (0, 1024))),
        (MATRIX, (190, 200), None, Block((128, 200), (0, 1024))),
        (WIDE, (1, 2), (262_143, 262_145), Block((1, 2), (0, 524_288))),
        (WIDE, (0, 3), (599_999, 600_000), Block((0, 3), (524_288, 600_000))),
        (TensorSpec("v", "float32", (70,)), None, (3, 9), Block((0, 1), (0, 70))),
        (TensorSpec("s", "float32", ()), None, None, Block((0, 1), (0, 1))),
        (TensorSpec("c", "float32", (4, 3, 2)), (1, 3), None, Block((0, 4), (0, 6))),
    ],
)
def test_cover_and_cut(
    spec: TensorSpec, rows: tuple[int, int], columns: tuple[int, int], covered: Block
) -> None:
    block = Block.of(spec, rows=rows, columns=columns)
    assert block.cover(spec) == covered
    tiles = cover(spec, block)
    assert len(tiles) == covered.nbytes(spec)
    assert len(list(block.tiles(spec))) == block.tile_count(spec) == len(spec.tiling().cover(block.slices()))
    assert tuple(position for position, _, _ in block.tiles(spec)) == spec.tiling().cover(block.slices())
    assert block.cut(spec, tiles) == naive(spec, block)
    assert len(block.cut(spec, tiles)) == block.nbytes(spec)


@pytest.mark.parametrize(
    ("shape", "rows", "columns", "expected"),
    [
        ((), None, None, ()),
        ((70,), None, (3, 9), (6,)),
        ((200, 1024), (0, 8), None, (8, 1024)),
        ((200, 1024), (0, 8), (1, 3), (8, 2)),
        ((4, 3, 2), (1, 3), None, (2, 3, 2)),
        ((4, 3, 2), (1, 3), (0, 5), (2, 5)),
    ],
)
def test_shape(
    shape: tuple[int, ...], rows: tuple[int, int], columns: tuple[int, int], expected: tuple[int, ...]
) -> None:
    spec = TensorSpec("t", "float32", shape)
    assert Block.of(spec, rows=rows, columns=columns).shape(spec) == expected


@pytest.mark.parametrize("rows", [(0, 0), (3, 2), (-1, 2), (0, 201), (200, 201), (2**60, 2**61)])
def test_rows_that_are_not_there(rows: tuple[int, int]) -> None:
    with pytest.raises(
        DataError, match=r"tensor 'm' \[200, 1024\], 200 × 1024: expected rows A:B within 0:200"
    ):
        Block.of(MATRIX, rows=rows)


def test_columns_that_are_not_there() -> None:
    with pytest.raises(DataError, match="expected columns A:B within 0:1024, got 1024:1025"):
        Block.of(MATRIX, columns=(1024, 1025))


def test_a_vector_is_one_row_and_says_so() -> None:
    with pytest.raises(DataError, match="one row with all its elements as columns: expected rows"):
        Block.of(TensorSpec("v", "float32", (70,)), rows=(0, 8))


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
def test_nothing_to_open(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="no elements"):
        Block.of(TensorSpec("e", "float32", shape))


def test_more_than_one_opening_holds() -> None:
    big = TensorSpec("b", "uint8", (MAX_COVER_BYTES // 1024 + 1, 1024))
    with pytest.raises(DataError, match="open fewer rows or columns"):
        Block.of(big)
    Block.of(big, rows=(0, MAX_COVER_BYTES // 1024))
    # one byte of a second tile in each of very many rows: few bytes, very many tiles
    combed = TensorSpec("b", "uint8", (2**30, (1 << 20) + 1))
    last = (1 << 20, (1 << 20) + 1)
    Block.of(combed, rows=(0, MAX_COVER_TILES), columns=last)
    with pytest.raises(DataError, match="touches 16385 tiles of 16385 bytes"):
        Block.of(combed, rows=(0, MAX_COVER_TILES + 1), columns=last)


def test_the_words_for_it() -> None:
    assert str(Block((0, 8), (3, 4))) == "rows 0:8, columns 3:4"
