"""One tensor as a safetensors file: the header, padded to eight bytes, and the bytes as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from palm_torch.commit.safetensors_file import DTYPES
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT: Final = 8
_METADATA: Final = "__metadata__"


def encode(
    name: str, dtype: str, shape: Sequence[int], data: bytes, *, metadata: Mapping[str, str]
) -> tuple[bytes, bytes]:
    """Returns the bytes of a file in two pieces: what comes before the tensor's bytes, and they.

    Args:
        name: The tensor's name.
        dtype: torch's name of its element type.
        shape: Its shape.
        data: Its exact little-endian bytes, row-major.
        metadata: Texts for the header.

    Raises:
        DataError: If the format has no word for the element type, or keeps the name for itself.
    """
    if name == _METADATA:
        raise DataError(f"tensor {name!r}: safetensors keeps this name for itself")
    if dtype not in _NAMES:
        raise DataError(f"tensor {name!r}: safetensors has no element type {dtype!r}")
    tensor = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [0, len(data)]}
    header = json.dumps({_METADATA: dict(metadata), name: tensor}, separators=(",", ":")).encode("utf-8")
    header += b" " * (-len(header) % _ALIGNMENT)
    return len(header).to_bytes(8, "little") + header, data
