"""What attested loading is compared with: a plain dataset, and a session that only counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from palm_torch.data import ledger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from palm_torch import recorder
    from palm_torch.data import dataset


class Plain(Dataset[torch.Tensor]):
    """What a careful user would write by hand."""

    def __init__(self, path: Path, record_bytes: int, offset: int = 0) -> None:
        tokens = record_bytes // 2
        self.rows = np.asarray(np.memmap(path, np.uint16, "r", offset)).reshape(-1, tokens)

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> list[torch.Tensor]:
        """Reads a batch, record by record."""
        rows = self.rows
        return [torch.from_numpy(rows[index].astype(np.int64)) for index in indices]

    def at_once(self, indices: list[int]) -> list[torch.Tensor]:
        """Reads a batch as one array."""
        return list(torch.from_numpy(self.rows[indices].astype(np.int64)).unbind(0))


class Counting:
    """A session that does with the reads what a real one does: count them."""

    def __init__(self, data: dataset.AttestedMmapDataset) -> None:
        self.ledger = ledger.Ledger(data.info)

    def deliver(self, reads: Sequence[recorder.Reads], *, grad_enabled: bool) -> None:
        """Counts a batch."""
        for item in reads:
            self.ledger.add(item, "train" if grad_enabled else "eval")
