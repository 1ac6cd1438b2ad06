"""What `layers=` stands for in all kinds of models, and what cannot be tapped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from tap_sink import BLOCKS, Block, Stack
from torch import fx, nn
from torch.nn.utils import parametrizations

from palm_torch.errors import CoverageError
from palm_torch.hooks import tap_targets

if TYPE_CHECKING:
    from collections.abc import Iterator


def names(model: nn.Module, layers: Any = "blocks", **options: Any) -> list[str]:
    return [target.place.path for target in tap_targets.select(model, layers, **options).targets]


def conditional(model: nn.Module, layers: Any = "all") -> dict[str, str | None]:
    return {one.place.path: one.conditional for one in tap_targets.select(model, layers).targets}


def llama(**options: Any) -> nn.Module:
    small = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**small, **heads, **options))


class Small(nn.Module):
    """A model that holds what it is given."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Other(Block):
    pass


def sequence(count: int = 2) -> nn.Sequential:
    return nn.Sequential(*(Block() for _ in range(count)))


def residual() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())


class Moe(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([Block() for _ in range(4)])
        self.gate = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.experts[0](x)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Stack(), BLOCKS),
        (nn.DataParallel(Stack()), BLOCKS),
        (sequence(), ["0", "1"]),
        (Small(layers=nn.ModuleList([Moe(), Moe()])), ["layers.0", "layers.1"]),
        (
            Small(encoder=Stack(2), decoder=Stack(1)),
            ["encoder.layers.0", "encoder.layers.1", "decoder.layers.0"],
        ),
        (Small(stem=nn.Conv2d(3, 3, 1), a=sequence(), b=sequence()), ["a.0", "a.1", "b.0", "b.1"]),
        (nn.Sequential(nn.Linear(8, 8), Block(), Block(), nn.Linear(8, 8)), ["1", "2"]),
        (nn.Sequential(Block(), Other(), Block(), Other()), ["0", "1", "2", "3"]),
        (
            Small(layers=nn.ModuleList([Block(), Block(), Other(), Block()])),
            [f"layers.{i}" for i in range(4)],
        ),
        (nn.Sequential(residual(), residual(), nn.Flatten()), ["0", "1"]),
        (
            Small(
                a=nn.ModuleList([nn.Linear(2, 2) for _ in range(3)]),
                b=nn.ModuleList([nn.Linear(2, 2) for _ in range(2)]),
            ),
            ["a.0", "a.1", "a.2"],
        ),
        (Small(h=nn.ModuleDict({"layers": nn.ModuleList([Block(), Block()])})), ["h.layers.0", "h.layers.1"]),
        (
            nn.Transformer(8, 2, 2, 2, 8, batch_first=True),
            [f"{side}.layers.{i}" for side in ("encoder", "decoder") for i in (0, 1)],
        ),
    ],
)
def test_blocks(model: nn.Module, expected: list[str]) -> None:
    assert names(model) == expected


def test_a_block_that_is_used_many_times_is_one() -> None:
    shared = Block()
    model = Small(layers=nn.ModuleList([shared, shared, shared]))
    assert names(model) == ["layers.0"]
    assert tap_targets.select(model).tree.by_path["layers.2"].path == "layers.0"


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Conv1d(2, 2, 1))]
)
def test_no_blocks(model: nn.Module) -> None:
    with pytest.raises(CoverageError, match=r"has no repeated blocks .*pass layers"):
        names(model)


def test_all_and_audit() -> None:
    model = llama()
    layers = [
        f"model.layers.{i}{part}"
        for i in (0, 1)
        for part in (
            "",
            *(f".self_attn.{name}_proj" for name in "qkvo"),
            *(f".mlp.{name}_proj" for name in ("gate", "up", "down")),
            ".input_layernorm",
            ".post_attention_layernorm",
        )
    ]
    audit = ["model.embed_tokens", *layers, "model.norm", "lm_head"]
    assert names(model, "audit") == audit
    assert names(model, "all") == ["", *audit]


def test_a_layer_that_holds_buffers_only_is_one() -> None:
    class Int8(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.zeros(2, 2, dtype=torch.int8))

    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.zeros(2), persistent=False)

    Int8.forward = Rotary.forward = lambda _self, x: x  # type: ignore[method-assign]
    assert names(Small(a=Int8(), b=Rotary()), "all") == ["", "a"]


def test_a_parametrized_layer_is_one_and_its_parametrization_none() -> None:
    model = Small(a=parametrizations.weight_norm(nn.Linear(2, 2, bias=False)))
    assert names(model, "all") == ["", "a"]


def test_names_and_functions() -> None:
    model = Stack()
    assert names(model, ["layers.2", "layers.0.up"]) == ["layers.0.up", "layers.2"]
    assert names(model, [""]) == [""]
    assert names(model, iter(["norm"])) == ["norm"]
    assert names(model, lambda name, module: "layers" in name) == [  # noqa: ARG005 (what callers write)
        path for i in range(3) for path in (f"layers.{i}", f"layers.{i}.up", f"layers.{i}.down")
    ]
    assert names(model, lambda _, module: isinstance(module, nn.LayerNorm)) == ["norm"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["layers.0.upp"], r"no module 'layers.0.upp' .*did you mean 'layers.0.up'"),
        (["zzz", "yyy"], r"no module 'zzz' \(2 such names\): pass layers='all'"),
        ([3], r"no module 3"),
        ("layers.0", r"expected 'blocks', 'all', 'audit'.* write layers=\['layers.0'\]"),
        ([], "selects no module"),
        (lambda _name, _module: False, "selects no module"),
        (7, "expected a list of names"),
        (b"layers.0", "expected a list of names"),
    ],
)
def test_what_selects_nothing(layers: Any, message: str) -> None:
    with pytest.raises(CoverageError, match=message):
        names(Stack(), layers)


def test_conditional_names_are_checked() -> None:
    with pytest.raises(CoverageError, match=r"conditional: the model has no module 'layers.9'"):
        names(Stack(), conditional=["layers.9"])
    selection = tap_targets.select(Stack(), conditional=["layers.1"])
    assert [target.conditional for target in selection.targets] == [None, "declared", None]
    selection = tap_targets.select(Stack(), "all", conditional=lambda name, _: name.endswith("up"))
    assert sum(target.conditional == "declared" for target in selection.targets) == 3


def test_a_model_is_a_module() -> None:
    with pytest.raises(CoverageError, match=r"expected a torch\.nn\.Module, got function"):
        tap_targets.select(lambda x: x)  # type: ignore[arg-type]


def test_experts_and_dropped_layers_run_only_sometimes() -> None:
    found = conditional(Small(layers=nn.ModuleList([Moe(), Moe()])))
    assert found["layers.0.gate"] is found["layers.0"] is found["layers.0.experts.1.up"] is None
    model = Stack()
    model.layerdrop = 0.5
    assert {conditional(model)[name] for name in BLOCKS} == {"layerdrop"}
    model.layerdrop = 0.0
    assert {conditional(model)[name] for name in BLOCKS} == {None}
    assert conditional(Small(layers=nn.ModuleList([Moe(), Moe()])), ["layers.0.experts.1"]) == {
        "layers.0.experts.1": "experts"
    }


def test_attention_reads_the_weights_of_its_projection() -> None:
    model = Small(attention=nn.MultiheadAttention(8, 2))
    selection = tap_targets.select(model, "all")
    assert [target.place.path for target in selection.targets] == ["", "attention"]
    left_out = (
        "attention.out_proj: nn.MultiheadAttention reads its weights and never calls it; tap 'attention'"
    )
    assert [str(refusal).partition(",")[0] for refusal in selection.left_out] == [left_out]
    for layers in (["attention.out_proj"], lambda _, module: isinstance(module, nn.Linear)):
        with pytest.raises(CoverageError, match="never calls it; tap 'attention'"):
            names(model, layers)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_every_refusal_is_in_one_error() -> None:
    model = Small(
        attention=nn.MultiheadAttention(8, 2),
        scripted=torch.jit.script(nn.Linear(2, 2)),
        layers=nn.ModuleList([Block()]),
        none=nn.ModuleList(),
        empty=nn.Linear(2, 2, device="meta"),
    )
    with pytest.raises(CoverageError) as caught:
        names(model, ["attention.out_proj", "scripted", "layers", "none", "empty"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    for part in (
        r"attention.out_proj: .*never calls it",
        r"scripted: RecursiveScriptModule runs as a scripted or traced graph.*that it was made of",
        r"layers: ModuleList holds modules and has no forward pass; name its items: 'layers.0'",
        r"none: ModuleList .*leave it out",
        r"the model: 2 of its tensors are on the meta device.*empty.weight.*load the weights first",
    ):
        assert re.search(part, str(caught.value))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_traced_module_is_refused() -> None:
    traced = torch.jit.trace(Block(), torch.ones(1, 8))
    with pytest.raises(CoverageError, match="TopLevelTracedModule runs as a scripted or traced graph"):
        names(traced, "all")


def test_an_exported_module_is_refused() -> None:
    exported = torch.export.export(Stack(), (torch.ones(1, 8),)).module()
    with pytest.raises(CoverageError, match="it was exported: its graph holds operators and calls no module"):
        names(exported, [""])


def test_a_symbolic_trace_shows_what_it_calls() -> None:
    traced = fx.symbolic_trace(Stack())
    assert "layers.0.up" in names(traced, ["layers.0.up"])
    with pytest.raises(CoverageError, match="goes around it; tap the model that was traced"):
        names(traced, ["layers.0"])


@pytest.fixture
def fused() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(True)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.usefixtures("fused")
def test_a_layer_that_torch_may_fuse_is_refused() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 2)
    assert names(model) == ["layers.0", "layers.1"]
    with pytest.raises(CoverageError, match=r"one fused kernel.*set_fastpath_enabled\(False\)"):
        names(model.eval())
    torch.backends.mha.set_fastpath_enabled(False)
    assert names(model) == ["layers.0", "layers.1"]


def test_copies_on_several_devices_are_refused() -> None:
    model = nn.DataParallel(Stack())
    model.device_ids = [0, 1]
    with pytest.raises(CoverageError, match="DataParallel runs copies of it on 2 devices"):
        names(model)


def test_long_lists_of_refusals_are_cut() -> None:
    model = Small(**{f"a{i}": nn.ModuleList([Block()]) for i in range(12)})
    with pytest.raises(CoverageError, match="and 4 more"):
        names(model, [f"a{i}" for i in range(12)])
