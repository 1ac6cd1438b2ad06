"""Weights under polynomial commitments: Terkle trees, whose openings stay short whatever block is opened.

One tree over a tensor's tiles, named like the tensor, and one over the tensors' entries, each of which names
the root of its tensor: an array of bytes on one axis, 32 in a tile. The words are those of `weights_hash`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.commit import terkle
from palm_torch.commit.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.commit.weights_block import Block
    from palm_torch.commit.weights_root import TensorSpec

ENTRIES: Final = "palm-torch/weights"
"""Name of the tree over the entries. A tensor may have it, too: its tree has two axes."""

ENTRY_BYTES: Final = 32


class Tree:
    """The tree over a tensor's tiles, filled in the order of positions; keeps 32 bytes for each.

    Args:
        spec: What the tensor is.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self._tree = terkle.Tree(_context(spec))

    def add(self, content: bytes) -> None:
        """Takes the next tile: its exact bytes."""
        self._tree.add(content)

    def root(self) -> bytes:
        """Returns the root over the tiles, 32 bytes."""
        return self._tree.root()

    def prove(self, block: Block, tiles: Mapping[int, bytes]) -> bytes:
        """Returns the proof for the tiles of a block: 48 bytes for each node, and 48 or 96."""
        return self._tree.open([block.slices()], tiles.__getitem__).proof

    def point_inputs(self, position: int) -> list[bytes]:
        """Returns what Ethereum's precompile takes to follow a tile to the top: 192 bytes for each level."""
        return self._tree.point_inputs(position)


def tree(spec: TensorSpec) -> Tree:
    """Returns the empty tree of a tensor."""
    return Tree(spec)


def entries_root(entries: Sequence[bytes]) -> bytes:
    """Returns the root over the tensors' entries, which are sorted by name, 32 bytes."""
    return _over(entries).root()


def prove_entry(entries: Sequence[bytes], index: int) -> bytes:
    """Returns the proof for one entry."""
    return _over(entries).open([_place(index)], entries.__getitem__).proof


def entry_point_inputs(entries: Sequence[bytes], index: int) -> list[bytes]:
    """Returns what Ethereum's precompile takes to follow an entry to the top: 192 bytes for each level."""
    return _over(entries).point_inputs(index)


def verify_tiles(spec: TensorSpec, root: bytes, block: Block, cover: bytes, proof: bytes) -> None:
    """Checks the tiles of a block against the root of their tensor; see `weights_hash.verify_tiles`."""
    tiles = tuple(cover[start:end] for _, start, end in block.tiles(spec))
    terkle.verify(root, _context(spec), [block.slices()], terkle.Opening(tiles, (), proof))


def verify_entry(root: bytes, count: int, index: int, entry: bytes, proof: bytes) -> None:
    """Checks that a tensor's entry is the one at its place; see `weights_hash.verify_entry`."""
    terkle.verify(root, _entries(count), [_place(index)], terkle.Opening((entry,), (), proof))


def _context(spec: TensorSpec) -> terkle.Context:
    return terkle.Context(tree_id=spec.name, dtype=spec.dtype, grid=spec.tiling(), scheme="kzg")


def _entries(count: int) -> terkle.Context:
    return terkle.Context(
        tree_id=ENTRIES, dtype="uint8", grid=Grid((count * ENTRY_BYTES,), (ENTRY_BYTES,)), scheme="kzg"
    )


def _place(index: int) -> tuple[slice]:
    return (slice(index * ENTRY_BYTES, (index + 1) * ENTRY_BYTES),)


def _over(entries: Sequence[bytes]) -> terkle.Tree:
    made = terkle.Tree(_entries(len(entries)))
    made.extend(entries)
    return made
