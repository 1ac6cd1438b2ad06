"""Reading the batches of a mapped Arrow stream without copying their values.

The parser of Arrow checks the description of a batch and then believes it, so it gets a private copy: nobody
can change it in between. The bodies of the batches stay where they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from palm_torch.errors import DataError

if TYPE_CHECKING:
    import mmap
    from pathlib import Path


def read(path: Path, mapping: mmap.mmap, begin: int) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Reads what a stream says of its batches.

    Args:
        path: The file, for messages.
        mapping: The whole file.
        begin: Where the stream begins. (An IPC file is a stream between a magic word and an index, which
            is not needed here.)

    Returns:
        The schema and the batches, whose buffers lie in the mapping.

    Raises:
        DataError: If it is malformed, or its buffers are compressed.
    """
    whole = pa.py_buffer(mapping)
    batches: list[pa.RecordBatch] = []
    try:
        reader = pa.ipc.open_stream(pa.PythonFile(_Source(mapping, whole, begin), mode="r"))
        for batch in reader:
            batch.validate()
            if not all(_mapped(array, whole) for array in batch.columns):
                raise DataError(
                    f"{path}: its buffers are compressed or of another byte order, so rows cannot be read "
                    "from the file as it is: write it with pyarrow's IpcWriteOptions(compression=None), "
                    "or as Parquet"
                )
            batches.append(batch)
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        raise DataError(f"{path}: not a readable Arrow file: {str(error)[:300]}") from error
    return reader.schema, batches


class _Source:
    """A mapped stream as a file object: heads of batches are given as private copies, bodies as they lie."""

    closed = False

    def __init__(self, mapping: mmap.mmap, whole: pa.Buffer, begin: int) -> None:
        self._mapping = mapping
        self._whole = whole
        self._at = begin
        self._head_follows = False

    def read(self, size: int) -> bytes:
        """Returns a private copy: Arrow asks so for the length of a head."""
        self._head_follows = True
        copied: bytes = self._mapping[self._at : self._at + size]
        self._at += len(copied)
        return copied

    def read_buffer(self, size: int) -> pa.Buffer:
        """Returns a head, which follows its length, as a private copy, and a body as it lies."""
        if self._head_follows:
            copied = pa.py_buffer(self.read(size))
            self._head_follows = False
            return copied
        size = min(size, len(self._mapping) - self._at)
        self._at += size
        return self._whole.slice(self._at - size, size)

    def tell(self) -> int:
        """Returns the place in the file."""
        return self._at

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is not."""
        return False

    def seekable(self) -> bool:
        """It is not."""
        return False

    def close(self) -> None:
        """Leaves the mapping open: the batches lie in it."""


def _mapped(array: pa.Array, whole: pa.Buffer) -> bool:
    """Tells whether every buffer of an array lies in the mapping."""
    last = whole.address + whole.size
    return all(
        buffer is None or not buffer.size or whole.address <= buffer.address <= last - buffer.size
        for buffer in array.buffers()
    )
