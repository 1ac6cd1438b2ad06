"""The datasets that are open in this process: how a session finds what it was given records of."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from palm_torch.commit.manifest import Manifest
from palm_torch.data.formats.table import Layout
from palm_torch.data.group_table import GroupTable
from palm_torch.errors import CoverageError


@dataclass(frozen=True, slots=True, weakref_slot=True)
class DatasetInfo:
    """What a session needs to know about an open dataset; it outlives the dataset object.

    Attributes:
        uid: Random name, kept by copies in workers.
        path: File or folder, or another label, for messages; never part of evidence.
        layout: Format of the records, and how they lie.
        records: Number of records; None for a stream, whose end nobody knows.
        manifest: Header of the manifest that authenticates the records, or None.
        table: Its authenticated record digests, or None.
    """

    uid: str
    path: Path
    layout: Layout
    records: int | None
    manifest: Manifest | None
    table: GroupTable | None


class Attested(Protocol):
    """A dataset that says what it is."""

    @property
    def info(self) -> DatasetInfo:
        """What a session needs to know about it."""

    @property
    def uid(self) -> str:
        """Its random name, the same in every copy."""


_serial = itertools.count()
_open: Final[weakref.WeakValueDictionary[int, Attested]] = weakref.WeakValueDictionary()


def register(dataset: Attested) -> None:
    """Lists a dataset as open for as long as something else keeps it alive.

    To be called when it is made, and again for every copy that is unpickled.
    """
    _open[next(_serial)] = dataset


def opened() -> list[Attested]:
    """Returns the datasets alive in this process, in the order opened, each uid once."""
    by_uid: dict[str, Attested] = {}
    for _, dataset in sorted(_open.items()):
        by_uid.setdefault(dataset.uid, dataset)
    return list(by_uid.values())


def info_of(uid: str) -> DatasetInfo:
    """Returns what is known of an open dataset.

    Raises:
        CoverageError: If no dataset of this process has that uid.
    """
    for dataset in opened():
        if dataset.uid == uid:
            return dataset.info
    raise CoverageError(
        f"records of a dataset {uid} were delivered, which this process has not open: keep the dataset "
        "object alive until the session ends"
    )
