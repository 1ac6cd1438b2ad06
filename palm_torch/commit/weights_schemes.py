"""The schemes that commit to weights: the same statement, under different trees.

hash
    Merkle trees. The weights root is that of training evidence; nothing but SHA-256 and BLAKE3 is relied on.
kzg
    Terkle trees of 4,096 children a node: a proof has 96 bytes, and 48 for each node that was opened. The
    weights root is another one, which no evidence names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from palm_torch.commit import weights_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.commit.weights_block import Block
    from palm_torch.commit.weights_root import TensorSpec

Name: TypeAlias = Literal["hash", "kzg"]


class Tree(Protocol):
    """A tree over one tensor's tiles; see `weights_hash.Tree`."""

    def add(self, content: bytes) -> None:
        """Takes the next tile."""

    def root(self) -> bytes:
        """Returns the root over the tiles."""

    def prove(self, block: Block, tiles: Mapping[int, bytes]) -> bytes:
        """Returns the proof for the tiles of a block."""


class Scheme(Protocol):
    """What a scheme does; the words are those of `palm_torch.commit.weights_hash`."""

    def tree(self, spec: TensorSpec) -> Tree:
        """Returns the empty tree of a tensor."""

    def entries_root(self, entries: Sequence[bytes]) -> bytes:
        """Returns the weights root over the tensors' entries."""

    def prove_entry(self, entries: Sequence[bytes], index: int) -> bytes:
        """Returns the proof for one entry."""

    def verify_tiles(self, spec: TensorSpec, root: bytes, block: Block, cover: bytes, proof: bytes) -> None:
        """Checks the tiles of a block."""

    def verify_entry(self, root: bytes, count: int, index: int, entry: bytes, proof: bytes) -> None:
        """Checks an entry."""


def of(name: Name) -> Scheme:
    """Returns a scheme by its name."""
    if name == "hash":
        return weights_hash
    from palm_torch.commit import weights_kzg  # noqa: PLC0415 (hashing needs no curve, and starts faster)

    return weights_kzg
