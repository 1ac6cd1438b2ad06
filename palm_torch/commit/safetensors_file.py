"""Reading safetensors files: to load them, or to compare one with the tensors that evidence speaks of.

The reader is strict: the header is canonical enough to have one meaning (no repeated key, nothing unknown),
and its byte ranges tile the file without gap or overlap. Bytes are read one tile at a time, never mapped:
a file that shrinks while it is read is an error, not a signal. Nothing of a file is trusted before its
roots were compared.

A path is one ``.safetensors`` file, a ``….safetensors.index.json`` of a sharded model, or a folder that
holds ``model.safetensors`` or ``model.safetensors.index.json``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from palm_torch import nesting
from palm_torch.commit.weights_root import TensorSpec, tensor_root_of_reads, tile_ranges
from palm_torch.errors import ArtifactError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch import roles

MAX_HEADER_BYTES: Final = 100_000_000
"""Largest header, and largest index, in bytes: the limit of the safetensors format itself."""

DTYPES: Final = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}
"""The format's name of each element type, and torch's."""

_LENGTH_BYTES: Final = 8
_METADATA: Final = "__metadata__"
_ENTRY_KEYS: Final = frozenset({"dtype", "shape", "data_offsets"})
_FOLDER_NAMES: Final = ("model.safetensors", "model.safetensors.index.json")
_INDEX_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file: where its bytes are and what the header says of them.

    Attributes:
        spec: Name as stored, dtype and shape; no aliases.
        path: The file.
        start: Offset of the first byte in the file.
    """

    spec: TensorSpec
    path: Path
    start: int

    def root(self, name: str) -> bytes:
        """Reads the bytes once and returns the tensor root under a canonical name.

        Raises:
            DataError: If the file cannot be read or has become shorter.
        """
        descriptor = open_file(self.path)
        try:
            return tensor_root_of_reads(
                TensorSpec(name, self.spec.dtype, self.spec.shape),
                lambda start, end: read_exactly(descriptor, self.path, self.start + start, end - start),
            )
        finally:
            os.close(descriptor)

    def copy_into(self, memory: memoryview) -> bytes:
        """Reads the bytes once into memory of this process, and hashes each tile where it then lies.

        Args:
            memory: Where they go, as many bytes as the tensor has; nobody else may write to it.

        Returns:
            BLAKE3 of each tile, 32 bytes each, for `weights_root.root_of_tiles`.

        Raises:
            DataError: If the file cannot be read, has become shorter, or the memory has another size.
        """
        if memory.nbytes != self.spec.nbytes:
            raise DataError(
                f"{self.path}: tensor {self.spec.name!r}: expected memory of {self.spec.nbytes} bytes, got "
                f"{memory.nbytes}"
            )
        descriptor = open_file(self.path)
        try:
            return b"".join(
                self._copy_tile(descriptor, memory[start:end], start) for start, end in tile_ranges(self.spec)
            )
        finally:
            os.close(descriptor)

    def _copy_tile(self, descriptor: int, tile: memoryview, start: int) -> bytes:
        try:
            copied = os.preadv(descriptor, [tile], self.start + start)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from error
        if copied != tile.nbytes:
            raise DataError(
                f"{self.path}: expected {tile.nbytes} bytes at offset {self.start + start}, got {copied}"
            )
        return blake3(tile).digest()


def compare(path: Path, tensors: Sequence[roles.Tensor]) -> None:
    """Checks that a file holds exactly these tensors, byte for byte.

    1. The tensors are those, as `matched` finds them.
    2. Every root, computed from the bytes in the file, is equal.

    Args:
        path: A file, an index or a folder; see the module.
        tensors: The tensors of the evidence.

    Raises:
        DataError: If the file is missing or malformed: nothing was compared.
        ArtifactError: Naming the first tensor that differs.
    """
    for claim, tensor in matched(path, tensors):
        root = tensor.root(claim.name)
        if root != claim.root.value:
            raise ArtifactError(
                f"{tensor.path}: tensor {tensor.spec.name!r}: its bytes differ: "
                f"expected root {claim.root.value.hex()}, got {root.hex()}"
            )


def matched(path: Path, tensors: Sequence[roles.Tensor]) -> list[tuple[roles.Tensor, StoredTensor]]:
    """Finds the tensors of the evidence in a file, without reading their bytes.

    1. Every tensor is there, under its name or an alias; where it is stored twice, both count.
    2. Dtype and shape are equal.
    3. Nothing else is there.

    Args:
        path: A file, an index or a folder; see the module.
        tensors: The tensors of the evidence.

    Raises:
        DataError: If the file is missing or malformed: nothing was compared.
        ArtifactError: Naming the first tensor that differs.
    """
    stored = stored_tensors(path)
    found: list[tuple[roles.Tensor, StoredTensor]] = []
    for claim in tensors:
        here = [stored.pop(name) for name in (claim.name, *claim.aliases) if name in stored]
        if not here:  # 1
            raise ArtifactError(f"{path}: tensor {claim.name!r} is missing")
        for tensor in here:
            check_spec(tensor, claim)  # 2
            found.append((claim, tensor))
    if stored:  # 3
        raise ArtifactError(f"{path}: tensor {min(stored)!r} is not among the {len(tensors)} of the evidence")
    return found


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """Reads the headers of a model's file or files: stored name → tensor.

    Raises:
        DataError: If a file is missing or malformed, or an index and its shards disagree.
    """
    if path.is_dir():
        present = [path / name for name in _FOLDER_NAMES if (path / name).exists()]
        if len(present) != 1:
            raise DataError(f"{path}: expected one of {' or '.join(_FOLDER_NAMES)}, got {len(present)}")
        path = present[0]
    if path.suffix != _INDEX_SUFFIX:
        return {tensor.spec.name: tensor for tensor in read_header(path)}
    return _sharded(path)


def read_header(path: Path) -> tuple[StoredTensor, ...]:
    """Reads the header of one ``.safetensors`` file, in the order of the bytes.

    Raises:
        DataError: If the file cannot be read, or is not a well-formed safetensors file.
    """
    descriptor = open_file(path)
    try:
        size = os.fstat(descriptor).st_size
        tensors, _ = parse_header(lambda at, count: read_exactly(descriptor, path, at, count), path, size)
        return tensors
    finally:
        os.close(descriptor)


def parse_header(
    read: Callable[[int, int], bytes], path: Path, size: int
) -> tuple[tuple[StoredTensor, ...], bytes]:
    """Reads a header out of bytes that are fetched once.

    Args:
        read: Returns a private copy of the bytes at (offset, length) of the file.
        path: The file, for messages.
        size: Its size in bytes.

    Returns:
        The tensors in the order of their bytes, and the file's first bytes, which say all that.

    Raises:
        DataError: If it is not a well-formed safetensors file.
    """
    prefix = read(0, _LENGTH_BYTES)
    length = int.from_bytes(prefix, "little")
    if length > min(MAX_HEADER_BYTES, size - _LENGTH_BYTES):
        raise DataError(f"{path}: not a safetensors file: header of {length} bytes in a file of {size}")
    header = read(_LENGTH_BYTES, length)
    if not header.startswith(b"{"):
        raise DataError(f"{path}: not a safetensors file: expected a header that begins with '{{'")
    entries = _object(header, path)
    _check_metadata(entries.pop(_METADATA, {}), path)
    spans = sorted((*_entry(name, entry, path), name) for name, entry in entries.items())
    data_start, position = _LENGTH_BYTES + length, 0
    tensors: list[StoredTensor] = []
    for start, end, dtype, shape, name in spans:
        spec = TensorSpec(name, dtype, shape)
        if start != position or end - start != spec.nbytes:
            raise DataError(
                f"{path}: tensor {name!r}: expected bytes [{position}, {position + spec.nbytes}), "
                f"got [{start}, {end})"
            )
        tensors.append(StoredTensor(spec, path, data_start + start))
        position = end
    if data_start + position != size:
        raise DataError(f"{path}: expected a file of {data_start + position} bytes, got {size}")
    return tuple(tensors), prefix + header


def _sharded(index: Path) -> dict[str, StoredTensor]:
    descriptor = open_file(index)
    try:
        size = os.fstat(descriptor).st_size
        if size > MAX_HEADER_BYTES:
            raise DataError(f"{index}: expected at most {MAX_HEADER_BYTES} bytes, got {size}")
        weight_map = _object(read_exactly(descriptor, index, 0, size), index).get("weight_map")
    finally:
        os.close(descriptor)
    if not isinstance(weight_map, dict) or not weight_map:
        raise DataError(f"{index}: expected a 'weight_map' from tensor to file")
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted({_shard_name(name, index) for name in weight_map.values()}):
        for tensor in read_header(index.parent / shard):
            name = tensor.spec.name
            if weight_map.get(name) != shard:
                raise DataError(f"{index}: tensor {name!r} is in {shard}, not where the index says")
            tensors[name] = tensor
    absent = weight_map.keys() - tensors.keys()
    if absent:
        raise DataError(f"{index}: tensor {min(absent)!r} is not in {weight_map[min(absent)]}")
    return tensors


def check_spec(tensor: StoredTensor, claim: roles.Tensor) -> None:
    """Checks that a stored tensor has the dtype and shape that the evidence says.

    Raises:
        ArtifactError: If it has others.
    """
    spec = tensor.spec
    if (spec.dtype, spec.shape) != (claim.dtype, claim.shape):
        raise ArtifactError(
            f"{tensor.path}: tensor {spec.name!r}: expected {claim.dtype} {list(claim.shape)}, "
            f"got {spec.dtype} {list(spec.shape)}"
        )


def _entry(name: str, entry: Any, path: Path) -> tuple[int, int, str, tuple[int, ...]]:  # noqa: ANN401 (JSON)
    if not isinstance(entry, dict) or entry.keys() != _ENTRY_KEYS:
        raise DataError(f"{path}: tensor {name!r}: expected the keys {', '.join(sorted(_ENTRY_KEYS))}")
    stored_dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    dtype = DTYPES.get(stored_dtype) if isinstance(stored_dtype, str) else None
    if dtype is None:
        raise DataError(f"{path}: tensor {name!r}: no torch dtype for {str(stored_dtype)[:40]!r}")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:  # noqa: PLR2004 (begin, end)
        raise DataError(f"{path}: tensor {name!r}: expected a shape and two offsets, natural numbers all")
    return offsets[0], offsets[1], dtype, tuple(shape)


def _naturals(value: Any) -> bool:  # noqa: ANN401 (JSON)
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_metadata(metadata: Any, path: Path) -> None:  # noqa: ANN401 (JSON)
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DataError(f"{path}: expected {_METADATA} to hold text values")


def _shard_name(name: Any, index: Path) -> str:  # noqa: ANN401 (JSON)
    plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")
    if not plain or any("\ud800" <= character <= "\udfff" for character in name):
        raise DataError(f"{index}: expected shards to be plain file names, got {str(name)[:80]!r}")
    return str(name)


def _object(data: bytes, path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            raise DataError(f"{path}: a key of the header occurs twice")
        return built

    nesting.check(data, what=f"{path}: the header is not JSON", error=DataError)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: the header is not JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def open_file(path: Path) -> int:
    """Opens a file of weights and returns its descriptor, which the caller closes.

    Raises:
        DataError: If it cannot be opened.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe: refused when it is read
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise DataError(f"{path}: cannot be opened: {getattr(error, 'strerror', error)}") from error


def read_exactly(descriptor: int, path: Path, start: int, length: int) -> bytes:
    """Copies bytes out of an open file, once.

    Args:
        descriptor: What `open_file` returned.
        path: The file, for messages.
        start: Offset of the first byte.
        length: How many.

    Raises:
        DataError: If they cannot be read, or the file ends before.
    """
    try:
        data = os.pread(descriptor, length, start)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) != length:
        raise DataError(f"{path}: expected {length} bytes at offset {start}, got {len(data)}")
    return data
