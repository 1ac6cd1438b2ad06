"""Taps in compiled graphs: the same captures as in eager mode, and no graph that was made without them.

What Inductor makes is in `test_tap_inductor.py`; a language model, in `committing/test_models.py`.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch._dynamo
from tap_sink import BLOCKS, Block, Stack, record
from torch import nn
from torch.utils import checkpoint

from palm_torch.errors import CoverageError
from palm_torch.hooks import live, tap_compiled, tap_op

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.manual_seed(3)


def compiled(model: Any, backend: str = "aot_eager", **options: Any) -> Any:
    return torch.compile(model, backend=backend, fullgraph=True, **options)


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.parametrize("layers", ["blocks", "all"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_same_captures_as_in_eager_mode(layers: str, mode: Any) -> None:
    model = Stack()
    with mode():
        eager, _ = record(model, layers, lambda: [model(X) for _ in range(2)])
        graph, tapped = record(model, layers, lambda: [compiled(model)(X) for _ in range(2)])
    assert graph.bytes == eager.bytes
    assert graph.order == eager.order
    assert set(tapped.fired.values()) == {2}


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_parts_are_captured_once(reentrant: bool) -> None:  # noqa: FBT001 (a case)
    class Checkpointed(Stack):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = checkpoint.checkpoint(layer, x, use_reentrant=reentrant)
            return self.norm(x)

    model = Checkpointed()
    x = X.clone().requires_grad_()
    eager, _ = record(model, "all", lambda: model(x).sum().backward())
    graph, tapped = record(model, "all", lambda: compiled(model)(x).sum().backward())
    assert graph.bytes == eager.bytes
    assert set(tapped.fired.values()) == {1}


@pytest.mark.parametrize("wrapped", [True, False])
def test_blocks_compiled_one_by_one_keep_their_names(wrapped: bool) -> None:  # noqa: FBT001 (a case)
    model = Stack(12).requires_grad_(requires_grad=False)
    eager, _ = record(model, "blocks", lambda: model(X))
    for position, layer in enumerate(model.layers):
        if wrapped:
            model.layers[position] = compiled(layer)
        else:
            layer.compile(backend="aot_eager", fullgraph=True)
    graph, _ = record(model, "blocks", lambda: model(X))
    assert graph.bytes == eager.bytes


def test_compiled_before_the_block_and_not_yet_run() -> None:
    model = Stack()
    run = compiled(model)
    sink, _ = record(run, "blocks", lambda: run(X))
    assert len(sink.order) == 3
    model = Stack()
    model.compile(backend="aot_eager")
    sink, _ = record(model, "all", lambda: model(X))
    assert ("layers.2.down|", 0) in sink.bytes


@pytest.mark.parametrize("method", [True, False])
def test_a_model_that_ran_compiled_is_refused(method: bool) -> None:  # noqa: FBT001 (a case)
    model = Stack()
    if method:
        model.compile(backend="aot_eager")
        run = model
    else:
        run = compiled(model)
    run(X)
    with pytest.raises(CoverageError, match=r"compiled and has run before.*call torch\.compiler\.reset\(\)"):
        record(run, "blocks", lambda: run(X))
    torch.compiler.reset()
    record(run, "blocks", lambda: run(X))


def test_a_sequence_that_ran_compiled_is_refused() -> None:
    model = compiled(nn.Sequential(Block(), Block()))
    model(X)
    with pytest.raises(CoverageError, match="compiled and has run before"):
        record(model, "blocks", lambda: model(X))


def test_graphs_are_used_again_in_the_next_block_and_not_outside() -> None:
    run = compiled(Stack())
    record(run, "blocks", lambda: run(X))
    before = graphs()
    for _ in range(3):
        sink, _ = record(run, "blocks", lambda: run(X))
        assert [site for site, _ in sink.order] == [f"{name}|" for name in BLOCKS]
    assert graphs() == before
    sink, _ = record(run, "all", lambda: run(X))
    assert len(sink.order) == 11
    assert torch._dynamo.config.skip_nnmodule_hook_guards


def test_a_graph_of_another_model_of_the_class_is_not_used() -> None:
    compiled(Stack())(X)
    torch.compiler.reset()
    model, other = Stack(), Stack()

    def body() -> None:
        compiled(other)(X)
        compiled(model)(X)

    sink, _ = record(model, "blocks", body)
    assert len(sink.order) == 3


def test_graphs_outlive_the_block_and_are_silent() -> None:
    model = Stack()
    run = compiled(model)
    sink, _ = record(run, "blocks", lambda: run(X))
    run(X)
    assert len(sink.order) == 3


def test_copies_of_a_compiled_model_are_not_captured() -> None:
    model = Stack()

    def body() -> None:
        twin = copy.deepcopy(model)
        compiled(model)(X)
        compiled(twin)(X * 2)

    sink, _ = record(model, "blocks", body)
    eager, _ = record(model, "blocks", lambda: model(X))
    assert sink.bytes == eager.bytes


def test_a_bypass_in_a_graph_is_a_gap() -> None:
    class Bypassing(Stack):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers[2].forward(self.layers[1](self.layers[0](x)))

    model = Bypassing()
    with pytest.raises(CoverageError, match=r"ran layers\.2 0 times"):
        record(model, "blocks", lambda: compiled(model)(X))


def test_an_output_of_unknown_type_in_a_graph_is_an_error() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return x, {1, 2}

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd = Odd()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.odd(x)[0]
            return result

    model = Model()
    with pytest.raises(CoverageError, match=r"output '1' is a builtins\.set"):
        record(model, ["odd"], lambda: torch.compile(model, backend="aot_eager")(X))


def test_exporting_inside_captures_nothing() -> None:
    model = Stack()

    def body() -> None:
        torch.export.export(model, (X,))
        model(X)

    sink, _ = record(model, "blocks", body)
    assert len(sink.order) == 3


def test_the_operator_without_its_block_does_nothing() -> None:
    assert torch.ops.palm_torch.tap([X], 10**9, "", "") is None
    assert not tap_op.in_backward()


def test_a_torch_without_the_private_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Stack()
    run = compiled(model)
    run(X)
    torch.compiler.reset()
    monkeypatch.delattr(torch._dynamo.eval_frame, "_debug_get_cache_entry_list")
    with pytest.raises(CoverageError, match=rf"_debug_get_cache_entry_list.*torch {live.TESTED_TORCH}"):
        record(run, "blocks", lambda: run(X))


def test_without_the_compiler_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_compiled, "_DYNAMO", "torch._not_loaded")
    model = Stack()
    sink, _ = record(model, "blocks", lambda: model(X))
    assert len(sink.order) == 3


def test_tokens_are_numbers_in_the_graph_and_not_places() -> None:
    """Two blocks of one class in one list: each call tells its own name, whatever the graph was made for."""
    model = Stack(2).requires_grad_(requires_grad=False)
    model.layers[1].load_state_dict(model.layers[0].state_dict())
    for layer in model.layers:
        layer.compile(backend="aot_eager", fullgraph=True)
    sink, _ = record(model, "blocks", lambda: [model(X) for _ in range(2)])
    assert sink.order == [(f"layers.{index}|", call) for call in range(2) for index in range(2)]
