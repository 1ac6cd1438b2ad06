"""Arrow's types as types of rows: what a value is, without how it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from palm_torch.commit import row_types
from palm_torch.commit.manifest import Column
from palm_torch.errors import DataError, EncodingError

if TYPE_CHECKING:
    from palm_torch.commit.row_types import RowType

_OTHER_NAMES: Final = {"halffloat": "float16", "float": "float32", "double": "float64"}


def columns(schema: pa.Schema) -> tuple[Column, ...]:
    """Returns the columns of a table as columns of rows.

    Raises:
        DataError: If a type is not one of rows, or a name occurs twice.
    """
    try:
        found = tuple(Column(field.name, str(_of_column(field))) for field in schema)
        row_types.check_columns(found)
    except EncodingError as error:
        raise DataError(f"{error}; other rows can be read by AttestedDataset(encode=)") from error
    except UnicodeDecodeError as error:
        raise DataError(f"columns: expected names in UTF-8, got {error.object[:40]!r}") from error
    return found


def row_type(kind: pa.DataType) -> RowType:
    """Returns the type of rows that has the values of an Arrow type.

    Raises:
        DataError: If there is none.
    """
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return row_type(kind.storage_type)
    if types.is_dictionary(kind):
        return row_type(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind):
        return row_types.STRING
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return row_types.BINARY
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        if types.is_fixed_size_list(kind) and kind.list_size < 0:
            raise DataError(f"expected lists of a size that can be, got {kind.list_size}")
        return row_types.ListOf(row_type(kind.value_type))
    if types.is_struct(kind):
        fields = tuple((field.name, row_type(field.type)) for field in kind)
        row_types.check_names([name for name, _ in fields], what="fields of a struct")
        return row_types.Struct(fields)
    found = row_types.fixed(_OTHER_NAMES.get(str(kind), str(kind)))
    if found is None:
        raise DataError(
            f"rows have no values of Arrow's type {str(kind)[:80]}: cast the column to numbers, strings, "
            "bytes, lists or structs of them, or give the dataset to AttestedDataset(encode=)"
        )
    return found


def stored(array: pa.Array) -> pa.Array:
    """Returns what lies in memory for an array of an extension type."""
    while isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    return array


def _of_column(field: pa.Field) -> RowType:
    try:
        return row_type(field.type)
    except DataError as error:
        raise DataError(f"column {field.name[:80]!r}: {error}") from error
