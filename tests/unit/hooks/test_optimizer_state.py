"""The digest of an optimizer's state: everything in it counts, nothing around it does."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from palm_torch.errors import CoverageError
from palm_torch.hooks import optimizer_state


def stepped(kind: type[torch.optim.Optimizer] = torch.optim.AdamW, **options: Any) -> torch.optim.Optimizer:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    optimizer = kind(parameters, **({"lr": 0.1} | options))  # type: ignore[call-arg]

    def closure() -> float:
        optimizer.zero_grad()
        loss = layers[1](layers[0](torch.ones(3))).square().sum()
        loss.backward()
        return loss.item()

    for _ in range(2):
        optimizer.step(closure)  # type: ignore[arg-type]
    return optimizer


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.AdamW, {"amsgrad": True}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.SGD, {}),
        (torch.optim.LBFGS, {}),
        (torch.optim.Rprop, {}),
        (torch.optim.Adagrad, {}),
    ],
)
def test_state_that_was_saved_and_loaded_is_the_same(kind: Any, options: dict[str, Any]) -> None:
    one = stepped(kind, **options)
    other = kind(
        [parameter.detach().clone().requires_grad_() for parameter in one.param_groups[0]["params"]], lr=1
    )
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    other.param_groups[0]["lr"] = 0.5  # options have a history of their own
    assert optimizer_state.digest_of(other) == optimizer_state.digest_of(one)
    assert optimizer_state.digest_of(one) == optimizer_state.digest_of(stepped(kind, **options))


def test_everything_in_it_counts() -> None:
    expected = optimizer_state.digest_of(stepped())

    def bent(bend: Any) -> Any:
        optimizer = stepped()
        parameter = optimizer.param_groups[0]["params"][1]
        bend(optimizer, optimizer.state[parameter])
        return optimizer_state.digest_of(optimizer)

    def one_bit(_: Any, state: Any) -> None:
        state["exp_avg"].view(torch.int32)[0] ^= 1

    def half(_: Any, state: Any) -> None:
        state["exp_avg"] = state["exp_avg"].to(torch.bfloat16)

    def number(_: Any, state: Any) -> None:
        state["step"] = 2

    def gone(optimizer: Any, _: Any) -> None:
        del optimizer.state[optimizer.param_groups[0]["params"][1]]

    def more(optimizer: Any, _: Any) -> None:
        optimizer.state["global"] = {"k": [1, 2.0, None, True, "text", (torch.ones(1),)], 3: {}}

    def moved(optimizer: Any, _: Any) -> None:
        optimizer.param_groups[0]["params"].reverse()

    found = [bent(bend) for bend in (one_bit, half, number, gone, more, moved)]
    assert len({expected, *found, optimizer_state.gone()}) == 8
    assert bent(lambda *_: None) == expected


@pytest.mark.parametrize(
    ("value", "told"),
    [(object(), "got object"), ({(1,): 1}, "as a key, got tuple"), (torch.ones(1).to_sparse(), "layout")],
)
def test_what_has_no_canonical_bytes_is_named(value: Any, told: str) -> None:
    optimizer = stepped()
    optimizer.state["mine"] = value
    with pytest.raises(CoverageError, match=told):
        optimizer_state.digest_of(optimizer)


def test_nesting_has_an_end() -> None:
    optimizer = stepped()
    value: Any = 1
    for _ in range(optimizer_state.MAX_DEPTH + 1):
        value = [value]
    optimizer.state["mine"] = value
    with pytest.raises(CoverageError, match="nested deeper"):
        optimizer_state.digest_of(optimizer)
    optimizer.state["mine"] = value[0]
    optimizer_state.digest_of(optimizer)
