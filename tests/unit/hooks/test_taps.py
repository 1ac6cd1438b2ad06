"""Taps in eager mode: everything captured, nothing changed, each gap named."""

from __future__ import annotations

import copy
import io
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
import transformers
from tap_sink import BLOCKS, Block, Recorded, Stack, hooks_of, record
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DeviceMesh, Replicate, distribute_tensor
from torch.utils import checkpoint

from palm_torch.commit.trace import ModuleCoverage, NotCaptured
from palm_torch.errors import CoverageError, SessionError
from palm_torch.hooks import tap_hooks, tap_op, taps

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": None}
IDS = torch.randint(1, 64, (2, 7), generator=torch.Generator().manual_seed(5))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


@pytest.fixture
def one_rank(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # torch puts the rank before every line, for good
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def llama() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, **HEADS)).eval()


def gpt2() -> Any:
    config = transformers.GPT2Config(
        vocab_size=64, n_embd=32, n_layer=2, n_head=4, pad_token_id=0, bos_token_id=1, eos_token_id=None
    )
    return transformers.GPT2LMHeadModel(config).eval()


def generate(model: Any) -> torch.Tensor:
    mask = torch.ones_like(IDS)
    tokens: torch.Tensor = model.generate(IDS, attention_mask=mask, max_new_tokens=5, do_sample=False)
    return tokens


class Sometimes(Stack):
    """Calls the block that it is told to leave out not at all, or past its hooks."""

    skipped: str | None = None
    direct: str | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, layer in self.layers.named_children():
            if name == self.direct:
                x = layer.forward(x)  # as some codes do
            elif name != self.skipped:
                x = layer(x)
        return self.norm(x)


X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("layers", ["blocks", "audit", "all"])
def test_generation_is_captured_and_not_changed(make: Any, layers: str) -> None:
    model = make()
    plain = generate(model)
    tapped_tokens: list[torch.Tensor] = []
    sink, tapped = record(model, layers, lambda: tapped_tokens.append(generate(model)))
    assert torch.equal(plain, tapped_tokens[0])
    assert set(tapped.fired.values()) == set(tapped.expected.values()) == {5}
    assert {one.rule for one in tapped.coverage} > {"in each call of the model"} or layers == "blocks"
    assert {call for _, call in sink.order} == set(range(5))
    blocks = [name for name in tapped.fired if name.rpartition(".")[2].isdigit()]
    assert sink.shapes[f"{blocks[0]}|", 0] == (2, 7, 32)
    assert sink.shapes[f"{blocks[0]}|", 4] == (2, 1, 32)
    assert tapped.received == {blocks[1]: (5, 5)}
    assert hooks_of(model) == 0
    if layers == "all":
        assert tapped.not_captured == (NotCaptured("", "past_key_values", "DynamicCache"),)


def test_logits_are_the_models_own_bit_for_bit() -> None:
    model = llama()
    outputs: list[torch.Tensor] = []
    with torch.no_grad():
        plain = model(IDS).logits
        sink, _ = record(model, "all", lambda: outputs.append(model(IDS).logits))
    assert outputs[0].numpy().tobytes() == plain.numpy().tobytes() == sink.bytes["|logits", 0]


def test_hidden_states_may_be_asked_for_inside() -> None:
    model = llama()
    states: list[torch.Tensor] = []
    sink, _ = record(
        model, "blocks", lambda: states.extend(model(IDS, output_hidden_states=True).hidden_states)
    )
    assert sink.bytes["model.layers.0|", 0] == states[1].detach().numpy().tobytes()


@pytest.mark.parametrize("layers", ["blocks", "all"])
def test_a_plain_transformer(layers: str) -> None:
    model = nn.Transformer(8, 2, 2, 2, 16, batch_first=True).eval()
    source, target = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    outputs: list[torch.Tensor] = []
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            plain = model(source, target)
            _, tapped = record(model, layers, lambda: outputs.append(model(source, target)))
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    assert torch.equal(plain, outputs[0])
    assert set(tapped.fired.values()) == {1}
    assert ("decoder.layers.1.multihead_attn" in tapped.fired) == (layers == "all")
    assert len(tapped.selection.left_out) == (6 if layers == "all" else 0)


def test_a_convolutional_network() -> None:
    def stage(width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )

    model = nn.Sequential(nn.Conv2d(3, 4, 1), stage(4), stage(4), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    images = torch.randn(2, 3, 6, 6)
    sink, tapped = record(model, "all", lambda: model(images))
    assert sink.bytes["1|", 0] == model[:2](images).detach().numpy().tobytes()
    normalised = model[1][1](model[1][0](model[0](images)))
    assert sink.bytes["1.1|", 0] == normalised.detach().numpy().tobytes()  # before the ReLU wrote over it
    assert tapped.received["2"] == (1, 1)


def test_sites_of_tuples_and_dictionaries() -> None:
    class Many(nn.Module):
        def forward(self, x: torch.Tensor, *, scale: float) -> Any:
            return {"a": x * scale, "b": (x, None, 3)}

    model = Many()
    sink, tapped = record(model, [""], lambda: model(X, scale=2.0))
    assert sink.order == [("|a", 0), ("|b.0", 0)]
    assert tapped.not_captured == (NotCaptured("", "b.1", "None"), NotCaptured("", "b.2", "int"))
    assert tapped.coverage == (ModuleCoverage("", "at least once", 1, 1),)


def test_an_output_of_unknown_type_is_refused_at_once() -> None:
    class Odd(Stack):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x), object()

    model = Odd()
    with pytest.raises(CoverageError, match=r"the model: output '1' is a builtins\.object"):
        record(model, "all", lambda: model(X))
    record(model, "blocks", lambda: model(X))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("layers", ["blocks", "all"])
def test_recomputed_calls_are_counted_apart(layers: str, reentrant: bool) -> None:  # noqa: FBT001 (a case)
    class Checkpointed(Stack):
        kept = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x) if self.kept else checkpoint.checkpoint(layer, x, use_reentrant=reentrant)
            return self.norm(x)

    model = Checkpointed()
    x = X.clone().requires_grad_()
    plain, _ = record(model, layers, lambda: model(x).sum().backward())
    model.kept = False
    sink, tapped = record(model, layers, lambda: [model(x).sum().backward() for _ in range(2)])
    assert set(tapped.fired.values()) == {2}
    assert {key: data for key, data in sink.bytes.items() if key[1] == 0} == plain.bytes
    assert any(tapped.recomputed.values()) == (reentrant or layers == "all")
    assert tapped.recomputed["layers.1"] == (2 if reentrant else 0)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_checkpointing_of_transformers() -> None:
    model = llama().train()
    plain, _ = record(model, "all", lambda: model(IDS).logits.sum().backward())
    model.gradient_checkpointing_enable()
    sink, tapped = record(model, "all", lambda: model(IDS).logits.sum().backward())
    assert sink.bytes == plain.bytes
    assert tapped.recomputed["model.layers.0.self_attn.q_proj"] == 1


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_modes(mode: Any) -> None:
    model = Stack()
    with mode():
        plain = model(X)
        sink, tapped = record(model, "all", lambda: model(X))
    assert sink.bytes["|", 0] == plain.detach().view(torch.uint8).numpy().tobytes()
    assert tapped.received["layers.2"] == (1, 1)


def test_ragged_batches_make_shapes_of_their_own() -> None:
    model = Stack()
    sink, tapped = record(model, "blocks", lambda: [model(torch.randn(n, 3, 8)) for n in (4, 1, 6)])
    assert [sink.shapes["layers.1|", call] for call in range(3)] == [(4, 3, 8), (1, 3, 8), (6, 3, 8)]
    assert tapped.coverage[0] == ModuleCoverage("layers.0", "in each call of the model", 3, 3)


@pytest.mark.usefixtures("one_rank")
def test_data_parallel_and_sharded_models_keep_their_names() -> None:
    plain = Stack()
    expected, _ = record(plain, "all", lambda: plain(X))
    parallel = nn.parallel.DistributedDataParallel(copy.deepcopy(plain))
    sink, _ = record(parallel, "all", lambda: parallel(X).sum().backward())
    assert sink.bytes == expected.bytes
    sharded = copy.deepcopy(plain)
    for layer in sharded.layers:
        fully_shard(layer)
    fully_shard(sharded)
    sink, _ = record(sharded, "all", lambda: sharded(X).sum().backward())
    assert sink.bytes == expected.bytes


@pytest.mark.usefixtures("one_rank")
def test_an_output_of_which_each_rank_holds_a_part_is_refused() -> None:
    class Parted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return distribute_tensor(x, DeviceMesh("cpu", [0]), [Replicate()])

    model = Parted()
    with pytest.raises(CoverageError, match=r"the model itself: a DTensor, .*full_tensor"):
        record(model, [""], lambda: model(X))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_adapted_models() -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(llama(), peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    plain = generate(model)
    outputs: list[torch.Tensor] = []
    sink, tapped = record(model, "all", lambda: outputs.append(generate(model)))
    assert torch.equal(plain, outputs[0])
    layer = "model.layers.0.self_attn.q_proj"
    assert {f"{layer}{part}|" for part in ("", ".base_layer", ".lora_A.default")} <= {
        site for site, _ in sink.order
    }
    rules = {one.module: one.rule for one in tapped.coverage}
    assert rules[f"{layer}.lora_A.default"] == f"at will in calls of {layer} (adapters)"
    with model.disable_adapter():
        _, tapped = record(model, "all", lambda: model(IDS))
    assert (tapped.fired[f"{layer}.lora_B.default"], tapped.expected[f"{layer}.lora_B.default"]) == (0, 1)


def test_a_layer_of_eight_bit_weights() -> None:
    class Int8Linear(nn.Module):
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__()
            self.register_buffer("scale", linear.weight.detach().abs().amax() / 127)
            self.register_buffer("weight", (linear.weight.detach() / self.scale).round().to(torch.int8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ (self.weight.to(x.dtype) * self.scale).T

    model = Stack()
    for layer in model.layers:
        layer.up = Int8Linear(layer.up)
    sink, _ = record(model, "audit", lambda: model(X))
    assert ("layers.0.up|", 0) in sink.bytes


def test_experts_tell_how_often_they_ran() -> None:
    class Moe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([Block() for _ in range(3)])
            self.turn = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.turn += 1
            return self.experts[self.turn % 2](x)

    model = nn.Sequential(Moe(), Moe())
    _, tapped = record(model, "all", lambda: [model(X) for _ in range(3)])
    counts = {one.module: (one.fired, one.expected, one.rule) for one in tapped.coverage}
    assert counts["0.experts.0"] == (1, 3, "at will in calls of 0 (experts)")
    assert counts["0.experts.2"] == (0, 3, "at will in calls of 0 (experts)")
    assert counts["0.experts.1.up"] == (2, 2, "in each call of 0.experts.1")
    assert counts["0.experts.2.up"] == (0, 0, "in each call of 0.experts.2")


def test_layers_are_dropped_only_in_training() -> None:
    model = Sometimes()
    model.layerdrop = 0.5  # type: ignore[assignment]  # as models have it

    def drop_one() -> None:
        model(X)
        model.skipped = "1"
        model(X)
        model.skipped = None

    _, tapped = record(model, "blocks", drop_one)
    assert (tapped.fired["layers.1"], tapped.expected["layers.1"]) == (1, 2)
    assert tapped.coverage[1].rule == "at will in calls of the model (layerdrop)"
    assert tapped.coverage[0].rule == "in each call of the model"
    model.eval()
    with pytest.raises(CoverageError, match=r"call 2 of the model ran layers\.1 0 times, expected 1"):
        record(model, "blocks", drop_one)


def test_a_block_that_is_used_many_times_counts_every_time() -> None:
    shared = Block()
    model = Stack()
    model.layers = nn.ModuleList([shared] * 4)
    sink, tapped = record(model, "blocks", lambda: [model(X) for _ in range(2)])
    assert sink.order == [("layers.0|", call) for call in range(8)]
    assert tapped.coverage == (ModuleCoverage("layers.0", "in each call of the model, 4 times", 8, 8),)


def test_a_model_that_is_used_by_its_parts() -> None:
    model = nn.ModuleDict({"encoder": Stack(2), "decoder": Stack(2)})
    _, tapped = record(model, lambda name, _: bool(name), lambda: model["decoder"](model["encoder"](X)))
    assert set(tapped.fired.values()) == {1}

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = Stack(2), Stack(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.decoder(self.encoder(x))

    pair = Pair()
    record(pair, "audit", lambda: pair.decoder(pair.encoder(X)))
    with pytest.raises(
        CoverageError, match=r"not all of the model was seen:\n  the model: seen 0 times, expected 1"
    ):
        record(pair, "all", lambda: pair.decoder(pair.encoder(X)))


def test_parts_may_run_sometimes_if_that_is_said() -> None:
    model = Sometimes()
    model.skipped = "1"
    _, tapped = record(model, "blocks", lambda: model(X), conditional=["layers.1"])
    assert tapped.coverage[1] == ModuleCoverage("layers.1", "at will in calls of the model (declared)", 1, 0)
    with pytest.raises(CoverageError, match=r"layers\.1 0 times, expected 1\n.*name it in conditional="):
        record(model, "blocks", lambda: model(X))


def test_nothing_ran() -> None:
    model = Stack()
    with pytest.raises(
        CoverageError, match=r"the model did not run in the block:\n  layers\.0: seen 0 times"
    ):
        record(model, "blocks", lambda: None)


def test_long_lists_of_gaps_are_cut() -> None:
    model = Stack(9)
    with pytest.raises(CoverageError, match="and 4 more"):
        record(model, "blocks", lambda: None)


def test_the_script_calls_a_block_itself() -> None:
    model = Stack()
    with pytest.raises(CoverageError, match=r"layers\.1: 1 calls beside those of the model"):
        record(model, "blocks", lambda: (model(X), model.layers[1](X)))
    with pytest.raises(CoverageError, match=r"layers\.1: 1 calls beside those of the model"):
        record(model, "blocks", lambda: (model(X), model.layers[1](X), model(X)))


def test_an_owner_that_is_called_past_its_hooks_hides_nothing() -> None:
    model = Stack()
    _, tapped = record(model, "blocks", lambda: model.forward(X))
    assert tapped.coverage[0].rule == "as often as the other items of layers"
    with pytest.raises(
        CoverageError, match=r"layers\.2: seen 1 times, expected 2 \(as often as the other items"
    ):
        record(model, "blocks", lambda: (model.forward(X), model.layers[0](X), model.layers[1](X)))


def test_an_exception_that_leaves_the_block_is_passed_on() -> None:
    model = Stack()
    tapped = taps.Taps(model, "blocks", Recorded())
    with pytest.raises(ZeroDivisionError), tapped:
        raise ZeroDivisionError
    assert hooks_of(model) == 0
    assert not tap_op.receivers


def test_an_exception_that_is_caught_inside_is_a_gap() -> None:
    class Failing(Stack):
        fails = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = super().forward(x)
            if self.fails:
                raise ZeroDivisionError
            return x

    model = Failing()

    def body() -> None:
        with pytest.raises(ZeroDivisionError):
            model(X)

    with pytest.raises(
        CoverageError, match=r"the model: 1 calls began and 0 returned: an exception came out of it"
    ):
        record(model, "blocks", body)
    assert hooks_of(model) == 0


def test_an_error_is_raised_again_at_the_end_if_it_was_caught() -> None:
    model = Sometimes()
    model.direct = "2"

    def body() -> None:
        for _ in range(2):
            with pytest.raises(CoverageError, match=r"layers\.2 0 times"):
                model(X)

    with pytest.raises(CoverageError, match=r"layers\.2 0 times"):
        record(model, "blocks", body)


def test_an_error_of_the_sink_leaves_the_model() -> None:
    class Full(Recorded):
        def capture(self, *_: object) -> None:
            raise OSError("full")

    model = Stack()
    with pytest.raises(OSError, match="full"), taps.Taps(model, "blocks", Full()):
        model(X)
    assert hooks_of(model) == 0


def test_taps_are_for_one_block() -> None:
    model = Stack()
    tapped = taps.Taps(model, "blocks", Recorded())
    with tapped:
        model(X)
    with pytest.raises(SessionError, match="used before"), tapped:
        pass


def test_blocks_within_blocks() -> None:
    model = Stack()
    outer, inner = Recorded(), Recorded()
    with taps.Taps(model, "blocks", outer) as first:
        model(X)
        with taps.Taps(model, "all", inner):
            model(X)
        model(X)
    assert set(first.fired.values()) == {3}
    assert inner.bytes["layers.2|", 0] == outer.bytes["layers.2|", 1]


def test_another_thread_may_run_the_model_but_not_two() -> None:
    model = Stack()
    errors: list[BaseException] = []

    def forward() -> None:
        try:
            model(X)
        except SessionError as error:
            errors.append(error)

    def elsewhere() -> None:
        thread = threading.Thread(target=forward)
        thread.start()
        thread.join()

    _, tapped = record(model, "blocks", elsewhere)
    assert (tapped.fired["layers.0"], errors) == (1, [])
    with pytest.raises(SessionError, match="tapped modules ran on two threads"):
        record(model, "blocks", lambda: (model(X), elsewhere()))
    assert len(errors) == 1


def test_copies_are_strangers() -> None:
    model = Stack()

    def body() -> None:
        twin = copy.deepcopy(model)
        average = torch.optim.swa_utils.AveragedModel(model)
        model(X)
        twin(X)
        twin(X)
        average(X)

    sink, tapped = record(model, "blocks", body)
    assert len(sink.order) == 3
    assert tapped.strangers == dict.fromkeys(BLOCKS, 3)
    with pytest.raises(CoverageError, match=r"layers\.0: seen 0 times.*a copy of it ran 1 times instead"):
        record(model, "blocks", lambda: copy.deepcopy(model)(X))


def test_a_shallow_copy_is_a_stranger() -> None:
    model = Stack()
    _, tapped = record(model, "blocks", lambda: (model(X), copy.copy(model.layers[0])(X)))
    assert tapped.strangers == {"layers.0": 1}


def test_tapped_models_are_pickled_and_saved() -> None:
    model = Stack()
    buffer = io.BytesIO()

    def body() -> None:
        model(X)
        torch.save(model, buffer)

    record(model, "all", body)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert torch.equal(loaded(X), model(X))
    kinds = {type(hook) for module in loaded.modules() for hook in module._forward_hooks.values()}
    assert kinds == {tap_hooks.StrangerTap}
    for hook in (tap_hooks.Tap(7, captured=True), tap_hooks.StrangerTap(7), tap_hooks.Arrival(7)):
        again = copy.copy(hook)  # by way of what a pickle holds
        assert again.token == 7
        assert type(again) is (tap_hooks.StrangerTap if type(hook) is tap_hooks.Tap else type(hook))


def test_vmap_is_refused_and_functional_call_is_not() -> None:
    model = Stack()
    record(model, "blocks", lambda: torch.func.functional_call(model, {}, (X,)))
    with pytest.raises(CoverageError, match=r"torch\.func transform"):
        record(model, "blocks", lambda: torch.func.vmap(model)(X))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_tracing_inside_is_refused() -> None:
    model = Stack()
    with pytest.raises(CoverageError, match=r"torch\.jit\.trace runs it inside of the block"):
        record(model, "blocks", lambda: torch.jit.trace(model, X))


def test_gradients_hooks_hand_on_the_same_tensor() -> None:
    model = Stack()
    for layer in model.layers:
        layer.register_full_backward_hook(lambda *_: None)
    _, tapped = record(model, "blocks", lambda: model(X.clone().requires_grad_()).sum().backward())
    assert tapped.received == {"layers.1": (1, 1), "layers.2": (1, 1)}


def test_code_between_blocks_is_told() -> None:
    class Scaled(Stack):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x) * 2
            return x

    model = Scaled()
    _, tapped = record(model, "blocks", lambda: model(X))
    assert tapped.received == {"layers.1": (0, 1), "layers.2": (0, 1)}


def test_arguments_by_keyword_are_compared() -> None:
    class Named(Stack):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x=x)
            return x

    model = Named()
    _, tapped = record(model, "blocks", lambda: model(X))
    assert tapped.received["layers.2"] == (1, 1)


def test_all_modules_that_one_owner_left_out_are_named_at_once() -> None:
    class Hardly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Linear(8, 8) for _ in range(8)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.parts[0](x)

    model = Hardly()
    with pytest.raises(CoverageError) as caught:
        record(model, "blocks", lambda: model(X))
    lines = str(caught.value).splitlines()
    assert lines[4] == "  call 1 of the model ran parts.5 0 times, expected 1"
    assert lines[5] == "  and 2 other modules not as often as expected"
    _, tapped = record(model, "blocks", lambda: model(X), conditional=[f"parts.{i}" for i in range(1, 8)])
    assert tapped.fired["parts.0"] == 1
    assert sum(tapped.fired.values()) == 1


def test_a_call_of_a_graph_in_a_backward_pass_is_a_recomputation() -> None:
    class Again(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, x: torch.Tensor, token: int) -> torch.Tensor:
            Again.token = token  # type: ignore[attr-defined]
            return x.clone()

        @staticmethod
        def backward(_context: Any, gradient: torch.Tensor) -> Any:
            torch.ops.palm_torch.tap([gradient], Again.token, "", "")  # type: ignore[attr-defined]
            return gradient, None

    model = Stack()

    def body() -> None:
        model(X)
        token = next(iter(model.layers[0]._forward_hooks.values())).token
        Again.apply(X.clone().requires_grad_(), token).sum().backward()

    sink, tapped = record(model, "blocks", body)
    assert tapped.recomputed["layers.0"] == 1
    assert len(sink.order) == 3
