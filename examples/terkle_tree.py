"""Commit to an array in its own shape, show one piece of it, and let it grow.

    python examples/terkle_tree.py

Neither torch nor numpy is needed; the scheme ``kzg`` needs the extra of that name. A tile is the channels of
one token in one layer; opened is a token in all layers.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from palm_torch.commit import terkle
from palm_torch.commit.grid import Grid
from palm_torch.errors import BindingError

if TYPE_CHECKING:
    from typing import Literal

CHANNELS: Final = 64
TILE_BYTES: Final = 2 * CHANNELS  # bfloat16
LAYERS: Final = 3
GRID: Final = Grid((130, LAYERS, CHANNELS), (1, 1, CHANNELS), ("token", "layer", "channel"))


def main() -> None:
    """Does so under both schemes."""
    array = random.Random(0).randbytes(140 * LAYERS * TILE_BYTES)
    tiles = [array[start : start + TILE_BYTES] for start in range(0, len(array), TILE_BYTES)]
    run("hash", tiles)
    run("kzg", tiles)


def run(scheme: Literal["hash", "kzg"], tiles: list[bytes]) -> None:
    """Commits to 130 tokens, shows the one with number 7, and adds ten."""
    tree = terkle.Tree(terkle.Context("activations", "bfloat16", GRID, scheme))
    tree.extend(tiles[: GRID.tiles])  # it keeps 32 bytes of each
    root, context = tree.root(), tree.context  # whoever has these checks what follows

    regions = [GRID.region(token=7)]
    travels = tree.open(regions, tiles.__getitem__).encode()

    opening = terkle.Opening.decode(travels)
    values = terkle.verify(root, context, regions, opening)
    proven = values.region(0)  # row-major, as they were committed to
    print(
        f"{scheme}: token 7 {values.shape(0)} is {proven[:4].hex()}…, by {len(opening.proof)} bytes of proof"
    )

    tree.append(140, tiles[GRID.tiles :])
    try:
        terkle.verify(tree.root(), tree.context, regions, opening)
    except BindingError as error:
        print(f"{scheme}: under the root of 140 tokens: {error}")


if __name__ == "__main__":
    main()
