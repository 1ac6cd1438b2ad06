"""The ring for tensors on a device, with main memory in the place of one."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import pytest
import torch

from palm_torch.committing.ring import Ring
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")


class Sink:
    def __init__(self) -> None:
        self.pieces: list[tuple[object, bytes]] = []

    def __call__(self, key: object, address: int, nbytes: int) -> None:
        self.pieces.append((key, ctypes.string_at(address, nbytes)))

    def of(self, key: object) -> bytes:
        return b"".join(data for name, data in self.pieces if name is key)


def content(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().resolve_neg().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("half_bytes", [16, 100, 4096])
def test_everything_arrives_in_order(half_bytes: int) -> None:
    sink = Sink()
    ring: Ring[str] = Ring(CPU, sink, half_bytes=half_bytes)
    sent = {"a": b"", "b": b""}
    for _ in range(10):
        for key, shape in (("a", (3, 5)), ("b", (1, 0)), ("b", (2, 2))):
            tensor = torch.randn(shape, requires_grad=True)
            ring.put(key, tensor)
            sent[key] += content(tensor)
    ring.flush()
    assert {key: sink.of(key) for key in sent} == sent


def test_a_forward_pass_travels_at_once_while_the_next_one_fills() -> None:
    sink = Sink()
    ring: Ring[str] = Ring(CPU, sink)
    counts = []
    for _ in range(4):
        for key in ("a", "b", "c"):
            ring.put(key, torch.zeros(4))
            counts.append(len(sink.pieces))
    assert counts == [0, 0, 0, 0, 0, 0, 3, 3, 3, 6, 6, 6]
    ring.flush()
    assert len(sink.pieces) == 12


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(4, 6).t(),
        lambda: torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        lambda: torch.randn(4, dtype=torch.complex64).conj().imag,
        lambda: torch.tensor(True),
        lambda: torch.randn(3, 7).bfloat16()[:, ::2],
    ],
)
def test_tensors_that_are_not_one_run_of_bytes(make: Callable[[], torch.Tensor]) -> None:
    sink, tensor = Sink(), make()
    ring: Ring[str] = Ring(CPU, sink, half_bytes=32)
    with torch.inference_mode():
        ring.put("a", tensor)
        ring.flush()
    expected = tensor.clone(memory_format=torch.contiguous_format).resolve_neg().reshape(-1)
    assert sink.of("a") == content(expected)


class FakeStream:
    def __init__(self) -> None:
        self.waited: list[FakeStream] = []

    def wait_stream(self, other: FakeStream) -> None:
        self.waited.append(other)


class FakeEvent:
    made: list[FakeEvent]

    def __init__(self) -> None:
        self.recorded: list[object] = []
        self.synchronized = 0
        FakeEvent.made.append(self)

    def record(self, stream: object) -> None:
        self.recorded.append(stream)

    def synchronize(self) -> None:
        self.synchronized += 1


def test_the_streams_of_a_gpu_wait_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeEvent.made = []
    streams = [FakeStream(), FakeStream()]
    now = [0]
    capturing = [False]
    real = torch.empty
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: streams[now[0]])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing[0])
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch, "empty", lambda size, *, dtype, **_: real(size, dtype=dtype))
    sink = Sink()
    ring: Ring[str] = Ring(torch.device("cuda:0"), sink, half_bytes=64)
    first, second = FakeEvent.made
    ring.put("a", torch.zeros(4))
    ring.put("b", torch.zeros(4))
    now[0] = 1
    ring.put("a", torch.ones(4))  # comes round: the first half is sent, on the stream in use now
    assert (streams[1].waited, first.recorded, first.synchronized) == ([streams[0]], [streams[1]], 0)
    ring.put("a", torch.ones(4))
    assert (second.recorded, first.synchronized, len(sink.pieces)) == ([streams[1]], 1, 2)
    capturing[0] = True
    with pytest.raises(CoverageError, match="a CUDA graph is being recorded"):
        ring.put("a", torch.zeros(4))
