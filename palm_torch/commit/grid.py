"""A grid of tiles over an array of up to four axes, and the leaf digest that stands for one tile.

Tiles are numbered row-major (last axis fastest). Tiles at the far edges keep their true, smaller shape:
nothing is padded. A leaf binds the exact bytes of a tile together with what they are: the tree they
belong to, the element type, the tile's shape and its coordinates.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.commit import merkle
from palm_torch.digest import tagged_hash
from palm_torch.encoding import length_prefixed
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_AXES: Final = 4
MAX_TILES: Final = 2**40
MAX_EXTENT: Final = 2**53 - 1
"""Largest extent of one axis, in elements: the largest integer of canonical JSON."""

_LEAF_TAG: Final = "palm-torch/tile/v1"


@dataclass(frozen=True, slots=True)
class Grid:
    """An array cut into tiles.

    Attributes:
        shape: Extent of each axis, in elements; 1 to 4 axes; an extent of 0 makes a grid without tiles.
        tile: Extent of a whole tile along each axis, at least 1.
        axes: Names of the axes, or empty.

    Raises:
        DataError: If the three do not fit together or a limit is passed.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses grids that cannot be numbered."""
        if not 1 <= len(self.shape) <= MAX_AXES:
            raise DataError(f"grid: expected 1 to {MAX_AXES} axes, got shape {self.shape}")
        if len(self.tile) != len(self.shape):
            raise DataError(f"grid: expected a tile of {len(self.shape)} axes, got {self.tile}")
        if self.axes and (len(self.axes) != len(self.shape) or len(set(self.axes)) != len(self.axes)):
            raise DataError(f"grid: expected {len(self.shape)} different axis names, got {self.axes}")
        if any(not 0 <= extent <= MAX_EXTENT for extent in self.shape):
            raise DataError(f"grid: expected extents in [0, 2^53), got {self.shape}")
        if any(not 1 <= extent <= MAX_EXTENT for extent in self.tile):
            raise DataError(f"grid: expected tile extents in [1, 2^53), got {self.tile}")
        if self.tiles > MAX_TILES:
            raise DataError(f"grid: expected at most 2^40 tiles, got {self.tiles}")

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of tiles along each axis."""
        return tuple(-(-extent // step) for extent, step in zip(self.shape, self.tile, strict=True))

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return math.prod(self.counts)

    def coordinates(self, position: int) -> tuple[int, ...]:
        """Returns the coordinates of a tile, in tiles.

        Raises:
            DataError: If there is no such position.
        """
        if not 0 <= position < self.tiles:
            raise DataError(f"grid: expected a position in [0, {self.tiles}), got {position}")
        coordinates: list[int] = []
        for count in reversed(self.counts):
            position, coordinate = divmod(position, count)
            coordinates.append(coordinate)
        return tuple(reversed(coordinates))

    def tile_at(self, position: int) -> tuple[slice, ...]:
        """Returns what a tile covers, one slice in elements per axis; edge tiles end at the edge.

        Raises:
            DataError: If there is no such position.
        """
        return tuple(
            slice(at * step, min((at + 1) * step, extent))
            for at, step, extent in zip(self.coordinates(position), self.tile, self.shape, strict=True)
        )

    def cover(self, region: Sequence[slice]) -> tuple[int, ...]:
        """Returns the positions, ascending, of the tiles that a region of elements touches.

        Args:
            region: One slice per axis, step 1, ``0 <= start < stop <= extent``; ends may be None.

        Raises:
            DataError: If the region is empty, has a step or leaves the array.
        """
        if len(region) != len(self.shape):
            raise DataError(f"grid: expected {len(self.shape)} slices, got {len(region)}")
        spans: list[range] = []
        for axis, (part, step, extent) in enumerate(zip(region, self.tile, self.shape, strict=True)):
            start = 0 if part.start is None else part.start
            stop = extent if part.stop is None else part.stop
            if part.step not in (None, 1) or not 0 <= start < stop <= extent:
                raise DataError(f"grid: axis {axis}: expected a range within [0, {extent}), got {part}")
            spans.append(range(start // step, -(-stop // step)))
        positions: list[int] = []
        for coordinates in itertools.product(*spans):
            position = 0
            for coordinate, count in zip(coordinates, self.counts, strict=True):
                position = position * count + coordinate
            positions.append(position)
        return tuple(positions)


def tile_header(tree_id: str, dtype: str, shape: Sequence[int], coordinates: Sequence[int]) -> bytes:
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


def tile_leaf(header: bytes, content: bytes, *, salt: bytes = b"") -> bytes:
    """Returns the leaf digest of a tile, 32 bytes.

    Args:
        header: What `tile_header` returned.
        content: BLAKE3 of the exact little-endian bytes of the tile, 32 bytes.
        salt: Hides the bytes of private tiles from guessing; empty for none.
    """
    return tagged_hash(_LEAF_TAG, header, salt, content)


def leaf_maker(
    tree_id: str, dtype: str, *, axes: int, salt: bytes = b""
) -> Callable[[tuple[int, ...], tuple[int, ...], bytes], bytes]:
    """Returns `tile_leaf` for the many tiles of one tree, with everything they share prepared.

    Args:
        tree_id: Name of the tree.
        dtype: torch's name of the element type.
        axes: Number of axes of every tile.
        salt: As in `tile_leaf`.

    Returns:
        Function (tile shape, coordinates, BLAKE3 of the tile) → leaf digest, 32 bytes.
    """
    names = tile_header(tree_id, dtype, (0,) * axes, (0,) * axes)[: -16 * axes]
    numbers = struct.Struct(f">{2 * axes}Q")
    before = _LEAF_TAG.encode("ascii") + (len(names) + numbers.size).to_bytes(4, "big") + names
    after = length_prefixed(salt) + merkle.HASH_BYTES.to_bytes(4, "big")
    pack, sha256 = numbers.pack, hashlib.sha256

    def leaf(shape: tuple[int, ...], coordinates: tuple[int, ...], content: bytes) -> bytes:
        return sha256(before + pack(*shape, *coordinates) + after + content).digest()

    return leaf
