"""Parquet files, ``.parquet``: rows of columns, compressed in row groups.

A row group is read once into private memory and kept there while rows of it are asked for; the record is the
row's canonical encoding, the same as in an Arrow file. Whoever samples at random over many row groups decodes
one for nearly every record: read in order, shuffle within groups, or save the dataset as Arrow.
"""

from __future__ import annotations

import bisect
import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from palm_torch import extras
from palm_torch.data.formats import arrow, index_file, row_decoder, table
from palm_torch.errors import DataError, prefixed
from palm_torch.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

CACHE_BYTES: Final = 256 << 20
"""Most bytes of decoded row groups kept per file; one group is kept whatever its size."""

_MAGIC: Final = b"PAR1"


@table.register("parquet", decoder=row_decoder.decoder, together=row_decoder.together)
def open_parquet(path: Path, wanted: table.Wanted) -> GroupRows:
    """Opens a Parquet file.

    Raises:
        DataError: If it is missing, empty or malformed, or a column has no type of rows.
        MissingExtraError: If pyarrow is not installed.
    """
    index_file.refuse_wanted(path, wanted, "rows of columns")
    with extras.needed("data", for_what="reading .parquet files"):
        import pyarrow.parquet  # noqa: PLC0415, F401 (pyarrow is an extra)
    return GroupRows(path)


class GroupRows:
    """The rows of a Parquet file, decoded a row group at a time."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa  # noqa: PLC0415 (an extra, asked for above)
        from pyarrow import parquet  # noqa: PLC0415 (likewise)

        from palm_torch.data.formats import arrow_types  # noqa: PLC0415 (likewise)

        self._path = path
        self._foreign = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError)
        try:
            open_regular(path).close()  # Arrow's own reader would wait for a pipe
            self._file = parquet.ParquetFile(path, memory_map=False, pre_buffer=False)
            head = self._file.metadata
            sizes = [head.row_group(at).num_rows for at in range(head.num_row_groups)]
            self.size_bytes = path.stat().st_size
            schema = self._file.schema_arrow
        except self._foreign as error:
            raise DataError(f"{path}: not a readable Parquet file: {str(error)[:300]}") from error
        if any(size < 0 for size in sizes):
            raise DataError(f"{path}: not a readable Parquet file: a row group of {min(sizes)} rows")
        if not sum(sizes):
            raise DataError(f"{path}: empty shard: a dataset's file holds at least one record")
        self._schema = schema
        self._starts = [0, *itertools.accumulate(sizes)]
        self.records: int = self._starts.pop()
        self._groups: OrderedDict[int, tuple[arrow.BatchRows, int]] = OrderedDict()
        self._kept_bytes = 0
        with prefixed(str(path)):
            self.layout = table.Layout("parquet", columns=arrow_types.columns(schema))

    def copy(self, number: int) -> bytes:
        """Returns the canonical bytes of a row.

        Raises:
            DataError: If there is no such row, or its row group cannot be read.
        """
        if not 0 <= number < self.records:
            raise DataError(f"{self._path}: no record {number}: there are {self.records}")
        at = bisect.bisect_right(self._starts, number) - 1
        kept = self._groups.get(at)
        if kept is None:
            kept = self._read(at)
        else:
            self._groups.move_to_end(at)
        return kept[0].copy(number - self._starts[at])

    def where(self, number: int) -> str:
        """Says where a row lies, for messages."""
        at = bisect.bisect_right(self._starts, number) - 1
        return f"row {number - self._starts[at]} of row group {at} of the file"

    def _read(self, at: int) -> tuple[arrow.BatchRows, int]:
        """Reads a row group and makes room for it."""
        expected = ([*self._starts, self.records])[at + 1] - self._starts[at]
        try:
            group = self._file.read_row_group(at, use_threads=False).combine_chunks()
            group.validate(full=True)  # strings are UTF-8; in private memory, where nobody rewrites them
        except self._foreign as error:
            raise DataError(f"{self._path}: row group {at} cannot be read: {str(error)[:300]}") from error
        if group.num_rows != expected or group.schema.names != self._schema.names:
            raise DataError(f"{self._path}: row group {at}: expected {expected} rows, got {group.num_rows}")
        size: int = group.nbytes
        while self._groups and self._kept_bytes + size > CACHE_BYTES:
            self._kept_bytes -= self._groups.popitem(last=False)[1][1]
        label = f"{self._path}, row group {at}"
        kept = arrow.BatchRows(label, group.schema, group.to_batches(), size, format_name="parquet"), size
        self._groups[at] = kept
        self._kept_bytes += size
        return kept
