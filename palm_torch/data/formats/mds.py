"""MosaicML's MDS folders: ``index.json`` and shards, ``.mds``, each a row of samples behind their offsets.

A record is a sample's exact bytes in its shard; the names and encodings of the columns, which give them their
meaning, stand at the beginning of every shard and are part of the record key. ``index.json`` says only which
files there are and in which order.

    shard = u32(samples) ‖ u32(offset) × (samples + 1) ‖ JSON of the columns ‖ samples
    sample = u32(length) per value of no fixed length ‖ values            (all little endian)
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Any, Final

from palm_torch.commit import row_types
from palm_torch.commit.manifest import Column
from palm_torch.data.formats import index_file, mds_encodings, row_columns, table
from palm_torch.errors import DataError, EncodingError, prefixed

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable
    from pathlib import Path

INDEX_NAME: Final = "index.json"
VERSION: Final = 2
MAX_COLUMNS_BYTES: Final = 1 << 20

_SUFFIX: Final = ".mds"
_WIDTH: Final = 4


def find(path: Path) -> list[tuple[str, Path]] | None:
    """Returns the shards of an MDS folder in their order; None if it is none.

    An index that says nothing of shards is another program's, unless shards lie beside it.

    Raises:
        DataError: If its index is malformed, or its shards are compressed, of another kind, missing or of
            another size than it says.
    """
    index = path / INDEX_NAME
    if not path.is_dir() or not index.is_file():
        return None
    has_shards = any(path.glob(f"*{_SUFFIX}"))
    try:
        told = index_file.read(index)
    except DataError as error:
        if has_shards:
            raise DataError(f"{error}; the files of an MDS folder are read by it") from error
        return None
    shards = told.get("shards")
    if not isinstance(shards, list):
        if has_shards:
            raise DataError(f"{index}: expected a list of shards; the files of an MDS folder are read by it")
        return None
    if told.get("version") != VERSION or not all(isinstance(shard, dict) for shard in shards):
        raise DataError(
            f"{index}: expected version {VERSION} of an index of MDS shards; if this is no MDS folder, name "
            "its format (--format, format=)"
        )
    named = [_raw(index, shard) for shard in shards]
    found = index_file.inside(index, [name for name, _ in named])
    for (_, file), (_, size) in zip(found, named, strict=True):
        if file.stat().st_size != size:
            raise DataError(f"{file}: expected {size} bytes, as {INDEX_NAME} says, got {file.stat().st_size}")
    return found


def decoder(layout: table.Layout) -> Callable[[bytes], dict[str, Any]]:
    """Returns what makes an item of a sample: a dictionary of column → value; images stay bytes.

    Raises:
        DataError: If the layout has no columns, or not those of MDS.
    """
    columns = _encodings(layout)
    steps = [(name, encoding.size, encoding.decode) for name, encoding in columns]
    heads = struct.Struct(f"<{sum(size is None for _, size, _ in steps)}I")

    def decode(data: bytes) -> dict[str, Any]:
        if len(data) < heads.size:
            raise DataError(f"MDS sample: expected at least {heads.size} bytes, got {len(data)}")
        lengths = iter(heads.unpack_from(data))
        at = heads.size
        item: dict[str, Any] = {}
        for name, size, read in steps:
            end = at + (next(lengths) if size is None else size)
            try:
                item[name] = read(data, at, end)
            except mds_encodings.FOREIGN_ERRORS as error:
                raise DataError(f"MDS sample: column {name[:80]!r}: {str(error)[:200]}") from error
            at = end
        if at != len(data):
            raise DataError(f"MDS sample: expected {at} bytes, as its lengths say, got {len(data)}")
        return item

    return decode


def together(layout: table.Layout) -> row_columns.Decode | None:
    """Returns what decodes several samples by columns; None if a column has arrays that are not flat."""
    columns = _encodings(layout)
    if any(encoding.makes_arrays and encoding.flat is None for _, encoding in columns):
        return None
    heads = struct.Struct(f"<{sum(encoding.size is None for _, encoding in columns)}I")

    def decode(contents: list[bytes]) -> row_columns.Columns | None:
        if min(map(len, contents)) < heads.size:
            return None
        lengths = iter(zip(*map(heads.unpack_from, contents), strict=True))
        ends = [heads.size] * len(contents)
        places: list[tuple[list[int], list[int]]] = []
        for _, encoding in columns:
            begins, size = ends, encoding.size
            sizes = next(lengths) if size is None else (size,) * len(contents)
            ends = [begin + one for begin, one in zip(begins, sizes, strict=True)]
            places.append((begins, ends))
        if ends != [*map(len, contents)]:
            return None
        found: row_columns.Columns = {}
        try:
            for (name, encoding), (begins, ends) in zip(columns, places, strict=True):
                found[name] = _values(encoding, contents, begins, ends)
        except mds_encodings.FOREIGN_ERRORS:
            return None
        return found

    return decode


def _values(
    encoding: mds_encodings.Encoding, contents: list[bytes], begins: list[int], ends: list[int]
) -> list[Any] | row_columns.Runs:
    """Returns the values of one column."""
    if encoding.flat is None or encoding.size is None:
        read = encoding.decode
        return [read(data, begin, end) for data, begin, end in zip(contents, begins, ends, strict=True)]
    count = encoding.size // encoding.flat.itemsize
    values = row_columns.numbers(contents, begins, ends, encoding.flat)
    return row_columns.Runs(values, [count] * len(contents))


def _encodings(layout: table.Layout) -> list[tuple[str, mds_encodings.Encoding]]:
    return [
        (column.name, mds_encodings.named(column.type.removeprefix(row_types.FOREIGN_PREFIX)))
        for column in layout.columns or ()
    ]


@table.register("mds", decoder=decoder, find=find, together=together)
def open_mds(path: Path, wanted: table.Wanted) -> SampleRows:
    """Opens a shard.

    Raises:
        DataError: If it is missing, empty or malformed, or a column's encoding is unknown or runs code.
    """
    index_file.refuse_wanted(path, wanted, "samples")
    return SampleRows(path, table.map_file(path))


class SampleRows:
    """The samples of one shard, mapped.

    Args:
        path: The file, for messages.
        mapping: The whole file.
    """

    def __init__(self, path: Path, mapping: mmap.mmap) -> None:
        self._path = path
        self._mapping = mapping
        self.size_bytes = len(mapping)
        self.records = int.from_bytes(mapping[:_WIDTH], "little")
        end = _WIDTH * (self.records + 2)
        if not self.records or end > self.size_bytes:
            raise DataError(
                f"{path}: not an MDS shard: {self.records} samples do not fit in {self.size_bytes} bytes"
                if self.records
                else f"{path}: empty shard: a dataset's file holds at least one record"
            )
        self._offsets = memoryview(mapping)[_WIDTH:end].cast("I")
        self._first = self._offsets[0]
        if not end <= self._first <= min(self.size_bytes, end + MAX_COLUMNS_BYTES):
            raise DataError(f"{path}: not an MDS shard: its first sample begins at byte {self._first}")
        with prefixed(str(path)):
            columns = _columns(mapping[end : self._first])
        self.layout = table.Layout("mds", columns=columns)

    def copy(self, number: int) -> bytes:
        """Returns the exact bytes of a sample, copied once.

        Raises:
            DataError: If there is no such sample, or it does not lie in the file.
        """
        if not 0 <= number < self.records:
            raise DataError(f"{self._path}: no record {number}: there are {self.records}")
        offsets = self._offsets
        begin, end = offsets[number], offsets[number + 1]
        if not self._first <= begin <= end <= self.size_bytes:
            raise DataError(
                f"{self._path}: sample {number}: expected bytes within {self._first} to {self.size_bytes}, "
                f"got {begin} to {end}: the shard was damaged or changed"
            )
        return self._mapping[begin:end]

    def where(self, number: int) -> str:
        """Says where a sample lies, for messages."""
        begin, end = self._offsets[number], self._offsets[number + 1]
        return f"bytes {begin} to {end - 1} of the file"


def _raw(index: Path, shard: dict[str, Any]) -> tuple[object, object]:
    """Returns name and size of the uncompressed file of a shard."""
    raw, packed = shard.get("raw_data"), shard.get("zip_data")
    if shard.get("format") != "mds" or not isinstance(raw, dict):
        raise DataError(
            f"{index}: expected shards of format 'mds', got {str(shard.get('format'))[:40]!r}; if this is no "
            "MDS folder, name its format (--format, format=)"
        )
    name = raw.get("basename")
    if isinstance(packed, dict) and isinstance(name, str) and not index_file.is_there(index, name):
        raise DataError(
            f"{index}: shard {name[:80]!r} is there only compressed: decompress it beside "
            f"{str(packed.get('basename'))[:80]!r} (zstd -d), or write the dataset with compression=None"
        )
    return name, raw.get("bytes")


def _columns(data: bytes) -> tuple[Column, ...]:
    """Reads what a shard says of its columns."""
    told = index_file.parse("its columns", data)
    lists = [told.get(f"column_{part}") for part in ("names", "encodings", "sizes")]
    if (told.get("version"), told.get("format")) != (VERSION, "mds"):
        raise DataError(f"not an MDS shard of version {VERSION}")
    columns = []
    for name, encoding, size in itertools.zip_longest(
        *(one if isinstance(one, list) else [None] for one in lists), fillvalue=0
    ):
        if not isinstance(name, str) or not isinstance(encoding, str):
            raise DataError("its columns: expected a name, an encoding and a size for each")
        expected = mds_encodings.named(encoding).size
        if size != expected:
            raise DataError(
                f"column {name[:80]!r}: expected values of {expected} bytes, got {str(size)[:40]}"
            )
        columns.append(Column(name, row_types.FOREIGN_PREFIX + encoding))
    try:
        row_types.check_names([column.name for column in columns], what="columns")
    except EncodingError as error:
        raise DataError(str(error)) from error
    return tuple(columns)
