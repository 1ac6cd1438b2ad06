"""Tensors on a device: copied there, on the same stream, and brought to main memory once per forward pass.

Two halves take turns. While one is filled by copies within the device, the other travels to main memory
behind an event; nothing waits for a single tensor. A half is sent when the first site comes round again, or
when it is full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import torch

from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Callable

HALF_BYTES: Final = 16 << 20

Key = TypeVar("Key")


class Ring(Generic[Key]):
    """The copies of one device's tensors on their way out.

    Args:
        device: The device.
        deliver: Takes a key, an address in main memory and a number of bytes, in the order of `put`.
        half_bytes: Size of each half, on the device and in main memory.
    """

    def __init__(
        self,
        device: torch.device,
        deliver: Callable[[Key, int, int], None],
        *,
        half_bytes: int = HALF_BYTES,
    ) -> None:
        self._device = device
        self._deliver = deliver
        self._halves: tuple[_Half[Key], _Half[Key]] = (_Half(device, half_bytes), _Half(device, half_bytes))
        self._turn = 0
        self._first: Key | None = None
        self._stream: torch.cuda.Stream | None = None

    def put(self, key: Key, tensor: torch.Tensor) -> None:
        """Copies a tensor, without waiting for the device.

        Raises:
            CoverageError: If the stream is being captured into a graph, which would replay unseen.
        """
        self._follow()
        if self._first is None:
            self._first = key
        elif key is self._first and self._halves[self._turn].used:
            self._send()
        with torch.no_grad():
            plain = tensor.detach().resolve_conj().resolve_neg()
            flat = plain.contiguous().reshape(-1).view(torch.uint8)
            while len(flat):
                half = self._halves[self._turn]
                flat = flat[half.take(key, flat) :]
                if half.full:
                    self._send()

    def flush(self) -> None:
        """Delivers everything that was put, and waits for it."""
        self._send()
        self._send()

    def _send(self) -> None:
        """Sends the half that was filled, and delivers the other, which was sent a turn ago."""
        with torch.no_grad():
            self._halves[self._turn].send()
        self._turn ^= 1
        self._halves[self._turn].deliver(self._deliver)

    def _follow(self) -> None:
        """Has the stream in use wait for the one that was in use before."""
        if self._device.type != "cuda":
            return
        if torch.cuda.is_current_stream_capturing():
            raise CoverageError(
                "captured tensors: a CUDA graph is being recorded, and its replays run no hooks: commit to "
                "the model without CUDA graphs"
            )
        stream = torch.cuda.current_stream(self._device)
        if self._stream is not None and stream != self._stream:
            stream.wait_stream(self._stream)
        self._stream = stream


class _Half(Generic[Key]):
    """A buffer on the device, one in main memory, and whose bytes they hold."""

    def __init__(self, device: torch.device, size: int) -> None:
        cuda = device.type == "cuda"
        with torch.inference_mode(mode=False):
            self._there = torch.empty(size, dtype=torch.uint8, device=device)
            self._here = torch.empty(size, dtype=torch.uint8, pin_memory=cuda)
        self._event: Any = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]  # torch's own
        self._device = device
        self._pieces: list[tuple[Key, int, int]] = []
        self.used = 0

    @property
    def full(self) -> bool:
        """Whether there is no room left."""
        return self.used == len(self._there)

    def take(self, key: Key, flat: torch.Tensor) -> int:
        """Copies as much as there is room for, and returns how many bytes."""
        start = self.used
        size = min(len(flat), len(self._there) - start)
        self._there[start : start + size].copy_(flat[:size])
        self._pieces.append((key, start, size))
        self.used = start + size
        return size

    def send(self) -> None:
        """Begins to bring it to main memory."""
        if self.used:
            self._here[: self.used].copy_(self._there[: self.used], non_blocking=True)
            if self._event is not None:
                self._event.record(torch.cuda.current_stream(self._device))

    def deliver(self, deliver: Callable[[Key, int, int], None]) -> None:
        """Waits until it is there, and hands everything on."""
        if not self.used:
            return
        if self._event is not None:
            self._event.synchronize()
        address = self._here.data_ptr()
        for key, start, size in self._pieces:
            deliver(key, address + start, size)
        self._pieces = []
        self.used = 0
