"""Datasets of nobody's format, as people write them, and what a loop receives of them, digested by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from palm_torch.commit import multiset
from palm_torch.data.item_digests import ItemDigests

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from palm_torch.recorder import Reads

ITEMS = 37


def item(number: int) -> dict[str, Any]:
    """Returns the item of that number: a tensor and a label."""
    return {"x": torch.arange(3, dtype=torch.float32) + number, "y": number}


class Mapped:
    """A map-style dataset that is no subclass of anything."""

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, number: int) -> dict[str, Any]:
        if not 0 <= number < ITEMS:
            raise IndexError(number)
        return item(number)


class AtOnce(Mapped):
    """One that reads a batch at once."""

    def __getitems__(self, numbers: list[int]) -> list[dict[str, Any]]:
        return [item(number) for number in numbers]


class Stream(IterableDataset[Any]):
    """A stream that its workers divide among themselves."""

    def __init__(self, items: int = ITEMS) -> None:
        self.items = items
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for number in range(first, self.items, step):
            yield item(number)


def digest(received: dict[str, Any]) -> bytes:
    """Returns the record digest of an item as the loop received it."""
    return ItemDigests.of(None, None).take(received)[1]


def apart(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the items of a batch that torch's collate function made."""
    return [{"x": x, "y": int(y)} for x, y in zip(batch["x"], batch["y"], strict=True)]


def product(digests: Iterable[bytes]) -> tuple[str, int]:
    """Returns state and count of the multiset hash, one record after the other."""
    made = multiset.MultisetHash()
    for one in digests:
        made.add(one)
    return made.state.hex(), made.count


def digests_of(batches: Iterable[tuple[Reads, ...]]) -> list[bytes]:
    """Returns the record digests that a session was told of."""
    return [
        reads.digests[at : at + 32]
        for batch in batches
        for reads in batch
        for at in range(0, len(reads.digests), 32)
    ]
