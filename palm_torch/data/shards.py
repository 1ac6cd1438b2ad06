"""Finding the files of a dataset and opening them as one row of records.

A dataset is one file, or a folder whose files of one known format are taken in the order of their names
(bytes of UTF-8). Sub-folders, hidden files and files of no known format are not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palm_torch.data.formats import npy, raw, table
from palm_torch.errors import DataError

FORMAT_MODULES = (npy, raw)
"""Importing them is what registers the formats."""


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One file of a dataset.

    Attributes:
        name: Path relative to the dataset's folder, POSIX separators.
        path: Where it lies.
        size_bytes: Size of the whole file.
        view: The open file.
    """

    name: str
    path: Path
    size_bytes: int
    view: table.ShardView


def find(path: Path) -> tuple[str, list[tuple[str, Path]]]:
    """Returns the format's name and the files (name, path) of the dataset at `path`, in order.

    Raises:
        DataError: If nothing is there, no file has a known format, two formats are mixed, or a link
            leads out of the folder.
    """
    if path.is_dir():
        found = sorted(
            (item for item in path.iterdir() if not item.name.startswith(".") and _format(item)),
            key=lambda item: item.name.encode("utf-8", "surrogateescape"),
        )
    elif path.is_file():
        found = [path] if _format(path) else []
    else:
        raise DataError(f"{path}: no such file or folder")
    formats = {_format(item) for item in found}
    if not found:
        known = ", ".join(f".{name}" for name in sorted(table.FORMATS))
        raise DataError(f"{path}: no dataset files there: expected names that end in {known}")
    if len(formats) > 1:
        mixed = " and ".join(f".{name}" for name in sorted(formats))
        raise DataError(f"{path}: {mixed} files are mixed: a dataset has files of one format")
    if path.is_dir():
        inside = path.resolve()
        for item in found:
            if not item.resolve().is_relative_to(inside):
                raise DataError(f"{item}: leads out of the dataset's folder, to {item.resolve()}")
    return formats.pop(), [(item.name, item) for item in found]


def open_all(path: Path, wanted: table.Wanted) -> list[ShardFile]:
    """Opens every file of a dataset and checks that all have one layout.

    Raises:
        DataError: As `find` and the format functions do, and if two files differ in type or shape.
    """
    name_of_format, files = find(path)
    opened: list[ShardFile] = []
    for name, file in files:
        view = table.FORMATS[name_of_format](file, wanted)
        if opened and view.layout != opened[0].view.layout:
            raise DataError(
                f"{file}: expected {opened[0].view.layout} as in {files[0][1]}, got {view.layout}"
            )
        opened.append(ShardFile(name, file, len(view.mapping), view))
    return opened


def _format(path: Path) -> str:
    name = path.suffix.removeprefix(".")
    return name if name in table.FORMATS and path.is_file() else ""


def wanted_for(layout: table.Layout) -> table.Wanted:
    """Returns what to ask of a file so that it opens with this layout, if it can."""
    return table.Wanted(layout.shape[0] if len(layout.shape) == 1 else None, layout.dtype)
