"""Code that a program runs by itself: what it hands to `exec` or loads by a path instead of importing it.

A runner such as ``python -m coverage run script.py`` reads a script, compiles it and runs it; no import is
in that. Python tells an audit hook of both steps, and the file is listed as code under the name
``executed:script.py``, with the SHA-256 of the text that was compiled. So is text under no file's name, as
``executed:<string>:`` and the first digits of its digest, if the program itself runs it, and what
``torch.package`` finds in an archive. Shared libraries that `ctypes` loads by their path are listed with the
digest that they had just before.

What this does not see: text that an installed package or the standard library makes and runs under no
file's name, which follows from their own code and what they were called with; TorchScript; libraries that
native code loads; code of which a text was compiled under the same name and another one was run.
"""

from __future__ import annotations

import hashlib
import os
import sys
import weakref
from types import CodeType
from typing import TYPE_CHECKING, Final

from palm_torch import escaping
from palm_torch.hooks import accounted, auditing, importing

if TYPE_CHECKING:
    from types import FrameType

PREFIX: Final = "executed:"
WITHOUT_SOURCE: Final = "run by the program itself, from no source that was seen"
FURTHER: Final = "further files that the program ran by itself are not listed"

MAX_FILES: Final = 1_000
"""Files that are listed; one entry without digest says that there were more."""

MAX_NAME_CHARACTERS: Final = 150

DIGITS: Final = 12
"""How much of its digest names a text: a run that goes on elsewhere may run others, in another order."""

_PACKAGED: Final = "<torch_package_"
"""How `torch.package` begins the names of files in an archive."""


class ExecutedFiles(auditing.Listener):
    """What one script ran by itself, from the moment that this listens."""

    def __init__(self) -> None:
        super().__init__({"compile": self._compile, "exec": self._exec, "ctypes.dlopen": self._library})
        self._texts: dict[str, list[bytes | None]] = {}
        self._ran: weakref.WeakValueDictionary[int, CodeType] = weakref.WeakValueDictionary()
        self._listed: set[tuple[str, bytes | None]] = set()

    def _compile(self, source: object, filename: object) -> None:
        name = os.fsdecode(filename) if isinstance(filename, bytes) else filename
        if not isinstance(name, str) or not isinstance(source, (str, bytes)):
            return
        if not _is_told(name, sys._getframe(3)):  # noqa: SLF001 (documented)
            return
        data = source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(data).digest()
        with self._lock:
            self._texts.setdefault(name, []).append(digest)

    def _exec(self, code: object) -> None:
        if not isinstance(code, CodeType) or not _is_told(code.co_filename, sys._getframe(3)):  # noqa: SLF001 (documented)
            return
        with self._lock:
            if self._ran.get(id(code)) is code:
                return  # once is enough
            self._ran[id(code)] = code
            name = code.co_filename
            texts = self._texts.pop(name, [None])
            path = "" if name.startswith("<") else importing.resolved(name)
            for digest in texts:
                if digest is None or not path or not importing.was_compiled(path, digest):
                    self._list(path or name, path, digest)

    def _library(self, name: object) -> None:
        path = os.fsdecode(name) if isinstance(name, bytes) else name
        if isinstance(path, str) and "/" in path:
            importing.note_library(_named(path), path)

    def _list(self, name: str, path: str, digest: bytes | None) -> None:
        if (name, digest) in self._listed or len(self._listed) > MAX_FILES:
            return
        self._listed.add((name, digest))
        if len(self._listed) > MAX_FILES:
            importing.note_executed(f"{PREFIX}...", "", None, FURTHER)
            return
        reason = WITHOUT_SOURCE if digest is None else None
        given = _named(name)
        if digest is not None and not path and not name.startswith(_PACKAGED):
            given = f"{given}:{digest.hex()[:DIGITS]}"
        importing.note_executed(given, path, digest, reason)


def _named(path: str) -> str:
    name = escaping.file_name(path.rpartition("/")[2])
    return f"{PREFIX}{name[-MAX_NAME_CHARACTERS:]}"


def _is_told(name: str, frame: FrameType) -> bool:
    """Says whether code of this name is listed: a file's outside of the library, or a text of the program."""
    if not name or "\0" in name:
        return False
    if name.startswith(_PACKAGED):
        return True
    if not name.startswith("<"):
        if importing.in_library(name):
            return False
        if os.path.isfile(name):  # noqa: PTH113 (text)
            return True
    return _is_programs(frame)


def _is_programs(frame: FrameType) -> bool:
    """Says whether a frame is of the program itself, and of no package, library or palm-torch."""
    own, path = frame.f_globals.get("__name__", ""), frame.f_code.co_filename
    if isinstance(own, str) and own.startswith(accounted.OURS):
        return False
    in_package = any(folder in path for folder in importing.SITE_FOLDERS)
    return not in_package and not path.startswith("<frozen") and not importing.in_library(path)
