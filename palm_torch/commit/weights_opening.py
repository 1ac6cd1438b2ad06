"""Showing some rows of a tensor to whoever holds nothing but the weights root.

`read_block` reads a safetensors file, an index or a folder and keeps the few tiles that are opened: what
travels is the copy that was hashed. `verify` needs the root and the opening, neither torch nor the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.commit import (
    opening_file,
    safetensors_file,
    weights_commitment,
    weights_reading,
    weights_root,
    weights_schemes,
)
from palm_torch.commit.opening_file import WeightsOpening
from palm_torch.commit.weights_block import Block
from palm_torch.commit.weights_commitment import WeightsCommitment
from palm_torch.commit.weights_root import TensorSpec
from palm_torch.digest import Digest
from palm_torch.errors import ArtifactError, BindingError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from palm_torch.commit.safetensors_file import StoredTensor
    from palm_torch.commit.weights_block import Span
    from palm_torch.roles import Tensor

_NAMES_SHOWN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What an opening shows.

    Attributes:
        root: The weights root.
        spec: What the tensor is: name, aliases, dtype, shape.
        block: The rows and columns.
        values: Their exact little-endian bytes, row-major.
    """

    root: Digest
    spec: TensorSpec
    block: Block
    values: bytes


def verify(opening: WeightsOpening, root: Digest, *, like: WeightsCommitment | None = None) -> Shown:
    """Checks an opening against a weights root.

    Algorithm:
        1. The opening is well formed: what it says of tensor, rows and columns is possible, and its bytes are
           as many as the tiles that these touch have. `WeightsOpening` refuses to be anything else.
        2. It is of this root. *(Stops: an opening of other weights, of an earlier root.)*
        3. Where the list of all tensors is at hand, it gives this root, and has this tensor at this place.
           *(Stops: a root with two tensors of one name, of which each is shown to somebody else; a list
           refuses them, a root alone cannot.)*
        4. The tiles are hashed with the tensor's name, dtype, their own shape and their place; with the proof
           they give the root of the tensor. *(Stops: changed bytes; tiles of another place or tensor.)*
        5. The entry of the tensor, its name, aliases, dtype, shape and root, stands at its place under the
           weights root. *(Stops: a tensor that is not of these weights; another name, dtype or shape.)*
        6. Rows and columns are cut out of the tiles that were hashed.

    Args:
        opening: What is to be believed.
        root: The weights root that the verifier trusts.
        like: The list that it stands for, if the verifier has it.

    Raises:
        EvidenceError: If a proof has another length: nothing was compared.
        DataError: If the list gives another root than it says.
        BindingError: If the weights under this root have other bytes there, or the list is of another root.
        MissingExtraError: If it needs the extra ``kzg``.
    """
    spec, block = opening.spec, opening.block  # 1
    if opening.root != root:  # 2
        raise BindingError(
            f"opening of {spec.name!r}: expected it under the root {root}, it is under {opening.root}"
        )
    if like is not None:  # 3
        _check_listed(opening, root, like)
    scheme = weights_schemes.of(opening.scheme)
    scheme.verify_tiles(spec, opening.tensor.root.value, block, opening.tiles, opening.proof)  # 4
    entry = weights_root.tensor_entry(spec, opening.tensor.root.value)
    scheme.verify_entry(root.value, opening.count, opening.index, entry, opening.entry_proof)  # 5
    return Shown(root=root, spec=spec, block=block, values=block.cut(spec, opening.tiles))  # 6


def _check_listed(opening: WeightsOpening, root: Digest, like: WeightsCommitment) -> None:
    if (like.scheme, like.root) != (opening.scheme, root):
        raise BindingError(
            f"list: expected it for the root {root}, scheme {opening.scheme}, it is for {like.root}, scheme "
            f"{like.scheme}"
        )
    like.check_root()
    if opening.count != len(like.tensors) or opening.tensor != like.tensors[opening.index]:
        raise BindingError(
            f"opening of {opening.tensor.name!r}: expected number {opening.index} of {opening.count} "
            f"to be it, the list of {len(like.tensors)} has another tensor there"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBlock:
    """A block of a tensor that was read, ready to be opened under the weights root of a list.

    Attributes:
        what: The list, in words.
        listed: The weights under whose root it is.
        index: Place of the tensor among them.
        block: The rows and columns.
        tree: The tree over the tensor's tiles.
        tiles: The bytes of the tiles that the block touches, by position, ascending.
    """

    what: str
    listed: WeightsCommitment
    index: int
    block: Block
    tree: weights_schemes.Tree
    tiles: dict[int, bytes]

    def opening(self) -> WeightsOpening:
        """Returns the opening, after a look at it with the verifier's eyes."""
        entries = weights_commitment.entries(self.listed.tensors)
        made = WeightsOpening(
            media_type=opening_file.MEDIA_TYPE,
            scheme=self.listed.scheme,
            root=self.listed.root,
            count=len(entries),
            index=self.index,
            tensor=self.listed.tensors[self.index],
            rows=self.block.rows,
            columns=self.block.columns,
            tiles=b"".join(self.tiles.values()),
            proof=self.tree.prove(self.block, self.tiles),
            entry_proof=weights_schemes.of(self.listed.scheme).prove_entry(entries, self.index),
        )
        verify(made, self.listed.root)
        return made

    def point_inputs(self) -> list[bytes]:
        """Returns what Ethereum's point evaluation precompile takes to follow a tile up to the weights root.

        One input of 192 bytes for each level: of the tree over the entries from the top down, then of the
        tensor's.

        Raises:
            DataError: If the scheme is another than ``kzg``, or the block touches several tiles.
        """
        from palm_torch.commit import weights_kzg  # noqa: PLC0415 (hashing needs no curve, and starts faster)

        if not isinstance(self.tree, weights_kzg.Tree):
            raise DataError(f"the precompile checks openings under scheme kzg, this is {self.listed.scheme}")
        if len(self.tiles) != 1:
            raise DataError(
                f"the precompile follows one tile at a time: {self.block} touches {len(self.tiles)}"
            )
        (position,) = self.tiles
        entries = weights_commitment.entries(self.listed.tensors)
        return weights_kzg.entry_point_inputs(entries, self.index) + self.tree.point_inputs(position)


def read_block(
    path: Path,
    name: str,
    *,
    rows: Span | None = None,
    columns: Span | None = None,
    scheme: weights_schemes.Name = "hash",
    like: Mapping[str, WeightsCommitment] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ReadBlock:
    """Reads a block of a tensor, with what it takes to open it.

    The tensor is read once, and the tiles that travel are among those that were hashed. Where no list of
    roots is at hand, all weights are read before.

    Args:
        path: The weights: a safetensors file, an index or a folder.
        name: The tensor, by its name or an alias.
        rows: First row and the one after the last; None for all.
        columns: Likewise the columns.
        scheme: Under which trees.
        like: Lists of weights, one of which these are, by the words that messages shall use for them. The
            first that has the tensor with these bytes counts. Lists under the other scheme only say which
            names and aliases there are. Without, those are the names in the file.
        progress: Told how many bytes were hashed before the tensor is read, and of how many.

    Raises:
        DataError: If the file cannot be read, has no such tensor, rows or columns, or changes meanwhile.
        ArtifactError: If the weights are not those listed.
    """
    lists = {what: listed for what, listed in (like or {}).items() if listed.scheme == scheme}
    stored = safetensors_file.stored_tensors(path)
    made: WeightsCommitment | None = None
    if not lists:
        names = next((listed.tensors for listed in (like or {}).values()), None)
        if names is None:  # what cannot be opened is said before the weights are read
            if name not in stored:
                raise DataError(f"{path}: expected one of its tensors, {_few(sorted(stored))}, got {name!r}")
            Block.of(stored[name].spec, rows=rows, columns=columns)
        made = weights_commitment.commit(path, scheme=scheme, like=names, progress=progress)
        lists = {str(path): made}
    found: dict[TensorSpec, tuple[Block, weights_schemes.Tree, dict[int, bytes]]] = {}
    refused: list[str] = []
    for what, listed in lists.items():
        at = listed.find(name)
        if at is None:
            refused.append(
                f"{what}: expected one of its tensors, {_few([one.name for one in listed.tensors])}"
            )
            continue
        claim = listed.tensors[at]
        spec = weights_commitment.spec_of(claim)
        if spec not in found:
            block = Block.of(spec, rows=rows, columns=columns)
            found[spec] = block, *_hashed(_stored(path, name, claim, stored), spec, block, scheme)
        block, tree, tiles = found[spec]
        if (root := tree.root()) == claim.root.value:
            return ReadBlock(what=what, listed=listed, index=at, block=block, tree=tree, tiles=tiles)
        refused.append(f"{what}: expected the root {claim.root.value.hex()}, got {root.hex()}")
    if found and made is not None:  # what differs is what was read a moment ago
        raise DataError(
            f"{path}: tensor {name!r} was written to while the weights were read: {'; '.join(refused)}; "
            "open it again when nobody writes"
        )
    error = ArtifactError if found else DataError
    raise error(f"{path}: tensor {name!r} is not as listed: {'; '.join(refused)}")


def _stored(path: Path, name: str, claim: Tensor, stored: Mapping[str, StoredTensor]) -> StoredTensor:
    here = next((stored[word] for word in (name, claim.name, *claim.aliases) if word in stored), None)
    if here is None:
        raise ArtifactError(f"{path}: tensor {claim.name!r} is missing")
    safetensors_file.check_spec(here, claim)
    return here


def _hashed(
    stored: StoredTensor, spec: TensorSpec, block: Block, scheme: weights_schemes.Name
) -> tuple[weights_schemes.Tree, dict[int, bytes]]:
    wanted = {position for position, _, _ in block.tiles(spec)}
    tree, kept = weights_schemes.of(scheme).tree(spec), {}
    for position, content in enumerate(weights_reading.tiles(spec, stored)):
        tree.add(content)
        if position in wanted:
            kept[position] = content
    return tree, kept


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMES_SHOWN])) or "of which there is none"
    return f"{shown}, … {len(names)} in all" if len(names) > _NAMES_SHOWN else shown
