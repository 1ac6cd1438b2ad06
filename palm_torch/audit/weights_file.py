"""Weights at hand: tensors of safetensors files as arrays, once they have the root that a trace names.

Every byte is copied out of its file once; the copy is hashed, and of the tensors that an audit needs the same
copy is what it computes with. Without a list of roots all tensors are hashed, needed or not, for the root is
of all of them. With the list, which itself has to give the root, the needed ones are enough.

A model with tied weights has one tensor of two names; its file may have it under one of them, or under both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ml_dtypes
import numpy as np

from palm_torch.commit import safetensors_file, weights_commitment, weights_root
from palm_torch.commit.weights_root import TensorSpec
from palm_torch.errors import ArtifactError, DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_torch.commit.safetensors_file import StoredTensor
    from palm_torch.commit.weights_commitment import WeightsCommitment
    from palm_torch.digest import Digest

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
"""torch's name of each element type that an audit computes with, and numpy's."""


class WeightsFile:
    """Weights whose root was computed from the bytes that are held here; `read` makes it.

    Args:
        tensors: Name → array, under every name that a tensor has.
        root: The weights root, computed.

    Attributes:
        root: The same.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]], root: Digest) -> None:
        self._tensors = tensors
        self.root = root

    def vector(self, name: str) -> NDArray[Any]:
        """Returns a norm or a bias, read-only, in its own element type.

        Raises:
            DataError: If it was not among the tensors that were asked for.
        """
        return self._tensor(name).reshape(-1)

    def matrix(self, name: str) -> NDArray[Any]:
        """Returns a matrix, as `vector` returns a vector.

        Raises:
            DataError: If it was not among the tensors that were asked for, or is no matrix.
        """
        found = self._tensor(name)
        if found.ndim != 2:  # noqa: PLR2004 (rows and columns)
            raise DataError(f"weights: {name!r}: expected a matrix, got shape {list(found.shape)}")
        return found

    def rows(self, name: str, numbers: Sequence[int]) -> NDArray[Any]:
        """Returns rows of a matrix, in this order.

        Raises:
            DataError: As `matrix`, or if there is no such row.
        """
        found = self.matrix(name)
        if (most := max(numbers, default=0)) >= len(found):
            raise DataError(f"weights: {name!r}: expected a row {most}, it has {len(found)}")
        return found[list(numbers)]

    def _tensor(self, name: str) -> NDArray[Any]:
        found = self._tensors.get(name)
        if found is None:
            raise DataError(f"weights: expected {name!r} to be among the tensors asked for, it was not")
        return found


def read(
    paths: Sequence[Path],
    needed: Collection[str],
    *,
    root: Digest | None,
    tied: Sequence[Collection[str]] = (),
    like: WeightsCommitment | None = None,
) -> WeightsFile:
    """Reads weights, and refuses others than those expected.

    1. The headers say which tensors there are; a name that two files have is refused.
    2. Names of one tensor are put together: as the list says, or as `tied` says.
    3. Tile after tile is copied and the copy hashed; the tensor's root follows from its tiles.
    4. The root of all tensors is the one expected; or the list gives that root, and the needed tensors are
       the listed ones.

    Args:
        paths: Safetensors files, indices or folders, which together hold one model.
        needed: Names of the tensors to keep.
        root: The root that the weights must have; None if nobody says one.
        tied: Sets of names, each of one tensor.
        like: A list of tensors with their roots, which spares hashing what is not needed.

    Raises:
        DataError: If a file is missing or malformed, a tensor is missing, or has an element type that no
            audit computes with.
        ArtifactError: If the weights are not those expected.
    """
    what = ", ".join(map(str, paths))
    stored = _stored(paths)  # 1
    if like is None:
        specs = list(_grouped(stored, tied))  # 2
    else:
        specs = [weights_commitment.spec_of(claim) for claim in like.tensors]
        specs = [spec for spec in specs if not {spec.name, *spec.aliases}.isdisjoint(needed)]
    tensors: dict[str, NDArray[Any]] = {}
    roots: dict[TensorSpec, bytes] = {}
    for spec in specs:
        names = {spec.name, *spec.aliases}
        array, roots[spec] = _read(spec, stored, what, keep=not names.isdisjoint(needed))  # 3
        tensors.update(dict.fromkeys(names, array) if array is not None else {})
    if absent := sorted(set(needed) - tensors.keys()):
        raise DataError(
            f"{what}: tensor {absent[0]!r} is missing ({len(absent)} such); expected the weights of "
            "the model that the configuration describes"
        )
    if like is None:  # 4
        found = weights_root.weights_root(roots.items())
    else:
        found = weights_root.claimed_root(like.tensors)
        _compare(roots, like, what)
    if root is not None and found != root:
        raise ArtifactError(
            f"{what}: expected weights with the root {root}, which the trace names, got {found}: these are "
            "other weights, or the same in another element type"
        )
    return WeightsFile(tensors, found)


def _stored(paths: Sequence[Path]) -> dict[str, StoredTensor]:
    found: dict[str, StoredTensor] = {}
    for path in paths:
        for name, tensor in safetensors_file.stored_tensors(path).items():
            if name in found:
                raise DataError(f"{path}: tensor {name!r} is in {found[name].path} too: name each file once")
            found[name] = tensor
    return found


def _grouped(stored: Mapping[str, StoredTensor], tied: Sequence[Collection[str]]) -> Iterator[TensorSpec]:
    """Yields the tensors, under all names that each has."""
    together = {name: sorted(names, key=str.encode) for names in tied for name in names}
    seen: set[str] = set()
    for name, tensor in stored.items():
        first, *others = together.get(name, [name])
        if first not in seen:
            seen.add(first)
            yield TensorSpec(first, tensor.spec.dtype, tensor.spec.shape, tuple(others))


def _read(
    spec: TensorSpec, stored: Mapping[str, StoredTensor], what: str, *, keep: bool
) -> tuple[NDArray[Any] | None, bytes]:
    """Returns a tensor, if it is to be kept, and its root."""
    here = [stored[name] for name in (spec.name, *spec.aliases) if name in stored]
    if not here:
        raise DataError(f"{what}: tensor {spec.name!r} is missing")
    for tensor in here:
        if (tensor.spec.dtype, tensor.spec.shape) != (spec.dtype, spec.shape):
            raise ArtifactError(
                f"{tensor.path}: tensor {tensor.spec.name!r}: expected {spec.dtype} {list(spec.shape)}, got "
                f"{tensor.spec.dtype} {list(tensor.spec.shape)}"
            )
    first, *others = here
    array = None
    if keep:
        array, root = _kept(spec, first)
    else:
        root = first.root(spec.name)
    for tensor in others:
        if tensor.root(spec.name) != root:
            raise ArtifactError(
                f"{tensor.path}: {first.spec.name!r} and {tensor.spec.name!r} are names of one tensor, but "
                "their bytes differ"
            )
    return array, root


def _kept(spec: TensorSpec, stored: StoredTensor) -> tuple[NDArray[Any], bytes]:
    dtype = DTYPES.get(spec.dtype)
    if dtype is None:
        raise DataError(
            f"{stored.path}: tensor {spec.name!r}: expected one of {', '.join(DTYPES)}, got {spec.dtype}: no "
            "audit computes with it"
        )
    array, tiles = array_of(stored, dtype)
    return array, weights_root.root_of_tiles(spec, tiles)


def array_of(stored: StoredTensor, dtype: np.dtype[Any]) -> tuple[NDArray[Any], bytes]:
    """Reads a tensor into a read-only array, and returns BLAKE3 of each tile with it.

    Raises:
        DataError: If it cannot be read, has more bytes than there is memory, as in a file with holes, or a
            shape that no array has, as one without elements may have.
    """
    try:
        memory = np.empty(stored.spec.nbytes, np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{stored.path}: tensor {stored.spec.name!r}: too little memory for {stored.spec.nbytes} bytes"
        ) from error
    tiles = stored.copy_into(memory.data)
    memory.flags.writeable = False
    try:
        return memory.view(dtype).reshape(stored.spec.shape), tiles
    except ValueError as error:
        raise DataError(f"{stored.path}: tensor {stored.spec.name!r}: shape: {error}") from error


def _compare(roots: Mapping[TensorSpec, bytes], like: WeightsCommitment, what: str) -> None:
    listed = {claim.name: claim.root.value for claim in like.tensors}
    for spec, root in roots.items():
        if root != listed[spec.name]:
            raise ArtifactError(
                f"{what}: tensor {spec.name!r}: its bytes differ: expected root {listed[spec.name].hex()}, "
                f"got {root.hex()}"
            )
