"""Files: read within a limit, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palm_torch.errors import PalmTorchError


def read_bounded(path: Path, *, what: str, max_bytes: int, error: type[PalmTorchError]) -> bytes:
    """Reads a whole file of limited size.

    Args:
        path: The file.
        what: What it holds, for messages.
        max_bytes: Largest accepted size, in bytes.
        error: Class of the error to raise.

    Raises:
        PalmTorchError: Of class `error`, if the file is missing, unreadable or larger.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except (OSError, ValueError) as cause:  # ValueError: a zero byte in the path
        raise error(f"{path}: cannot read {what}: {getattr(cause, 'strerror', cause)}") from cause
    if len(data) > max_bytes:
        raise error(f"{path}: {what}: expected at most {max_bytes} bytes, got more")
    return data


def write_atomically(
    path: Path, chunks: Iterable[bytes], *, error: type[PalmTorchError], mode: int = 0o644
) -> None:
    """Writes a file beside its final place, flushes it to disk and renames it over.

    Args:
        path: Where the file shall be.
        chunks: Its content, in pieces of any size.
        error: Class of the error to raise when the file system refuses.
        mode: Permission bits of the new file.

    Raises:
        PalmTorchError: Of class `error`, naming the file; nothing half-written stays behind.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except (OSError, ValueError) as cause:  # ValueError: a zero byte in the path
        raise error(f"{path}: cannot write here: {getattr(cause, 'strerror', cause)}") from cause
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.writelines(chunks)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException as cause:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        if isinstance(cause, OSError):
            raise error(f"{path}: could not be written: {cause.strerror}") from cause
        raise
