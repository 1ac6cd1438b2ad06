"""What code ran, as the running program can tell it: every module's file, hashed from disk.

This is the self-reported form: the files are read when asked, not when they were compiled. Left out is
what others vouch for: the standard library (the interpreter's version and the image) and installed files
whose bytes are those of their distribution's RECORD (the list of packages). An installed file that
differs from its RECORD is listed like the user's own code.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
import sysconfig
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.digest import SHA256, Digest
from palm_torch.hooks import installed
from palm_torch.statement import SourceFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_OURS: Final = "palm_torch"
_SITE_FOLDERS: Final = ("/site-packages/", "/dist-packages/")


def loaded_sources() -> tuple[SourceFile, ...]:
    """Returns every loaded module that neither the standard library nor a RECORD accounts for.

    palm-torch itself and ``__main__`` are always listed. A file that several modules were loaded from is
    listed under each of their names. Modules without a file (a zip archive, ``python -c``, a notebook)
    are listed without digest and with the reason; so are modules made at run time, unless they sit in a
    package that is accounted for.

    Returns:
        Sorted by module name; names and digests only, no path of this machine.
    """
    known = _Accounted()
    found = {}
    for name, module in list(sys.modules.items()):
        if name != "__main__" and module is sys.modules.get("__main__"):
            continue  # multiprocessing's second name for the script
        listed = known.appraise(name, module)
        if listed is not None:
            found[name] = listed
    return tuple(found[name] for name in sorted(found))


def of_class(kind: type) -> SourceFile:
    """Returns the file that defines a class: the file of its module."""
    return of_module(kind.__module__)


def of_module(name: str) -> SourceFile:
    """Returns the file a loaded module came from, installed or not."""
    module = sys.modules.get(name)
    if module is None:
        return SourceFile(module=name, digest=None, reason="module is not loaded")
    path = _path(module)
    if path is None:
        return SourceFile(module=name, digest=None, reason=_why_no_file(name, module))
    return _hashed(name, path)


@dataclass(frozen=True, slots=True)
class FunctionIdentity:
    """Which function it is.

    Attributes:
        name: ``module.qualified_name`` of the innermost function.
        files: Files that define it and what wraps it, outermost first.
    """

    name: str
    files: tuple[SourceFile, ...]


def function_identity(function: Callable[..., object]) -> FunctionIdentity:
    """Returns the identity of a function, method, callable object, partial or decorated function.

    Arguments that a partial binds are not part of it.
    """
    modules: list[str] = []
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            modules.append(_module_of(function))
            function = function.__wrapped__
        else:
            break
    subject = function if hasattr(function, "__qualname__") else type(function)
    modules.append(_module_of(subject))
    return FunctionIdentity(
        f"{modules[-1]}.{subject.__qualname__}", tuple(of_module(name) for name in dict.fromkeys(modules))
    )


class _Accounted:
    """What the interpreter and the installed distributions account for, looked up once."""

    def __init__(self) -> None:
        self._recorded = installed.recorded_files(installed.distributions())
        folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
        self._library = tuple(f"{os.path.realpath(folder)}/" for folder in folders)
        self._tops: dict[str, bool] = {}

    def appraise(self, name: str, module: ModuleType) -> SourceFile | None:
        """Returns the module's entry in the list, or None if it is accounted for."""
        path = _path(module)
        if path is None:
            if self._covers_top(name):
                return None
            reason = _why_no_file(name, module)
            return SourceFile(module=name, digest=None, reason=reason) if reason else None
        if name == _OURS or name.startswith(f"{_OURS}."):
            return _hashed(name, path)
        if self._in_library(path):
            return None
        distribution, expected = self._recorded.get(path, (None, None))
        if distribution is None:
            return _hashed(name, path)
        if expected is not None and not path.endswith(
            ".py"
        ):  # extension modules are large: RECORD binds them
            return None
        listed = _hashed(name, path)
        if listed.digest is not None and listed.digest.value == expected:
            return None
        differs = "differs from" if expected is not None else "has no digest in"
        reason = f"installed file {differs} the RECORD of {distribution.name} {distribution.version}"
        return SourceFile(module=name, digest=listed.digest, reason=reason)

    def _in_library(self, path: str) -> bool:
        return path.startswith(self._library) and not any(folder in path for folder in _SITE_FOLDERS)

    def _covers_top(self, name: str) -> bool:
        """Says whether a module without a file sits in a package whose own file is accounted for."""
        top = name.partition(".")[0]
        if top not in self._tops:
            module = sys.modules.get(top)
            path = _path(module) if module is not None else None
            self._tops[top] = top in sys.builtin_module_names or (
                path is not None and (self._in_library(path) or path in self._recorded)
            )
        return self._tops[top]


def _path(module: ModuleType) -> str | None:
    """Returns the resolved path of the file a module was loaded from, or None if there is no such file."""
    path = vars(module).get("__file__") if hasattr(module, "__dict__") else None
    if not isinstance(path, str) or not os.path.isfile(path):  # noqa: PTH113 (thousands of modules)
        return None
    folder, name = os.path.split(path)
    return f"{_resolved(folder)}/{name}"


@functools.lru_cache(maxsize=4096)
def _resolved(folder: str) -> str:
    return os.path.realpath(folder)


def _hashed(name: str, path: str) -> SourceFile:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 (thousands of modules)
            return SourceFile(
                module=name,
                digest=Digest(SHA256, hashlib.file_digest(stream, "sha256").digest()),
                reason=None,
            )
    except OSError as error:
        return SourceFile(module=name, digest=None, reason=f"file cannot be read: {error.strerror}")


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
    return "made at run time"


def _module_of(item: object) -> str:
    name = getattr(item, "__module__", None)
    return name if isinstance(name, str) else type(item).__module__
