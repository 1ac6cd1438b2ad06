"""The datasets that are open in this process: how a session finds what it was given records of."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from palm_torch.commit.manifest import Manifest
from palm_torch.data.formats.table import Layout
from palm_torch.data.group_table import GroupTable
from palm_torch.digest import Digest
from palm_torch.errors import CoverageError

_BEFORE_DIGEST: Final = " "


@dataclass(frozen=True, slots=True, weakref_slot=True)
class DatasetInfo:
    """What a session needs to know about an open dataset; it outlives the dataset object.

    Attributes:
        name: Name of the dataset, kept by copies in workers.
        path: File or folder, or another label, for messages; never part of evidence.
        layout: Format of the records, and how they lie.
        records: Number of records; None for a stream, whose end nobody knows.
        table: Record digests of the manifest that authenticates the records, or None.
        same: What proves to other processes of this machine that they opened the same files; None if nothing
            does. See `palm_torch.data.same_files`.
        manifest: Its header, or None.
        uid: The name and the manifest's digest. Reads travel under it: whoever compared records with another
            manifest, or with none, read another dataset.
    """

    name: str
    path: Path
    layout: Layout
    records: int | None
    table: GroupTable | None
    same: Digest | None = None
    manifest: Manifest | None = field(init=False)
    uid: str = field(init=False)

    def __post_init__(self) -> None:
        """Binds the uid to the manifest that the records are compared with."""
        manifest = None if self.table is None else self.table.file.manifest
        object.__setattr__(self, "manifest", manifest)
        said = "" if manifest is None else f"{_BEFORE_DIGEST}{manifest.digest}"
        object.__setattr__(self, "uid", self.name + said)


class Attested(Protocol):
    """A dataset that says what it is."""

    @property
    def info(self) -> DatasetInfo:
        """What a session needs to know about it."""

    @property
    def uid(self) -> str:
        """Its name with that of its manifest, the same in every copy."""


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
    name, _, digest = uid.partition(_BEFORE_DIGEST)
    alike: DatasetInfo | None = None
    for dataset in opened():
        if dataset.uid == uid:
            return dataset.info
        if dataset.info.name == name:
            alike = dataset.info
    if alike is not None:
        expected = alike.manifest.digest if alike.manifest is not None else "no manifest"
        raise CoverageError(
            f"{alike.path}: a worker opened it with another manifest than this process: expected {expected}, "
            f"got {digest or 'no manifest'}; the manifest was exchanged meanwhile: restore it and begin anew"
        )
    raise CoverageError(
        f"records of a dataset {uid} were delivered, which this process has not open: keep the dataset "
        "object alive until the session ends"
    )
