"""What a Terkle root binds beside the bytes of its tiles.

The context says which array a tree is over: its name, element type, shape, tiling and axes, the scheme of
the nodes and, for polynomial commitments, whose public parameters they use. The root of a tree is a hash of
the whole context; what nodes are made of binds only the stem, which is the context without the extent of
axis 0, so that a tree can grow along that axis and keep the nodes in which nothing changed.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final, Literal

from palm_torch.commit import ceremony
from palm_torch.commit.grid import Grid
from palm_torch.commit.weights_root import ITEM_BYTES, MAX_NAME_BYTES
from palm_torch.digest import tagged_hash
from palm_torch.encoding import length_prefixed
from palm_torch.errors import DataError

VERSION: Final = 1
SCHEMES: Final = ("hash", "kzg")
MAX_TILE_BYTES: Final = 1 << 30
MAX_AXIS_NAME_BYTES: Final = 255

_CONTEXT_TAG: Final = "palm-torch/terkle-context/v1"
_STEM_TAG: Final = "palm-torch/terkle-stem/v1"
_ROOT_TAG: Final = "palm-torch/terkle-root/v1"


@dataclass(frozen=True, slots=True)
class Context:
    """The array that a tree is over, and how.

    Attributes:
        tree_id: Name of the tree: for weights, of the tensor; 1 to 4096 bytes of UTF-8.
        dtype: torch's name of the element type: a key of `weights_root.ITEM_BYTES`.
        grid: Shape and tiling of the array.
        scheme: ``hash``: a binary tree of SHA-256. ``kzg``: nodes of 4096 places that are polynomial
            commitments under the public parameters of Ethereum's ceremony.
        salted: Whether every tile has a secret salt, so that its leaf does not give away guessable bytes.

    Raises:
        DataError: If a part is malformed or passes a limit.
    """

    tree_id: str
    dtype: str
    grid: Grid
    scheme: Literal["hash", "kzg"]
    salted: bool = False

    def __post_init__(self) -> None:
        """Refuses what has no canonical form."""
        _check_text("name", self.tree_id, MAX_NAME_BYTES)
        if not isinstance(self.dtype, str):
            raise DataError(
                f"tree {self.tree_id!r}: expected a dtype's name, got {type(self.dtype).__name__}"
            )
        if self.dtype not in ITEM_BYTES:
            raise DataError(f"tree {self.tree_id!r}: unknown dtype {self.dtype[:40]!r}")
        if not isinstance(self.grid, Grid):
            raise DataError(f"tree {self.tree_id!r}: expected a Grid, got {type(self.grid).__name__}")
        if self.scheme not in SCHEMES:
            raise DataError(f"tree {self.tree_id!r}: expected a scheme of {SCHEMES}, got {self.scheme!r}")
        if not isinstance(self.salted, bool):
            raise DataError(
                f"tree {self.tree_id!r}: expected salted to be a truth value, got {self.salted!r}"
            )
        for axis in self.grid.axes:
            _check_text("name of an axis", axis, MAX_AXIS_NAME_BYTES)
        largest = self.item_bytes * math.prod(map(min, self.grid.shape, self.grid.tile))
        if largest > MAX_TILE_BYTES:
            raise DataError(
                f"tree {self.tree_id!r}: expected tiles of at most {MAX_TILE_BYTES} bytes, got {largest}"
            )

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return ITEM_BYTES[self.dtype]

    def encode(self) -> bytes:
        """Returns the one encoding of this context; integers big endian.

        ``u8 version ‖ LP(scheme) ‖ LP(ceremony) ‖ u8 salted ‖ LP(tree id) ‖ LP(dtype) ‖ u8 axes ‖ u64
        shape… ‖ u64 tile… ‖ u8 names ‖ LP(name of an axis)…``; ceremony is `ceremony.SRS_ID` for ``kzg``,
        else empty; names is the number of axes or 0.
        """
        parameters = ceremony.SRS_ID if self.scheme == "kzg" else b""
        numbers = (*self.grid.shape, *self.grid.tile)
        names = [length_prefixed(axis.encode("utf-8")) for axis in self.grid.axes]
        return b"".join(
            (
                bytes((VERSION,)),
                length_prefixed(self.scheme.encode("ascii")),
                length_prefixed(parameters),
                bytes((self.salted,)),
                length_prefixed(self.tree_id.encode("utf-8")),
                length_prefixed(self.dtype.encode("ascii")),
                bytes((len(self.grid.shape),)),
                *(number.to_bytes(8, "big") for number in numbers),
                bytes((len(names),)),
                *names,
            )
        )

    def digest(self) -> bytes:
        """Returns the digest of the whole context, 32 bytes."""
        return tagged_hash(_CONTEXT_TAG, self.encode())

    def stem(self) -> bytes:
        """Returns the digest of the context without the extent of axis 0, 32 bytes."""
        shape = (0, *self.grid.shape[1:])
        return tagged_hash(
            _STEM_TAG, dataclasses.replace(self, grid=dataclasses.replace(self.grid, shape=shape)).encode()
        )

    def root(self, top: bytes) -> bytes:
        """Returns the root of the tree with this context, 32 bytes.

        Args:
            top: Merkle root, or commitment of the topmost node.
        """
        return tagged_hash(_ROOT_TAG, self.encode(), top)

    def tile_bytes(self, position: int) -> int:
        """Returns the length of a tile, in bytes.

        Raises:
            DataError: If there is no such position.
        """
        return math.prod(self.grid.tile_shape(position)) * self.item_bytes


def _check_text(what: str, text: str, most: int) -> None:
    if not isinstance(text, str):
        raise DataError(f"tree: expected a {what} as text, got {type(text).__name__}")
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"tree: the {what} {text[:80]!r} is not valid Unicode: {error.reason}") from error
    if not 0 < len(encoded) <= most:
        raise DataError(f"tree: expected a {what} of 1 to {most} bytes, got {len(encoded)}")
