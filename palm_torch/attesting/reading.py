"""What sessions have in common in which data is read and nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch

from palm_torch.attesting.training_data import TrainingData
from palm_torch.errors import CoverageError
from palm_torch.hooks import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from palm_torch.recorder import Reads
    from palm_torch.roles import Dataset
    from palm_torch.statement import Device


class Reading:
    """Counts every record that is delivered as read, whatever torch thinks of gradients."""

    def __init__(self) -> None:
        self._data = TrainingData()

    def __enter__(self) -> Self:
        """Nothing has to be hooked: datasets tell the recorder."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was hooked."""

    def deliver(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        """Counts a delivered batch; see `palm_torch.recorder.Recorder`."""
        del grad_enabled
        self._data.open(reads)
        self._data.count(reads, "read")

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
        return self._data.claim()


def in_use() -> tuple[Device, ...]:
    """Returns the CPU, where records are delivered, and every GPU that torch has been used with.

    What a function moves to a GPU nobody sees; so all that this process could have moved it to are listed.
    """
    places = [torch.device("cpu")]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        places += [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return environment.devices(torch.empty(0, device=place) for place in places)
