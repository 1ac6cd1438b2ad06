"""A folder of files: every file is one record, together with its name.

A file's name is part of its record, for the name of a folder is often a label. Files come in the order of
their names' bytes. What begins with a dot, and the files this library writes beside data, are left out;
links, and what is neither file nor folder, are refused: every step of a path is opened from the folder before
it, so none can be exchanged for a link later. Only where the caller names the format.
"""

from __future__ import annotations

import contextlib
import operator
import os
import stat
import weakref
from array import array
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from palm_torch.commit import manifest as manifests
from palm_torch.commit import manifest_file, rows
from palm_torch.commit.manifest import Column
from palm_torch.data.formats import line_index, table
from palm_torch.data.measuring import products
from palm_torch.errors import DataError, EncodingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

LAYOUT: Final = table.Layout("files", columns=(Column("content", "binary"), Column("name", "string")))
OWN_SUFFIXES: Final = (manifest_file.SUFFIX, line_index.SUFFIX, products.SUFFIX)
"""Suffixes of the files that this library writes beside data."""

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


class Files:
    """One open folder; see `palm_torch.data.formats.table.Rows`.

    The names are kept joined: a Python object for each would cost more than a hundred bytes.

    Attributes:
        layout: Content and name.
        records: Number of files.
        size_bytes: Size of all of them when the folder was opened.
    """

    __slots__ = (
        *("__weakref__", "_codec", "_descriptor", "_ends", "_names"),
        *("folder", "layout", "records", "size_bytes"),
    )

    def __init__(
        self, folder: Path, descriptor: int, names: bytes, ends: NDArray[np.uint64], size_bytes: int
    ) -> None:
        self.folder = folder
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor).atexit = False
        self.layout = LAYOUT
        self.records = len(ends)
        self.size_bytes = size_bytes
        self._names = names
        self._ends = ends
        self._codec = rows.Codec(LAYOUT.columns or ())

    def copy(self, number: int) -> bytes:
        """Reads a file once and returns the row of its content and its name.

        Raises:
            DataError: If it is gone, lies behind a link, cannot be read, or is too large.
        """
        name = self._name(number)
        where = self.folder / name
        try:
            with open(self._opened(name), "rb", buffering=0) as stream:  # noqa: PTH123 (a descriptor)
                status = os.fstat(stream.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_size > manifests.MAX_RECORD_BYTES:
                    raise DataError(
                        f"{where}: expected a file of at most {manifests.MAX_RECORD_BYTES} bytes, got "
                        f"{status.st_size} bytes, mode {status.st_mode:o}"
                    )
                content = stream.read(status.st_size + 1)
                while len(content) < status.st_size and (more := stream.read(status.st_size - len(content))):
                    content += more
        except OSError as error:
            raise DataError(f"{where}: record {number} cannot be read: {error.strerror or error}") from error
        return self._codec.encode((content, name))

    def where(self, number: int) -> str:
        """Says which file it is."""
        return f"the file {self._name(number)!r}"

    def _opened(self, name: str) -> int:
        """Opens a file of the folder, step by step."""
        *folders, last = name.split("/")
        with contextlib.ExitStack() as stack:
            at = self._descriptor
            for folder in folders:
                at = os.open(folder, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=at)
                stack.callback(os.close, at)
            return os.open(last, _FLAGS, dir_fd=at)

    def _name(self, number: int) -> str:
        start = int(self._ends[number - 1]) if number else 0
        return self._names[start : int(self._ends[number])].decode()


def _decoder(_layout: table.Layout) -> table.Decoder:
    """Returns the function that takes content and name out of a record."""
    decode = rows.Codec(LAYOUT.columns or ()).decode

    def item(record: bytes) -> Any:  # noqa: ANN401 (a dictionary)
        try:
            content, name = decode(record)
        except EncodingError as error:
            raise DataError(str(error)) from error
        return {"content": content, "name": name}

    return item


@table.register("files", decoder=_decoder, by_suffix=False)
def open_files(path: Path, wanted: table.Wanted) -> Files:
    """Opens a folder with all that lies in it.

    Raises:
        DataError: If it is no folder, holds no file or only empty ones, a link, something that is neither
            file nor folder, or a name that is not UTF-8 or too long; or a record length or type is wanted.
    """
    if wanted.record_length is not None or wanted.dtype is not None:
        raise DataError(f"{path}: record_length, token_dtype: files of a folder are no rows of elements")
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder, every file of which is a record")
    names, ends, size_bytes = bytearray(), array("Q"), 0
    try:
        with contextlib.ExitStack() as stack:
            descriptor = os.open(path, _FOLDER_FLAGS)
            stack.callback(os.close, descriptor)
            for name, size in _walk(path, descriptor, ""):
                names += name
                ends.append(len(names))
                size_bytes += size
            if size_bytes:
                stack.pop_all()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: a file name is not UTF-8: {error.object[:80]!r}: rename it") from error
    if not size_bytes:
        raise DataError(f"{path}: no dataset files there: expected files that are not empty, not hidden")
    return Files(path, descriptor, bytes(names), np.frombuffer(ends, np.uint64), size_bytes)


def _walk(folder: Path, descriptor: int, prefix: str) -> Iterator[tuple[bytes, int]]:
    """Yields path in the folder, with slashes, and size of every file, in the order of the paths' bytes.

    Args:
        folder: The dataset's folder, for messages.
        descriptor: Of the folder to list.
        prefix: Its path in the dataset's folder, with a slash at the end; empty for that folder itself.
    """
    try:
        with os.scandir(descriptor) as entries:
            found = sorted(
                (
                    (_place(folder, prefix, entry), entry)
                    for entry in entries
                    if not entry.name.startswith(".") and (prefix or not _is_own(entry))
                ),
                key=operator.itemgetter(0),
            )
        for place, entry in found:
            if not place.endswith(b"/"):
                yield place, entry.stat(follow_symlinks=False).st_size
                continue
            beneath = os.open(entry.name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=descriptor)
            try:
                yield from _walk(folder, beneath, place.decode())
            finally:
                os.close(beneath)
    except OSError as error:
        raise DataError(f"{folder / prefix}: cannot be read: {error.strerror or error}") from error


def _is_own(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(OWN_SUFFIXES) and entry.is_file(follow_symlinks=False)


def _place(folder: Path, prefix: str, entry: os.DirEntry[str]) -> bytes:
    """Returns an entry's path in the folder; that of a folder ends in a slash, which puts it in its place."""
    name = prefix + entry.name
    if entry.is_symlink():
        raise DataError(f"{folder / name}: is a link, and links are not followed: put the file there")
    if entry.is_dir(follow_symlinks=False):
        name += "/"
    elif not entry.is_file(follow_symlinks=False):
        raise DataError(f"{folder / name}: is neither a file nor a folder: move it away")
    place = name.encode()
    if len(place) > manifests.MAX_NAME_BYTES:
        raise DataError(f"{folder / name}: expected a name of at most {manifests.MAX_NAME_BYTES} bytes")
    return place
