"""Tensors whose memory is a mapped file: whoever writes the file changes them, whatever was measured.

``torch.load(mmap=True)`` and readers of safetensors leave tensors in a mapping, and a state dict that is
loaded with ``assign=True`` keeps them there. A page of it is read from the disk when it is first touched, and
again after it was evicted, so that a model which was measured is not the one that computes. Private mappings
are no better: a page is the process's own only once the process has written to it.

Shared memory (``tensor.share_memory_()``) and files on a tmpfs have no disk behind them: they lie in the
machine's own memory, and pass.
"""

from __future__ import annotations

import bisect
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from palm_torch.errors import CoverageError
from palm_torch.hooks import tensors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

MAPS: Final = Path("/proc/self/maps")
MOUNTS: Final = Path("/proc/self/mountinfo")

IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "hugetlbfs"})
"""File systems whose files are memory of the machine."""

_MAPS_FIELDS: Final = 5  # addresses, permissions, offset, device, inode; a path may follow
_MOUNT_DEVICE: Final = 2


class FileMapping(NamedTuple):
    """A part of the address space that shows a file: first address, the one after the last, its path."""

    start: int
    end: int
    path: str


def require_own_memory(named: Iterable[tuple[str, Tensor]], *, what: str = "tensor ") -> None:
    """Checks that no tensor in main memory lies in a mapped file.

    Args:
        named: Tensors by name; those that keep no bytes of their own are for others to judge.
        what: What stands before a name in the message.

    Raises:
        CoverageError: Naming the first that does, and the file; or if the kernel does not say.
    """
    found = file_mappings()
    starts = [mapping.start for mapping in found]
    for name, item in named:
        tensor = tensors.local(item)
        if tensor.device.type != "cpu" or not tensors.keeps_its_bytes(tensor) or not tensor.numel():
            continue
        storage = tensor.untyped_storage()
        first = storage.data_ptr()
        before = bisect.bisect_left(starts, first + storage.nbytes())
        if before and found[before - 1].end > first:
            raise CoverageError(
                f"{what}{name} lies in the mapped file {found[before - 1].path}: what is measured now may be "
                "another value when it is used, for whoever writes the file changes it. Load it without "
                "mmap=True, or copy it first: tensor.data = tensor.data.clone()"
            )


def file_mappings() -> list[FileMapping]:
    """Returns what of the process's address space shows files with a disk behind them, by address.

    Raises:
        CoverageError: If the kernel does not say, or not in the form that proc(5) describes.
    """
    try:
        lines = MAPS.read_bytes().decode("utf-8", "surrogateescape").split("\n")
        memory = _memory_devices()
        split = (line.split(maxsplit=_MAPS_FIELDS) for line in lines if line)
        return [
            FileMapping(int(start, 16), int(end, 16), fields[-1])
            for fields in split
            for start, end in [fields[0].split("-")]
            if fields[4] != "0" and fields[3] not in memory
        ]
    except (OSError, ValueError, IndexError) as error:
        raise CoverageError(
            f"{MAPS}: nothing tells whether tensors lie in mapped files ({error}): expected Linux with /proc"
        ) from error


def _memory_devices() -> frozenset[str]:
    """Returns the devices, as the list of mappings writes them, of file systems that are memory."""
    mounts = (line.partition(" - ") for line in MOUNTS.read_text("utf-8", "surrogateescape").splitlines())
    numbers = (
        before.split()[_MOUNT_DEVICE].split(":")
        for before, _, after in mounts
        if after.split(" ", 1)[0] in IN_MEMORY
    )
    return frozenset(_device(int(major), int(minor)) for major, minor in numbers) | {_shared_memory()}


@functools.cache
def _shared_memory() -> str:
    """Returns the device of memory that processes share without a file system, such as memfd's."""
    descriptor = os.memfd_create("palm-torch")
    try:
        number = os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)
    return _device(os.major(number), os.minor(number))


def _device(major: int, minor: int) -> str:
    return f"{major:02x}:{minor:02x}"
