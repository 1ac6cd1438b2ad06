"""Buffers as they were before the first forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from palm_torch.hooks import discovery
from palm_torch.hooks.buffers import BufferSnapshot
from palm_torch.hooks.weights import WeightsMeter

pytestmark = pytest.mark.usefixtures("few_live_objects")


def _net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_initial_root_is_that_before_the_first_forward_pass() -> None:
    net = _net()
    owners = discovery.declared(net)
    before = WeightsMeter().measure(owners.tensors()).root
    snapshot = BufferSnapshot()
    net(torch.randn(8, 3))
    assert WeightsMeter().measure(owners.tensors()).root != before  # the statistics moved
    tensors, taken = snapshot.initial(owners)
    assert taken == "first_delivery"
    assert WeightsMeter().measure(tensors).root == before


def test_model_without_buffers() -> None:
    owners = discovery.declared(nn.Linear(2, 2))
    tensors, taken = BufferSnapshot().initial(owners)
    assert [item.name for item in tensors] == ["bias", "weight"]
    assert taken == "first_delivery"


def test_module_made_later_says_so() -> None:
    snapshot = BufferSnapshot()
    _, taken = snapshot.initial(discovery.declared(_net()))
    assert taken == "first_step"


def test_too_many_bytes_say_so() -> None:
    net = _net()
    snapshot = BufferSnapshot(max_bytes=15)
    net(torch.randn(8, 3))
    tensors, taken = snapshot.initial(discovery.declared(net))
    assert taken == "first_step"
    assert next(item.tensor for item in tensors if item.name == "1.num_batches_tracked").item() == 1


def test_replaced_buffer_is_known_by_its_place() -> None:
    class Average(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(2))

    model = Average()
    snapshot = BufferSnapshot()
    model.mean = model.mean + 1
    ((item,), taken) = snapshot.initial(discovery.declared(model))
    assert torch.equal(item.tensor, torch.zeros(2))
    assert taken == "first_delivery"


def test_compiled_model_and_several_owners() -> None:
    first, second = _net(), _net()
    snapshot = BufferSnapshot()
    for net in (first, second):
        net(torch.randn(8, 3))
    compiled = torch.compile(first, backend="eager")
    owners = discovery.find_owners([*compiled.parameters(), *second.parameters()])
    tensors, taken = snapshot.initial(owners)
    counts = {item.name: item.tensor.item() for item in tensors if item.name.endswith("tracked")}
    assert counts == {"Sequential.1.num_batches_tracked": 0, "Sequential#2.1.num_batches_tracked": 0}
    assert taken == "first_delivery"


def test_transient_and_shared_buffers() -> None:
    class Masked(nn.Module):
        def __init__(self, shared: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", torch.zeros(1 << 20), persistent=False)
            self.register_buffer("shared", shared)

    shared = torch.zeros(4)
    model = nn.Sequential(Masked(shared), Masked(shared))
    snapshot = BufferSnapshot(max_bytes=1 << 20)  # the masks alone have eight times that
    shared.fill_(7)
    ((item,), taken) = snapshot.initial(discovery.declared(model))
    assert (item.name, item.aliases) == ("0.shared", ("1.shared",))
    assert torch.equal(item.tensor, torch.zeros(4))
    assert taken == "first_delivery"


def test_lazy_buffers_are_read_at_the_first_step() -> None:
    model = nn.LazyBatchNorm1d()
    snapshot = BufferSnapshot()
    model(torch.randn(8, 3))
    _, taken = snapshot.initial(discovery.declared(model))
    assert taken == "first_step"


def test_snapshot_leaves_random_numbers_and_modules_alone() -> None:
    net = _net()
    state, rng = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    BufferSnapshot().initial(discovery.declared(net))
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
