"""The weights root: the digest of a model's exact weights, tensor by tensor, tile by tile.

A tensor is (name, aliases, dtype, shape, exact little-endian bytes), never a file: files of equal weights
differ. It is seen as rows × columns and cut into contiguous tiles of 256 KiB to 1 MiB, so that later a row
can be shown without the rest. Tiles are hashed with BLAKE3 and named by SHA-256 leaves; the leaves of a
tensor make a Merkle tree, and so do the tensors of a model, sorted by name.

Equality is equality of bytes: −0.0 and 0.0 differ, and so do NaNs with different payloads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from blake3 import blake3

from palm_torch.commit import grid, merkle, tile_leaf
from palm_torch.digest import TAGGED_SHA256, Digest, tagged_hash
from palm_torch.encoding import length_prefixed
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from palm_torch import roles

Bytes: TypeAlias = "bytes | bytearray | memoryview"

ITEM_BYTES: Final = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "uint16": 2,
    "int16": 2,
    "uint32": 4,
    "int32": 4,
    "uint64": 8,
    "int64": 8,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "float4_e2m1fn_x2": 1,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "complex32": 4,
    "complex64": 8,
    "complex128": 16,
}
"""torch's name of every element type that has a weights root, with the bytes of one element."""

MIN_TILE_BYTES: Final = 256 << 10
MAX_TILE_BYTES: Final = 1 << 20
MAX_NAME_BYTES: Final = 4096
MAX_DIMENSIONS: Final = 64

_TENSOR_TAG: Final = "palm-torch/tensor/v1"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor is, apart from its bytes.

    Attributes:
        name: Canonical name: the smallest of its names, by UTF-8 bytes.
        dtype: A key of `ITEM_BYTES`.
        shape: Extent of each dimension; empty for a scalar.
        aliases: Further names of the same tensor (tied weights), ascending.

    Raises:
        DataError: If a name, the dtype or the shape is malformed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what has no canonical form."""
        names = [_name_bytes(name) for name in (self.name, *self.aliases)]
        if names != sorted(set(names)):
            raise DataError(f"tensor {self.name!r}: name and aliases must ascend, got {self.aliases}")
        if self.dtype not in ITEM_BYTES:
            raise DataError(f"tensor {self.name!r}: unknown dtype {self.dtype[:40]!r}")
        if len(self.shape) > MAX_DIMENSIONS or any(not 0 <= n <= grid.MAX_EXTENT for n in self.shape):
            raise DataError(f"tensor {self.name!r}: shape out of range: {self.shape[:MAX_DIMENSIONS]}")
        if self.nbytes > grid.MAX_EXTENT:
            raise DataError(f"tensor {self.name!r}: expected fewer than 2^53 bytes, got {self.nbytes}")

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    def view(self) -> tuple[int, int]:
        """Returns the tensor's two-dimensional view: rows and columns, in elements.

        The first dimension makes the rows, all others together the columns; a scalar or a vector is one
        row.
        """
        if len(self.shape) < 2:  # noqa: PLR2004 (a matrix is what has rows)
            return 1, math.prod(self.shape)
        return self.shape[0], math.prod(self.shape[1:])

    def tiling(self) -> grid.Grid:
        """Returns the tiles of the two-dimensional view; every tile is one contiguous range of bytes.

        A row of up to 1 MiB is never cut: a tile has the smallest power of two of rows that makes 256 KiB
        or more. A longer row is cut into pieces of 1 MiB.
        """
        rows, columns = self.view()
        row_bytes = columns * ITEM_BYTES[self.dtype]
        if row_bytes > MAX_TILE_BYTES:
            return grid.Grid((rows, columns), (1, MAX_TILE_BYTES // ITEM_BYTES[self.dtype]))
        rows_per_tile = 1
        while 0 < row_bytes * rows_per_tile < MIN_TILE_BYTES:
            rows_per_tile *= 2
        return grid.Grid((rows, columns), (rows_per_tile, max(columns, 1)))


def tensor_root(spec: TensorSpec, data: Bytes) -> bytes:
    """Returns the Merkle root over a tensor's tiles, 32 bytes.

    Args:
        spec: What the tensor is.
        data: Its exact little-endian bytes, in row-major order.

    Raises:
        DataError: If the number of bytes is not the one that dtype and shape make.
    """
    content = memoryview(data).cast("B")
    if len(content) != spec.nbytes:
        raise DataError(f"tensor {spec.name!r}: expected {spec.nbytes} bytes, got {len(content)}")
    return tensor_root_of_reads(spec, lambda start, end: content[start:end])


def tensor_root_of_reads(spec: TensorSpec, read: Callable[[int, int], Bytes]) -> bytes:
    """Returns what `tensor_root` returns, asking for one tile after the other.

    Args:
        spec: What the tensor is.
        read: Function (start, end) → the tensor's bytes in [start, end); at most 1 MiB at a time.
    """
    hashed = [blake3(read(start, end)).digest() for start, end in tile_ranges(spec)]
    return root_of_tiles(spec, b"".join(hashed))


def tile_ranges(spec: TensorSpec) -> Iterator[tuple[int, int]]:
    """Yields first byte and end of every tile of a tensor, back to back; at most 1 MiB each."""
    for _, _, start, end in tiles(spec):
        yield start, end


def root_of_tiles(spec: TensorSpec, digests: bytes) -> bytes:
    """Returns the root of a tensor whose tiles were hashed before, perhaps under another name.

    Args:
        spec: What the tensor is.
        digests: BLAKE3 of each tile of `tile_ranges`, one after the other, 32 bytes each.

    Raises:
        DataError: If there are more or fewer of them than tiles.
    """
    leaf = tile_leaf.maker(spec.name, spec.dtype, axes=2)
    size = merkle.HASH_BYTES
    if len(digests) != (expected := size * (spec.tiling().tiles if spec.nbytes else 0)):
        raise DataError(
            f"tensor {spec.name!r}: expected digests of its tiles, {expected} bytes, got {len(digests)}"
        )
    return merkle.root(
        b"".join(
            [
                leaf(shape, at, digests[first : first + size])
                for first, (shape, at, _, _) in zip(range(0, len(digests), size), tiles(spec), strict=True)
            ]
        )
    )


def weights_root(tensors: Iterable[tuple[TensorSpec, bytes]]) -> Digest:
    """Returns the weights root: the identity of a model's weights.

    Args:
        tensors: Every tensor once with its `tensor_root`, in any order.

    Raises:
        DataError: If a name or an alias occurs twice, or a root is not 32 bytes.
    """
    entries: dict[bytes, bytes] = {}
    seen: set[str] = set()
    for spec, root in tensors:
        if len(root) != merkle.HASH_BYTES:
            raise DataError(f"tensor {spec.name!r}: expected a root of 32 bytes, got {len(root)}")
        for name in (spec.name, *spec.aliases):
            if name in seen:
                raise DataError(f"tensor {name!r}: the name occurs twice")
            seen.add(name)
        entries[spec.name.encode("utf-8")] = tensor_entry(spec, root)
    return Digest(TAGGED_SHA256, merkle.root(b"".join(entries[name] for name in sorted(entries))))


def tiles(spec: TensorSpec) -> Iterator[tuple[tuple[int, int], tuple[int, int], int, int]]:
    """Yields shape, coordinates, first byte and end of every tile, row-major; the ranges are back to back.

    The numbers are those of `Grid.tile_at`, without its price: there may be a million tiles.
    """
    if not spec.nbytes:
        return  # no elements, no tiles, however many rows there are
    item_bytes, tiling = ITEM_BYTES[spec.dtype], spec.tiling()
    (rows, columns), (tile_rows, tile_columns) = tiling.shape, tiling.tile
    start = 0
    for row, first_row in enumerate(range(0, rows, tile_rows)):
        height = min(tile_rows, rows - first_row)
        for column, first_column in enumerate(range(0, columns, tile_columns)):
            width = min(tile_columns, columns - first_column)
            end = start + height * width * item_bytes
            yield (height, width), (row, column), start, end
            start = end


def tensor_entry(spec: TensorSpec, root: bytes) -> bytes:
    """Returns what stands for a tensor in the tree over all of them, 32 bytes.

    Args:
        spec: What the tensor is.
        root: Root over its tiles, 32 bytes.
    """
    aliases = b"".join(length_prefixed(alias.encode("utf-8")) for alias in spec.aliases)
    shape = b"".join(extent.to_bytes(8, "big") for extent in spec.shape)
    return tagged_hash(
        _TENSOR_TAG, spec.name.encode("utf-8"), aliases, spec.dtype.encode("ascii"), shape, root
    )


def claimed_root(tensors: Iterable[roles.Tensor]) -> Digest:
    """Returns the weights root of a list of tensors that evidence carries.

    Raises:
        DataError: If the list is not canonical: names or aliases unsorted or repeated, an unknown dtype,
            a root of another algorithm.
    """
    pairs: list[tuple[TensorSpec, bytes]] = []
    for tensor in tensors:
        spec = TensorSpec(tensor.name, tensor.dtype, tensor.shape, tensor.aliases)
        if tensor.root.algorithm != TAGGED_SHA256:
            raise DataError(f"tensor {spec.name!r}: expected a {TAGGED_SHA256} root, got {tensor.root}")
        pairs.append((spec, tensor.root.value))
    if [spec.name for spec, _ in pairs] != sorted((spec.name for spec, _ in pairs), key=_name_bytes):
        raise DataError("tensors: expected them sorted by name")
    return weights_root(pairs)


def _name_bytes(name: str) -> bytes:
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"tensor {name[:80]!r}: the name is not valid Unicode: {error.reason}") from error
    if not 0 < len(encoded) <= MAX_NAME_BYTES:
        raise DataError(f"tensor name: expected 1 to {MAX_NAME_BYTES} bytes, got {len(encoded)}")
    return encoded
