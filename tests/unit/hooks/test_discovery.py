"""Owners of stepped parameters, one test per way that people hold their models."""

from __future__ import annotations

import copy
import gc
import re

import pytest
import torch
from torch import nn

from palm_torch.errors import CoverageError
from palm_torch.hooks import architecture, discovery, live, wrappers

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


class Net(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.enc = nn.Linear(width, 2)
        self.dec = nn.Linear(2, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dec(self.enc(x))


class Net2(Net):
    pass


class Holder(nn.Module):
    """Like a LightningModule: holds the model under an attribute."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Distiller(nn.Module):
    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher


class ScaledLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


def _parameters(*modules: nn.Module) -> list[torch.Tensor]:
    return [parameter for module in modules for parameter in module.parameters()]


def _names(owners: discovery.Owners) -> list[str]:
    return sorted(item.name for item in owners.tensors())


def test_one_module() -> None:
    net = Net()
    owners = discovery.find_owners(_parameters(net))
    assert owners.modules == (net,)
    assert owners.names == ("Net",)
    assert _names(owners) == ["dec.bias", "dec.weight", "enc.bias", "enc.weight"]


def test_criterion_without_parameters_is_no_owner() -> None:
    net, criterion = Net(), nn.CrossEntropyLoss(weight=torch.ones(3))
    assert discovery.find_owners(_parameters(net)).modules == (net,)
    assert criterion.weight is not None


def test_criterion_with_parameters_is_a_second_owner() -> None:
    net, criterion = Net(), ScaledLoss()
    owners = discovery.find_owners(_parameters(net, criterion))
    assert owners.modules == (net, criterion)
    assert "ScaledLoss.scale" in _names(owners)
    assert "Net.enc.weight" in _names(owners)


def test_frozen_teacher_is_no_owner() -> None:
    student, teacher = Net(), Net()
    teacher.requires_grad_(False)
    assert discovery.find_owners(_parameters(student)).modules == (student,)


def test_container_of_student_and_teacher_is_the_owner() -> None:
    both = Distiller(Net(), Net())
    owners = discovery.find_owners(_parameters(both.student))
    assert owners.modules == (both,)
    assert "teacher.enc.weight" in _names(owners)


def test_model_used_by_its_parts_stays_one() -> None:
    net = Net()
    net.dec(net.enc(torch.zeros(1, 3))).sum().backward()
    assert discovery.find_owners(_parameters(net)).modules == (net,)


def test_separate_encoder_and_decoder_in_order_of_the_groups() -> None:
    encoder, decoder = nn.Linear(3, 2), nn.Linear(2, 3)
    owners = discovery.find_owners(_parameters(decoder, encoder))
    assert owners.modules == (decoder, encoder)
    assert owners.names == ("Linear", "Linear#2")
    assert _names(owners) == ["Linear#2.bias", "Linear#2.weight", "Linear.bias", "Linear.weight"]


def test_weights_tied_across_owners_appear_once() -> None:
    encoder, decoder = Net(), Net2()
    decoder.enc.weight = encoder.enc.weight
    owners = discovery.find_owners(_parameters(encoder, decoder))
    tied = [item for item in owners.tensors() if item.aliases]
    assert [(item.name, item.aliases) for item in tied] == [("Net.enc.weight", ("Net2.enc.weight",))]


def test_class_called_like_a_module_method() -> None:
    half = type("half", (Net,), {})()
    other = ScaledLoss()
    owners = discovery.find_owners(_parameters(half, other))
    assert owners.names == ("half#1", "ScaledLoss")
    assert "half#1.enc.weight" in _names(owners)


def test_compiled_before_the_session_counts_as_what_it_wraps() -> None:
    net = Net()
    compiled = torch.compile(net, backend="eager")
    compiled(torch.zeros(1, 3))
    owners = discovery.find_owners(_parameters(compiled))
    assert owners.modules == (net,)
    assert "enc.weight" in _names(owners)


def test_compiled_in_place() -> None:
    net = Net()
    net.compile(backend="eager")
    net(torch.zeros(1, 3))
    assert discovery.find_owners(_parameters(net)).modules == (net,)


def test_compiled_part_of_a_holder() -> None:
    holder = Holder(Net())
    compiled = torch.compile(holder.model, backend="eager")
    assert discovery.find_owners(_parameters(compiled)).modules == (holder,)
    assert isinstance(compiled, nn.Module)


def test_wrapper_inside_a_holder_leaves_no_trace_in_names() -> None:
    holder = Holder(nn.DataParallel(torch.compile(Net(), backend="eager")))
    owners = discovery.find_owners(_parameters(holder))
    assert owners.modules == (holder,)
    assert _names(owners) == [
        f"model.{name}" for name in ("dec.bias", "dec.weight", "enc.bias", "enc.weight")
    ]


def test_submodule_called_module_keeps_its_name() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = Net()

    outer = Outer()
    assert "module.enc.weight" in _names(discovery.find_owners(_parameters(outer)))


def test_functional_call_with_the_modules_own_parameters() -> None:
    net = Net()
    own = dict(net.named_parameters())
    torch.func.functional_call(net, own, (torch.zeros(1, 3),)).sum().backward()
    assert discovery.find_owners(list(own.values())).modules == (net,)


def test_functional_call_with_clones_has_no_owner() -> None:
    net = Net()
    clones = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    torch.func.functional_call(net, clones, (torch.zeros(1, 3),)).sum().backward()
    message = r"steps 4 parameters of shapes \(2, 3\) float32.*no live .*run\.output\(model=MODULE\)"
    with pytest.raises(CoverageError, match=message):
        discovery.find_owners(list(clones.values()))


def test_one_parameter_without_owner_names_the_others() -> None:
    net = Net()
    loose = torch.zeros(7, requires_grad=True)
    with pytest.raises(CoverageError, match=r"1 parameters of shapes \(7,\).*the others belong to Net"):
        discovery.find_owners([*_parameters(net), loose])


def test_frozen_garbage_collector_is_named() -> None:
    net = Net()
    gc.freeze()
    try:
        with pytest.raises(CoverageError, match=r"gc\.freeze\(\) hides modules"):
            discovery.find_owners(_parameters(net))
    finally:
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def test_living_deep_copy_is_no_owner() -> None:
    net = Net()
    average = copy.deepcopy(net)
    swa = torch.optim.swa_utils.AveragedModel(net)
    assert discovery.find_owners(_parameters(net)).modules == (net,)
    assert average is not swa


def test_head_only_fine_tuning_is_owned_by_the_whole_model() -> None:
    net = Net()
    net.enc.requires_grad_(False)
    owners = discovery.find_owners(_parameters(net.dec))
    assert owners.modules == (net,)
    assert {item.name: item.trainable for item in owners.tensors()}["enc.weight"] is False


def test_two_containers_of_one_model_are_ambiguous() -> None:
    net = Net()
    first, second = Holder(net), Distiller(net, ScaledLoss())
    with pytest.raises(
        CoverageError, match=r"several sets of modules: .*Distiller \(4\).*run\.output\(model="
    ):
        discovery.find_owners(_parameters(net))
    assert first.model is second.student


def test_dropped_container_in_a_cycle_is_not_ambiguous() -> None:
    net = Net()
    holder = Holder(net)
    gc.disable()  # or it would be collected by chance
    try:
        stale = Distiller(net, ScaledLoss())
        stale.__dict__["me"] = stale
        del stale
        assert discovery.find_owners(_parameters(net)).modules == (holder,)
    finally:
        gc.enable()


def test_redundant_container_does_not_make_the_only_cover_ambiguous() -> None:
    student, projection = Net(), nn.Linear(2, 2)
    both = Distiller(student, projection)
    evaluator = Holder(student)
    assert discovery.find_owners(_parameters(student, projection)).modules == (both,)
    assert evaluator.model is student


def test_smallest_cover_beats_a_larger_one() -> None:
    first, second = Net(), Net2()
    pair = Distiller(first, second)
    holders = Holder(first), Holder(second)
    assert discovery.find_owners(_parameters(first, second)).modules == (pair,)
    assert holders[0].model is first


def test_too_many_covers_are_ambiguous() -> None:
    shared = nn.ParameterList(torch.zeros(1) for _ in range(16))
    rings = []
    for index in range(16):
        ring = nn.Module()
        ring.a, ring.b = shared[index], shared[(index + 1) % 16]
        rings.append(ring)
    parameters = list(shared)
    del shared
    gc.collect()
    with pytest.raises(CoverageError, match="16 stepped parameters could belong to several"):
        discovery.find_owners(parameters)
    assert len(rings) == 16


def test_half_constructed_module_is_passed_over() -> None:
    unborn = Net.__new__(Net)
    net = Net()
    assert discovery.find_owners(_parameters(net)).modules == (net,)
    assert unborn is not net


def test_scripted_module_shares_its_parameters_with_the_original_and_has_to_be_named() -> None:
    with pytest.warns(DeprecationWarning, match="jit.script"):
        scripted = torch.jit.script(nn.Linear(3, 2))
    parameters = list(scripted.parameters())
    with pytest.raises(CoverageError, match=r"RecursiveScriptModule \(2\)"):
        discovery.find_owners(parameters)
    assert discovery.declared(scripted, parameters).modules == (scripted,)


def test_declared_module_and_tensors() -> None:
    net, loose = Net(), torch.zeros(2, requires_grad=True)
    assert discovery.declared(torch.compile(net, backend="eager"), _parameters(net)).modules == (net,)
    owners = discovery.declared({"w": loose}, [loose])
    assert _names(owners) == ["w"]
    assert owners.modules == ()


def test_declared_modules_by_name() -> None:
    encoder, decoder = nn.Linear(3, 2), nn.Linear(2, 3)
    owners = discovery.declared({"enc": encoder, "dec": decoder}, _parameters(encoder, decoder))
    assert _names(owners) == ["dec.bias", "dec.weight", "enc.bias", "enc.weight"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({}, "got nothing"),
        ({"a": Net(), "b": torch.zeros(1)}, "got Net, Tensor"),
        ({"a": "text"}, "got str"),
        ({"a.b": Net()}, "'a.b' cannot be the name"),
        ({"half": Net()}, "'half' cannot be the name"),
    ],
)
def test_declared_model_of_another_kind(model: object, message: str) -> None:
    with pytest.raises(CoverageError, match=message):
        discovery.declared(model)


def test_declared_model_must_hold_what_is_stepped() -> None:
    net, other = Net(), ScaledLoss()
    with pytest.raises(
        CoverageError, match=r"names Net, but an optimizer also steps 1 parameters of shapes \(\)"
    ):
        discovery.declared(net, _parameters(net, other))


def test_discovery_does_not_run_code_of_foreign_objects() -> None:
    class Trap:
        @property
        def __class__(self) -> type:
            raise RuntimeError("somebody asked")

    trap = [Trap()]
    net = Net()
    assert discovery.find_owners(_parameters(net)).modules == (net,)
    with pytest.raises(RuntimeError, match="somebody asked"):  # the trap works
        isinstance(trap[0], nn.Module)


def test_wrapper_table_names_classes_that_exist() -> None:
    import torch._dynamo.eval_frame

    classes = {
        torch._dynamo.eval_frame.OptimizedModule,
        nn.DataParallel,
        nn.parallel.DistributedDataParallel,
    }
    assert {wrappers.qualified_name(kind) for kind in classes} == wrappers.WRAPPERS.keys()


def test_missing_private_name_is_an_error_that_names_the_version() -> None:
    net = Net()
    del net._non_persistent_buffers_set
    with pytest.raises(CoverageError, match=rf"torch {re.escape(torch.__version__)}: Net has no .*2\.13"):
        list(live.persistent_buffers(net))


class TestArchitecture:
    def test_same_code_same_digest(self) -> None:
        first, second = Net(), Net()
        digests = {
            architecture.describe(discovery.declared(model)).digest
            for model in (first, torch.compile(second, backend="eager"), nn.DataParallel(second))
        }
        assert len(digests) == 1

    @pytest.mark.parametrize("other", [Net(4), Net2(), Holder(Net())])
    def test_another_shape_class_or_nesting_changes_it(self, other: nn.Module) -> None:
        mine = architecture.describe(discovery.declared(Net())).digest
        assert architecture.describe(discovery.declared(other)).digest != mine

    def test_settings_in_extra_repr_change_it(self) -> None:
        digests = [
            architecture.describe(discovery.declared(nn.Sequential(nn.Dropout(p)))).digest for p in (0.1, 0.2)
        ]
        assert digests[0] != digests[1]

    def test_weights_do_not_change_it(self) -> None:
        net = Net()
        before = architecture.describe(discovery.declared(net)).digest
        nn.init.zeros_(net.enc.weight)
        assert architecture.describe(discovery.declared(net)).digest == before

    def test_description(self) -> None:
        described = architecture.describe(discovery.declared(nn.Sequential(nn.BatchNorm1d(2))))
        assert described.modules == 2
        _, norm = described.value["modules"]
        assert norm["path"] == "0"
        assert norm["class"] == "torch.nn.modules.batchnorm.BatchNorm1d"
        assert norm["source"].startswith("sha256:")
        assert norm["parameters"][0] == {"name": "weight", "dtype": "float32", "shape": [2]}
        assert [buffer["name"] for buffer in norm["buffers"]] == [
            "running_mean",
            "running_var",
            "num_batches_tracked",
        ]

    def test_module_used_twice_is_described_once(self) -> None:
        layer = nn.Linear(2, 2)
        described = architecture.describe(discovery.declared(nn.Sequential(layer, layer)))
        assert described.modules == 2
        assert described.value["modules"][2] == {"path": "1", "same_as": "0"}

    def test_addresses_are_left_out(self) -> None:
        class Lambda(nn.Module):
            def extra_repr(self) -> str:
                return f"function={object()!r}"

        (entry,) = architecture.describe(discovery.declared(Lambda())).value["modules"]
        assert re.search("0x[0-9a-f]", entry["extra_repr"]) is None
        assert entry["extra_repr"].startswith("function=<object object at 0x")

    def test_lazy_parameters_have_no_shape(self) -> None:
        lazy = nn.LazyLinear(2)
        (entry,) = architecture.describe(discovery.declared(lazy)).value["modules"]
        assert entry["parameters"][0]["shape"] is None

    def test_named_tensors(self) -> None:
        described = architecture.describe(discovery.declared({"w": torch.zeros(2, 1, dtype=torch.bfloat16)}))
        assert described.value == {
            "modules": [],
            "tensors": [{"name": "w", "dtype": "bfloat16", "shape": [2, 1]}],
        }
