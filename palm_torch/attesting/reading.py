"""What sessions have in common in which data is read and nothing is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

import torch

from palm_torch.attesting.training_data import TrainingData
from palm_torch.data import statistics
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.generic import AttestedDataset
from palm_torch.data.stream import AttestedIterableDataset
from palm_torch.errors import CoverageError, MeasurementError
from palm_torch.hooks import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from palm_torch.recorder import Reads
    from palm_torch.roles import Dataset
    from palm_torch.statement import Device

_RECORD_BY_RECORD: Final = (AttestedMmapDataset, AttestedDataset, AttestedIterableDataset)
"""Exactly these types hand on what was hashed, record by record; a subclass may hand on anything."""

_END: Final = object()


class Reading:
    """Counts every record that is delivered as read, whatever torch thinks of gradients."""

    def __init__(self) -> None:
        self._data = TrainingData()
        self._handing_on: str | None = None
        self._unfinished = 0

    def __enter__(self) -> Self:
        """Nothing has to be hooked: datasets tell the recorder."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was hooked."""

    def deliver(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        """Counts a delivered batch; see `palm_torch.recorder.Recorder`."""
        del grad_enabled
        if self._handing_on is not None:
            reads = [replace(one, exact=True) if one.dataset == self._handing_on else one for one in reads]
        self._data.open(reads)
        self._data.count(reads, "read")

    def each(self, dataset: Any) -> Iterator[Any]:  # noqa: ANN401 (any attested dataset)
        """Yields every record of a dataset once, in order, as it was hashed; what it counts is exact.

        Raises:
            MeasurementError: If the dataset is none whose records are hashed one by one.
        """
        if type(dataset) not in _RECORD_BY_RECORD:
            kinds = ", ".join(kind.__name__ for kind in _RECORD_BY_RECORD)
            raise MeasurementError(
                f"run.records, run.statistic: expected an attested dataset itself ({kinds}), got "
                f"{type(dataset).__name__}: what subclasses, subsets, windows, loaders and lists hand on is "
                "not what was hashed; read it in a loop of your own"
            )
        return self._each(dataset)

    def _each(self, dataset: Any) -> Iterator[Any]:  # noqa: ANN401 (any attested dataset)
        records = statistics.each_once(dataset)
        self._unfinished += 1  # records are read ahead: whoever stops early was not given all that is counted
        while True:
            self._handing_on = dataset.uid
            try:
                record = next(records, _END)
            finally:
                self._handing_on = None
            if record is _END:
                break
            yield record
        self._unfinished -= 1

    def devices(self) -> tuple[Device, ...]:
        """Returns the devices that the records may have been on; see `in_use`."""
        return in_use()

    def sidecars(self) -> dict[str, Callable[[Path], None]]:
        """Returns the coverage maps: file suffix → what writes the file."""
        return self._data.sidecars()

    def data(self) -> dict[str, Dataset]:
        """Returns what was read.

        Raises:
            CoverageError: If nothing was.
            ManifestError: If a manifest was rewritten since it was opened.
        """
        if not self._data.any:
            raise CoverageError(
                "no record was read inside the session: read the data through palm_torch.AttestedMmapDataset "
                "or palm_torch.AttestedDataset, by index or with palm_torch.DataLoader"
            )
        claimed = self._data.claim()
        if self._unfinished:
            claimed = {name: _inexact(dataset) for name, dataset in claimed.items()}
        return claimed


def _inexact(dataset: Dataset) -> Dataset:
    uses = {use: replace(delivered, exact=False) for use, delivered in dataset.uses.items()}
    return replace(dataset, uses=uses)


def in_use() -> tuple[Device, ...]:
    """Returns the CPU, where records are delivered, and every GPU that torch has been used with.

    What a function moves to a GPU nobody sees; so all that this process could have moved it to are listed.
    """
    places = [torch.device("cpu")]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        places += [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return environment.devices(torch.empty(0, device=place) for place in places)
