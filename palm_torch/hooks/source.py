"""What code ran: a digest of every file that became a module.

Under the import hook the digests are those of the bytes that were compiled, and a file edited since
changes nothing. Without it they are self-reported: the files of the loaded modules, read when asked.
Left out is what others vouch for: the standard library (the interpreter's version and the image) and
installed files whose bytes are those of their distribution's RECORD (the list of packages). An installed
file that differs from its RECORD is listed like the user's own code.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import time
from types import FunctionType
from typing import TYPE_CHECKING, Final

from palm_torch.digest import SHA256, Digest
from palm_torch.hooks import importing, installed
from palm_torch.statement import SourceFile

if TYPE_CHECKING:
    from types import ModuleType

    from palm_torch.hooks.importing import Loaded
    from palm_torch.hooks.installed import Distribution

_OURS: Final = "palm_torch"

NOT_SEEN: Final = "not seen by the import hook"
REPLACED: Final = "stands in the place of the module that the import hook saw"

_SETTLED_NS: Final = 3_000_000_000
"""How long a file has to be as it is for its times to say whether it was changed since, in nanoseconds: there
are file systems that count them in steps of two seconds."""

_digests: dict[str, tuple[tuple[int, ...], Digest]] = {}
"""Digests of files that were read, by path, each with the state that the file was in."""


def loaded_sources() -> tuple[SourceFile, ...]:
    """Returns everything that ran as a module and that neither the standard library nor a RECORD vouches for.

    palm-torch itself and ``__main__`` are always listed, an installed ``__main__`` too. A file that several
    modules were loaded from is listed under each of their names. Modules without a file (a zip archive,
    ``python -c``, a notebook) are listed without digest and with the reason; so are modules with code in
    them that were made at run time, unless they sit in a package that is accounted for.

    Under the import hook a module that was loaded again from other bytes is listed with each of them, as
    ``name#2`` and so on; what the hook did not see (a loader that compiles by itself, or a module that took
    the place of one that it saw) has no digest.

    Returns:
        Sorted by module name; names and digests only, no path of this machine.
    """
    known = _Accounted()
    found: dict[str, SourceFile] = {}
    seen = importing.loaded()
    for item in seen:
        listed = known.appraise_loaded(item)
        if listed is not None:
            _put(found, listed)
    names, paths = {item.module for item in seen}, {item.path for item in seen}
    for name, module in list(sys.modules.items()):
        if name != "__main__" and module is sys.modules.get("__main__"):
            continue  # multiprocessing's second name for the script
        path = _path(module)
        if path in paths and (importing.installed() or name in names):
            continue  # a second name for a module
        listed = known.appraise(name, module, path)
        if listed is not None and name in names:
            listed = SourceFile(module=name, digest=None, reason=f"{REPLACED}: {listed.reason}")
        if listed is not None:
            _put(found, listed)
    return tuple(found[name] for name in sorted(found))


def _put(found: dict[str, SourceFile], listed: SourceFile) -> None:
    name, number = listed.module, 1
    while name in found:
        name = f"{listed.module}#{(number := number + 1)}"
    found[name] = SourceFile(module=name, digest=listed.digest, reason=listed.reason)


def fingerprint() -> tuple[object, ...]:
    """Returns what is another as soon as `loaded_sources` has to look anew; for comparison in one process.

    Under the import hook that is what it saw and which modules are there. Without it a file counts as it is
    when asked for: size, times and place on the disk are part of this, but for those of installed packages,
    of which it shows that they were loaded again.
    """
    hooked = importing.installed()
    return (importing.generation(), *(_mark(name, item, hooked) for name, item in list(sys.modules.items())))


def of_class(kind: type) -> SourceFile:
    """Returns the file that defines a class: the file of its module."""
    return of_module(kind.__module__)


def of_module(name: str) -> SourceFile:
    """Returns the file a loaded module came from, installed or not."""
    imported = [item for item in importing.loaded() if item.module == name]
    if imported:
        return _as_listed(imported[-1])
    module = sys.modules.get(name)
    if module is None:
        return SourceFile(module=name, digest=None, reason="module is not loaded")
    path = _path(module)
    if path is None:
        return SourceFile(module=name, digest=None, reason=_why_no_file(name, module))
    return _hashed(name, path)


def _mark(name: str, module: ModuleType, hooked: bool) -> tuple[object, ...]:  # noqa: FBT001 (of this file)
    inside = vars(module) if hasattr(module, "__dict__") else {}
    path = inside.get("__file__")
    if not isinstance(path, str):
        return name, id(module), len(inside)  # made at run time, and perhaps given code since
    if hooked:
        return name, id(module), path
    known = name, id(module), path, id(inside.get("__spec__"))  # a reload makes a new one
    if _is_installed(path):
        return known
    try:
        state = os.stat(path)  # noqa: PTH116 (many modules)
    except (OSError, ValueError):
        return known
    return *known, *_state(state)


@functools.lru_cache(maxsize=16384)
def _is_installed(path: str) -> bool:
    """Says whether a file is of the standard library or of an installed package."""
    return any(folder in path for folder in importing.SITE_FOLDERS) or importing.in_library(path)


class _Accounted:
    """What the interpreter and the installed distributions account for, looked up once."""

    def __init__(self) -> None:
        self._recorded = installed.recorded_files(installed.distributions())
        self._tops: dict[str, bool] = {}

    def appraise_loaded(self, item: Loaded) -> SourceFile | None:
        """Returns the entry of what the hook saw, or None if a RECORD accounts for the bytes it saw."""
        ours = item.module == _OURS or item.module.startswith(f"{_OURS}.")
        distribution, expected = self._recorded.get(item.path, (None, None))
        if ours or distribution is None or item.digest is None or item.reason is not None:
            return _as_listed(item)
        if item.digest == expected:
            if item.module == "__main__":
                return _as_listed(item)
            installed.vouch(distribution)
            return None
        return SourceFile(
            module=item.module,
            digest=Digest(SHA256, item.digest),
            reason=_differs(distribution, expected),
        )

    def appraise(self, name: str, module: ModuleType, path: str | None) -> SourceFile | None:
        """Returns the module's entry in the list, or None if it is accounted for."""
        if path is None:
            if self._covers_top(name) or self._covers_maker(module):
                return None
            reason = _why_no_file(name, module)
            return SourceFile(module=name, digest=None, reason=reason) if reason else None
        if _of_library(module):
            return None
        if importing.installed():
            kind = type(getattr(vars(module).get("__spec__"), "loader", None)).__name__
            return SourceFile(module=name, digest=None, reason=f"{NOT_SEEN}: its loader is {kind[:80]!r}")
        if name == _OURS or name.startswith(f"{_OURS}."):
            return _hashed(name, path)
        distribution, expected = self._recorded.get(path, (None, None))
        if distribution is None:
            return _hashed(name, path)
        if expected is not None and not path.endswith(
            ".py"
        ):  # extension modules are large: RECORD binds them
            installed.vouch(distribution)
            return None
        listed = _hashed(name, path)
        if listed.digest is not None and listed.digest.value == expected:
            installed.vouch(distribution)
            return None
        return SourceFile(module=name, digest=listed.digest, reason=_differs(distribution, expected))

    def _covers_top(self, name: str) -> bool:
        """Says whether a module without a file sits in a package whose own file is accounted for."""
        top = name.partition(".")[0]
        if top not in self._tops:
            module = sys.modules.get(top)
            path = _path(module) if module is not None else None
            self._tops[top] = top in sys.builtin_module_names or (
                module is not None and path is not None and (_of_library(module) or self._vouches(path))
            )
        return self._tops[top]

    def _covers_maker(self, module: ModuleType) -> bool:
        """Says whether a module without a file was made by a loader of an installed package, as torch does.

        What such a loader makes follows from its own code and from the code that called it, and both are
        accounted for.
        """
        loader = type(getattr(getattr(module, "__spec__", None), "loader", None))
        maker = sys.modules.get(loader.__module__)
        path = _path(maker) if maker is not None else None
        return path is not None and self._vouches(path)

    def _vouches(self, path: str) -> bool:
        distribution, _ = self._recorded.get(path, (None, None))
        if distribution is not None:
            installed.vouch(distribution)
        return distribution is not None


def _path(module: ModuleType) -> str | None:
    """Returns the resolved path of the file a module was loaded from, or None if there is no such file."""
    path = vars(module).get("__file__") if hasattr(module, "__dict__") else None
    if not isinstance(path, str) or not os.path.isfile(path):  # noqa: PTH113 (thousands of modules)
        return None
    return importing.resolved(path)


def _of_library(module: ModuleType) -> bool:
    """Says whether the file that a module names, links not resolved, is one of the standard library."""
    return importing.in_library(vars(module)["__file__"])


def _as_listed(item: Loaded) -> SourceFile:
    digest = None if item.digest is None else Digest(SHA256, item.digest)
    return SourceFile(module=item.module, digest=digest, reason=item.reason)


def _differs(distribution: Distribution, expected: bytes | None) -> str:
    how = "differs from" if expected is not None else "has no digest in"
    return f"installed file {how} the RECORD of {distribution.name} {distribution.version}"


def _hashed(name: str, path: str) -> SourceFile:
    try:
        return SourceFile(module=name, digest=_digest_of(path), reason=None)
    except OSError as error:
        return SourceFile(module=name, digest=None, reason=f"file cannot be read: {error.strerror}")


def _digest_of(path: str) -> Digest:
    """Returns the digest of a file, which is read once for as long as it is the same file and unchanged.

    A file that was changed a moment ago is read again: the next change might have the same time.
    """
    state = _state(os.stat(path))  # noqa: PTH116 (thousands of modules)
    known = _digests.get(path)
    if known is not None and known[0] == state:
        return known[1]
    with open(path, "rb") as stream:  # noqa: PTH123 (thousands of modules)
        digest = Digest(SHA256, hashlib.file_digest(stream, "sha256").digest())
        after = os.fstat(stream.fileno())
    if _state(after) == state and time.time_ns() - after.st_ctime_ns > _SETTLED_NS:
        _digests[path] = state, digest
    return digest


def _state(found: os.stat_result) -> tuple[int, ...]:
    """Returns what is another as soon as a file is: an edit may keep its size and its time, but not all."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _why_no_file(name: str, module: ModuleType) -> str | None:
    """Says why a module has no file; None for namespace packages, which hold no code."""
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None)
    if name in sys.builtin_module_names or origin == "built-in":
        return "built into the interpreter"
    if origin == "frozen":
        return "frozen into the interpreter"
    if type(getattr(spec, "loader", None)).__name__ == "NamespaceLoader":
        return None
    if name == "__main__":
        return "interactive or given on the command line"
    if getattr(module, "__file__", None):
        return "loaded from an archive or a file that is gone"
    return "made at run time" if _holds_code(module) else None


def _holds_code(module: ModuleType) -> bool:
    """Says whether a module has Python code of its own: those that extensions make for themselves do not."""
    inside = vars(module) if hasattr(module, "__dict__") else {}
    kinds = [
        item for item in inside.values() if isinstance(item, type) and item.__module__ == module.__name__
    ]
    places = [inside, *map(vars, kinds)]
    return any(isinstance(item, FunctionType) for place in places for item in list(place.values()))
