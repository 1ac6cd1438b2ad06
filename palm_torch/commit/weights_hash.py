"""Weights under hashes: Merkle trees, whose roots are those of training evidence.

One tree over a tensor's tiles, one over the tensors' entries, as `palm_torch.commit.weights_root` has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

from palm_torch.commit import merkle, tile_leaf, weights_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.commit.weights_block import Block
    from palm_torch.commit.weights_root import TensorSpec


class Tree:
    """The tree over a tensor's tiles, filled in the order of positions; keeps 32 bytes for each.

    Args:
        spec: What the tensor is.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._leaf = tile_leaf.maker(spec.name, spec.dtype, axes=2)
        self._places = weights_root.tiles(spec)
        self._tree = merkle.TreeBuilder()

    def add(self, content: bytes) -> None:
        """Takes the next tile: its exact bytes."""
        shape, coordinates, _, _ = next(self._places)
        self._tree.append(self._leaf(shape, coordinates, blake3(content).digest()))

    def root(self) -> bytes:
        """Returns the root over the tiles, 32 bytes."""
        return self._tree.root()

    def prove(self, block: Block, tiles: Mapping[int, bytes]) -> bytes:
        """Returns the proof for the tiles of a block: k × 32 bytes.

        Args:
            block: What is opened.
            tiles: The bytes of the tiles that it touches, by position.
        """
        del block
        return self._tree.open(tiles)


def tree(spec: TensorSpec) -> Tree:
    """Returns the empty tree of a tensor."""
    return Tree(spec)


def entries_root(entries: Sequence[bytes]) -> bytes:
    """Returns the root over the tensors' entries, which are sorted by name: the weights root, 32 bytes."""
    return merkle.root(b"".join(entries))


def prove_entry(entries: Sequence[bytes], index: int) -> bytes:
    """Returns the proof for one entry: k × 32 bytes."""
    return merkle.open_positions(b"".join(entries), [index])


def verify_tiles(spec: TensorSpec, root: bytes, block: Block, cover: bytes, proof: bytes) -> None:
    """Checks the tiles of a block against the root of their tensor.

    Args:
        spec: What the tensor is.
        root: Root over its tiles, 32 bytes.
        block: What is opened.
        cover: The tiles that it touches, back to back, exactly.
        proof: What `Tree.prove` returned.

    Raises:
        EvidenceError: If the proof has another length.
        BindingError: If they are not the tensor's tiles in these places.
    """
    tiling = spec.tiling()
    leaf = tile_leaf.maker(spec.name, spec.dtype, axes=2)
    content = memoryview(cover)
    leaves = {}
    for position, start, end in block.tiles(spec):
        shape = (part.stop - part.start for part in tiling.tile_at(position))
        digest = blake3(content[start:end]).digest()
        leaves[position] = leaf(tuple(shape), tiling.coordinates(position), digest)
    merkle.verify(root, tiling.tiles, leaves, proof)


def verify_entry(root: bytes, count: int, index: int, entry: bytes, proof: bytes) -> None:
    """Checks that a tensor's entry is the one at its place under the weights root.

    Args:
        root: The weights root, 32 bytes.
        count: Number of tensors.
        index: Place of the tensor among them, by name.
        entry: Its entry, 32 bytes.
        proof: What `prove_entry` returned.

    Raises:
        EvidenceError: If the proof has another length.
        BindingError: If the root has another entry there.
    """
    merkle.verify(root, count, {index: entry}, proof)
