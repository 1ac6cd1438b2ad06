"""An opening of weights as a file: which rows of which tensor under which root, their tiles, and the proof.

The file is canonical JSON and says nothing that is not checked: whoever has the root needs nothing else. What
it can say is bounded before anything of it is hashed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch import files
from palm_torch.codec import from_bytes, to_json
from palm_torch.commit import merkle, weights_commitment, weights_schemes
from palm_torch.commit.weights_block import MAX_COVER_BYTES, MAX_COVER_TILES, Block
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import DataError, EvidenceError
from palm_torch.roles import Tensor

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.commit.weights_root import TensorSpec

MEDIA_TYPE: Final = "application/vnd.palm-torch.weights-opening+json;version=1"

SUFFIX: Final = ".palm-opening.json"

MAX_PROOF_BYTES: Final = MAX_COVER_TILES * 26 * merkle.HASH_BYTES
"""No set of `MAX_COVER_TILES` leaves among 2^40 needs more siblings than 26 for each, in bytes."""

MAX_BYTES: Final = (MAX_COVER_BYTES + MAX_PROOF_BYTES) // 3 * 4 + (1 << 20)
"""Largest file, in bytes: tiles and proof in base64, and 1 MiB for everything else."""

_ENDS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsOpening:
    """A block of a tensor under a weights root, with what it takes to check it.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        scheme: Under which trees.
        root: The weights root.
        count: Number of tensors under it.
        index: Place of the tensor among them, by name.
        tensor: What the tensor is, with the root over its tiles.
        rows: First row of its two-dimensional view, and the one after the last.
        columns: Likewise the columns.
        tiles: The tiles that these touch, back to back in the order of positions.
        proof: From the tiles to the root of the tensor.
        entry_proof: From the tensor's entry to the weights root.

    Raises:
        EvidenceError: If it cannot be an opening of anything.
    """

    media_type: str
    scheme: weights_schemes.Name
    root: Digest
    count: int
    index: int
    tensor: Tensor
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    tiles: bytes
    proof: bytes
    entry_proof: bytes

    def __post_init__(self) -> None:
        """Refuses what nobody can have opened."""
        if self.media_type != MEDIA_TYPE:
            raise EvidenceError(f"media_type: expected {MEDIA_TYPE!r}, got {self.media_type[:80]!r}")
        for name, root in (("root", self.root), ("tensor.root", self.tensor.root)):
            if root.algorithm != TAGGED_SHA256:
                raise EvidenceError(f"{name}: expected a {TAGGED_SHA256} root, got {root}")
        if not 0 <= self.index < self.count <= merkle.MAX_LEAVES:
            raise EvidenceError(
                f"index: expected one of at most 2^40 tensors, got {self.index} of {self.count}"
            )
        for name, ends in (("rows", self.rows), ("columns", self.columns)):
            if len(ends) != _ENDS:
                raise EvidenceError(f"{name}: expected two numbers, got {len(ends)}")
        try:
            size = self.block.cover(self.spec).nbytes(self.spec)
        except DataError as error:
            raise EvidenceError(str(error)) from error
        if len(self.tiles) != size:
            raise EvidenceError(f"tiles: expected {size} bytes for {self.block}, got {len(self.tiles)}")

    @property
    def spec(self) -> TensorSpec:
        """What the tensor is, apart from its bytes."""
        return weights_commitment.spec_of(self.tensor)

    @property
    def block(self) -> Block:
        """The rows and columns that are opened."""
        (top, bottom), (left, right) = self.rows, self.columns
        return Block.of(self.spec, rows=(top, bottom), columns=(left, right))

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        return encode_json(to_json(self))


def read(path: Path) -> WeightsOpening:
    """Reads an opening, without checking it against anything.

    Raises:
        EvidenceError: If the file cannot be read or is not exactly such an opening.
    """
    data = files.read_bounded(path, what="the opening", max_bytes=MAX_BYTES, error=EvidenceError)
    return decode(data, what=str(path))


def decode(data: bytes, *, what: str) -> WeightsOpening:
    """Parses an opening.

    Args:
        data: The file's bytes.
        what: Name of the file, for messages.

    Raises:
        EvidenceError: If they are not exactly such an opening.
    """
    return from_bytes(WeightsOpening, data, what=what, max_bytes=MAX_BYTES, error=EvidenceError)
