"""How many records of a batch a sampler repeated, so that every rank gets as many as the others.

`torch.utils.data.DistributedSampler` fills its order up with records from the order's beginning. With N
records and R ranks, rank r gets the places r, r + R, r + 2R … of the order, and a place from N on is a
repetition. So the first ceil((N - r) / R) samples of a pass are new and the rest repeats: how many of them
were delivered follows from the number of the batch alone, wherever the loop leaves the pass.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils.data import BatchSampler, DistributedSampler

from palm_torch.commit import records

if TYPE_CHECKING:
    from palm_torch.recorder import Reads


@dataclass(frozen=True, slots=True)
class Padding:
    """What is repeated in each pass over one loader.

    Attributes:
        new: Samples of a pass before the first repetition.
        samples: Samples of a pass.
        batch_size: Samples of a batch; the last may have fewer.
    """

    new: int
    samples: int
    batch_size: int

    @classmethod
    def of(cls, loader: Any) -> Padding | None:  # noqa: ANN401 (a loader of torch's kind)
        """Returns what a loader's sampler repeats; None for a sampler that repeats nothing, or is another.

        Args:
            loader: A `torch.utils.data.DataLoader`.
        """
        batches = loader.batch_sampler
        if batches is not None and type(batches) is not BatchSampler:
            return None
        sampler = loader.sampler if batches is None else batches.sampler
        if type(sampler) is not DistributedSampler:  # a subclass may have an order of its own
            return None
        size = len(sampler.dataset)  # type: ignore[arg-type]  # map-style datasets have a length
        new = max(-(-(size - sampler.rank) // sampler.num_replicas), 0)
        if new >= sampler.num_samples:
            return None
        return cls(new, sampler.num_samples, 1 if batches is None else batches.batch_size)

    def mark(self, reads: tuple[Reads, ...], batch: int) -> tuple[Reads, ...]:
        """Returns what was read for a batch, with the number of records that were repeated.

        Where a batch does not consist of one record of one dataset for each sample, nothing is marked: code
        of the script stands between, and what is counted is what was read for it.

        Args:
            reads: What was read.
            batch: Number of the batch in its pass, from 1.
        """
        end = min(batch * self.batch_size, self.samples)
        start = (batch - 1) * self.batch_size
        repeated = end - max(start, self.new)
        if repeated <= 0 or len(reads) != 1 or len(reads[0].digests) != (end - start) * records.DIGEST_BYTES:
            return reads
        return (dataclasses.replace(reads[0], padded=repeated),)
