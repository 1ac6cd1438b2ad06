"""Text that every machine has: the sources of Python's standard library, as shards of byte-level tokens.

The files are taken in an order that depends on their names alone and looks random, so that every shard is
a fair sample of the whole.
"""

from __future__ import annotations

import hashlib
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch.errors import DataError
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD_TOKENS: Final = 257
"""Tokens in a record: 256 to predict from, and one more to predict."""

TOKEN_BYTES: Final = 2
_LEFT_OUT: Final = frozenset({"site-packages", "dist-packages", "test", "tests", "__pycache__"})


def write(folder: Path, *, train_records: int, validation_records: int, shards: int) -> tuple[Path, Path]:
    """Writes training and validation data as raw uint16 shards.

    Args:
        folder: Where; ``train`` and ``validation`` are made in it.
        train_records: Records to train on, spread over the shards.
        validation_records: Records to evaluate on, one shard.
        shards: Number of training shards.

    Returns:
        The folders of training and validation data.

    Raises:
        DataError: If the standard library has less text, or the folder cannot be written.
    """
    text = _read((train_records + validation_records) * RECORD_TOKENS)
    train, validation = folder / "train", folder / "validation"
    try:
        for made in (train, validation):
            made.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror}") from error
    ends = [train_records * number // shards for number in range(shards + 1)]
    for number in range(shards):
        _write_shard(train / f"shard-{number:04}.bin", text, ends[number], ends[number + 1])
    _write_shard(validation / "shard-0000.bin", text, train_records, train_records + validation_records)
    return train, validation


def _write_shard(path: Path, text: bytes, first: int, end: int) -> None:
    """Widens each byte to a little-endian uint16 token."""
    part = text[first * RECORD_TOKENS : end * RECORD_TOKENS]
    tokens = bytearray(len(part) * TOKEN_BYTES)
    tokens[::TOKEN_BYTES] = part
    write_atomically(path, [bytes(tokens)], error=DataError)


def _read(wanted_bytes: int) -> bytes:
    text = bytearray()
    for path in _sources(Path(sysconfig.get_path("stdlib"))):
        text += path.read_bytes()
        if len(text) >= wanted_bytes:
            return bytes(text[:wanted_bytes])
    raise DataError(
        f"{sysconfig.get_path('stdlib')}: the demo wants {wanted_bytes} bytes of Python sources, the "
        f"standard library here has {len(text)}: ask for fewer with --steps, or use a Python that brings "
        "its sources"
    )


def _sources(library: Path) -> Iterator[Path]:
    found = {
        path.relative_to(library).as_posix(): path
        for path in library.rglob("*.py")
        if _LEFT_OUT.isdisjoint(path.relative_to(library).parts) and path.is_file()
    }
    for name in sorted(found, key=lambda name: hashlib.sha256(name.encode("utf-8", "replace")).digest()):
        yield found[name]
