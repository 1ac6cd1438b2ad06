"""A tensor as bytes: the only place where tensor contents leave torch, and the only device→host copy."""

from __future__ import annotations

import sys
from typing import Final

import torch
from torch.nn.parameter import is_lazy

from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.errors import CoverageError

_LITTLE: Final = "little"


def dtype_name(tensor: torch.Tensor) -> str:
    """Returns torch's name of the element type without the ``torch.`` in front, e.g. ``bfloat16``."""
    return str(tensor.dtype).removeprefix("torch.")


def tensor_bytes(tensor: torch.Tensor, *, what: str = "tensor") -> memoryview:
    """Returns the exact little-endian bytes of a tensor, row-major.

    A contiguous tensor in main memory is not copied: the view shows its memory as it is now, and as it
    will be after the next optimizer step. One on a device is copied to main memory once.

    Args:
        tensor: Any dense tensor, of any shape, strides and element type of `ITEM_BYTES`.
        what: Name of the tensor, for messages.

    Returns:
        A read-only view of ``numel × item size`` bytes; it keeps the memory alive.

    Raises:
        CoverageError: If the tensor has no bytes of its own, or not in one piece: on the meta device,
            sparse, nested, quantized, distributed or another wrapper, or of an unknown element type.
    """
    require_bytes(tensor, what=what)
    plain = tensor.detach().resolve_conj().resolve_neg()
    flat = plain.cpu().contiguous().reshape(-1).view(torch.uint8)
    return flat.numpy().data.toreadonly()


def require_bytes(tensor: torch.Tensor, *, what: str) -> None:
    """Checks, without reading a value, that `tensor_bytes` has bytes to return.

    Raises:
        CoverageError: As `tensor_bytes`.
    """
    if _answers_itself(tensor):
        raise CoverageError(
            f"{what}: {type(tensor).__name__} keeps its values in other tensors; measure those, "
            "e.g. the local shard (`to_local()`) or the whole (`full_tensor()`) of a DTensor"
        )
    if is_lazy(tensor):
        raise CoverageError(f"{what}: a lazy parameter has no values yet; run the model once before")
    if tensor.is_quantized or dtype_name(tensor) not in ITEM_BYTES:
        raise CoverageError(
            f"{what}: no canonical bytes for {tensor.dtype}; measure its `int_repr()`, scales and zero points"
        )
    if tensor.layout != torch.strided or tensor.is_nested:
        raise CoverageError(f"{what}: no canonical bytes for layout {tensor.layout}; call `to_dense()` first")
    if tensor.device.type == "meta":
        raise CoverageError(f"{what}: a tensor on the meta device has no values; load the weights first")
    if sys.byteorder != _LITTLE:
        raise CoverageError(f"{what}: expected a little-endian machine, got {sys.byteorder}")


def keeps_its_bytes(tensor: torch.Tensor) -> bool:
    """Tells whether a tensor's values lie in one strided piece of memory of its own.

    Not so for sparse and nested layouts, the meta device, lazy parameters, and for subclasses that
    answer operations themselves (DTensor, quantized wrappers, fake tensors).
    """
    return (
        not _answers_itself(tensor)
        and not is_lazy(tensor)
        and tensor.layout == torch.strided
        and not tensor.is_nested
        and tensor.device.type != "meta"
    )


def counts_writes(tensor: torch.Tensor) -> bool:
    """Tells whether torch keeps a version counter: not for inference tensors, and for lazy ones not yet."""
    return not is_lazy(tensor) and not tensor.is_inference()


def _answers_itself(tensor: torch.Tensor) -> bool:
    return type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
