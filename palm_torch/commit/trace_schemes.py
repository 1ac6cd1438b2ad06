"""The trees of a trace's groups: the same statement, under hashes or under polynomial commitments.

hash
    A Merkle tree. A proof has some 32 bytes for each doubling of the tiles; nothing but SHA-256 and BLAKE3 is
    relied on.
kzg
    A Terkle tree of 4,096 children a node. Rows and columns of any shape open in 96 bytes, and 48 for each
    node that was opened. Making it takes about 20 µs for each tile, and 2 s to begin with.

Leaves are those of the tiles, each of which names its site (`palm_torch.commit.trace`). This is the one place
that says what is made of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from palm_torch.commit import hash_tree
from palm_torch.commit.tree_context import Context
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.errors import BindingError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.commit.grid import Grid

Name: TypeAlias = Literal["hash", "kzg"]

SCHEMES: Final[tuple[Name, ...]] = ("hash", "kzg")

TREE_ID: Final = "palm-torch/trace"
"""Name of the tree of every group; which sites it is over, the leaves and the trace's context say."""


class _Nodes(Protocol):
    """See `hash_tree.Nodes`."""

    def __len__(self) -> int: ...
    def leaf(self, position: int) -> bytes: ...
    def extend(self, leaves: bytes) -> None: ...
    def top(self) -> bytes: ...
    def open(self, positions: Sequence[int]) -> bytes: ...


class _Scheme(Protocol):
    """See `hash_tree`."""

    def Nodes(self, context: Context) -> _Nodes: ...  # noqa: N802 (a class)
    def proof_bytes(self, context: Context, positions: Sequence[int]) -> int: ...
    def opened_top(self, context: Context, leaves: Mapping[int, bytes], proof: bytes) -> bytes: ...


class Tree:
    """The tree of a group on the side that has its leaves; keeps 32 bytes for each.

    Args:
        scheme: What it is made of.
        dtype: Element type of the group.
        tiles: Its tiles, by site, row and channel.
        leaves: Their leaf digests, 32 bytes each, as many as tiles.

    Attributes:
        root: Its root.

    Raises:
        MissingExtraError: If it needs the extra ``kzg``.
    """

    __slots__ = ("_nodes", "root")

    def __init__(self, scheme: Name, dtype: str, tiles: Grid, leaves: bytes) -> None:
        context = _context(scheme, dtype, tiles)
        self._nodes = _of(scheme).Nodes(context)
        self._nodes.extend(leaves)
        self.root = Digest(TAGGED_SHA256, context.root(self._nodes.top()))

    def __len__(self) -> int:
        """Returns the number of leaves."""
        return len(self._nodes)

    def leaf(self, position: int) -> bytes:
        """Returns the leaf at a position, 32 bytes."""
        return self._nodes.leaf(position)

    def open(self, positions: Sequence[int]) -> bytes:
        """Returns the proof for ascending positions.

        Raises:
            DataError: If there is no such position, or too many are opened at once.
        """
        return self._nodes.open(positions)


def proof_bytes(scheme: Name, dtype: str, tiles: Grid, positions: Sequence[int]) -> int:
    """Returns the length, in bytes, that every valid proof for ascending positions has.

    Args:
        scheme: What the tree is made of.
        dtype: Element type of the group.
        tiles: Its tiles.
        positions: Which of them are opened.

    Raises:
        DataError: If there is no such position, or too many are opened at once.
    """
    return _of(scheme).proof_bytes(_context(scheme, dtype, tiles), positions)


def verify(
    scheme: Name, dtype: str, tiles: Grid, root: Digest, leaves: Mapping[int, bytes], proof: bytes
) -> None:
    """Checks that the tree of a group has these leaves.

    1. The proof has exactly the length that scheme, tiles and positions ask for.
    2. Leaves and proof make the top of the tree; with its context that makes the root.

    Args:
        scheme: What the tree is made of.
        dtype: Element type of the group.
        tiles: Its tiles.
        root: What the verifier trusts.
        leaves: Leaf digest by position, as the verifier computed it.
        proof: What came from elsewhere.

    Raises:
        DataError: If there is no such position, or too many are opened at once.
        EvidenceError: At step 1, or for a proof that holds no points: nothing was compared.
        BindingError: At step 2: not what was committed to.
        MissingExtraError: If it needs the extra ``kzg``.
    """
    expected = proof_bytes(scheme, dtype, tiles, sorted(leaves))  # 1
    if len(proof) != expected:
        raise EvidenceError(f"proof: expected a proof of {expected} bytes, got {len(proof)}")
    context = _context(scheme, dtype, tiles)
    found = context.root(_of(scheme).opened_top(context, leaves, proof))  # 2
    if found != root.value:
        raise BindingError(f"proof: not the leaves under root {root.value.hex()}, they give {found.hex()}")


def prepare(scheme: Name) -> None:
    """Gets ready to make trees of a scheme: what cannot be had is missed now, not when it is needed.

    Raises:
        MissingExtraError: If it needs the extra ``kzg``.
        DataError: If the package's copy of the ceremony is missing or altered.
    """
    if scheme == "kzg":
        from palm_torch.commit import proving  # noqa: PLC0415 (hashing needs none of it)

        proving.settings()
        proving.fast_number()


def _context(scheme: Name, dtype: str, tiles: Grid) -> Context:
    return Context(tree_id=TREE_ID, dtype=dtype, grid=tiles, scheme=scheme)


def _of(scheme: Name) -> _Scheme:
    if scheme == "hash":
        return hash_tree
    from palm_torch.commit import kzg_tree  # noqa: PLC0415 (hashing needs no curve, and starts faster)

    return kzg_tree
