"""Terkle trees over made-up tiles, for tests."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from palm_torch.commit import terkle

if TYPE_CHECKING:
    from palm_torch.commit.terkle import Context, Opening

SALT_KEY = bytes(range(32))


def salt_key(context: Context) -> bytes | None:
    return SALT_KEY if context.salted else None


def tile(context: Context, position: int, seed: int = 0) -> bytes:
    """Bytes of a tile, by its coordinates: the same in a larger array unless the tile grew."""
    name = f"{seed} {context.grid.coordinates(position)} {context.grid.tile_shape(position)}"
    return hashlib.shake_128(name.encode()).digest(context.tile_bytes(position))


def tiles_of(context: Context, seed: int = 0) -> list[bytes]:
    return [tile(context, position, seed) for position in range(context.grid.tiles)]


def tree_of(context: Context, seed: int = 0) -> terkle.Tree:
    tree = terkle.Tree(context, salt_key=salt_key(context))
    tree.extend(tiles_of(context, seed))
    return tree


def opened(tree: terkle.Tree, regions: list[tuple[slice, ...]], seed: int = 0) -> Opening:
    return tree.open(regions, tiles_of(tree.context, seed).__getitem__)
