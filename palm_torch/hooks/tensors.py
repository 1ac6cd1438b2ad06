"""A tensor as bytes: the only place where tensor contents leave torch, and the only device→host copy."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.distributed.tensor import DTensor

_NAMES: Final = {getattr(torch, name): name for name in ITEM_BYTES if hasattr(torch, name)}
_WITHOUT_NUMPY: Final = frozenset(
    kind
    for kind, name in _NAMES.items()
    if name.startswith(("bfloat", "float4", "float8")) or name == "complex32"
)
_NUMPY_DIMENSIONS: Final = 32
"""The most that every NumPy of the supported versions has."""

_ORDINARY: Final = frozenset({torch.Tensor, torch.nn.Parameter})
_LITTLE: Final = "little"
_DISTRIBUTED: Final = "torch.distributed.tensor"


def dtype_name(tensor: torch.Tensor) -> str:
    """Returns torch's name of the element type without the ``torch.`` in front, e.g. ``bfloat16``."""
    return _NAMES.get(tensor.dtype) or str(tensor.dtype).removeprefix("torch.")


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
    return _elements(tensor, what).reshape(-1).view(np.uint8).data.toreadonly()


def copied_bytes(tensor: torch.Tensor, *, what: str = "tensor") -> bytes:
    """Returns a copy of what `tensor_bytes` views.

    Raises:
        CoverageError: As `tensor_bytes`.
    """
    return _elements(tensor, what).tobytes()


def require_bytes(tensor: torch.Tensor, *, what: str) -> None:
    """Checks, without reading a value, that `tensor_bytes` has bytes to return, of all of it or of a part.

    Raises:
        CoverageError: As `tensor_bytes`.
    """
    tensor = local(tensor)
    if _answers_itself(tensor):
        raise CoverageError(
            f"{what}: {type(tensor).__name__} keeps its values in other tensors; measure those, "
            "or name them: run.output(model={'name': tensor, ...})"
        )
    if is_lazy(tensor):
        raise CoverageError(f"{what}: a lazy parameter has no values yet; run the model once before")
    if tensor.dtype not in _NAMES:
        raise CoverageError(
            f"{what}: no canonical bytes for {tensor.dtype}; measure its `int_repr()`, scales and zero points"
        )
    if tensor.layout != torch.strided or tensor.is_nested:
        raise CoverageError(f"{what}: no canonical bytes for layout {tensor.layout}; call `to_dense()` first")
    if tensor.device.type == "meta":
        raise CoverageError(f"{what}: a tensor on the meta device has no values; load the weights first")
    if sys.byteorder != _LITTLE:
        raise CoverageError(f"{what}: expected a little-endian machine, got {sys.byteorder}")


def _elements(tensor: torch.Tensor, what: str) -> NDArray[Any]:
    """Returns a tensor's elements in row order, as numbers of a type that NumPy has; no copy if it can be."""
    if not is_ordinary(tensor):
        if is_distributed(tensor):
            raise CoverageError(
                f"{what}: a {type(tensor).__name__}, of which this rank holds a part: expected that part "
                "(`tensors.local`) or all of it (`tensors.whole`)"
            )
        require_bytes(tensor, what=what)
    try:
        plain = tensor.detach()
        if plain.is_conj() or plain.is_neg():
            plain = plain.resolve_conj().resolve_neg()
        if not plain.is_cpu:
            plain = plain.cpu()
        if not plain.is_contiguous():
            plain = plain.contiguous()
        if plain.dim() > _NUMPY_DIMENSIONS or plain.dtype in _WITHOUT_NUMPY:
            plain = plain.view(-1)
        if plain.dtype in _WITHOUT_NUMPY:
            plain = plain.view(torch.uint8)
        return plain.numpy()
    except RuntimeError as error:  # torch's own wrappers of tensors, such as vmap's
        raise CoverageError(f"{what}: it has no bytes to copy: {error}") from error


def is_ordinary(tensor: torch.Tensor) -> bool:
    """Says whether a tensor has bytes, where that is soon said; of others `require_bytes` says it."""
    return (
        type(tensor) in _ORDINARY
        and tensor.dtype in _NAMES
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and not tensor.is_meta
        and sys.byteorder == _LITTLE
    )


def is_distributed(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Tells whether each rank holds only its own part of a tensor, as `fully_shard` leaves parameters.

    The class is looked up and not imported: whoever has such a tensor has imported it.
    """
    module = sys.modules.get(_DISTRIBUTED)
    return module is not None and isinstance(tensor, module.DTensor)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor with all its values: itself, or what all ranks hold of it, gathered.

    Gathering is a collective: every rank has to ask for the same tensors in the same order. The result is a
    copy as large as the whole tensor; drop it before the next one is asked for.
    """
    if not is_distributed(tensor):
        return tensor
    with torch.no_grad():
        kind = tensor.device_mesh.device_type
        placed: Any = tensor.detach()
        gathered: torch.Tensor = (placed if placed.device.type == kind else placed.to(kind)).full_tensor()
        return gathered


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Returns what this rank holds of a tensor: its own part of a distributed one, or all of it."""
    if not is_distributed(tensor):
        return tensor
    part: Any = tensor.detach()
    own: torch.Tensor = part.to_local()
    return own


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
