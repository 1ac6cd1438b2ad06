"""The leaves of a site, however its bytes are cut on their way."""

from __future__ import annotations

import itertools

import pytest
from blake3 import blake3

from palm_torch.commit import tile_leaf
from palm_torch.commit.trace import Site
from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.committing.leaves import Leaves

SITE = Site("layers.0", "1")


def leaves(pieces: list[bytes], dtype: str, channels: int) -> bytes:
    made = Leaves(SITE, dtype, channels)
    for piece in pieces:
        made.add(memoryview(piece))
    return made.finish()


@pytest.mark.parametrize(("dtype", "channels"), [("float32", 768), ("bfloat16", 48), ("int8", 20_000)])
def test_cuts_do_not_matter(dtype: str, channels: int) -> None:
    row = channels * ITEM_BYTES[dtype]
    data = bytes(index % 251 for index in range(row * 21))
    whole = leaves([data], dtype, channels)
    for size in (1, 7, row, row * 3 + 1, 16384):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert leaves(pieces, dtype, channels) == whole


def test_a_leaf_says_whose_it_is_and_where() -> None:
    data = bytes(range(256)) * 15  # 40 rows of 96 bytes in tiles of 16
    found = leaves([data], "bfloat16", 48)
    expected = b""
    for row, start in enumerate(range(0, len(data), 16 * 96)):
        tile = data[start : start + 16 * 96]
        header = tile_leaf.header("layers.0|1", "bfloat16", (len(tile) // 96, 48), (row, 0))
        expected += _leaf(header, tile)
    assert found == expected


def _leaf(header: bytes, tile: bytes) -> bytes:
    return tile_leaf.leaf(header, blake3(tile).digest())


def test_a_long_row_is_cut() -> None:
    data = bytes(40_000)
    found = leaves([data], "uint8", 20_000)
    expected = b""
    for row, (column, width) in itertools.product(range(2), enumerate((16384, 3616))):
        header = tile_leaf.header("layers.0|1", "uint8", (1, width), (row, column))
        expected += _leaf(header, bytes(width))
    assert found == expected


@pytest.mark.parametrize("channels", [0, 5])
def test_no_bytes_no_leaves(channels: int) -> None:
    assert leaves([], "uint8", channels) == leaves([b""], "uint8", channels) == b""
