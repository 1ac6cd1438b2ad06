"""Megatron-LM's pair of files, written by hand: what the library writes, and what a hostile host may."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from palm_torch.data.formats import megatron

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CODES = {name: code for code, name in megatron.DTYPES.items()}


def index(
    lengths: Sequence[int],
    pointers: Sequence[int],
    *,
    code: int = CODES["uint16"],
    documents: Sequence[int] = (0,),
    magic: bytes = megatron.MAGIC,
    version: int = 1,
    sequences: int | None = None,
) -> bytes:
    """Returns an index with these fields, whatever they say."""
    count = len(lengths) if sequences is None else sequences
    head = magic + struct.pack("<QBQQ", version, code, count, len(documents))
    body = (np.asarray(lengths, "<i4"), np.asarray(pointers, "<i8"), np.asarray(documents, "<i8"))
    return head + b"".join(part.tobytes() for part in body)


def write(prefix: Path, sequences: Sequence[Sequence[int]], dtype: str = "uint16") -> Path:
    """Writes a pair; returns the path of the ``.bin`` file."""
    data = [np.asarray(sequence, dtype).tobytes() for sequence in sequences]
    lengths = [len(sequence) for sequence in sequences]
    pointers = np.cumsum([0, *map(len, data[:-1])])
    path = prefix.with_name(prefix.name + ".bin")
    path.write_bytes(b"".join(data))
    path.with_suffix(".idx").write_bytes(index(lengths, pointers.tolist(), code=CODES[dtype]))
    return path
