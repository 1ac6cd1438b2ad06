"""`AttestedMmapDataset`: records of files on disk, hashed as they are sampled."""

from __future__ import annotations

import operator
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import numpy as np
import torch
import torch.utils.data

from palm_torch import recorder
from palm_torch.commit import records
from palm_torch.data import (
    carrier,
    fixed_items,
    open_datasets,
    opening,
    reader,
    row_items,
    row_reader,
    same_files,
)
from palm_torch.data.formats import table
from palm_torch.errors import DataError, PalmTorchError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import datasets

    from palm_torch.commit.manifest import Manifest


_Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_INDEX: Final = np.dtype("<i8")


class AttestedMmapDataset(torch.utils.data.Dataset[Any]):
    """Records of one file or a folder of files.

    An ordinary map-style dataset: samplers, `Subset`, `ConcatDataset` and wrappers of your own work. Each
    record is copied out of its file once; the copy is hashed, compared with the manifest if there is one, and
    the item is made of that same copy.

    Records of numbers are tensors: of one shape (``.bin``, ``.npy``, rows of a safetensors file), or flat and
    of any length (Megatron-LM's ``.bin`` and ``.idx``). Other records are what their format decodes: JSON
    values of the lines of a ``.jsonl`` file, rows of columns as dictionaries, the name and content of the
    files of a folder.

    Args:
        path: A file, or a folder of files of one format; or a `datasets.Dataset`, whose rows are read as they
            are stored: of these, only the arguments `manifest` (a path) and `salt` speak.
        record_length: Elements per record; a manifest or an array's rows can tell it instead.
        token_dtype: Stored element type by its numpy name, e.g. ``"uint16"``, the default of ``.bin``.
        dtype: Element type of tensors of numbers; None keeps the stored one. Decoded records keep theirs. No
            integer wraps around: the type has to hold the range of the stored one, and elements of uint64
            that int64 cannot hold are refused as they are read. Floating-point types round.
        targets: Whether an item is the pair (record without its last element, record without its first).
        manifest: ``"auto"`` takes the manifest beside the data if there is one; a path insists on that
            one; None reads without, so that a changed record is not noticed but only counted.
        salt: Secret that keys the record digests of a private dataset.
        format: Name of the format, where the names of the files do not tell it, or tell another:
            ``"files"`` takes every file of a folder as one record.
        tensor: Name of the tensor whose rows are the records, in safetensors files that hold several.

    Raises:
        DataError: If the data is missing, empty, ragged, mixed or of another type than asked for.
        ManifestError: If the manifest does not parse or is another dataset's.
    """

    hands_on_records: ClassVar = True

    def __init__(  # noqa: PLR0913 (options that are independent of each other)
        self,
        path: str | os.PathLike[str] | datasets.Dataset,
        *,
        record_length: int | None = None,
        token_dtype: str | None = None,
        dtype: torch.dtype | None = torch.int64,
        targets: bool = False,
        manifest: str | os.PathLike[str] | None = "auto",
        salt: bytes | None = None,
        format: str | None = None,  # noqa: A002 (the word for it everywhere else)
        tensor: str | None = None,
    ) -> None:
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise DataError(f"dtype: expected a torch.dtype such as torch.int64, or None, got {dtype!r}")
        wanted = table.Wanted(record_length, token_dtype, format, tensor)
        token = secrets.token_hex(16)
        if opening.is_held(path):
            where = Path(f"{type(path).__name__}@{token[:8]}")
            files, authentic = opening.open_held(path, manifest=manifest, salt=salt)
            lying: list[Path] = []
        else:
            where = Path(path)
            files, authentic = opening.open_all(where, wanted, manifest=manifest, salt=salt)
            lying = [file.path for file in files] if authentic is None else []
        layout = files[0].view.layout
        key = records.record_key(salt, kind=layout.kind)
        self._items: fixed_items.FixedItems | row_items.RowItems
        if isinstance(files[0].view, table.ShardView):
            fixed = reader.RecordReader(where, files, key, authentic)
            self._items = fixed_items.FixedItems(fixed, dtype, targets=targets)
        else:
            rows = row_reader.RowReader(where, files, key, authentic)
            self._items = row_items.RowItems(rows, dtype, targets=targets)
        self._count = self._items.reader.records
        self.info = open_datasets.DatasetInfo(
            name=token,
            path=where,
            layout=layout,
            records=self._count,
            table=authentic,
            same=same_files.proof(lying, key),
        )
        open_datasets.register(self)

    @property
    def uid(self) -> str:
        """Random name of the dataset with the digest of its manifest, the same in every worker's copy."""
        return self.info.uid

    @property
    def manifest(self) -> Manifest | None:
        """Header of the manifest that authenticates the records, or None."""
        return self.info.manifest

    def __len__(self) -> int:
        """Returns the number of records."""
        return self._count

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 (whatever the records are)
        """Reads one record; negative numbers count from the end.

        Raises:
            IndexError: If there is no such record.
            RecordError: If its bytes are not those of the manifest.
        """
        return self._read([index], stacks=False)[0]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        """Reads the records of a batch at once: what torch's fetcher asks for first.

        Raises:
            IndexError: If a record is not there.
            RecordError: If a record's bytes are not those of the manifest.
        """
        return self._read(indices, stacks=self._items.stackable and carrier.stacks()) if len(indices) else []

    def _read(self, indices: Sequence[int], *, stacks: bool) -> Sequence[Any]:
        wanted = self._numbers(indices)
        try:
            items, digests = self._taken(wanted, stacks=stacks)
        except PalmTorchError as error:
            recorder.failed(error)  # a script that swallows it gets no evidence
            carrier.note_failure(error)
            raise
        carrier.leave(carrier.Note(self.uid, wanted.tobytes(), digests, self.info.table is None))
        return items

    def _taken(self, wanted: _Numbers, *, stacks: bool) -> tuple[Sequence[Any], bytes]:
        if stacks and isinstance(self._items, fixed_items.FixedItems):
            return self._items.stacked(wanted)
        return self._items.singly(wanted)

    def _numbers(self, indices: Sequence[int]) -> _Numbers:
        given = np.asarray(indices)
        if given.dtype.kind in "Of":  # beyond 64 bits, or no integers
            given = np.array([self._far(index) for index in indices])
        if given.dtype.kind not in "iu" or given.ndim != 1:
            raise TypeError(
                f"records are numbered by integers in a row, got {given.dtype} of shape {given.shape}"
            )
        count = self._count
        least, greatest = int(given.min()), int(given.max())
        if least < -count or greatest >= count:
            raise IndexError(f"record {greatest if greatest >= count else least} of {count}")
        wanted = given.astype(_INDEX, copy=False)
        return np.where(wanted < 0, wanted + count, wanted) if least < 0 else wanted

    def _far(self, index: Any) -> int:  # noqa: ANN401 (whatever was given)
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(f"records are numbered by integers, got {type(index).__name__}") from None
        if not -self._count <= number < self._count:
            raise IndexError(f"record {number} of {self._count}")
        return number

    @classmethod
    def beneath(cls, dataset: object) -> bool:
        """Returns whether a loader's dataset hands on what `__getitems__` returns, unchanged."""
        while type(dataset) is torch.utils.data.Subset:
            dataset = dataset.dataset
        return type(dataset) is cls

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes up a copy; in the process that opened the dataset it is listed as open too."""
        self.__dict__.update(state)
        open_datasets.register(self)
