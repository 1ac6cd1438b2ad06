"""What the golden files of Terkle trees are written and read with: contexts as JSON, cases in groups."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable

Case = dict[str, Any]
Regions = list[list[list[int]]]
"""Regions as JSON: start and stop, by axis."""

FOLDER: Final = Path(__file__).parents[1] / "vectors"
KEY: Final = bytes(range(32))
"""Key of the salts of the salted trees."""

GRID: Final = Grid((3, 5), (2, 3), ("token", "channel"))
HASH: Final = Context("w", "uint8", GRID, "hash")
SALTED: Final = Context("w", "uint8", GRID, "hash", salted=True)
KZG: Final = Context("w", "uint8", GRID, "kzg")
TWO_LEVELS: Final = Context("long", "uint8", Grid((4097,), (1,)), "kzg")
BLOCK: Final[Regions] = [[[1, 2], [2, 4]]]


def described(context: Context) -> Case:
    return {
        "tree_id": context.tree_id,
        "dtype": context.dtype,
        "shape": list(context.grid.shape),
        "tile": list(context.grid.tile),
        "axes": list(context.grid.axes),
        "scheme": context.scheme,
        "salted": context.salted,
    }


def context_of(said: Case) -> Context:
    grid = Grid(tuple(said["shape"]), tuple(said["tile"]), tuple(said["axes"]))
    return Context(said["tree_id"], said["dtype"], grid, said["scheme"], said["salted"])


def slices_of(regions: Regions) -> list[tuple[slice, ...]]:
    return [tuple(slice(*part) for part in region) for region in regions]


def tiles_of(context: Context) -> list[bytes]:
    """Element i of an array, in row-major order, is i as its bytes, little endian."""
    size, shape = context.item_bytes, context.grid.shape
    tiles = []
    for position in range(context.grid.tiles):
        tile = b""
        for at in itertools.product(
            *(range(part.start, part.stop) for part in context.grid.tile_at(position))
        ):
            number = 0
            for place, extent in zip(at, shape, strict=True):
                number = number * extent + place
            tile += (number % 256**size).to_bytes(size, "little")
        tiles.append(tile)
    return tiles


def tree_of(context: Context) -> Tree:
    tree = Tree(context, salt_key=KEY if context.salted else None)
    tree.extend(tiles_of(context))
    return tree


def changed(tree: Tree, change: Case) -> None:
    """Makes axis 0 longer, or replaces one tile."""
    tiles = [bytes.fromhex(tile) for tile in change["tiles"]]
    if "extent" in change:
        tree.append(change["extent"], tiles)
    else:
        (content,) = tiles
        tree.update(change["position"], content)


def flipped(data: bytes, at: int = 0) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def rendered(schema: str, groups: Iterable[tuple[str, Iterable[Case]]]) -> str:
    """Returns the text of a golden file; test cases are numbered through all groups."""
    number = 0
    out: list[Case] = []
    for name, cases in groups:
        numbered = []
        for case in cases:
            number += 1
            numbered.append({"tcId": number, **case})
        out.append({"group": name, "tests": numbered})
    document = {"schema": schema, "numberOfTests": number, "testGroups": out}
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


def read(name: str) -> dict[str, list[Case]]:
    """Returns the cases of a golden file, by group."""
    document = json.loads((FOLDER / name).read_text(encoding="ascii"))
    return {group["group"]: group["tests"] for group in document["testGroups"]}
