"""A small model as a safetensors file, in plain bytes, and what is needed to lie about it."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import TYPE_CHECKING, Any

from palm_torch.commit import weights_commitment, weights_opening
from palm_torch.errors import InputError, RejectedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from palm_torch.commit.opening_file import WeightsOpening
    from palm_torch.commit.weights_commitment import WeightsCommitment
    from palm_torch.roles import Tensor

Stored = tuple[str, list[int], bytes]


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


WIDTH = 1024
"""Rows of float32: 64 of them make a tile of 256 KiB."""

MODEL: dict[str, Stored] = {
    "body.weight": ("F32", [200, WIDTH], some_bytes(200 * WIDTH * 4, 1)),
    "body.bias": ("F32", [200], some_bytes(800, 2)),
    "body.scale": ("F32", [], some_bytes(4, 3)),
    "conv.weight": ("BF16", [3, 4, 5], some_bytes(120, 4)),
    "empty": ("F32", [0, 7], b""),
    "wide.weight": ("F32", [2, 300_000], some_bytes(2_400_000, 5)),
}

SMALL: dict[str, Stored] = {
    "a": ("F32", [3, 4], some_bytes(48, 6)),
    "b": ("F32", [5], some_bytes(20, 7)),
    "c": ("F32", [], some_bytes(4, 8)),
}


def write(path: Path, tensors: Mapping[str, Stored] = MODEL) -> Path:
    """Writes a safetensors file."""
    header: dict[str, Any] = {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    written = json.dumps(header).encode()
    path.write_bytes(
        len(written).to_bytes(8, "little") + written + b"".join(data for _, _, data in tensors.values())
    )
    return path


def opened(path: Path, name: str = "body.weight", **options: Any) -> WeightsOpening:
    return weights_opening.read_block(path, name, **options).opening()


def refused(opening: WeightsOpening, changes: Mapping[str, Any], root: Any = None) -> Exception:
    """Returns the error that a changed opening meets, at the latest when it is verified."""
    try:
        weights_opening.verify(dataclasses.replace(opening, **changes), root or opening.root)
    except (InputError, RejectedError) as error:
        return error
    raise AssertionError(f"accepted with {sorted(changes)} changed")


def committed(path: Path, **options: Any) -> WeightsCommitment:
    return weights_commitment.commit(path, **options)


def tensor(listed: WeightsCommitment, name: str) -> Tensor:
    return next(item for item in listed.tensors if item.name == name)
