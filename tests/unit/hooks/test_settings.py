"""Hyper-parameters of optimizers and how they change."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from palm_torch import codec, encoding
from palm_torch.digest import tagged_hash
from palm_torch.errors import InputError
from palm_torch.hooks import settings
from palm_torch.hooks.deferred import BATCH, DeferredReads


def _observe(
    optimizer: torch.optim.Optimizer, change: object = None, steps: int = 4
) -> settings.GroupSettings:
    reads = DeferredReads()
    history = settings.SettingsHistory(optimizer, reads)
    for step in range(steps):
        if step and callable(change):
            change(step)
        history.observe(optimizer, step)
    reads.finish()
    return history.result().groups[0]


def _chain(*entries: tuple[int, object]) -> bytes:
    head = bytes(32)
    for step, value in entries:
        head = tagged_hash(settings.TAG, head, step.to_bytes(8, "big"), encoding.encode_json(value))
    return head


def _adam(**options: object) -> torch.optim.Optimizer:
    return torch.optim.AdamW(nn.Linear(3, 2).parameters(), **options)


def test_constant_options() -> None:
    group = _observe(_adam(lr=0.5, betas=(0.8, 0.9)))
    assert (group.parameters, group.elements, group.unrecorded) == (2, 8, ())
    lr = group.options["lr"]
    assert (lr.first, lr.last, lr.least, lr.greatest, lr.changes) == (0.5, 0.5, 0.5, 0.5, 0)
    assert lr.chain.value == _chain((0, 0.5))
    assert group.options["betas"].first == [0.8, 0.9]
    assert group.options["betas"].least is None
    assert group.options["amsgrad"].least is None
    assert "params" not in group.options


def test_schedule_is_summed_up_and_bound() -> None:
    optimizer = _adam(lr=1.0)
    values = [1.0, 0.25, 0.25, 4.0]

    def change(step: int) -> None:
        optimizer.param_groups[0]["lr"] = float(str(values[step]))

    lr = _observe(optimizer, change).options["lr"]
    assert (lr.first, lr.last, lr.least, lr.greatest, lr.changes) == (1.0, 4.0, 0.25, 4.0, 2)
    assert lr.chain.value == _chain((0, 1.0), (1, 0.25), (3, 4.0))


def test_learning_rate_in_a_tensor_changed_in_place() -> None:
    optimizer = _adam(lr=torch.tensor(1.0))
    lr = _observe(optimizer, lambda step: optimizer.param_groups[0]["lr"].fill_(2.0**-step)).options["lr"]
    assert (lr.first, lr.last, lr.least, lr.greatest, lr.changes) == (1.0, 0.125, 0.125, 1.0, 3)
    assert lr.chain.value == _chain((0, 1.0), (1, 0.5), (2, 0.25), (3, 0.125))


def test_list_changed_in_place() -> None:
    optimizer = _adam()
    optimizer.param_groups[0]["betas"] = [0.9, 0.99]

    def change(step: int) -> None:
        optimizer.param_groups[0]["betas"][0] = 0.9 - step / 10

    assert _observe(optimizer, change).options["betas"].changes == 3


def test_true_is_not_one() -> None:
    optimizer = _adam()
    optimizer.param_groups[0]["switch"] = 1

    def change(_step: int) -> None:
        optimizer.param_groups[0]["switch"] = True

    switch = _observe(optimizer, change).options["switch"]
    assert (switch.first, switch.last, switch.changes) == (1, True, 1)


def test_values_without_json_form_are_named() -> None:
    optimizer = _adam()
    optimizer.param_groups[0].update(
        rule=print,
        table=torch.zeros(3),
        phase=torch.tensor(1j),
        kind=torch.bfloat16,
        limit=math.inf,
        seed=2**60,
    )
    group = _observe(optimizer)
    assert group.unrecorded == ("phase", "rule", "table")
    assert group.options["kind"].first == "torch.bfloat16"
    assert group.options["limit"].first == "inf"
    assert group.options["seed"].first == str(2**60)
    assert group.options["seed"].least is None


def test_parameter_names_are_no_option() -> None:
    optimizer = torch.optim.SGD(nn.Linear(3, 2).named_parameters(), lr=0.1)
    assert "param_names" in optimizer.param_groups[0]
    assert "param_names" not in _observe(optimizer).options


def test_added_group() -> None:
    optimizer = _adam()
    reads = DeferredReads()
    history = settings.SettingsHistory(optimizer, reads)
    history.observe(optimizer, 0)
    optimizer.add_param_group({"params": [torch.zeros(5, requires_grad=True)], "lr": 0.25})
    history.observe(optimizer, 1)
    first, second = history.result().groups
    assert first.parameters == 2
    assert (second.parameters, second.elements) == (1, 5)
    assert second.options["lr"].chain.value == _chain((1, 0.25))


def test_result_travels() -> None:
    optimizer = _adam()
    history = settings.SettingsHistory(optimizer, DeferredReads())
    history.observe(optimizer, 0)
    result = history.result()
    document = encoding.encode_json(codec.to_json(result))
    again = codec.from_json(
        settings.OptimizerSettings,
        encoding.decode_json(document, what="settings", max_bytes=1 << 20),
        what="settings",
        error=InputError,
    )
    assert again == result


class OnDevice(torch.Tensor):
    """A CPU tensor that says it lives elsewhere."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda:0")


def _on_device(value: float) -> torch.Tensor:
    return torch.tensor(value).as_subclass(OnDevice)


class TestDeferred:
    def test_cpu_numbers_are_read_at_once(self) -> None:
        got: list[float] = []
        DeferredReads().read(torch.tensor(2.5), got.append)
        assert got == [2.5]

    def test_numbers_on_a_device_wait_and_keep_their_value_and_order(self) -> None:
        got: list[float] = []
        reads = DeferredReads()
        number = _on_device(1.0)
        for value in (1.0, 2.0, 3.0):
            number.fill_(value)
            reads.read(number, got.append)
        reads.read(torch.ones((1,), dtype=torch.int32).as_subclass(OnDevice), got.append)
        assert got == []
        reads.finish()
        assert got == [1.0, 2.0, 3.0, 1]

    def test_a_full_batch_is_read(self) -> None:
        got: list[float] = []
        reads = DeferredReads()
        for value in range(BATCH):
            assert got == []
            reads.read(_on_device(float(value)), got.append)
        assert got == list(range(BATCH))

    def test_learning_rate_on_a_device(self) -> None:
        optimizer = _adam()
        optimizer.param_groups[0]["lr"] = rate = _on_device(1.0)
        lr = _observe(optimizer, lambda step: rate.fill_(0.5) if step == 2 else None).options["lr"]
        assert (lr.first, lr.last, lr.changes) == (1.0, 0.5, 1)
        assert lr.chain.value == _chain((0, 1.0), (2, 0.5))


@pytest.mark.parametrize("value", [None, "text", 3, 0.5])
def test_unchanged_immutable_value_is_not_looked_at_again(value: object) -> None:
    option = settings._Option()
    option.observe(value, 0, DeferredReads())
    assert option.seen is value
