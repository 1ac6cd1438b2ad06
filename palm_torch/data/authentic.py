"""What all readers share: comparing digests with the manifest, and the way to another process."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from palm_torch import private_files
from palm_torch.commit import records
from palm_torch.data import shards
from palm_torch.data.formats import huggingface, table
from palm_torch.errors import DataError, ManifestError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_torch.data.group_table import GroupScratch, GroupTable

_EVERY: Final = np.arange(records.GROUP_RECORDS)


def check(
    indices: NDArray[np.int64],
    digests: bytes,
    table: GroupTable,
    scratch: GroupScratch,
    changed: Callable[[int], RecordError],
) -> None:
    """Compares record digests with the manifest's, whose groups are copied out and checked first.

    Up to 64 records at once: a call of `GroupTable.group` per record would cost a third of the budget. What
    goes wrong is looked at again and named record by record.

    Args:
        indices: Record numbers, int64, [n].
        digests: Digests of what was read, 32 bytes each.
        table: The manifest's digests.
        scratch: Memory for its groups.
        changed: Makes the error for a record that is not the manifest's.

    Raises:
        RecordError: If a record's bytes are not those of the manifest.
        ManifestError: If the manifest was rewritten since it was opened.
    """
    for start in range(0, len(indices), records.GROUP_RECORDS):
        numbers = indices[start : start + records.GROUP_RECORDS]
        expected = digests[
            start * records.DIGEST_BYTES : (start + records.GROUP_RECORDS) * records.DIGEST_BYTES
        ]
        groups, rows = numbers >> 6, _EVERY[: len(numbers)]
        new = groups[1:] != groups[:-1]
        if not new.all():  # neighbours lie in one group: check it once
            rows = np.concatenate(([0], np.cumsum(new)))
            groups = groups[np.concatenate(([True], new))]
        if not table.take(groups, scratch) or scratch.digests[rows, numbers & 63].tobytes() != expected:
            _check_singly(numbers.tolist(), expected, table, changed)


def changed(path: Path, number: int, where: str) -> RecordError:
    """Returns the error for a record that is not the manifest's."""
    return RecordError(
        f"{path}: record {number} ({where}) is not the record the manifest was made of: the file was "
        "changed, or another salt was given; restore the file, or run `palm-torch measure` again if the "
        "change is meant"
    )


def state(path: Path, files: list[shards.ShardFile], key: bytes, table: GroupTable | None) -> dict[str, Any]:
    """Returns what a reader's copy in another process needs to open the same files."""
    return {
        "path": path,
        "key": key,
        "table": table,
        "layout": files[0].view.layout,
        "held": files if isinstance(files[0].view, huggingface.DatasetRows) else None,
        "seen": [_seen(file) for file in files],
    }


def reopened(state: dict[str, Any]) -> list[shards.ShardFile]:
    """Opens the files that `state` speaks of.

    Raises:
        DataError: If they have another layout now, or other sizes or headers; `ManifestError`
            where there is a manifest.
    """
    held: list[shards.ShardFile] | None = state["held"]
    if held is not None:  # rows of an object, which travels itself
        return held
    path: Path = state["path"]
    layout: table.Layout = state["layout"]
    wanted = shards.wanted_for(layout)
    if state["table"] is None:
        wanted = dataclasses.replace(wanted, fresh=True)  # as `palm_torch.data.opening` does
    files = shards.open_all(path, wanted)
    if files[0].view.layout != layout:
        raise DataError(f"{path}: expected {layout}, got {files[0].view.layout}")
    if [_seen(file) for file in files] != state["seen"]:
        kind = DataError if state["table"] is None else ManifestError
        raise kind(f"{path}: the dataset's files changed while it was on its way to a worker")
    if state["key"] != records.record_key(kind=layout.kind):  # of a salt
        private_files.keep(file.path for file in files)
    return files


def _seen(file: shards.ShardFile) -> tuple[str, int, int, bytes]:
    """Returns what a file must have in common with itself in another process."""
    head = file.view.head if isinstance(file.view, table.ShardView) else b""
    return file.name, file.size_bytes, file.view.records, hashlib.sha256(head).digest()


def _check_singly(
    numbers: Sequence[int], digests: bytes, table: GroupTable, changed: Callable[[int], RecordError]
) -> None:
    for at, number in enumerate(numbers):
        expected, size = table.group(number >> 6), records.DIGEST_BYTES
        if not expected.startswith(digests[at * size : (at + 1) * size], (number & 63) * size):
            raise changed(number)
