"""Rows of a `datasets.Dataset` at hand, in memory or mapped, in the order that it shows them.

What is measured are the rows as they are stored. A transform that is set on the dataset runs after that, so
it is refused here: apply it to the items, or give the dataset to `AttestedDataset`, which measures what comes
out.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, Any, Final

from palm_torch import extras
from palm_torch.data.formats import arrow, row_decoder
from palm_torch.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

DECODER: Final = row_decoder.decoder
"""Makes items of the rows, as for Arrow files; the dataset's own format does not apply."""

LABEL: Final = "<datasets.Dataset>"
_NUMBER_BYTES: Final = 8
_FORMATS: Final = (None, "python", "numpy", "torch", "arrow")


def rows_of(dataset: Any) -> DatasetRows:  # noqa: ANN401 (datasets is an extra without types)
    """Returns the rows of a dataset.

    Args:
        dataset: A `datasets.Dataset`; after ``select``, ``shuffle``, ``filter`` and the like, its rows are
            the chosen ones in their order.

    Raises:
        DataError: If a transform is set on it, its format chooses columns, or a column has no type of rows.
        MissingExtraError: If datasets is not installed.
    """
    with extras.needed("hf", for_what="rows of a datasets.Dataset"):
        import datasets  # noqa: PLC0415 (an extra)
    if not isinstance(dataset, datasets.Dataset):
        raise DataError(f"expected a datasets.Dataset, got {type(dataset).__name__}: open one split of it")
    form = dataset.format
    if form["type"] not in _FORMATS:
        raise DataError(
            f"{LABEL}: rows are measured as they are stored, before any transform, but the format "
            f"{form['type']!r} is set: pass dataset.with_format(None) and transform the items, or use "
            "AttestedDataset(dataset), which measures the transformed items"
        )
    if list(form["columns"]) != dataset.column_names:
        raise DataError(
            f"{LABEL}: its format shows {len(form['columns'])} of {len(dataset.column_names)} columns: "
            "use dataset.select_columns([...]) instead, which leaves the others out of the rows"
        )
    return DatasetRows(dataset)


class DatasetRows:
    """The rows of a dataset, by their numbers in it.

    Args:
        dataset: A `datasets.Dataset` that shows all its columns and has no transform.
    """

    def __init__(self, dataset: Any) -> None:  # noqa: ANN401 (datasets is an extra without types)
        self._dataset = dataset
        whole: pa.Table = dataset.data.table
        chosen: Any = dataset._indices  # noqa: SLF001 (select and shuffle leave the rows where they are)
        self._rows = of_table(whole)
        self._choice = None if chosen is None else _Choice(chosen.table.column(0), self._rows.records)
        self.layout = self._rows.layout
        self.size_bytes = self._rows.size_bytes
        self.records: int = self._rows.records if self._choice is None else self._choice.size

    def copy(self, number: int) -> bytes:
        """Returns the canonical bytes of a row.

        Raises:
            DataError: If there is no such row, or the buffers contradict themselves.
        """
        return self._rows.copy(number if self._choice is None else self._choice.row(number))

    def where(self, number: int) -> str:
        """Says where a row lies, for messages."""
        return f"row {number} of the dataset"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels as the dataset, which sends paths where its rows are mapped."""
        return rows_of, (self._dataset,)


def of_table(whole: pa.Table, *, label: str = LABEL) -> arrow.BatchRows:
    """Returns the rows of a table.

    Args:
        whole: The table, in memory or mapped.
        label: What to call it in messages.

    Raises:
        DataError: If it is malformed, has no rows, or a column has no type of rows.
        MissingExtraError: If pyarrow is not installed.
    """
    with extras.needed("data", for_what="rows of a table"):
        import pyarrow as pa  # noqa: PLC0415 (an extra)
    try:
        batches = whole.to_batches()
        for batch in batches:
            batch.validate()
    except pa.ArrowException as error:
        raise DataError(f"{label}: {str(error)[:300]}") from error
    return arrow.BatchRows(label, whole.schema, batches, whole.nbytes)


class _Choice:
    """The numbers of chosen rows; they may lie in a mapped file, so each is read once and bounded.

    Attributes:
        size: How many were chosen.
    """

    def __init__(self, numbers: pa.ChunkedArray, limit: int) -> None:
        self._chunks = [_numbers(chunk) for chunk in numbers.chunks if len(chunk)]
        self._starts = [0, *itertools.accumulate(map(len, self._chunks))]
        self.size: int = self._starts.pop()
        self._limit = limit
        if not self.size:
            raise DataError(f"{LABEL}: empty: a dataset holds at least one record")

    def row(self, number: int) -> int:
        """Returns which row stands at a place.

        Raises:
            DataError: If there is no such place, or no such row.
        """
        if not 0 <= number < self.size:
            raise DataError(f"{LABEL}: no record {number}: there are {self.size}")
        at = bisect.bisect_right(self._starts, number) - 1
        row = int(self._chunks[at][number - self._starts[at]])
        if row >= self._limit:
            raise DataError(f"{LABEL}: record {number} is row {row} of {self._limit}: its index was changed")
        return row


def _numbers(chunk: pa.Array) -> memoryview:
    """Returns 64-bit numbers without sign as they lie in memory."""
    width, end = _NUMBER_BYTES, chunk.offset + len(chunk)
    data = memoryview(chunk.buffers()[1]).cast("B")[chunk.offset * width : end * width]
    if str(chunk.type) != "uint64" or len(data) != len(chunk) * width:
        raise DataError(f"{LABEL}: expected an index of {len(chunk)} uint64, got {chunk.type}")
    return data.cast("Q")
