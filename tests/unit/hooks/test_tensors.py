"""Tensors as bytes: every dtype and stride, bit for bit; and what has no bytes of its own."""

from __future__ import annotations

import struct
import sys
import warnings
from typing import Self

import pytest
import torch
from torch import nn

from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.errors import CoverageError
from palm_torch.hooks.tensors import dtype_name, keeps_its_bytes, tensor_bytes


@pytest.mark.parametrize("name", ITEM_BYTES)
def test_every_dtype_keeps_its_bytes(name: str) -> None:
    raw = torch.arange(6 * ITEM_BYTES[name], dtype=torch.uint8) % 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="ComplexHalf support is experimental")
        tensor = raw.view(getattr(torch, name)).reshape(2, 3)
        assert dtype_name(tensor) == name
        assert tensor_bytes(tensor) == raw.numpy().tobytes()


def test_item_sizes_are_those_of_torch() -> None:
    assert {name: getattr(torch, name).itemsize for name in ITEM_BYTES} == ITEM_BYTES


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 3, 4)], ids=str)
def test_shapes(shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape)
    got = tensor_bytes(tensor)
    assert got == tensor.numpy().tobytes()
    assert (got.format, got.ndim, got.readonly) == ("B", 1, True)


def test_bytes_are_those_of_ieee_little_endian() -> None:
    assert tensor_bytes(torch.tensor([1.0, -0.0])) == struct.pack("<ff", 1.0, -0.0)
    assert tensor_bytes(torch.tensor(1.0, dtype=torch.bfloat16)) == b"\x80\x3f"


def test_negative_zero_and_nan_payloads_survive() -> None:
    bits = torch.tensor([0x7FC00001, 0x7FC00002, -0x80000000, 0], dtype=torch.int32)
    assert tensor_bytes(bits.view(torch.float32)) == tensor_bytes(bits)


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.t(),
        lambda t: t[:, ::2],
        lambda t: t[1:, 1:],
        lambda t: t.expand(2, 4, 6),
        lambda t: t.reshape(2, 2, 2, 3).contiguous(memory_format=torch.channels_last),
    ],
)
def test_strides_do_not_show(view) -> None:  # noqa: ANN001 (a lambda from the list)
    tensor = view(torch.randn(4, 6))
    assert tensor_bytes(tensor) == tensor.contiguous().numpy().tobytes()


def test_lazy_conjugates_and_negatives_are_resolved() -> None:
    numbers = torch.randn(3, dtype=torch.complex64)
    conjugate = numbers.conj()
    assert conjugate.is_conj()
    assert tensor_bytes(conjugate) == conjugate.resolve_conj().numpy().tobytes()
    negative = conjugate.imag
    assert negative.is_neg()
    assert tensor_bytes(negative) == negative.resolve_neg().contiguous().numpy().tobytes()


def test_contiguous_memory_is_not_copied() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    view = tensor_bytes(parameter)
    parameter.data.fill_(1)
    assert view == struct.pack("<ff", 1, 1)


def test_view_keeps_the_memory_alive() -> None:
    assert tensor_bytes(torch.full((1000,), 7, dtype=torch.uint8)) == b"\x07" * 1000


def test_inference_tensors_have_bytes() -> None:
    with torch.inference_mode():
        made = torch.ones(2)
    assert tensor_bytes(made) == struct.pack("<ff", 1, 1)


class Doubled(torch.Tensor):
    """A subclass that answers operations itself, as quantizing libraries make them."""

    def __new__(cls) -> Self:
        return torch.Tensor._make_wrapper_subclass(cls, (2,), dtype=torch.float32)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN206 (torch's form)
        raise AssertionError(func)


class Tagged(torch.Tensor):
    """A subclass that only carries a name."""


REFUSED = {
    "wrapper": (Doubled, "Doubled keeps its values in other tensors"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "layout torch.sparse_coo; call `to_dense"),
    "sparse rows": (lambda: torch.eye(3).to_sparse_csr(), "layout torch.sparse_csr"),
    "meta": (lambda: torch.empty(3, device="meta"), "on the meta device has no values"),
    "lazy": (lambda: nn.LazyLinear(3).weight, "a lazy parameter has no values yet"),
    "unknown dtype": (lambda: torch.empty(3, dtype=torch.bits8), "no canonical bytes for torch.bits8"),
    "nested": (
        lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged),
        "keeps its values in other tensors",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:.*(Sparse CSR|sparse csr).*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Lazy modules.*:UserWarning")
def test_tensors_without_bytes_of_their_own(name: str) -> None:
    make, message = REFUSED[name]
    tensor = make()
    assert keeps_its_bytes(tensor) is (name == "unknown dtype")
    with pytest.raises(CoverageError, match=f"layer.weight: .*{message}"):
        tensor_bytes(tensor, what="layer.weight")


def test_quantized_tensors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    with pytest.raises(CoverageError, match="int_repr"):
        tensor_bytes(tensor)


def test_subclasses_that_only_add_methods_are_plain() -> None:
    assert tensor_bytes(torch.ones(1).as_subclass(Tagged)) == struct.pack("<f", 1)


def test_big_endian_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(CoverageError, match="expected a little-endian machine, got big"):
        tensor_bytes(torch.ones(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_on_a_device_have_the_same_bytes() -> None:
    tensor = torch.randn(5, 7, dtype=torch.bfloat16)
    assert tensor_bytes(tensor.cuda()) == tensor_bytes(tensor)
    assert tensor_bytes(tensor.cuda().t()) == tensor_bytes(tensor.t())
