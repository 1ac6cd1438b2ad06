"""Records read straight into the batch that torch's default collate would copy them into.

A loader with the default collate function takes a list of rows and stacks it into one tensor, in shared
memory if it runs in a worker. Where nothing stands between dataset and collate function the list is left
out: what the loop receives is the same tensor with the same values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from torch.utils.data import Subset, default_collate, get_worker_info
from torch.utils.data._utils import collate

if TYPE_CHECKING:
    from collections.abc import Callable

Record: TypeAlias = "torch.Tensor | tuple[torch.Tensor, torch.Tensor]"

_STACK: Final[Callable[..., Any]] = collate.collate_tensor_fn


class Stacked(Sequence[Record]):
    """The records of one batch, already stacked.

    It can be read like the list it stands for.

    Args:
        tensors: One tensor [batch, …], or two for pairs of input and target.
    """

    __slots__ = ("_tensors",)

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._tensors = tensors

    def collated(self) -> Any:  # noqa: ANN401 (what the default collate function returns)
        """Returns what the default collate function would make of the list."""
        return self._tensors[0] if len(self._tensors) == 1 else list(self._tensors)

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._tensors[0])

    def __getitem__(self, at: Any) -> Any:  # noqa: ANN401 (a record, or several for a slice)
        """Returns one record, or a list for a slice."""
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(len(self)))]
        rows = [tensor[at] for tensor in self._tensors]
        return rows[0] if len(rows) == 1 else tuple(rows)


def hands_on_records(dataset: object) -> bool:
    """Returns whether a loader's dataset is of a class that says it hands on the very records it hashed.

    Only the class itself can say so: one derived from it may do otherwise.
    """
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return bool(vars(type(dataset)).get("hands_on_records", False))


def is_default(function: object) -> bool:
    """Returns whether a collate function stacks tensors as torch's does by default."""
    return function is default_collate and collate.default_collate_fn_map.get(torch.Tensor) is _STACK


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Returns memory for a batch: in a worker of a loader shared with the main process, as torch's own."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    size_bytes = math.prod(shape) * dtype.itemsize
    storage = torch.UntypedStorage._new_shared(size_bytes)  # type: ignore[no-untyped-call]  # noqa: SLF001 (as torch's collate)
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape, strides)
