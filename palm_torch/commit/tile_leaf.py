"""The leaf digest that stands for one tile of an array.

A leaf binds the exact bytes of a tile together with what they are: the tree they belong to, the element
type, the tile's shape and its coordinates.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final

from palm_torch.digest import tagged_hash
from palm_torch.encoding import length_prefixed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TAG: Final = "palm-torch/tile/v1"
_CONTENT_BYTES: Final = 32
"""Length of BLAKE3 of a tile."""


def header(tree_id: str, dtype: str, shape: Sequence[int], coordinates: Sequence[int]) -> bytes:
    """Returns what a leaf says about its tile.

    ``LP(tree id, UTF-8) ‖ LP(dtype, ASCII) ‖ u8 axes ‖ u64 shape… ‖ u64 coordinates…``, big endian.

    Args:
        tree_id: Name of the tree: for weights, of the tensor.
        dtype: torch's name of the element type.
        shape: True shape of this tile, in elements.
        coordinates: Coordinates of this tile, in tiles.
    """
    numbers = b"".join(number.to_bytes(8, "big") for number in (*shape, *coordinates))
    names = length_prefixed(tree_id.encode("utf-8")) + length_prefixed(dtype.encode("ascii"))
    return names + bytes((len(shape),)) + numbers


def leaf(header: bytes, content: bytes, *, salt: bytes = b"") -> bytes:
    """Returns the leaf digest of a tile, 32 bytes.

    Args:
        header: What `header` returned.
        content: BLAKE3 of the exact little-endian bytes of the tile, 32 bytes.
        salt: Hides the bytes of private tiles from guessing; empty for none.
    """
    return tagged_hash(_TAG, header, salt, content)


def maker(
    tree_id: str, dtype: str, *, axes: int, salt: bytes = b""
) -> Callable[[tuple[int, ...], tuple[int, ...], bytes], bytes]:
    """Returns `leaf` for the many tiles of one tree, with everything they share prepared.

    Args:
        tree_id: Name of the tree.
        dtype: torch's name of the element type.
        axes: Number of axes of every tile.
        salt: As in `leaf`.

    Returns:
        Function (tile shape, coordinates, BLAKE3 of the tile) → leaf digest, 32 bytes.
    """
    names = header(tree_id, dtype, (0,) * axes, (0,) * axes)[: -16 * axes]
    numbers = struct.Struct(f">{2 * axes}Q")
    before = _TAG.encode("ascii") + (len(names) + numbers.size).to_bytes(4, "big") + names
    after = length_prefixed(salt) + _CONTENT_BYTES.to_bytes(4, "big")
    pack, sha256 = numbers.pack, hashlib.sha256

    def made(shape: tuple[int, ...], coordinates: tuple[int, ...], content: bytes) -> bytes:
        return sha256(before + pack(*shape, *coordinates) + after + content).digest()

    return made


def maker_of_shape(
    tree_id: str, dtype: str, shape: Sequence[int], *, salt: bytes = b""
) -> Callable[[tuple[int, ...], bytes], bytes]:
    """Returns `maker` for tiles of one shape: everything before their coordinates is hashed once.

    Args:
        tree_id: Name of the tree.
        dtype: torch's name of the element type.
        shape: Shape of all these tiles, in elements.
        salt: As in `leaf`.

    Returns:
        Function (coordinates, BLAKE3 of the tile) → leaf digest, 32 bytes.
    """
    coordinates_of = struct.Struct(f">{len(shape)}Q")
    shared = header(tree_id, dtype, shape, (0,) * len(shape))
    before = _TAG.encode("ascii") + len(shared).to_bytes(4, "big") + shared[: -coordinates_of.size]
    after = length_prefixed(salt) + _CONTENT_BYTES.to_bytes(4, "big")
    pack, begun = coordinates_of.pack, hashlib.sha256(before).copy

    def made(coordinates: tuple[int, ...], content: bytes) -> bytes:
        hasher = begun()
        hasher.update(pack(*coordinates) + after + content)
        return hasher.digest()

    return made
