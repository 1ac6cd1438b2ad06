"""How many records of a batch a sampler repeated, so that every rank gets as many as the others.

`torch.utils.data.DistributedSampler` fills its order up with records from the order's beginning. With N
records and R ranks, rank r gets the places r, r + R, r + 2R … of the order, and a place from N on is a
repetition. So the first ceil((N - r) / R) samples of a pass are new and the rest repeats: how many of them
were delivered follows from the number of the batch alone, wherever the loop leaves the pass.

Torch's other samplers know nothing of ranks. What any other class does to make ranks equal (a subclass, the
shards of a framework's batches) nobody here can tell: then the number is not known, and said to be so.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch.distributed
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from palm_torch.commit import records

if TYPE_CHECKING:
    from palm_torch.recorder import Reads

_ALONE: Final = frozenset({RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler})
"""Samplers that know nothing of ranks."""

_FILLS_UP: Final = frozenset({"IterableDatasetShard"})
"""Streams of frameworks that repeat records for ranks, by the name of their class."""


@dataclass(frozen=True, slots=True)
class Padding:
    """What is repeated in each pass over one loader.

    Attributes:
        new: Samples of a pass before the first repetition.
        samples: Samples of a pass.
        batch_size: Samples of a batch; the last may have fewer.
        known: Whether that can be told; the numbers mean nothing otherwise.
    """

    new: int
    samples: int
    batch_size: int
    known: bool = True

    @classmethod
    def of(cls, loader: Any) -> Padding | None:  # noqa: ANN401 (a loader of torch's kind)
        """Returns what a loader's sampler repeats; None for one that repeats nothing to make ranks equal.

        Args:
            loader: A `torch.utils.data.DataLoader`.
        """
        batches = loader.batch_sampler
        plain = batches is None or type(batches) is BatchSampler
        sampler = batches.sampler if plain and batches is not None else loader.sampler
        if isinstance(loader.dataset, torch.utils.data.IterableDataset):
            return UNKNOWN if _FILLS_UP & {kind.__name__ for kind in type(loader.dataset).__mro__} else None
        if plain and type(sampler) is DistributedSampler:
            return cls._of_distributed(sampler, 1 if batches is None else batches.batch_size)
        if (plain and type(sampler) in _ALONE) or not (_ranks() or isinstance(sampler, DistributedSampler)):
            return None
        return UNKNOWN

    @classmethod
    def _of_distributed(cls, sampler: DistributedSampler[Any], batch_size: int) -> Padding | None:
        size = len(sampler.dataset)  # type: ignore[arg-type]  # map-style datasets have a length
        new = max(-(-(size - sampler.rank) // sampler.num_replicas), 0)
        if new >= sampler.num_samples:
            return None
        return cls(new, sampler.num_samples, batch_size)

    def mark(self, reads: tuple[Reads, ...], batch: int) -> tuple[Reads, ...]:
        """Returns what was read for a batch, with the number of records that were repeated.

        Where a sample was repeated and the batch does not consist of one record of one dataset for each
        sample, code of the script stands between, and the number is not known.

        Args:
            reads: What was read.
            batch: Number of the batch in its pass, from 1.
        """
        if not self.known:
            return tuple(dataclasses.replace(item, padded=None) for item in reads)
        end = min(batch * self.batch_size, self.samples)
        start = (batch - 1) * self.batch_size
        repeated = end - max(start, self.new)
        if repeated <= 0:
            return reads
        if len(reads) != 1 or len(reads[0].digests) != (end - start) * records.DIGEST_BYTES:
            return tuple(dataclasses.replace(item, padded=None) for item in reads)
        return (dataclasses.replace(reads[0], padded=repeated),)


UNKNOWN: Final = Padding(0, 0, 0, known=False)


def _ranks() -> bool:
    """Returns whether other processes train together with this one."""
    module = torch.distributed
    return module.is_available() and module.is_initialized() and module.get_world_size() > 1
