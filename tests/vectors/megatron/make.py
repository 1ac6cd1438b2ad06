"""Writes the golden pairs of files with Megatron-LM's own writer (megatron-core 0.16.1, not installed by
default).

    python tests/vectors/megatron/make.py

Each pair holds the sequences of `SEQUENCES`, the second of which begins a document of two.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

SEQUENCES = ((1, 2, 3), (40,), (5, 6, 7, 8, 9), (100, 101))
DOCUMENTS = ((0,), (1, 2), (3,))
DTYPES = (np.uint8, np.int32, np.int64, np.uint16, np.float32)


def main() -> None:
    """Writes one pair per element type."""
    here = Path(__file__).parent
    for dtype in DTYPES:
        prefix = here / np.dtype(dtype).name
        builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
        for document in DOCUMENTS:
            lengths = [len(SEQUENCES[number]) for number in document]
            tokens = [token for number in document for token in SEQUENCES[number]]
            builder.add_document(torch.tensor(tokens), lengths)
        builder.finalize(f"{prefix}.idx")


if __name__ == "__main__":
    main()
