"""Arrow files, ``.arrow``: IPC files and streams, and folders that `datasets.Dataset.save_to_disk` wrote.

A file is mapped. What describes it (schema and the heads of its batches) is copied into private memory before
it is parsed; the values stay in the mapping until a row is copied out. The record is the row's canonical
encoding, so the same rows in other batches, or in Parquet, have the same digests.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, Final

from palm_torch import extras
from palm_torch.commit import row_decoding, row_types, rows
from palm_torch.data.formats import index_file, row_decoder, table
from palm_torch.errors import DataError, prefixed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from palm_torch.data.formats.arrow_batch import Batch, Pack
    from palm_torch.data.formats.arrow_columns import Plain

STATE_NAME: Final = "state.json"
_SPLITS_NAME: Final = "dataset_dict.json"
_FILE_MAGIC: Final = b"ARROW1\0\0"


def find(path: Path) -> list[tuple[str, Path]] | None:
    """Returns the files of a folder that `save_to_disk` wrote, in their order; None if it is none.

    Raises:
        DataError: If it holds several splits, its state is malformed, or rows are chosen by an index.
    """
    if not path.is_dir():
        return None
    if (path / _SPLITS_NAME).is_file():
        splits = index_file.read(path / _SPLITS_NAME).get("splits")
        told = ", ".join(map(str, splits)) if isinstance(splits, list) else "its sub-folders"
        raise DataError(f"{path}: a DatasetDict has several datasets: open one of its splits ({told[:200]})")
    if not (path / STATE_NAME).is_file():
        return None
    state = index_file.read(path / STATE_NAME)
    if "_data_files" not in state:
        return None
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(
            f"{path / STATE_NAME}: its rows are chosen by an index of an older version of datasets: "
            "load it and save it to another folder, which writes the chosen rows"
        )
    entries = state["_data_files"]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path / STATE_NAME}: expected a list of files under '_data_files'")
    return index_file.inside(path / STATE_NAME, [entry.get("filename") for entry in entries])


@table.register("arrow", decoder=row_decoder.decoder, together=row_decoder.together, find=find)
def open_arrow(path: Path, wanted: table.Wanted) -> BatchRows:
    """Opens an IPC file or an IPC stream.

    Raises:
        DataError: If it is missing, empty, malformed or compressed, or a column has no type of rows.
        MissingExtraError: If pyarrow is not installed.
    """
    index_file.refuse_wanted(path, wanted, "rows of columns")
    mapping = table.map_file(path)
    with extras.needed("data", for_what="reading .arrow files"):
        from palm_torch.data.formats import arrow_stream  # noqa: PLC0415 (pyarrow is an extra)
    begin = len(_FILE_MAGIC) if mapping[: len(_FILE_MAGIC)] == _FILE_MAGIC else 0
    schema, batches = arrow_stream.read(path, mapping, begin)
    return BatchRows(path, schema, batches, len(mapping))


class BatchRows:
    """The rows of batches in memory or in a mapping.

    Args:
        path: File or label, for messages.
        schema: Names and types of the columns.
        batches: The batches; what they say of themselves was validated.
        size_bytes: Size of the file.
        format_name: Name of the format.
    """

    def __init__(
        self,
        path: Path | str,
        schema: pa.Schema,
        batches: Sequence[pa.RecordBatch],
        size_bytes: int,
        *,
        format_name: str = "arrow",
    ) -> None:
        from palm_torch.data.formats import arrow_batch, arrow_types  # noqa: PLC0415 (pyarrow is an extra)

        self._path = path
        with prefixed(str(path)):
            columns = arrow_types.columns(schema)
        self._make, self._plain_row = arrow_batch.Batch, arrow_batch.plain_row
        form = rows.plain_trailer(row_types.check_columns(columns))
        self._has_plain = form is not None
        self._pack: Pack = bytes if form is None else form.pack
        self._marks = 0 if form is None else form.size - row_decoding.COUNT.size
        self._raw: list[pa.RecordBatch | None] = [batch for batch in batches if batch.num_rows]
        self._open: list[Batch | None] = [None] * len(self._raw)
        self._plans: list[Sequence[Plain]] = [()] * len(self._raw)
        self._starts = [0, *itertools.accumulate(batch.num_rows for batch in batches if batch.num_rows)]
        self.records: int = self._starts.pop()
        self.layout = table.Layout(format_name, columns=columns)
        self.size_bytes = size_bytes
        if not self.records:
            raise DataError(f"{path}: empty shard: a dataset's file holds at least one record")

    def copy(self, number: int) -> bytes:
        """Returns the canonical bytes of a row, whose values were copied once.

        Raises:
            DataError: If there is no such row, or the buffers contradict themselves.
        """
        if not 0 <= number < self.records:
            raise DataError(f"{self._path}: no record {number}: there are {self.records}")
        at = bisect.bisect_right(self._starts, number) - 1
        place, plans = number - self._starts[at], self._plans[at]
        try:
            if plans:
                return self._plain_row(plans, place, self._pack, self._marks)
            return (self._open[at] or self._opened(at)).row(place)
        except DataError as error:
            raise DataError(f"{self._path}: {self.where(number)}: {error}") from error

    def check(self, first: int, count: int) -> None:
        """Refuses rows that no item could be made of, before they are measured: a string must be UTF-8.

        Args:
            first: Number of the first row.
            count: How many follow each other.

        Raises:
            DataError: If there is one; the message says in which rows.
        """
        while count:
            at = bisect.bisect_right(self._starts, first) - 1
            start, end = self._starts[at], [*self._starts, self.records][at + 1]
            stop = min(first + count, end)
            batch = self._open[at] or self._opened(at)
            try:
                batch.check(range(first - start, stop - start))
            except DataError as error:
                raise DataError(f"{self._path}: rows {first} to {stop - 1} of the file: {error}") from error
            first, count = stop, count - (stop - first)

    def where(self, number: int) -> str:
        """Says where a row lies, for messages."""
        at = bisect.bisect_right(self._starts, number) - 1
        return f"row {number - self._starts[at]} of batch {at} of the file"

    def _opened(self, at: int) -> Batch:
        batch = self._make(self._raw[at])
        self._open[at], self._raw[at] = batch, None
        self._plans[at] = batch.plans if self._has_plain else ()
        return batch
