"""What was compiled: an import hook that reads each source once, hashes it, and compiles those very bytes.

`install` replaces the step in which the loaders of the standard library turn a file into code, so that
every way in is covered: plain and lazy imports, packages, finders of editable installs,
`importlib.reload`, `importlib.util.spec_from_file_location`. A ``.pyc`` is neither read nor written, since
what lies in a cache on somebody's disk is not what was hashed. Left to the interpreter, whose version and
image vouch for it, is the standard library.

What this does not see: code that a program makes itself (`palm_torch.hooks.executed` tells of it), the
shared libraries an extension module loads, and other processes. What forked workers of
`palm_torch.DataLoader` import is told with their batches (`palm_torch.hooks.forked`); workers that are
spawned start without the hook, which is why `palm_torch.DataLoader` has none of them under it.

This file imports the standard library alone: `palm_torch.bootstrap` runs it before anything else.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import linecache
import os
import sys
import sysconfig
from importlib.machinery import ExtensionFileLoader, SourceFileLoader, SourcelessFileLoader
from importlib.util import decode_source
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zipimport import zipimporter

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

SITE_FOLDERS: Final = ("/site-packages/", "/dist-packages/")
"""Folders of installed packages, which lie inside those of the standard library."""

BEFORE_THE_HOOK: Final = "loaded before the import hook: hashed from its file"
WITHOUT_SOURCE: Final = "bytecode without its source"
FROM_AN_ARCHIVE: Final = "loaded from an archive"
OTHER_EXTENSION: Final = "another file, or another version of it, was loaded than was hashed"

_MAPS: Final = "/proc/self/maps"


class Loaded(NamedTuple):
    """One file that became code of this process.

    Attributes:
        module: Name it was loaded as; ``__main__`` for the entry script.
        path: The file, its folder resolved.
        digest: SHA-256 of the bytes that were compiled, or of an extension module's file as it was when
            it was imported; None where there is no digest.
        reason: Why there is none, or why it is less than that; None for an ordinary digest.
    """

    module: str
    path: str
    digest: bytes | None
    reason: str | None


class _State:
    """The hook of this process."""

    def __init__(self) -> None:
        self.loaded: dict[Loaded, None] = {}  # in the order of loading, each once
        self.paths: dict[str, set[bytes | None]] = {}
        self.generation = 0
        self.installed = False
        self.saw_entry = False

    def clear(self) -> None:
        self.generation += 1
        self.loaded.clear()
        self.paths.clear()
        self.installed = self.saw_entry = False


_state = _State()


def install() -> Callable[[], None]:
    """Installs the hook; modules that are there already are noted with what their files say now.

    Returns:
        What takes the hook out again.
    """
    for name, module in list(sys.modules.items()):
        path = vars(module).get("__file__") if hasattr(module, "__dict__") else None  # wakes no lazy module
        if name != "__main__" and isinstance(path, str) and not in_library(path):
            note_before(name, path)
    plain: tuple[tuple[Any, str, Any], ...] = (
        (SourceFileLoader, "get_code", SourceFileLoader.get_code),
        (SourcelessFileLoader, "get_code", SourcelessFileLoader.get_code),
        (ExtensionFileLoader, "create_module", ExtensionFileLoader.create_module),
        (zipimporter, "get_code", zipimporter.get_code),
    )
    hooked = (_source_code, _bytecode, _extension, _archived)
    for (loader, method, original), replacement in zip(plain, hooked, strict=True):
        setattr(loader, method, functools.partialmethod(replacement, original))
    _state.installed = True
    _state.generation += 1

    def remove() -> None:
        for loader, method, original in plain:
            setattr(loader, method, original)
        _state.clear()

    return remove


def installed() -> bool:
    """Returns whether the hook is at work in this process."""
    return _state.installed


def saw_entry() -> bool:
    """Returns whether the hook was there before the entry script, which it compiled."""
    return _state.saw_entry


def loaded() -> tuple[Loaded, ...]:
    """Returns every file outside the standard library that became code, in order.

    A module that was loaded again from other bytes is there with each of them; one whose import failed is
    there too, for part of it ran.
    """
    return tuple(_state.loaded)


def generation() -> int:
    """Returns a number that grows whenever `loaded` or `installed` would answer anew, and never shrinks."""
    return _state.generation


def was_compiled(path: str, digest: bytes) -> bool:
    """Returns whether code was made of these bytes (by their SHA-256) of a file given with links resolved."""
    return digest in _state.paths.get(path, ())


def compile_entry(path: str, loader: SourceFileLoader) -> CodeType:
    """Reads the entry script once, hashes it and compiles those bytes; it is listed as ``__main__``.

    Raises:
        OSError: If it cannot be read.
        SyntaxError: If it is not Python.
        ValueError: If it holds zero bytes.
    """
    data = loader.get_data(path)
    code: CodeType = loader.source_to_code(data, path)
    note("__main__", path, data)
    _state.saw_entry = _state.installed
    return code


def note(module: str, path: str, data: bytes) -> None:
    """Notes bytes that were compiled."""
    _add(module, path, hashlib.sha256(data).digest(), None)
    if not any(folder in path for folder in SITE_FOLDERS):
        _remember_lines(path, data)


def note_executed(name: str, path: str, digest: bytes | None, reason: str | None) -> None:
    """Notes a file that became code without being imported."""
    _add(name, path, digest, reason)


def note_elsewhere(item: Loaded) -> None:
    """Notes what became code in another process, as `loaded` told it there."""
    if item not in _state.loaded:
        _state.loaded[item] = None
        _state.generation += 1
    _state.paths.setdefault(item.path, set()).add(item.digest)


def note_library(name: str, path: str) -> None:
    """Notes a shared library that is about to be loaded by its path, unless it cannot be read."""
    if not in_library(path):
        with contextlib.suppress(OSError):  # whoever loads it is told why it cannot be
            _add(name, path, _digest_of_file(path), None)


def note_before(module: str, path: str) -> None:
    """Notes a module that was there before the hook, with the digest its file has now."""
    try:
        _add(module, path, _digest_of_file(path), BEFORE_THE_HOOK)
    except OSError as error:
        _add(module, path, None, f"loaded before the import hook, file cannot be read: {error.strerror}")


def in_library(path: str) -> bool:
    """Returns whether a file belongs to the standard library, as it is named and with links resolved.

    A link from elsewhere does not make one: it could point to another place when the file is read.
    """
    given = os.path.abspath(path)  # noqa: PTH100 (thousands of modules)
    return _is_library(given) and _is_library(resolved(given))


def resolved(path: str) -> str:
    """Returns the path of a file with the links of its folder resolved."""
    given = os.path.abspath(path)  # noqa: PTH100 (thousands of modules)
    folder, name = os.path.split(given)
    stays = given.startswith(_library()) or any(site in given for site in SITE_FOLDERS)
    return f"{_real(folder) if stays else os.path.realpath(folder)}/{name}"


# What the loaders do instead -------------------------------------------------------------------------------


def _source_code(
    loader: SourceFileLoader, original: Callable[[SourceFileLoader, str], CodeType], name: str
) -> CodeType:
    path = loader.get_filename(name)
    if in_library(path):
        return original(loader, name)
    data = loader.get_data(path)
    code: CodeType = loader.source_to_code(data, path)
    note(name, path, data)
    return code


def _bytecode(
    loader: SourcelessFileLoader, original: Callable[[SourcelessFileLoader, str], CodeType], name: str
) -> CodeType:
    if not in_library(loader.path):
        _add(name, loader.path, None, WITHOUT_SOURCE)
    return original(loader, name)


def _extension(
    loader: ExtensionFileLoader,
    original: Callable[[ExtensionFileLoader, ModuleSpec], ModuleType],
    spec: ModuleSpec,
) -> ModuleType:
    path = loader.path
    if in_library(path):
        return original(loader, spec)
    with open(path, "rb") as stream:  # noqa: PTH123 (thousands of modules)
        before = _version(stream.fileno())
        _add(spec.name, path, hashlib.file_digest(stream, "sha256").digest(), None)
        module = original(loader, spec)
        if before != _version(stream.fileno()) or before != _version(path) or not _is_mapped(path):
            _add(spec.name, path, None, OTHER_EXTENSION)
    return module


def _version(file: int | str) -> tuple[int, ...]:
    """Returns what is another as soon as a file is; of its times the one that nobody can set back."""
    try:
        state = os.stat(file)  # noqa: PTH116 (a descriptor, too)
    except OSError:
        return ()
    return state.st_dev, state.st_ino, state.st_size, state.st_ctime_ns


def _is_mapped(path: str) -> bool:
    """Says whether a file is in this process's memory under its own name, as the one that was loaded is."""
    try:
        with open(_MAPS, "rb") as stream:  # noqa: PTH123 (many modules)
            mapped = stream.read()
    except OSError:
        return False
    name = os.fsencode(os.path.realpath(path)).replace(b"\n", b"\\012")
    return b" " + name + b"\n" in mapped


def _archived(loader: zipimporter, original: Callable[[zipimporter, str], CodeType], name: str) -> CodeType:
    _add(name, loader.archive, None, FROM_AN_ARCHIVE)
    return original(loader, name)


# -----------------------------------------------------------------------------------------------------------


def _add(module: str, path: str, digest: bytes | None, reason: str | None) -> None:
    note_elsewhere(Loaded(module, resolved(path), digest, reason))


def _digest_of_file(path: str) -> bytes:
    with open(path, "rb") as stream:  # noqa: PTH123 (thousands of modules)
        return hashlib.file_digest(stream, "sha256").digest()


def _remember_lines(path: str, data: bytes) -> None:
    """Keeps the text for tracebacks and `inspect.getsource`.

    Compilers that ask for a function's source (``torch.jit.script``, Triton) then get what was hashed and
    not what the file says by that time. Installed packages are left out: they are too large to keep.
    """
    lines = [f"{line}\n" for line in decode_source(data).split("\n")]
    linecache.cache[path] = (len(data), None, lines, path)  # without a time it never counts as stale


def _is_library(path: str) -> bool:
    return path.startswith(_library()) and not any(folder in path for folder in SITE_FOLDERS)


@functools.cache
def _library() -> tuple[str, ...]:
    """Returns the folders of the standard library, as the interpreter names them and with links resolved."""
    named = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")} | {os.path.dirname(os.__file__)}  # noqa: PTH120 (text)
    folders = {os.path.abspath(folder) for folder in named}  # noqa: PTH100 (links stay)
    return tuple(sorted(f"{folder}/" for folder in folders | {os.path.realpath(folder) for folder in named}))


@functools.lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)
