"""A folder of files as one document: the list of their names and digests, whose SHA-256 is its identity.

Specification: docs/spec/55-inference.md.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from palm_torch import files
from palm_torch.digest import sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.encoding import Json
    from palm_torch.errors import PalmTorchError

TYPE: Final = "palm-torch/files/v1"
MAX_FILES: Final = 256
MAX_FILE_BYTES: Final = 64 << 20


def read(folder: Path, *, error: type[PalmTorchError]) -> bytes:
    """Returns the list of all files below a folder, canonical JSON; each file is read once.

    Links to files count as the files.

    Args:
        folder: The folder.
        error: What to raise.

    Raises:
        PalmTorchError: Of class `error`, if there is none, a name is no valid Unicode, there are more than
            `MAX_FILES`, one has more than `MAX_FILE_BYTES` or cannot be read, or something is no file.
    """
    names = _names(folder, error)
    if not 0 < len(names) <= MAX_FILES:
        raise error(f"{folder}: expected 1 to {MAX_FILES} files, got {len(names)}")
    found: dict[str, Json] = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            raise error(f"{path}: expected a file")
        content = files.read_bounded(path, what="the file", max_bytes=MAX_FILE_BYTES, error=error)
        found[name] = str(sha256_digest(content))
    try:
        return encode_json({"type": TYPE, "files": found})
    except EncodingError as invalid:
        raise error(f"{folder}: a file's name has no canonical form: {invalid}") from invalid


def _names(folder: Path, error: type[PalmTorchError]) -> list[str]:
    """Returns paths below the folder, with ``/`` between their parts; links to folders are among them."""

    def failed(reason: OSError) -> None:
        raise error(f"{folder}: cannot be read: {reason.strerror}") from reason

    found = []
    for parent, folders, names in os.walk(folder, onerror=failed):
        below = os.path.relpath(parent, folder)
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]  # noqa: PTH114, PTH118 (os.walk's own strings)
        found += [name if below == "." else f"{below}/{name}" for name in (*names, *links)]
    return sorted(found)
