"""Raw token files, ``.bin``: nothing but little-endian elements, so the caller says how long a record is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.data.formats import table
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_DTYPE: Final = "uint16"


@table.register("bin")
def open_bin(path: Path, wanted: table.Wanted) -> table.ShardView:
    """Opens a raw file as records of ``wanted.record_length`` elements (uint16 unless said otherwise).

    Raises:
        DataError: If no record length was given, or the file is missing, empty or ragged.
    """
    if wanted.record_length is None:
        raise DataError(
            f"{path}: a .bin file does not say how long its records are: "
            "pass record_length=<tokens per record>, or run `palm-torch measure` with --record-length first"
        )
    layout = table.Layout("bin", wanted.dtype or DEFAULT_DTYPE, (wanted.record_length,))
    return table.whole_records(path, table.map_file(path), 0, layout)
