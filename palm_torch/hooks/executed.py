"""Files that a program runs by itself: what it hands to `exec` instead of importing it.

A runner such as ``python -m coverage run script.py`` reads a script, compiles it and runs it; no import is
in that. Python tells an audit hook of both steps, and the file is listed as code under the name
``executed:script.py``, with the SHA-256 of the text that was compiled.

What this does not see: text that is compiled under no file's name, as ``exec(open(path).read())`` does. The
file is listed among those that the script opened, and the code that does so is code that is listed itself.
"""

from __future__ import annotations

import hashlib
import os
import threading
from types import CodeType
from typing import Final

from palm_torch import escaping
from palm_torch.hooks import auditing, importing

PREFIX: Final = "executed:"
WITHOUT_SOURCE: Final = "run by the program itself, from no source that was seen"
FURTHER: Final = "further files that the program ran by itself are not listed"

MAX_FILES: Final = 1_000
"""Files that are listed; one entry without digest says that there were more."""

MAX_NAME_CHARACTERS: Final = 150


class ExecutedFiles(auditing.Listener):
    """What one script ran by itself, from the moment that this listens."""

    def __init__(self) -> None:
        super().__init__({"compile": self._compile, "exec": self._exec})
        self._lock = threading.RLock()
        self._sources: dict[str, bytes] = {}
        self._listed: set[tuple[str, bytes | None]] = set()

    def _compile(self, source: object, filename: object) -> None:
        name = _file(filename)
        if name is None or not isinstance(source, (str, bytes)) or not os.path.isfile(name):  # noqa: PTH113 (text)
            return
        data = source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
        with self._lock:
            self._sources[name] = hashlib.sha256(data).digest()

    def _exec(self, code: object) -> None:
        name = _file(code.co_filename) if isinstance(code, CodeType) else None
        if name is None or importing.in_library(name):
            return
        with self._lock:
            digest = self._sources.pop(name, None)
            path = importing.resolved(name)
            if importing.was_loaded(path) if digest is None else importing.was_compiled(path, digest):
                return
            if digest is None and not os.path.isfile(path):  # noqa: PTH113 (text)
                return
            if (path, digest) in self._listed or len(self._listed) > MAX_FILES:
                return
            self._listed.add((path, digest))
            if len(self._listed) > MAX_FILES:
                importing.note_executed(f"{PREFIX}...", "", None, FURTHER)
                return
            reason = WITHOUT_SOURCE if digest is None else None
            name = escaping.file_name(path.rpartition("/")[2])
            importing.note_executed(f"{PREFIX}{name[-MAX_NAME_CHARACTERS:]}", path, digest, reason)


def _file(name: object) -> str | None:
    """Returns the name of a file; None for what is named otherwise, as ``<string>``."""
    return name if isinstance(name, str) and name and not name.startswith("<") and "\0" not in name else None
