"""Finding the files of a dataset and opening them as one row of records.

A dataset is one file, or a folder whose files of one known format are taken in the order of their names
(bytes of UTF-8). Sub-folders, hidden files and files of no known format are not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palm_torch.commit import manifest_file
from palm_torch.data.formats import (
    arrow,
    chunks,
    files,
    jsonl,
    mds,
    megatron,
    npy,
    parquet,
    raw,
    safetensors,
    table,
)
from palm_torch.errors import DataError

FORMAT_MODULES = (arrow, chunks, files, jsonl, mds, megatron, npy, parquet, raw, safetensors)
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
    view: table.ShardView | table.Rows


def find(path: Path, wanted: str | None = None) -> tuple[str, list[tuple[str, Path]]]:
    """Returns the format's name and the files (name, path) of the dataset at `path`, in order.

    Args:
        path: File or folder.
        wanted: Name of the format, if the caller knows it.

    Raises:
        DataError: If nothing is there, no file has a known format, two formats are mixed, or a link
            leads out of the folder.
    """
    look_up(path)
    for name, known in table.FORMATS.items():  # by more than names: a folder with an index, a pair of files
        files = known.find(path) if known.find is not None and wanted in (None, name) else None
        if files is not None:
            return name, _inside(path, files)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if wanted is not None and not table.FORMATS[wanted].by_suffix:
        return wanted, [(wanted if path.is_dir() else path.name, path)]
    if path.is_dir():
        found = sorted(
            (item for item in path.iterdir() if not item.name.startswith(".") and _format(item)),
            key=lambda item: item.name.encode("utf-8", "surrogateescape"),
        )
    else:
        found = [path] if _format(path) or wanted else []
    formats = {_format(item) for item in found}
    if wanted is not None:
        found, formats = [item for item in found if item == path or _format(item) == wanted], {wanted}
    if not found:
        endings = ", ".join(f".{name}" for name, known in sorted(table.FORMATS.items()) if known.by_suffix)
        raise DataError(
            f"{path}: no dataset files there: expected names that end in "
            f"{endings if wanted is None else '.' + wanted}"
        )
    if len(formats) > 1:
        mixed = " and ".join(f".{name}" for name in sorted(formats))
        raise DataError(f"{path}: {mixed} files are mixed: a dataset has files of one format; pass format=")
    return formats.pop(), _inside(path, [(item.name, item) for item in found])


def open_all(path: Path, wanted: table.Wanted) -> list[ShardFile]:
    """Opens every file of a dataset and checks that all have one layout.

    Raises:
        DataError: As `find` and the format functions do, and if two files differ in layout.
    """
    name_of_format, files = find(path, wanted.format)
    opened: list[ShardFile] = []
    for name, file in files:
        view = table.FORMATS[name_of_format].open(file, wanted)
        if opened and view.layout != opened[0].view.layout:
            raise DataError(
                f"{file}: expected {opened[0].view.layout} as in {files[0][1]}, got {view.layout}"
            )
        opened.append(ShardFile(name, file, view.size_bytes, view))
    return opened


def manifest_beside(path: Path, wanted: str | None = None) -> Path:
    """Returns where a dataset's manifest lies; the names of a pair of files lead to one place.

    Args:
        path: The dataset's file or folder.
        wanted: Name of the format: that of a file's chunks lies beside that of its records.
    """
    if wanted == chunks.NAME:
        return chunks.manifest_path(path)
    if not look_up(path).is_dir():
        for known in table.FORMATS.values():
            files = known.find(path) if known.find is not None else None
            if files is not None and len(files) == 1:
                return manifest_file.path_beside(files[0][1])
    return manifest_file.path_beside(path)


def look_up(path: Path) -> Path:
    """Returns a path that the system can look up, whether or not something is there.

    Raises:
        DataError: If it cannot: the path is too long, or leads through a folder that may not be entered.
    """
    try:
        path.exists()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return path


def suffixes() -> frozenset[str]:
    """Returns the endings of names that tell a format, without the dot."""
    return frozenset(name for name, known in table.FORMATS.items() if known.by_suffix)


def _inside(path: Path, files: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Returns the files of a dataset, none of which may lead out of its folder."""
    if path.is_dir():
        inside = path.resolve()
        for _, item in files:
            if not item.resolve().is_relative_to(inside):
                raise DataError(f"{item}: leads out of the dataset's folder, to {item.resolve()}")
    return files


def _format(path: Path) -> str:
    name = path.suffix.removeprefix(".")
    return name if name in table.FORMATS and table.FORMATS[name].by_suffix and path.is_file() else ""


def wanted_for(layout: table.Layout) -> table.Wanted:
    """Returns what to ask of a file so that it opens with this layout, if it can."""
    length = layout.shape[0] if layout.shape is not None and len(layout.shape) == 1 else None
    tensor = layout.columns[0].name if layout.columns and layout.dtype is not None else None
    return table.Wanted(length, layout.dtype, layout.format, tensor)
