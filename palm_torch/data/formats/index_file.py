"""What formats that describe themselves have in common: an index of files, which is not believed untried."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from palm_torch import nesting
from palm_torch.errors import DataError
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from palm_torch.data.formats import table

MAX_BYTES: Final = 64 << 20


def read(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: If the file cannot be read, is too large, or is no JSON object with each key once.
    """
    data = read_bounded(path, what="the index", max_bytes=MAX_BYTES, error=DataError)
    return parse(str(path), data)


def parse(what: str, data: bytes) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
        DataError: If it is none, it nests too deep, or a key occurs twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            raise DataError(f"{what}: a key occurs twice")
        return built

    nesting.check(data, what=f"{what}: not a JSON document", error=DataError)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what}: not a JSON document: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise DataError(f"{what}: expected a JSON object, got {type(value).__name__}")
    return value


def inside(index: Path, names: Sequence[object]) -> list[tuple[str, Path]]:
    """Returns the files beside an index, by the relative paths that it names.

    Raises:
        DataError: If there are none, one is no plain path inside the folder or occurs twice, or is missing.
    """
    if not names:
        raise DataError(f"{index}: it names no files")
    found: dict[str, Path] = {}
    for name in names:
        if not isinstance(name, str) or not _is_plain(name):
            raise DataError(f"{index}: expected a path inside the folder, got {str(name)[:80]!r}")
        if name in found:
            raise DataError(f"{index}: {name[:80]!r} is named twice")
        found[name] = index.parent / name
        if not is_there(index, name):
            raise DataError(f"{index}: {name[:80]!r} is named, but no such file is there")
    return list(found.items())


def refuse_wanted(path: Path, wanted: table.Wanted, what: str) -> None:
    """Refuses what rows of columns do not have.

    Raises:
        DataError: If a record length, an element type or a tensor was asked for.
    """
    if (wanted.record_length, wanted.dtype, wanted.tensor) != (None, None, None):
        raise DataError(
            f"{path}: {what} take no record_length=, token_dtype= or tensor=: the file says their types"
        )


def is_there(index: Path, name: str) -> bool:
    """Tells whether a file lies beside an index; a name that cannot be one is not there."""
    try:
        return _is_plain(name) and (index.parent / name).is_file()
    except OSError:  # too long, say
        return False


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    odd = set(name) & set("\\\0") or any("\ud800" <= character <= "\udfff" for character in name)
    return (
        bool(path.parts)
        and str(path) == name
        and not odd
        and not path.is_absolute()
        and ".." not in path.parts
    )
