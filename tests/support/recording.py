"""A recorder that only remembers, and a small dataset, for the tests of data loading."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from palm_torch import recorder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LENGTH = 16
"""Tokens per record."""
RECORDS = 123


class Remembering:
    """Keeps what was delivered, batch by batch."""

    def __init__(self) -> None:
        self.batches: list[tuple[recorder.Reads, ...]] = []
        self.grad: list[bool] = []

    def deliver(self, reads: Sequence[recorder.Reads], *, grad_enabled: bool) -> None:
        assert reads
        self.batches.append(tuple(reads))
        self.grad.append(grad_enabled)

    def indices(self, uid: str | None = None) -> list[int]:
        """Returns the numbers of the records delivered, in order."""
        return [
            index
            for batch in self.batches
            for reads in batch
            if uid in (None, reads.dataset)
            for index in np.frombuffer(reads.indices, "<i8").tolist()
        ]


@contextmanager
def recording(name: str = "session-1") -> Iterator[Remembering]:
    """Opens a session that only remembers."""
    remembering = Remembering()
    with recorder.install(remembering, name):
        yield remembering


def write_tokens(folder: Path) -> np.ndarray:
    """Writes three shards of 40, 41 and 42 records and returns all records, uint16, [123, 16].

    The first token of a record is its number.
    """
    folder.mkdir()
    rows = np.random.default_rng(7).integers(0, 50_000, (RECORDS, LENGTH)).astype(np.uint16)
    rows[:, 0] = np.arange(RECORDS)
    for shard, start in enumerate((0, 40, 81)):
        rows[start : (40, 81, RECORDS)[shard]].tofile(folder / f"part-{shard}.bin")
    return rows
