"""`AttestedMmapDataset`: fixed-size records in memory-mapped files, hashed as they are sampled."""

from __future__ import annotations

import itertools
import secrets
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch
import torch.utils.data

from palm_torch import recorder
from palm_torch.commit import manifest as manifests
from palm_torch.commit import records
from palm_torch.commit.manifest import Manifest
from palm_torch.data import carrier, reader, shards, stacking
from palm_torch.data.formats import table
from palm_torch.data.group_table import GroupTable
from palm_torch.data.stacking import Record
from palm_torch.errors import CoverageError, DataError, ManifestError, PalmTorchError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence


_Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_NUMPY_NAMES: Final = {
    getattr(torch, name): name for name in sorted(table.ELEMENT_TYPES) if hasattr(torch, name)
}
_TORCH_TYPES: Final = {name: dtype for dtype, name in _NUMPY_NAMES.items()}
_INDEX: Final = np.dtype("<i8")


@dataclass(frozen=True, slots=True, weakref_slot=True)
class DatasetInfo:
    """What a session needs to know about an open dataset; it outlives the dataset object.

    Attributes:
        uid: Random name, kept by copies in workers.
        path: File or folder, for messages; never part of evidence.
        layout: Format, element type and shape of a record.
        records: Number of records.
        manifest: Header of the manifest that authenticates the records, or None.
        table: Its authenticated record digests, or None.
    """

    uid: str
    path: Path
    layout: table.Layout
    records: int
    manifest: Manifest | None
    table: GroupTable | None


_serial = itertools.count()
_open: Final[weakref.WeakValueDictionary[int, AttestedMmapDataset]] = weakref.WeakValueDictionary()


class AttestedMmapDataset(torch.utils.data.Dataset[Record]):
    """Records of fixed size over one file or a folder of shards, as tensors.

    An ordinary map-style dataset: samplers, `Subset`, `ConcatDataset` and wrappers of your own work. Each
    record is copied out of the mapping once; the copy is hashed, compared with the manifest if there is
    one, and the same copy becomes the tensor.

    Args:
        path: A ``.bin`` or ``.npy`` file, or a folder of one kind of them.
        record_length: Elements per record; a manifest or an array's rows can tell it instead.
        token_dtype: Stored element type by its numpy name, e.g. ``"uint16"``, the default of ``.bin``.
        dtype: Element type of the tensors; None keeps the stored one.
        targets: Whether an item is the pair (record without its last element, record without its first).
        manifest: ``"auto"`` takes the manifest beside the data if there is one; a path insists on that
            one; None reads without, so that a changed record is not noticed but only counted.
        salt: Secret that keys the record digests of a private dataset.

    Raises:
        DataError: If the data is missing, empty, ragged, mixed or of another type than asked for.
        ManifestError: If the manifest does not parse or is another dataset's.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        record_length: int | None = None,
        token_dtype: str | None = None,
        dtype: torch.dtype | None = torch.int64,
        targets: bool = False,
        manifest: str | os.PathLike[str] | None = "auto",
        salt: bytes | None = None,
    ) -> None:
        where = Path(path)
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise DataError(f"dtype: expected a torch.dtype such as torch.int64, or None, got {dtype!r}")
        wanted = table.Wanted(record_length, token_dtype)
        authentic = _open_table(where, manifest)
        if authentic is not None:
            wanted = _agreeing(wanted, authentic, salt)
        files = shards.open_all(where, wanted)
        if authentic is not None:
            _check_same_dataset(where, files, authentic)
        self._reader = reader.RecordReader(where, files, records.record_key(salt), authentic)
        self._dtype = dtype
        self._targets = targets
        self._numpy_dtype = _working_dtype(self._reader.layout, dtype)
        self._stacks = bool(self._reader.layout.shape) and self._numpy_dtype.name in (
            _TORCH_TYPES if dtype is None else [_NUMPY_NAMES.get(dtype)]
        )
        if targets and len(self._reader.layout.shape) != 1:
            raise DataError(
                f"{where}: targets=True shifts flat records by one element, got rows of shape "
                f"{self._reader.layout.shape}"
            )
        self.info = DatasetInfo(
            uid=secrets.token_hex(16),
            path=where,
            layout=self._reader.layout,
            records=self._reader.records,
            manifest=authentic.file.manifest if authentic is not None else None,
            table=authentic,
        )
        _open[next(_serial)] = self

    @property
    def uid(self) -> str:
        """Random name of the dataset, the same in every worker's copy."""
        return self.info.uid

    @property
    def manifest(self) -> Manifest | None:
        """Header of the manifest that authenticates the records, or None."""
        return self.info.manifest

    def __len__(self) -> int:
        """Returns the number of records."""
        return self.info.records

    def __getitem__(self, index: int) -> Record:
        """Reads one record; negative numbers count from the end.

        Raises:
            IndexError: If there is no such record.
            RecordError: If its bytes are not those of the manifest.
        """
        return self._read([index], stacks=False)[0]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Record]:
        """Reads the records of a batch at once: what torch's fetcher asks for first.

        Raises:
            IndexError: If a record is not there.
            RecordError: If a record's bytes are not those of the manifest.
        """
        return self._read(indices, stacks=self._stacks and carrier.stacks()) if len(indices) else []

    def _read(self, indices: Sequence[int], *, stacks: bool) -> Sequence[Record]:
        wanted = self._numbers(indices)
        try:
            items, digests = self._stacked(wanted) if stacks else self._singly(wanted)
        except PalmTorchError as error:
            recorder.failed(error)  # a script that swallows it gets no evidence
            carrier.note_failure(error)
            raise
        carrier.leave(carrier.Note(self.uid, wanted.tobytes(), digests, self.info.table is None))
        return items

    def _stacked(self, wanted: _Numbers) -> tuple[Sequence[Record], bytes]:
        """Reads into the tensors that the default collate function would stack the records into."""
        length, *rest = self._reader.layout.shape
        columns = (slice(None, -1), slice(1, None)) if self._targets else (slice(None),)
        dtype = self._dtype or _TORCH_TYPES[self._numpy_dtype.name]
        tensors = [stacking.empty((len(wanted), length - len(columns) + 1, *rest), dtype) for _ in columns]
        arrays = [tensor.numpy() for tensor in tensors]

        def keep(before: int, rows: np.ndarray[Any, Any]) -> None:
            for array, column in zip(arrays, columns, strict=True):
                np.copyto(array[before : before + len(rows)], rows[:, column], casting="same_kind")

        digests = self._reader.read(wanted, keep)
        return stacking.Stacked(tensors), digests

    def _singly(self, wanted: _Numbers) -> tuple[Sequence[Record], bytes]:
        """Reads into blocks of a few records: small ones are reused, large ones mapped anew every time."""
        items: list[Record] = []

        def keep(_before: int, scratch: np.ndarray[Any, Any]) -> None:
            rows = torch.from_numpy(scratch.astype(self._numpy_dtype))
            if self._dtype is not None and rows.dtype != self._dtype:
                rows = rows.to(self._dtype)
            if self._targets:
                items.extend(zip(rows[:, :-1].unbind(0), rows[:, 1:].unbind(0), strict=True))
            else:
                items.extend(rows.unbind(0))

        digests = self._reader.read(wanted, keep)
        return items, digests

    def _numbers(self, indices: Sequence[int]) -> _Numbers:
        given = np.asarray(indices)
        if given.dtype.kind not in "iu":
            raise TypeError(f"records are numbered by integers, got {given.dtype}")
        wanted = given.astype(_INDEX, copy=False)
        count = self.info.records
        least, greatest = int(wanted.min()), int(wanted.max())
        if least < -count or greatest >= count:
            raise IndexError(f"record {greatest if greatest >= count else least} of {count}")
        return np.where(wanted < 0, wanted + count, wanted) if least < 0 else wanted

    @classmethod
    def beneath(cls, dataset: object) -> bool:
        """Returns whether a loader's dataset hands on what `__getitems__` returns, unchanged."""
        while type(dataset) is torch.utils.data.Subset:
            dataset = dataset.dataset
        return type(dataset) is cls

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes up a copy; in the process that opened the dataset it is listed as open too."""
        self.__dict__.update(state)
        _open[next(_serial)] = self


def opened() -> list[AttestedMmapDataset]:
    """Returns the datasets alive in this process, in the order opened, each uid once."""
    by_uid: dict[str, AttestedMmapDataset] = {}
    for _, dataset in sorted(_open.items()):
        by_uid.setdefault(dataset.uid, dataset)
    return list(by_uid.values())


def _open_table(where: Path, manifest: str | os.PathLike[str] | None) -> GroupTable | None:
    if manifest is None:
        return None
    if manifest != "auto":
        return GroupTable.open(Path(manifest))
    beside = manifests.path_beside(where)
    return GroupTable.open(beside) if beside.is_file() else None


def _agreeing(wanted: table.Wanted, authentic: GroupTable, salt: bytes | None) -> table.Wanted:
    """Returns what the manifest says of the layout, unless the caller said otherwise."""
    header, path = authentic.file.manifest, authentic.file.path
    if header.salted != (salt is not None):
        given = "none was given" if salt is None else "a salt was given"
        made = "with a salt" if header.salted else "without a salt"
        raise ManifestError(f"{path}: the manifest was made {made}, but {given}: pass salt= as then")
    if wanted.dtype not in (None, header.dtype):
        raise DataError(f"{path}: expected {wanted.dtype} elements, got {header.dtype} in the manifest")
    if wanted.record_length is not None and (wanted.record_length,) != header.record_shape:
        raise DataError(
            f"{path}: expected records of {wanted.record_length} elements, got {list(header.record_shape or ())} "
            "in the manifest"
        )
    return shards.wanted_for(table.Layout(header.format, header.dtype, header.record_shape))


def _check_same_dataset(where: Path, files: list[shards.ShardFile], authentic: GroupTable) -> None:
    """Compares what is quick to compare; the records themselves are compared as they are read."""
    header = authentic.file.manifest
    layout = files[0].view.layout
    listed = [(shard.name, shard.bytes, shard.records) for shard in header.shards]
    found = [(file.name, file.size_bytes, file.view.records) for file in files]
    agrees = (layout.format, layout.dtype, layout.shape) == (header.format, header.dtype, header.record_shape)
    if listed == found and agrees:
        return
    first = next((pair for pair in itertools.zip_longest(listed, found) if pair[0] != pair[1]), (None, None))
    raise ManifestError(
        f"{authentic.file.path}: not the manifest of {where}: expected shard (name, bytes, records) "
        f"{first[0]}, got {first[1]}; the manifest is another dataset's, or the data was rewritten "
        f"meanwhile: run `palm-torch measure {where}` again if the change is meant"
    )


def _working_dtype(layout: table.Layout, dtype: torch.dtype | None) -> np.dtype[Any]:
    """Returns the type records are converted to in numpy; torch converts to types numpy lacks."""
    stored = np.dtype(layout.dtype)
    name = None if dtype is None else _NUMPY_NAMES.get(dtype)
    if name is not None and not np.can_cast(stored, name, "same_kind"):
        raise DataError(
            f"stored elements are {stored.name}, and {dtype} cannot hold them without loss: pass "
            "dtype=None to keep the stored type, or a type that can"
        )
    return stored if name is None else np.dtype(name)


def info_of(uid: str) -> DatasetInfo:
    """Returns what is known of an open dataset.

    Raises:
        CoverageError: If no dataset of this process has that uid.
    """
    for dataset in opened():
        if dataset.uid == uid:
            return dataset.info
    raise CoverageError(
        f"records of a dataset {uid} were delivered, which this process has not open: keep the "
        "AttestedMmapDataset alive until the session ends"
    )
