"""The script that `palm-torch run` is given: found, read once, hashed and compiled.

``python -m package.module`` runs the packages first and then finds the module. Here the module is searched
for without running anything, so that the begin statement can name it; the packages run when the session is
open, and then Python finds the module itself. Should that be another file, it is read, hashed and run in
place of the first, and both are listed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from palm_torch.errors import InputError
from palm_torch.hooks import importing


@dataclass(frozen=True, slots=True)
class Entry:
    """The script, compiled, and the module it will run as.

    Attributes:
        code: What will run.
        module: What it will run as.
        name: The module's own name, if that is how it was asked for and its packages have not run yet.
    """

    code: CodeType
    module: ModuleType
    name: str | None = None

    def placed(self) -> CodeType:
        """Runs the packages that the module lies in, and returns the code of what Python then finds.

        Raises:
            InputError: If there is no such module any more.
            BaseException: Whatever a package raises.
        """
        if self.name is None:
            return self.code
        spec, path, loader = _found(self.name)
        same = importing.resolved(path) == importing.resolved(self.module.__file__ or "")
        code = self.code if same else _compiled(path, loader)
        _furnish(self.module, path, loader, spec)
        return code


def script(word: str) -> Entry:
    """Returns the script of this path.

    Raises:
        InputError: If it is no Python source that can be read, or a part of Python.
        SyntaxError: If it is not Python.
    """
    path = os.path.abspath(word)  # noqa: PTH100 (Python does not follow the link of __file__ either)
    if Path(path).is_dir() or Path(path).suffix in {".zip", ".pyz", ".pyc"}:
        raise InputError(f"{word}: expected a Python script, not a folder, archive or bytecode")
    loader = SourceFileLoader("__main__", path)
    return Entry(_compiled(path, loader), _furnish(_main(), path, loader, None))


def module(name: str) -> Entry:
    """Returns the module of this name, or the ``__main__`` of a package.

    Raises:
        InputError: If there is none with a Python source, or it is a part of Python.
        SyntaxError: If it is not Python.
        BaseException: Whatever a package raises that has to run so that the module can be found.
    """
    path = _located(name)
    if path is None:
        spec, path, loader = _found(name)
        return Entry(_compiled(path, loader), _furnish(_main(), path, loader, spec))
    loader = SourceFileLoader("__main__", path)
    code = _compiled(path, loader)
    sys.argv[0] = "-m"  # what Python has there while the packages run
    return Entry(code, _furnish(_main(), path, loader, None), name)


# Finding a module ------------------------------------------------------------------------------------------


def _found(name: str) -> tuple[ModuleSpec, str, SourceFileLoader]:
    """Finds a module as Python does, which runs the packages it lies in."""
    spec = _find(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _find(f"{name}.__main__")
    if spec is None or not isinstance(spec.loader, SourceFileLoader) or spec.origin is None:
        raise InputError(f"-m {name}: no module of that name with a Python source was found")
    sys.argv[0] = spec.origin
    return spec, spec.origin, spec.loader


def _find(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise
    except ValueError:  # a module without a specification, such as __main__ itself
        return None


def _located(name: str) -> str | None:
    """Returns the source that Python will probably find; None where a package would have to run to tell."""
    spec = _search(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _search(f"{name}.__main__")
    return spec.origin if spec is not None and isinstance(spec.loader, SourceFileLoader) else None


def _search(name: str) -> ModuleSpec | None:
    """Searches for a module in the folders of its packages, and runs none of them."""
    spec, full, folders = None, "", None
    for part in name.split("."):
        full = f"{full}.{part}" if full else part
        spec = _spec(full, part, folders)
        if spec is None:
            return None
        folders = list(spec.submodule_search_locations or ())
    return spec


def _spec(full: str, part: str, folders: list[str] | None) -> ModuleSpec | None:
    there = sys.modules.get(full)
    if there is not None:
        return getattr(there, "__spec__", None)
    spec = PathFinder.find_spec(part, folders)  # by its last name: one of a package asks for the package
    for finder in sys.meta_path:
        if spec is None and finder is not PathFinder:
            spec = finder.find_spec(full, folders, None)
    return spec


# Compiling it ----------------------------------------------------------------------------------------------


def _compiled(path: str, loader: SourceFileLoader) -> CodeType:
    if importing.in_library(path):
        raise InputError(
            f"{path}: is part of Python and trains nothing: name the script itself, not what runs, profiles "
            "or debugs it"
        )
    try:
        return importing.compile_entry(path, loader)
    except OSError as error:
        raise InputError(f"{path}: the script cannot be read: {error.strerror}") from error


def _main() -> ModuleType:
    main = ModuleType("__main__")
    vars(main).update(__builtins__=sys.modules["builtins"], __annotations__={})
    sys.modules["__main__"] = main
    return main


def _furnish(main: ModuleType, path: str, loader: SourceFileLoader, spec: ModuleSpec | None) -> ModuleType:
    main.__file__, main.__loader__, main.__spec__ = path, loader, spec
    main.__package__ = None if spec is None else spec.parent
    vars(main)["__cached__"] = None if spec is None else spec.cached
    return main
