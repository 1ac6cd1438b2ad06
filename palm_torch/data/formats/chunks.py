"""Chunks of any file, 4,096 bytes each, the last one shorter: what windows and slices are verified by.

A token file that is read at any offset has no records. Its chunks are what is hashed, compared with the
manifest and counted instead. The file's type does not matter: a chunk is bytes of it, from its first byte on.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from palm_torch.commit import manifest_file
from palm_torch.data.formats import table

if TYPE_CHECKING:
    from pathlib import Path

CHUNK_BYTES: Final = 4096
NAME: Final = "chunks"
LAYOUT: Final = table.Layout(NAME)


def manifest_path(path: Path) -> Path:
    """Returns where the manifest of a file's chunks lies: ``NAME.chunks.palm-manifest`` beside it."""
    return path.with_name(f"{path.name}.{NAME}{manifest_file.SUFFIX}")


@dataclass(frozen=True, slots=True)
class Chunks:
    """One open file, as chunks; see `palm_torch.data.formats.table.Rows`.

    Attributes:
        mapping: The whole file, mapped read-only.
    """

    mapping: mmap.mmap

    @property
    def layout(self) -> table.Layout:
        """How the records lie."""
        return LAYOUT

    @property
    def records(self) -> int:
        """Number of chunks."""
        return -(-len(self.mapping) // CHUNK_BYTES)

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""
        return len(self.mapping)

    def copy(self, number: int) -> bytes:
        """Returns a chunk, copied once out of the mapping."""
        return self.mapping[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]

    def where(self, number: int) -> str:
        """Says which bytes of the file a chunk is."""
        last = min((number + 1) * CHUNK_BYTES, len(self.mapping)) - 1
        return f"bytes {number * CHUNK_BYTES} to {last} of the file"


def _decoder(_layout: table.Layout) -> table.Decoder:
    return lambda chunk: np.frombuffer(chunk, dtype=np.uint8)


@table.register(NAME, decoder=_decoder, by_suffix=False)
def open_chunks(path: Path, _wanted: table.Wanted) -> Chunks:
    """Opens a file as chunks.

    Raises:
        DataError: If the file is missing or empty.
    """
    return Chunks(table.map_file(path))
