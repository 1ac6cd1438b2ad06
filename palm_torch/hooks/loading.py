"""Loading weights so that they are measured: the bytes that are hashed are those that are copied.

`load_safetensors` reads each tile of a file once, into the tensor's own memory, and hashes it there. What
the tiles' digests were is remembered for as long as the tensor's storage lives, so that whoever holds the
weights later need not read them again. A tensor that was written to since, as far as torch counts writes, is
not remembered; writes that torch does not count are found when the weights are measured again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from palm_torch.commit import safetensors_file
from palm_torch.errors import DataError
from palm_torch.hooks import tensors

if TYPE_CHECKING:
    import os

    from palm_torch.commit.safetensors_file import StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    storage: StorageWeakRef  # while it is held, no other storage gets the same address of its struct
    place: tuple[object, ...]
    tiles: bytes
    moment: float


_loaded: Final[dict[int, _Loaded]] = {}
"""Address of a storage's struct → what was loaded into it."""


def load_safetensors(
    path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> dict[str, torch.Tensor]:
    """Loads a model's tensors and measures them in the same pass.

    The result is what ``model.load_state_dict(tensors, assign=True)`` takes: with ``assign=True`` the model
    keeps these tensors, and a session does not have to hash them again. Bytes are read from the file into
    memory of this process, never mapped.

    Args:
        path: A ``.safetensors`` file, a ``….safetensors.index.json``, or a folder with one of the two under
            their usual names.
        device: Where the tensors shall live.

    Returns:
        Stored name → tensor, of the stored dtype and shape, in the order of the files' bytes.

    Raises:
        DataError: If a file is missing, malformed, becomes shorter while it is read, or the device has no
            room.
    """
    stored = safetensors_file.stored_tensors(Path(path))
    _forget_expired()
    return {name: _load(item, torch.device(device)) for name, item in stored.items()}


def tiles_of(tensor: torch.Tensor) -> bytes | None:
    """Returns BLAKE3 of each tile of a tensor as it was loaded, 32 bytes each.

    Returns:
        None for a tensor that was not loaded by `load_safetensors`, is another view of what was, or has been
        written to since, as far as torch counts writes.
    """
    found = loaded(tensor)
    return None if found is None else found[0]


def loaded(tensor: torch.Tensor) -> tuple[bytes, float] | None:
    """Returns `tiles_of` a tensor, and when reading it began, in seconds of the monotonic clock."""
    place = _place(tensor)
    found = None if place is None else _loaded.get(_address(tensor))
    if found is None or found.place != place or found.storage.expired():  # type: ignore[no-untyped-call]
        return None
    return found.tiles, found.moment


def _load(item: StoredTensor, device: torch.device) -> torch.Tensor:
    dtype: torch.dtype = getattr(torch, item.spec.dtype)
    moment = time.monotonic()
    try:
        tensor = torch.empty(item.spec.shape, dtype=dtype)
        memory = tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")
        tiles = item.copy_into(memory)
        tensor = tensor.to(device)
    except (RuntimeError, AssertionError) as error:  # torch has no room, no such device, no CUDA at all
        raise DataError(f"{item.path}: tensor {item.spec.name!r}: {error}") from error
    _remember(tensor, tiles, moment)
    return tensor


def _remember(tensor: torch.Tensor, tiles: bytes, moment: float) -> None:
    place = _place(tensor)
    if place is None:
        return
    storage = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    _loaded[_address(tensor)] = _Loaded(storage, place, tiles, moment)


def _forget_expired() -> None:
    for address in [key for key, one in _loaded.items() if one.storage.expired()]:  # type: ignore[no-untyped-call]
        del _loaded[address]


def _address(tensor: torch.Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata  # noqa: SLF001 (torch's own name of a storage)
    return address


def _place(tensor: torch.Tensor) -> tuple[object, ...] | None:
    """Returns what is equal exactly for tensors of the same elements, unwritten since; None without it."""
    if not tensors.keeps_its_bytes(tensor) or not tensors.counts_writes(tensor) or not tensor.is_contiguous():
        return None
    bits = (tensor.is_conj(), tensor.is_neg())
    version = tensor._version  # noqa: SLF001 (torch's own counter)
    return (version, tensor.dtype, tuple(tensor.shape), tensor.data_ptr(), tensor.device, *bits)
