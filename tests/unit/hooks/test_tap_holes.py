"""What goes around hooks, or makes them see something else: the cases that no other test of the taps has.

All of them, and where each is tested, are in the table of `docs/commit-inference.md`.
"""

from __future__ import annotations

import functools

import pytest
import torch
from tap_sink import BLOCKS, Stack, record
from torch import nn
from torch.nn.modules import module as modules

from palm_torch.errors import CoverageError
from palm_torch.hooks import live, tap_op, tap_targets

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


def test_a_hook_for_all_modules_runs_before_ours() -> None:
    """What it puts in the place of an output is what the next module gets, and what is captured."""
    model = Stack()
    received: list[torch.Tensor] = []
    model.layers[1].register_forward_pre_hook(lambda _, args: received.append(args[0].clone()))

    def doubled(module: nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor | None:
        return output * 2 if module is model.layers[0] else None

    def body() -> None:
        with modules.register_module_forward_hook(doubled):
            model(X)

    sink, tapped = record(model, "blocks", body)
    assert sink.bytes["layers.0|", 0] == received[0].detach().numpy().tobytes()
    assert tapped.fired["layers.0"] == 1


def test_a_forward_that_a_library_put_on_the_object_is_seen() -> None:
    model = Stack()
    layer = model.layers[1]
    plain = layer.forward

    @functools.wraps(plain)
    def moved(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = plain(x) * 3
        return result

    layer.forward = moved  # as libraries do that move inputs from device to device
    seen: list[torch.Tensor] = []
    model.layers[2].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    sink, tapped = record(model, "blocks", lambda: model(X))
    assert set(tapped.fired.values()) == {1}
    assert sink.bytes["layers.1|", 0] == seen[0].detach().numpy().tobytes()


def test_a_torch_that_does_not_tell_of_recomputation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_op, "_graph_task", None)
    model = Stack()
    with pytest.raises(CoverageError, match=rf"_current_graph_task_id.*torch {live.TESTED_TORCH}"):
        record(model, "blocks", lambda: model(X))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_part_that_ran_compiled_is_refused() -> None:
    model = Stack()
    model.layers[1].compile(backend="aot_eager")
    with torch.no_grad():
        model(X)
    with pytest.raises(CoverageError, match=r"compiled and has run before.*call torch\.compiler\.reset\(\)"):
        record(model, "blocks", lambda: model(X))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_layers_whose_weights_are_packed_away() -> None:
    torch.manual_seed(0)
    model = torch.ao.quantization.quantize_dynamic(Stack().eval(), {nn.Linear})
    plain = model(X).detach()
    outputs: list[torch.Tensor] = []
    sink, tapped = record(model, "all", lambda: outputs.append(model(X)))
    assert torch.equal(outputs[0], plain)
    assert sink.bytes["|", 0] == plain.numpy().tobytes()
    assert set(tapped.fired) == {
        "",
        "norm",
        *BLOCKS,
        *(f"{name}.{part}" for name in BLOCKS for part in ("up", "down")),
    }
    left_out = (
        "layers.0.up._packed_params: it holds the packed weights of a quantized layer, which reads and never"
    )
    assert str(tapped.selection.left_out[0]).startswith(left_out)
    with pytest.raises(CoverageError, match=r"never calls it; tap 'layers\.0\.up', whose output"):
        tap_targets.select(model, ["layers.0.up._packed_params"])
    record(model, "blocks", lambda: model(X))


def test_a_module_that_keeps_state_of_its_own_is_a_layer() -> None:
    class Keeps(nn.Module):
        def get_extra_state(self) -> int:
            return 7

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    model = nn.Sequential(Keeps(), nn.ReLU())
    assert [target.place.path for target in tap_targets.select(model, "audit").targets] == ["0"]


@pytest.mark.parametrize("name", ["layers.0.linear1", "layers.1.self_attn", ""])
def test_a_part_of_a_layer_that_torch_may_fuse_is_refused(name: str) -> None:
    """A hook on any part of the layer has it computed otherwise; one on what calls it has not."""
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(True)
    try:
        if name:
            refused = name.rpartition(".")[0]
            with pytest.raises(CoverageError, match=rf"{refused}: without hooks torch may run.*one fused"):
                tap_targets.select(model, [name])
        else:
            assert not tap_targets.select(model, [name]).refused
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
