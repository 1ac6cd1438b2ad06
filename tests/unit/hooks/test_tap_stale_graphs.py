"""Graphs from before a block that are not the model's own: of functions that call it, and of parts of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch._dynamo
from tap_sink import Block, Stack, record
from torch import nn

from palm_torch.errors import CoverageError
from palm_torch.hooks import live, tap_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
STALE = r"'.*', which was compiled and has run before, calls modules of these.*torch\.compiler\.reset\(\)"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.manual_seed(3)


class Outer(nn.Module):
    """Has a model as a part."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + 1


CALLERS: dict[str, Callable[[Any], Any]] = {
    "function": lambda model: lambda x: model(x) + 1,
    "part": lambda model: lambda x: model.layers[0](x) + 1,
    "call": lambda model: model.__call__,
    "outer": Outer,
}


@pytest.mark.parametrize("caller", CALLERS)
def test_what_calls_the_model_ran_compiled(caller: str) -> None:
    """An eager call beside it would make all counts agree, and the other one would never be seen."""
    model = Stack()
    step = torch.compile(CALLERS[caller](model), backend="aot_eager")
    step(X)
    with pytest.raises(CoverageError, match=STALE):
        record(model, "blocks", lambda: (model(X), step(X)))
    if caller == "part":  # which no block can have beside the whole
        return
    torch.compiler.reset()
    for _ in range(2):  # a graph that was made in a block serves the next one
        sink, _ = record(model, "blocks", lambda: (model(X), step(X)))
        assert len(sink.order) == 6


def test_layers_of_torch_are_known_by_what_they_are_in() -> None:
    """A graph of another model has linear layers too, and is nobody's fault."""
    other = torch.compile(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), backend="aot_eager")
    other(X)
    model = Stack()
    record(model, "audit", lambda: (model(X), other(X)))
    plain = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    with pytest.raises(CoverageError, match=STALE):
        record(plain, "blocks", lambda: plain(X))


def test_a_graph_of_another_model_of_the_class_is_refused() -> None:
    other = torch.compile(Stack(), backend="aot_eager")
    other(X)
    model = Stack()
    with pytest.raises(CoverageError, match=STALE):
        record(model, "blocks", lambda: model(X))


def test_a_hook_put_on_while_a_graph_is_made_is_an_error() -> None:
    """It is off again at the end, where nobody could see it."""
    model = nn.Sequential(Block(), Block())
    run = torch.compile(model, backend="aot_eager")

    def body() -> None:
        handle = model[0].register_forward_hook(lambda _module, _args, output: output * 0)
        run(X)
        handle.remove()

    with pytest.raises(CoverageError, match=r"0: a forward hook that was registered after the tap"):
        record(model, "blocks", body)


def test_a_torch_without_the_private_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Stack()
    torch.compile(lambda x: model(x) + 1, backend="aot_eager")(X)
    monkeypatch.setattr(tap_compiled, "_KIND", "gone")
    with pytest.raises(CoverageError, match=rf"'gone'.*torch {live.TESTED_TORCH}"):
        record(model, "blocks", lambda: model(X))
    monkeypatch.delattr(torch._dynamo.convert_frame, "input_codes")
    with pytest.raises(CoverageError, match=rf"'input_codes.seen'.*torch {live.TESTED_TORCH}"):
        record(model, "blocks", lambda: model(X))
