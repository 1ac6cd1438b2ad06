"""What a leaf binds of its tile, byte for byte."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from palm_torch.commit import tile_leaf


def test_header_bytes() -> None:
    assert tile_leaf.header("w", "int8", (2, 3), (0, 1)).hex() == (
        "0000000177" + "00000004696e7438" + "02" + "".join(f"{n:016x}" for n in (2, 3, 0, 1))
    )


def test_leaf_bytes() -> None:
    header, content = tile_leaf.header("w", "int8", (2,), (0,)), bytes(32)
    parts = len(header).to_bytes(4, "big") + header + b"\0\0\0\x04salt" + b"\0\0\0\x20" + content
    assert (
        tile_leaf.leaf(header, content, salt=b"salt")
        == hashlib.sha256(b"palm-torch/tile/v1" + parts).digest()
    )


@pytest.mark.parametrize("salt", [b"", b"salt"])
@pytest.mark.parametrize("axes", [1, 2, 4])
def test_prepared_leaves_are_the_same_leaves(axes: int, salt: bytes) -> None:
    leaf = tile_leaf.maker("Gewicht·ß", "bfloat16", axes=axes, salt=salt)
    shape, coordinates = tuple(range(5, 5 + axes)), tuple(range(axes))
    header = tile_leaf.header("Gewicht·ß", "bfloat16", shape, coordinates)
    assert leaf(shape, coordinates, b"\x07" * 32) == tile_leaf.leaf(header, b"\x07" * 32, salt=salt)


def test_a_leaf_binds_everything_about_its_tile() -> None:
    choices = (("a", "b"), ("int8", "uint8"), ((1, 2), (2, 1), (1,)), ((0, 1), (1, 0), (0,)), (b"", b"\0"))
    seen = {
        tile_leaf.leaf(tile_leaf.header(tree, dtype, shape, at), bytes(32), salt=salt)
        for tree, dtype, shape, at, salt in itertools.product(*choices)
        if len(shape) == len(at)
    }
    assert len(seen) == 2 * 2 * (2 * 2 + 1) * 2


@pytest.mark.parametrize("salt", [b"", b"s" * 32])
@pytest.mark.parametrize("shape", [(4,), (1, 4096), (2, 3, 5)])
def test_leaves_of_tiles_of_one_shape(shape: tuple[int, ...], salt: bytes) -> None:
    made = tile_leaf.maker_of_shape("layers.0|", "bfloat16", shape, salt=salt)
    for coordinates in ((0,) * len(shape), tuple(range(1, len(shape) + 1)), ((1 << 40) - 1,) * len(shape)):
        head = tile_leaf.header("layers.0|", "bfloat16", shape, coordinates)
        assert made(coordinates, b"c" * 32) == tile_leaf.leaf(head, b"c" * 32, salt=salt)
