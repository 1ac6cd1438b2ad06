"""Rows of one tensor in safetensors files: a record is what lies at one index of the tensor's first axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.commit import safetensors_file
from palm_torch.commit.manifest import Column
from palm_torch.data.formats import table
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


@table.register("safetensors")
def open_safetensors(path: Path, wanted: table.Wanted) -> table.ShardView:
    """Opens the tensor named ``wanted.tensor``, or the only one of the file.

    Raises:
        DataError: If the file is missing or malformed, holds no such tensor, or several and none was named,
            or the tensor has no rows, is of a type that is not read, or disagrees with what is wanted.
    """
    mapping = table.map_file(path)

    def copied(start: int, length: int) -> bytes:
        found: bytes = mapping[start : start + length]
        return found

    tensors, head = safetensors_file.parse_header(copied, path, len(mapping))
    held = {tensor.spec.name: tensor for tensor in tensors}
    if wanted.tensor is None and len(held) != 1:
        raise DataError(f"{path}: holds {len(held)} tensors: pass tensor= with one of {_some(held)}")
    name = next(iter(held)) if wanted.tensor is None else wanted.tensor
    if name not in held:
        raise DataError(f"{path}: expected a tensor {name!r}, got {_some(held)}")
    spec, start = held[name].spec, held[name].start
    rows, *shape = spec.shape or (0,)
    if spec.dtype not in table.ELEMENT_TYPES and spec.dtype not in table.BIT_TYPES:
        raise DataError(
            f"{path}: tensor {name!r}: rows of {spec.dtype} are not read: save its bits, "
            "tensor.view(torch.uint8), and .view() the records as what they are"
        )
    table.check_axes(path, spec.shape)
    if not shape or not rows or not all(shape):
        raise DataError(
            f"{path}: tensor {name!r}: expected rows, two axes or more, got shape {list(spec.shape)}"
        )
    if wanted.dtype not in (None, spec.dtype):
        raise DataError(f"{path}: expected elements of type {wanted.dtype}, got {spec.dtype}")
    if wanted.record_length is not None and (wanted.record_length,) != tuple(shape):
        raise DataError(f"{path}: expected records of {wanted.record_length} elements, got rows of {shape}")
    layout = table.Layout("safetensors", spec.dtype, tuple(shape), (Column(name, spec.dtype),))
    return table.ShardView(layout, rows, start, mapping, head)


def _some(held: dict[str, safetensors_file.StoredTensor]) -> str:
    names = sorted(held)
    return ", ".join(map(repr, names[:8])) + (" …" if len(names) > 8 else "")  # noqa: PLR2004 (a line of names)
