"""One thing that was looked at on a machine, and the careful ways to look at a file."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from pathlib import Path

State = Literal["ok", "missing", "problem"]

NOT_THERE: Final = "is not there"
MAX_TEXT_BYTES: Final = 4 << 20
"""How much of a file is read, in bytes; ``/proc/cpuinfo`` of a large machine has about a mebibyte."""

_CHUNK_BYTES: Final = 65_536  # some files of /proc refuse to be asked for more at once
ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one thing.

    Attributes:
        name: What it is.
        state: ``ok``: as a session needs it; ``missing``: not here; ``problem``: here and not usable.
        detail: What was found.
        advice: What to do; empty if nothing is.
    """

    name: str
    state: State
    detail: str
    advice: str = ""


def absence(path: Path) -> str:
    """Returns why a path cannot be seen: `NOT_THERE`, or what the kernel says; nothing if it is there."""
    try:
        os.lstat(path)
    except OSError as error:
        return NOT_THERE if error.errno in ABSENT else f"cannot be looked at: {said(error)}"
    return ""


def text(path: Path) -> tuple[str, str]:
    """Returns the beginning of a file as text, and why there is none; never waits for a pipe or a device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return "", f"{path} is no regular file"
            data = bytearray()
            while len(data) < MAX_TEXT_BYTES and (chunk := stream.read(_CHUNK_BYTES)):
                data += chunk
            return data.decode("utf-8", "replace"), ""
    except OSError as error:
        return "", f"{path} cannot be read: {said(error)}"


def said(error: OSError) -> str:
    """Returns what the kernel says about an operation that failed."""
    return error.strerror or str(error)
