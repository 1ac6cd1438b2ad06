"""A kept trace as a folder, for another process to answer audits from.

``trace.palm-trace.json`` is the context, ``tensors.bin`` the bytes of every site, group by group and site by
site as the context lists them, ``tokens.palm-opening.json`` what shows the ids of the tokens, if they were
bound. Nobody but the owner may read them. What is read later is hashed first, and compared with the roots.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Final

from palm_torch import files
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.commit import salted, trace, trace_gathering
from palm_torch.commit.trace_gathering import Captured
from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.committing.answering import KeptTrace
from palm_torch.committing.leaves import Leaves
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from palm_torch.commit.salted import SaltedOpening
    from palm_torch.commit.trace import Context, Site
    from palm_torch.commit.trace_groups import Group

CONTEXT: Final = f"trace{trace.SUFFIX}"
TENSORS: Final = "tensors.bin"
TOKENS: Final = f"tokens{salted.SUFFIX}"

_PIECE_BYTES: Final = 1 << 20
_OWN_FOLDER: Final = 0o700
_OWN_FILE: Final = 0o600


def save(folder: Path, kept: KeptTrace) -> None:
    """Writes a kept trace to a new folder, whole or not at all.

    Args:
        folder: Where; nothing may be there.
        kept: The trace.

    Raises:
        DataError: If something is there, it cannot be written, or what was kept is lost.
    """
    if folder.exists() or folder.is_symlink():
        raise DataError(f"{folder}: expected a new folder, there is something already")
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(8)}.tmp"
    try:
        temporary.mkdir(_OWN_FOLDER)
        _write(temporary / TENSORS, _content(kept))
        if kept.tokens is not None:
            _write(temporary / TOKENS, [kept.tokens.encode()])
        _write(temporary / CONTEXT, [kept.context.encode()])
        temporary.rename(folder)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise DataError(f"{folder}: cannot be written: {getattr(error, 'strerror', error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[KeptTrace]:
    """Reads a folder that `save` wrote, and keeps it open to answer from.

    1. The context is well formed.
    2. There are exactly as many bytes of tensors as it says.
    3. The leaves of all tiles, hashed from the bytes, give the roots that it names. What an opening shows is
       read again, and hashed again.
    4. The ids of the tokens are those that it commits to.

    Raises:
        DataError: If a file is missing, or the bytes are others.
        EvidenceError: If context or tokens are malformed.
        BindingError: If the ids are others.
        MissingExtraError: If the trees need the extra ``kzg``.
    """
    what = str(folder / CONTEXT)
    data = files.read_bounded(
        folder / CONTEXT, what="the trace's context", max_bytes=trace.MAX_CONTEXT_BYTES, error=DataError
    )
    context = trace.decode(data, what=what)  # 1
    path = folder / TENSORS
    try:
        stream = files.open_regular(path)
    except OSError as error:
        raise DataError(f"{path}: cannot read the kept tensors: {error.strerror}") from error
    with stream:
        starts = _starts(context)
        expected = starts.pop(None)
        if (size := os.fstat(stream.fileno()).st_size) != expected:  # 2
            raise DataError(f"{path}: expected {expected} bytes, as the context says, got {size}")

        def read(site: Site, group: Group) -> Callable[[int, int], bytes]:
            begin = starts[group, site]
            return lambda first, last: _read(stream.fileno(), path, begin + first, begin + last)

        captured = [
            _captured(site, group, read(site, group)) for group in context.groups for site in group.sites
        ]
        gathered = trace_gathering.gather(captured, scheme=context.scheme)
        for (found, _), group in zip(gathered, context.groups, strict=True):  # 3
            if found != group:
                raise DataError(
                    f"{path}: {group.sites[0]} and {len(group.sites) - 1} more: expected the root "
                    f"{group.root}, the bytes give {found.root}: they are not those that were captured"
                )
        yield KeptTrace(
            root=trace.root(data),
            context=context,
            trees=[tree for _, tree in gathered],
            read=read,
            tokens=_tokens(folder / TOKENS, context),  # 4
        )


def _write(path: Path, chunks: Iterator[bytes] | list[bytes]) -> None:
    files.write_atomically(path, chunks, error=DataError, mode=_OWN_FILE)


def _content(kept: KeptTrace) -> Iterator[bytes]:
    for group in kept.context.groups:
        for site in group.sites:
            yield from _pieces(kept.read(site, group), _size(group))


def _pieces(read: Callable[[int, int], bytes], size: int) -> Iterator[bytes]:
    for start in range(0, size, _PIECE_BYTES):
        yield read(start, min(start + _PIECE_BYTES, size))


def _size(group: Group) -> int:
    return group.rows * group.channels * ITEM_BYTES[group.dtype]


def _starts(context: Context) -> dict[tuple[Group, Site] | None, int]:
    """Returns where the bytes of each site begin; by None, where the last ones end."""
    starts: dict[tuple[Group, Site] | None, int] = {}
    at = 0
    for group in context.groups:
        for site in group.sites:
            starts[group, site] = at
            at += _size(group)
    starts[None] = at
    return starts


def _captured(site: Site, group: Group, read: Callable[[int, int], bytes]) -> Captured:
    leaves = Leaves(site, group.dtype, group.channels)
    for piece in _pieces(read, _size(group)):
        leaves.add(memoryview(piece))
    return Captured(site, group.dtype, group.channels, group.schedule, leaves.finish())


def _read(descriptor: int, path: Path, start: int, end: int) -> bytes:
    try:
        data = os.pread(descriptor, end - start, start)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) != end - start:
        raise DataError(f"{path}: expected {end - start} bytes at {start}, got {len(data)}: somebody cut it")
    return data


def _tokens(path: Path, context: Context) -> SaltedOpening | None:
    fact = context.facts.get(audit_tokens.FACT)
    if fact is None:
        return None
    data = files.read_bounded(
        path, what="the ids of the tokens", max_bytes=salted.MAX_FILE_BYTES, error=DataError
    )
    shown = salted.decode(data, what=str(path))
    audit_tokens.verify(shown, fact)
    return shown
