"""Hand-written updates are noticed early; loading a checkpoint or accumulating gradients is not one."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from palm_torch.errors import CoverageError
from palm_torch.hooks.watch import ParameterWatch

MESSAGE = r"parameters of Net changed \(first 'weight'\), but no torch\.optim optimizer has stepped.*SGD"


class Net(nn.Linear):
    pass


@pytest.fixture
def net(nothing_left_behind: None) -> Net:  # noqa: ARG001 (models of other tests)
    return Net(3, 2)


def _update(net: nn.Module, *, keep_gradient: bool) -> None:
    net(torch.ones(1, 3)).sum().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.sub_(0.1 * parameter.grad)
            parameter.grad = torch.zeros_like(parameter) if keep_gradient else None


def test_update_that_keeps_gradients_is_noticed_at_the_second_delivery(net: Net) -> None:
    watch = ParameterWatch()
    watch.delivered()
    _update(net, keep_gradient=True)
    with pytest.raises(CoverageError, match=MESSAGE):
        watch.delivered()


def test_update_that_drops_gradients_is_noticed_at_the_fourth_delivery(net: Net) -> None:
    watch = ParameterWatch()
    for _ in range(3):
        watch.delivered()
        _update(net, keep_gradient=False)
    with pytest.raises(CoverageError, match=MESSAGE):
        watch.delivered()


def test_checkpoint_loaded_after_the_first_batch_is_no_update(net: Net) -> None:
    watch = ParameterWatch()
    watch.delivered()
    net.load_state_dict(Net(3, 2).state_dict())
    for _ in range(20):
        watch.delivered()


def test_accumulated_gradients_are_no_update(net: Net) -> None:
    watch = ParameterWatch()
    for _ in range(20):
        watch.delivered()
        net(torch.ones(1, 3)).sum().backward()


def test_frozen_parameters_may_change(net: Net) -> None:
    net.requires_grad_(False)
    watch = ParameterWatch()
    for step in range(20):
        watch.delivered()
        nn.init.constant_(net.weight, step)


def test_model_made_after_the_first_delivery_is_watched_from_the_next_comparison(
    nothing_left_behind: None,  # noqa: ARG001
) -> None:
    watch = ParameterWatch()
    watch.delivered()
    net = Net(3, 2)
    watch.delivered()
    _update(net, keep_gradient=True)
    watch.delivered()
    with pytest.raises(CoverageError, match=MESSAGE):
        watch.delivered()


def test_dropped_model_is_forgotten() -> None:
    watch = ParameterWatch()
    net = Net(3, 2)
    watch.delivered()
    _update(net, keep_gradient=True)
    del net
    gc.collect()
    watch.delivered()


def test_inference_parameters_have_no_counter() -> None:
    with torch.inference_mode():
        net = Net(3, 2)
    watch = ParameterWatch()
    watch.delivered()
    watch.delivered()
    assert net.weight.is_inference()


def test_lazy_parameters_have_no_values_to_watch(nothing_left_behind: None) -> None:  # noqa: ARG001
    net = nn.LazyLinear(2)
    watch = ParameterWatch()
    for _ in range(4):
        watch.delivered()
    assert net.has_uninitialized_params()


def test_lazy_parameters_are_watched_once_they_have_values(nothing_left_behind: None) -> None:  # noqa: ARG001
    net = nn.LazyLinear(2)
    watch = ParameterWatch()
    watch.delivered()
    net(torch.ones(1, 3))
    watch.delivered()
    net.weight.grad = torch.ones(2, 3)
    nn.init.constant_(net.weight, 1.0)
    watch.delivered()
    with pytest.raises(CoverageError, match="parameters of Linear changed"):
        watch.delivered()
