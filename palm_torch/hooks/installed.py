"""Installed distributions and the files they vouch for, read straight from their metadata folders.

Whatever once excused a file from being listed is kept, and the list of packages names it although its
metadata is gone by then: what is in neither list would have been seen by nobody.

`importlib.metadata` parses every METADATA file to learn a name; the folder's own name
``{name}-{version}.dist-info`` says it too, and a hundred distributions then take milliseconds.
"""

from __future__ import annotations

import base64
import binascii
import csv
import functools
import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FOLDER: Final = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-py[^-]*)?\.(?P<kind>dist|egg)-info")
_HASH_PREFIX: Final = "sha256="
_OWN_ROW: Final = ".dist-info/RECORD"
_ROW: Final = 2


@dataclass(frozen=True, slots=True)
class Distribution:
    """One installed distribution.

    Attributes:
        name: Normalised name (lower case, hyphens).
        version: Version as its metadata folder spells it.
        root: Folder it was installed into, with links resolved.
        record: Bytes of its RECORD; None if it has none.
    """

    name: str
    version: str
    root: str
    record: bytes | None


def distributions() -> list[Distribution]:
    """Returns the distributions on `sys.path`, sorted by name; of several the one Python finds first."""
    found: dict[str, Distribution] = {}
    for folder in dict.fromkeys(os.path.realpath(entry or ".") for entry in sys.path):
        for entry in _metadata_entries(folder):
            match = _FOLDER.fullmatch(entry)
            if match is None:
                continue
            name = re.sub(r"[-_.]+", "-", match["name"]).lower()
            if name not in found:
                found[name] = Distribution(name, match["version"], folder, _record(Path(folder, entry)))
    return [found[name] for name in sorted(found)]


def recorded_files(installed: list[Distribution]) -> dict[str, tuple[Distribution, bytes | None]]:
    """Returns every file that a RECORD lists: resolved path → distribution and SHA-256 (None if not given).

    A RECORD itself is there with its own digest.
    """
    files: dict[str, tuple[Distribution, bytes | None]] = {}
    for distribution in installed:
        files.update(_rows(distribution))
    return files


def vouch(distribution: Distribution) -> None:
    """Remembers a distribution whose RECORD excused a file from being listed."""
    _vouched[distribution] = None


def vouched() -> list[Distribution]:
    """Returns the distributions that excused a file, at any time in this process."""
    return list(_vouched)


_vouched: dict[Distribution, None] = {}


@functools.lru_cache(maxsize=4096)
def _rows(distribution: Distribution) -> dict[str, tuple[Distribution, bytes | None]]:
    rows: dict[str, tuple[Distribution, bytes | None]] = {}
    if distribution.record is None:
        return rows
    lines = distribution.record.decode("utf-8", "replace").splitlines()
    for row in csv.reader(lines):
        if len(row) >= _ROW:
            path = f"{distribution.root}/{row[0]}"
            path = os.path.normpath(path) if ".." in path else path
            own = row[0].endswith(_OWN_ROW)
            digest = hashlib.sha256(distribution.record).digest() if own else _hash(row[1])
            rows[path] = (distribution, digest)
    return rows


def _metadata_entries(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith("-info"))  # noqa: PTH208 (names only)
    except OSError:  # an entry of sys.path that is a zip archive or does not exist
        return []


@functools.cache
def _record(folder: Path) -> bytes | None:
    """Reads a RECORD once: what excuses a file from being listed is what the list of packages names."""
    try:
        return (folder / "RECORD").read_bytes()
    except OSError:
        return None


def _hash(text: str) -> bytes | None:
    if not text.startswith(_HASH_PREFIX):
        return None
    encoded = text.removeprefix(_HASH_PREFIX)
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except binascii.Error:
        return None
