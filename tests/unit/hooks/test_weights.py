"""Canonical names, tied weights, and measuring again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from palm_torch.commit import weights_root
from palm_torch.errors import CoverageError, DataError
from palm_torch.hooks.tensors import tensor_bytes
from palm_torch.hooks.weights import NamedTensor, WeightsMeter, canonical_tensors

if TYPE_CHECKING:
    from collections.abc import Callable


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.proj = nn.Linear(4, 4, bias=False)
        self.register_buffer("mask", torch.ones(4), persistent=False)
        self.register_buffer("absent", None)
        self.register_parameter("nothing", None)


class Tied(nn.Module):
    """As GPT-2: the head is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(10, 4)
        self.h = nn.ModuleList([Block(), Block()])
        self.lm_head = nn.Linear(4, 10, bias=False)
        self.lm_head.weight = self.wte.weight


def names(model: Any) -> list[str]:
    return [one.name for one in canonical_tensors(model)]


def ddp_like(model: nn.Module) -> nn.Module:
    """Something whose class is DistributedDataParallel by name, without a process group."""
    wrapper = type("DistributedDataParallel", (nn.Module,), {})
    wrapper.__module__ = "torch.nn.parallel.distributed"
    made = wrapper()
    made.module = model
    return made


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")  # never run, so any backend will do


def test_names_are_those_of_state_dict() -> None:
    model = nn.Sequential(Block(), nn.Linear(4, 2))
    assert names(model) == sorted(model.state_dict())
    assert "0.norm.running_mean" in names(model)
    assert "0.mask" not in names(model)


def test_kinds_and_gradients() -> None:
    model = Block()
    model.norm.bias.requires_grad_(requires_grad=False)
    found = {one.name: (one.kind, one.trainable) for one in canonical_tensors(model)}
    assert found["norm.weight"] == ("parameter", True)
    assert found["norm.bias"] == ("parameter", False)
    assert found["norm.num_batches_tracked"] == ("buffer", False)


def test_tied_weights_appear_once_under_the_smallest_name() -> None:
    model = Tied()
    found = {one.name: one for one in canonical_tensors(model)}
    assert found["lm_head.weight"].aliases == ("wte.weight",)
    assert "wte.weight" not in found
    assert [*sorted(found), "wte.weight"] == sorted(model.state_dict())


def test_one_module_in_two_places_is_tied() -> None:
    layer = nn.Linear(2, 2)
    found = canonical_tensors(nn.ModuleDict({"b": layer, "a": layer}))
    assert [(one.name, one.aliases) for one in found] == [
        ("a.bias", ("b.bias",)),
        ("a.weight", ("b.weight",)),
    ]


def test_two_views_of_the_same_elements_are_tied_and_others_are_not() -> None:
    base = torch.randn(4, 4)
    mapping = {"x": base, "y": base.view(4, 4), "t": base.t(), "half": base[:2], "flat": base.view(16)}
    found = {one.name: one.aliases for one in canonical_tensors(mapping)}
    assert found == {"x": ("y",), "t": (), "half": (), "flat": ()}


def test_a_buffer_tied_to_a_parameter_is_a_parameter() -> None:
    parameter = nn.Parameter(torch.ones(2))
    (one,) = canonical_tensors({"a": parameter.detach(), "b": parameter})
    assert (one.name, one.kind, one.trainable) == ("a", "parameter", True)
    assert one.tensor is parameter


def test_empty_tensors_are_not_tied_by_accident() -> None:
    assert names({"a": torch.empty(0), "b": torch.empty(0)}) == ["a", "b"]


@pytest.mark.parametrize(
    "wrap",
    [
        ddp_like,
        nn.DataParallel,
        compiled,
        lambda model: compiled(ddp_like(model)),
        lambda model: ddp_like(compiled(model)),
    ],
    ids=["ddp", "data parallel", "compiled", "compiled ddp", "ddp compiled"],
)
def test_wrappers_add_nothing_to_names(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = Tied()
    assert names(wrap(model)) == names(model)
    model.h[0] = wrap(model.h[0])
    assert names(model) == names(Tied())


def test_a_submodule_that_is_only_called_like_a_wrapper_keeps_its_name() -> None:
    assert names(nn.ModuleDict({"module": nn.Linear(2, 2, bias=False)})) == ["module.weight"]


def test_a_name_that_two_tensors_would_bear() -> None:
    wrapper = ddp_like(nn.Linear(2, 2, bias=False))
    outer = nn.ModuleDict({"a": wrapper})
    outer.register_parameter("x", nn.Parameter(torch.ones(1)))
    assert names(outer) == ["a.weight", "x"]

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.ParameterDict({"weight": torch.ones(1)})
            self.register_module("first_", nn.Linear(1, 1, bias=False))

    odd = Odd()
    odd._modules["first"]._parameters["b.weight"] = nn.Parameter(torch.ones(1))  # what torch forbids
    odd._modules["first"].add_module("b", nn.Linear(1, 1, bias=False))
    with pytest.raises(CoverageError, match=r"two different tensors are called 'first\.b\.weight'"):
        canonical_tensors(odd)


def test_mapping_with_something_else_in_it() -> None:
    mapping: Any = {"a": torch.ones(1), "_extra_state": b"?"}
    with pytest.raises(CoverageError, match="_extra_state: expected a tensor, got bytes"):
        canonical_tensors(mapping)


def expected_root(model: nn.Module) -> Any:
    return weights_root.weights_root(
        (one.spec, weights_root.tensor_root(one.spec, tensor_bytes(one.tensor)))
        for one in canonical_tensors(model)
    )


def test_measurement_is_the_weights_root() -> None:
    model = Tied()
    measured = WeightsMeter().measure(canonical_tensors(model))
    assert measured.root == expected_root(model)
    assert [spec.name for spec, _ in measured.tensors] == names(model)
    assert measured.hashed_bytes == sum(
        tensor.nbytes for name, tensor in model.state_dict().items() if name != "wte.weight"
    )


def test_same_weights_same_root_wherever_they_live() -> None:
    model, other = Tied(), Tied()
    other.load_state_dict(model.state_dict())
    plain = dict(model.state_dict())
    roots = {WeightsMeter().measure(canonical_tensors(one)).root for one in (model, other, plain)}
    assert len(roots) == 1


def test_untying_shows() -> None:
    model = Tied()
    before = WeightsMeter().measure(canonical_tensors(model)).root
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    assert WeightsMeter().measure(canonical_tensors(model)).root != before


def test_order_of_the_tensors_does_not_matter() -> None:
    named = canonical_tensors(Tied())
    assert WeightsMeter().measure(named[::-1]) == WeightsMeter().measure(named)


def test_hints_skip_what_did_not_change() -> None:
    model = Tied()
    meter = WeightsMeter()
    first = meter.measure(canonical_tensors(model))
    again = meter.measure(canonical_tensors(model), full=False)
    assert (again.root, again.tensors, again.hashed_bytes) == (first.root, first.tensors, 0)
    with torch.no_grad():
        model.h[1].proj.weight.add_(1)
    changed = meter.measure(canonical_tensors(model), full=False)
    assert changed.hashed_bytes == model.h[1].proj.weight.nbytes
    assert changed.root == expected_root(model) != first.root


def test_the_first_measurement_and_a_full_one_hash_everything() -> None:
    model = nn.Linear(3, 3)
    meter = WeightsMeter()
    assert meter.measure(canonical_tensors(model), full=False).hashed_bytes == 48
    assert meter.measure(canonical_tensors(model), full=True).hashed_bytes == 48


def test_an_optimizer_step_moves_the_hints() -> None:
    model = nn.Linear(3, 3)
    meter = WeightsMeter()
    meter.measure(canonical_tensors(model))
    model(torch.ones(1, 3)).sum().backward()
    torch.optim.AdamW(model.parameters()).step()
    assert meter.measure(canonical_tensors(model), full=False).root == expected_root(model)


@pytest.mark.parametrize(
    "edit",
    [lambda p: p.data.add_(1), lambda p: p.detach().numpy().__iadd__(1)],
    ids=[".data", "NumPy alias"],
)
def test_writes_that_count_no_version_need_a_full_measurement(edit: Callable[[nn.Parameter], Any]) -> None:
    model = nn.Linear(3, 3)
    meter = WeightsMeter()
    before = meter.measure(canonical_tensors(model)).root
    edit(model.weight)
    assert meter.measure(canonical_tensors(model), full=False).root == before  # a hint, not evidence
    assert meter.measure(canonical_tensors(model)).root == expected_root(model) != before


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: setattr(m.weight, "data", m.weight.data + 1),
        lambda m: setattr(m, "weight", nn.Parameter(m.weight.detach() + 1)),
        lambda m: setattr(m.weight, "data", m.weight.data.t()),
        lambda m: m.double(),
    ],
    ids=["new memory", "new parameter", "new strides", "new dtype"],
)
def test_replaced_tensors_move_the_hints(edit: Callable[[nn.Linear], Any]) -> None:
    model = nn.Linear(3, 3)
    meter = WeightsMeter()
    meter.measure(canonical_tensors(model))
    edit(model)
    assert meter.measure(canonical_tensors(model), full=False).root == expected_root(model)


def test_inference_tensors_are_always_hashed() -> None:
    with torch.inference_mode():
        mapping = {"a": torch.ones(2)}
    meter = WeightsMeter()
    meter.measure(canonical_tensors(mapping))
    assert meter.measure(canonical_tensors(mapping), full=False).hashed_bytes == 8


def test_meter_keeps_no_model_alive() -> None:
    import weakref

    model = nn.Linear(3, 3)
    meter = WeightsMeter()
    meter.measure(canonical_tensors(model))
    gone = weakref.ref(model.weight)
    del model
    assert gone() is None


def test_renamed_tensor_is_hashed_under_its_new_name() -> None:
    tensor = torch.ones(2)
    meter = WeightsMeter()
    meter.measure(canonical_tensors({"a": tensor}))
    renamed = meter.measure(canonical_tensors({"b": tensor}), full=False)
    assert renamed.root == WeightsMeter().measure(canonical_tensors({"b": tensor})).root


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.empty(2, device="meta"), "w: a tensor on the meta device"),
        (torch.eye(2).to_sparse(), "w: no canonical bytes for layout"),
        (torch.empty(2, dtype=torch.bits8), "w: no canonical bytes for torch.bits8"),
    ],
    ids=["meta", "sparse", "bits8"],
)
def test_tensors_without_bytes_are_named(tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(CoverageError, match=message):
        WeightsMeter().measure(canonical_tensors({"w": tensor}), full=False)


@pytest.mark.filterwarnings("ignore:.*Lazy modules.*:UserWarning")
def test_lazy_parameters_are_named() -> None:
    with pytest.raises(CoverageError, match="bias: a lazy parameter has no values yet"):
        WeightsMeter().measure(canonical_tensors(nn.LazyLinear(3)))


def test_a_tensor_that_is_gone_shows_without_hashing() -> None:
    named = canonical_tensors(nn.Linear(3, 3))
    meter = WeightsMeter()
    meter.measure(named)
    fewer = meter.measure(named[:1], full=False)
    assert fewer.hashed_bytes == 0
    assert fewer.root == WeightsMeter().measure(named[:1]).root
    assert WeightsMeter().measure([]).root == weights_root.weights_root([])


def test_names_occur_once() -> None:
    one, other = (NamedTensor(name, (), torch.ones(1), "buffer", trainable=False) for name in "ab")
    meter = WeightsMeter()
    meter.measure([one, other])
    for full in (True, False):
        with pytest.raises(DataError, match="'a': the name occurs twice"):
            meter.measure([one, one], full=full)
