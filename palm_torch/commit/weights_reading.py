"""One pass over stored tensors, tile after tile.

Bytes are copied out of the files once, never mapped; whoever gets a tile hashes that copy and keeps it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from palm_torch.commit import safetensors_file, weights_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.commit.safetensors_file import StoredTensor
    from palm_torch.commit.weights_root import TensorSpec


def tiles(spec: TensorSpec, stored: StoredTensor) -> Iterator[bytes]:
    """Yields the bytes of a tensor's tiles, in the order of their positions.

    Args:
        spec: The tensor under the name that counts.
        stored: Where it lies.

    Raises:
        DataError: If the file cannot be read or has become shorter.
    """
    descriptor = safetensors_file.open_file(stored.path)
    try:
        for _, _, start, end in weights_root.tiles(spec):
            yield safetensors_file.read_exactly(descriptor, stored.path, stored.start + start, end - start)
    finally:
        os.close(descriptor)
