"""Counting steps: nested optimizers, closures, gradient scalers, forks, and leaving training untouched."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import os
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_optimizer

from palm_torch.errors import CoverageError, SessionError
from palm_torch.hooks import meter, scaler


class Calls:
    """Callbacks that remember what they were called with."""

    def __init__(self) -> None:
        self.first: list[tuple[torch.optim.Optimizer, tuple[torch.Tensor, ...], list[torch.Tensor]]] = []
        self.after: list[torch.optim.Optimizer] = []

    def before_first_step(self, optimizer: torch.optim.Optimizer, tensors: tuple[torch.Tensor, ...]) -> None:
        self.first.append((optimizer, tensors, [tensor.detach().clone() for tensor in tensors]))

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.after.append(optimizer)

    def meter(self) -> meter.StepMeter:
        return meter.StepMeter(before_first_step=self.before_first_step, after_step=self.after_step)


@pytest.fixture
def calls(nothing_left_behind: None) -> Calls:  # noqa: ARG001 (scalers of other tests)
    return Calls()


def _net() -> nn.Module:
    torch.manual_seed(5)
    return nn.Linear(3, 2)


def _backward(net: nn.Module) -> torch.Tensor:
    loss = net(torch.ones(4, 3)).square().mean()
    loss.backward()
    return loss


def test_counts_steps_and_calls_back_once_before_anything_moved(calls: Calls) -> None:
    net = _net()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    with calls.meter() as steps:
        for _ in range(3):
            _backward(net)
            optimizer.step()
        summary = steps.counts()
    assert steps.steps == summary.taken == 3
    assert summary.skipped == 0
    assert calls.after == [optimizer] * 3
    ((first, tensors, values),) = calls.first
    assert first is optimizer
    assert all(map(torch.equal, values, before))
    assert [id(tensor) for tensor in tensors] == [id(parameter) for parameter in net.parameters()]
    (record,) = summary.optimizers
    assert record.settings.class_name == "torch.optim.adamw.AdamW"
    assert (record.steps, record.steps_inside, record.without_effect, record.interrupted) == (3, 0, 0, 0)


def test_hooks_are_gone_afterwards_also_after_an_error(calls: Calls) -> None:
    hooks = (torch_optimizer._global_optimizer_pre_hooks, torch_optimizer._global_optimizer_post_hooks)
    before = [len(each) for each in hooks]
    with contextlib.suppress(KeyError), calls.meter():
        assert [len(each) for each in hooks] == [count + 1 for count in before]
        raise KeyError
    assert [len(each) for each in hooks] == before


def test_every_optimizer_is_introduced_once(calls: Calls) -> None:
    generator, critic = _net(), _net()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (generator, critic)]
    with calls.meter() as steps:
        for _ in range(2):
            for net, optimizer in zip((generator, critic), optimizers, strict=True):
                _backward(net)
                optimizer.step()
        summary = steps.counts()
    assert [optimizer for optimizer, _, _ in calls.first] == optimizers
    assert [record.steps for record in summary.optimizers] == [2, 2]


def test_added_group_and_replaced_tensor_are_introduced(calls: Calls) -> None:
    net, more = _net(), _net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with calls.meter():
        _backward(net)
        optimizer.step()
        optimizer.add_param_group({"params": list(more.parameters())})
        optimizer.step()
        optimizer.param_groups[0]["params"][0] = replaced = torch.zeros(1, requires_grad=True)
        optimizer.step()
        optimizer.step()
    assert [len(tensors) for _, tensors, _ in calls.first] == [2, 2, 1]
    assert calls.first[2][1][0] is replaced


def test_two_optimizers_of_the_same_tensors_introduce_them_once(calls: Calls) -> None:
    net = _net()
    with calls.meter():
        for _ in range(2):
            _backward(net)
            torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert len(calls.first) == 1


def test_lbfgs_makes_one_step_of_several_closures(calls: Calls) -> None:
    net = _net()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=4)
    evaluations = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        evaluations.append(1)
        return _backward(net)

    with calls.meter() as steps:
        optimizer.step(closure)
    assert len(evaluations) > 1
    assert steps.counts().taken == 1


class Lookahead(torch.optim.Optimizer):
    """Owns the same tensors as the optimizer it calls; both of their steps are hooked."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner
        super().__init__(inner.param_groups, {})

    def step(self, closure: object = None) -> None:
        self.inner.step(closure)


class Delegating(torch.optim.Optimizer):
    """Like Accelerate's wrapper: never calls the constructor above, so its step has no hook."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner

    def step(self, closure: object = None) -> None:
        self.inner.step(closure)


class Decayed(torch.optim.SGD):
    """Calls ``super().step()``, which torch hooks too once any SGD was made."""

    def step(self, closure: object = None) -> None:
        super().step(closure)


def test_wrapper_whose_step_is_hooked_counts_once(calls: Calls) -> None:
    net = _net()
    inner = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer = Lookahead(inner)
    with calls.meter() as steps:
        for _ in range(2):
            _backward(net)
            optimizer.step()
        summary = steps.counts()
    assert summary.taken == 2
    assert calls.after == [optimizer, optimizer]
    assert [(record.steps, record.steps_inside) for record in summary.optimizers] == [(2, 0), (0, 2)]
    assert len(calls.first) == 1


def test_wrapper_whose_step_is_not_hooked_lets_the_inner_one_count(calls: Calls) -> None:
    net = _net()
    inner = torch.optim.SGD(net.parameters(), lr=0.1)
    with calls.meter() as steps:
        _backward(net)
        Delegating(inner).step()
    assert [record.steps for record in steps.counts().optimizers] == [1]
    assert calls.after == [inner]


def test_step_that_calls_the_step_above_counts_once(calls: Calls) -> None:
    net = _net()
    torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer = Decayed(net.parameters(), lr=0.1)
    with calls.meter() as steps:
        _backward(net)
        optimizer.step()
        summary = steps.counts()
    assert [(record.steps, record.steps_inside) for record in summary.optimizers] == [(1, 0)]
    assert calls.after == [optimizer]


def test_step_that_raises_and_is_caught_does_not_swallow_the_next_ones(calls: Calls) -> None:
    net = _net()
    broken = torch.optim.SGD(net.parameters(), lr=0.1)
    broken.register_step_pre_hook(_out_of_memory)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with calls.meter() as steps:
        _backward(net)
        for each in (broken, broken, optimizer, broken):
            try:
                each.step()
            except MemoryError:
                continue
        summary = steps.counts()
    assert [(record.steps, record.interrupted) for record in summary.optimizers] == [(0, 3), (1, 0)]
    assert summary.taken == 1


def _out_of_memory(*_arguments: object) -> None:
    raise MemoryError


def test_interrupted_inner_step_leaves_the_outer_one_running(calls: Calls) -> None:
    class Retrying(Lookahead):
        def step(self, closure: object = None) -> None:  # noqa: ARG002
            for _ in range(2):
                try:
                    self.inner.step()
                except MemoryError:
                    continue

    net = _net()
    inner = torch.optim.SGD(net.parameters(), lr=0.1)
    inner.register_step_pre_hook(_out_of_memory)
    with calls.meter() as steps:
        _backward(net)
        Retrying(inner).step()
        summary = steps.counts()
    assert [(item.steps, item.steps_inside, item.interrupted) for item in summary.optimizers] == [
        (0, 0, 1),
        (0, 0, 2),
    ]


def test_step_begun_before_the_block_is_not_counted(calls: Calls) -> None:
    net = _net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    counting = calls.meter()
    handle = optimizer.register_step_pre_hook(lambda *_: counting.__enter__() and None)
    _backward(net)
    optimizer.step()
    handle.remove()
    counting.__exit__(None, None, None)
    assert counting.counts().optimizers == ()


def test_error_of_a_callback_leaves_step(calls: Calls) -> None:
    def refuse(*_arguments: object) -> None:
        raise CoverageError("no owner")

    net = _net()
    before = net.weight.detach().clone()
    _backward(net)
    with (
        meter.StepMeter(before_first_step=refuse, after_step=calls.after_step) as steps,
        pytest.raises(CoverageError, match="no owner"),
    ):
        torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert torch.equal(net.weight, before)
    assert steps.steps == 0


def test_step_in_another_thread_is_refused(calls: Calls) -> None:
    net = _net()
    _backward(net)
    errors: list[BaseException] = []

    def train() -> None:
        try:
            torch.optim.SGD(net.parameters(), lr=0.1).step()
        except SessionError as error:
            errors.append(error)

    with calls.meter():
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    assert "SGD.step() was called in another thread" in str(errors[0])


def test_step_in_a_forked_process_is_refused(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    net = _net()
    _backward(net)
    with calls.meter():
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with pytest.raises(SessionError, match="called in a process forked from"):
            torch.optim.SGD(net.parameters(), lr=0.1).step()


def test_dropped_optimizer_keeps_its_record_but_not_its_tensors(calls: Calls) -> None:
    steps = meter.StepMeter(before_first_step=lambda *_: None, after_step=lambda *_: None)
    net = _net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with steps:
        _backward(net)
        optimizer.step()
        weight = weakref.ref(net.weight)
        del optimizer, net
        gc.collect()
        assert weight() is None
        assert steps.counts().taken == 1
    assert calls.first == []


def test_step_captured_into_a_cuda_graph_is_refused(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    net = _net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with calls.meter() as steps:
        _backward(net)
        optimizer.step()
        monkeypatch.setattr(steps._accounts[0], "on_cuda", True)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with pytest.raises(CoverageError, match=r"SGD\.step\(\) is being captured into a CUDA graph"):
            optimizer.step()
    assert steps.steps == 1


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # torch's own, on first use
@pytest.mark.parametrize("compile_first", [True, False])
def test_step_inside_a_compiled_function(calls: Calls, *, compile_first: bool) -> None:
    net = _net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    @torch.compile(backend="eager")
    def train() -> None:
        net(torch.ones(4, 3)).square().mean().backward()
        optimizer.step()

    if compile_first:
        train()
    with calls.meter() as steps:
        for _ in range(3):
            train()
        assert steps.counts().taken == 3
    assert len(calls.first) == 1


class TestScaler:
    """Gradient scalers on the CPU; `infinite` names the iterations whose gradient overflows."""

    def _train(
        self,
        calls: Calls,
        *,
        infinite: set[int],
        iterations: int = 5,
        fused: bool = False,
        late: bool = False,
    ) -> meter.StepSummary:
        net = _net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=fused)
        gradients = None if late else torch.amp.GradScaler("cpu", init_scale=16.0)
        with calls.meter() as steps:
            for iteration in range(iterations):
                steps.delivered()
                gradients = gradients or torch.amp.GradScaler("cpu", init_scale=16.0)
                optimizer.zero_grad()
                loss = net(torch.ones(4, 3)).square().mean()
                gradients.scale(loss * (float("inf") if iteration in infinite else 1.0)).backward()
                gradients.step(optimizer)
                gradients.update()
            return steps.counts()

    @pytest.mark.parametrize("fused", [False, True])
    @pytest.mark.parametrize("late", [False, True])
    @pytest.mark.parametrize("infinite", [set(), {0}, {2}, {4}, {0, 1, 4}, {0, 1, 2, 3, 4}])
    def test_skipped_steps_are_counted(
        self, calls: Calls, infinite: set[int], *, fused: bool, late: bool
    ) -> None:
        summary = self._train(calls, infinite=infinite, fused=fused, late=late)
        assert summary.skipped == len(infinite)
        assert summary.taken == 5 - len(infinite)
        (counts,) = summary.scalers
        assert counts == scaler.ScalerCounts(16.0, 16.0 / 2 ** len(infinite), counts.last, len(infinite))
        if fused:
            assert [record.without_effect for record in summary.optimizers] == [len(infinite)]

    def test_what_a_scaler_did_before_the_block_is_not_counted(self, calls: Calls) -> None:
        net = _net()
        gradients = torch.amp.GradScaler("cpu", init_scale=16.0)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        gradients.scale(net(torch.ones(1, 3)).sum() * float("inf")).backward()
        gradients.step(optimizer)
        gradients.update()
        with calls.meter() as steps:
            summary = steps.counts()
        assert summary.scalers == (scaler.ScalerCounts(8.0, 8.0, 8.0, 0),)

    def test_growing_scale_is_no_skip(self, calls: Calls) -> None:
        net = _net()
        gradients = torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        with calls.meter() as steps:
            for _ in range(2):
                optimizer.zero_grad()
                gradients.scale(net(torch.ones(1, 3)).sum()).backward()
                gradients.step(optimizer)
                gradients.update()
            summary = steps.counts()
        assert summary.scalers == (scaler.ScalerCounts(16.0, 16.0, 64.0, 0),)

    def test_disabled_scaler_is_not_watched(self, calls: Calls) -> None:
        gradients = torch.amp.GradScaler("cpu", enabled=False)
        with calls.meter() as steps:
            assert steps.counts().scalers == ()
        assert not gradients.is_enabled()

    @pytest.mark.parametrize("name", ["_scale", "_init_scale"])
    def test_private_name_gone_is_an_error(self, calls: Calls, name: str) -> None:
        gradients = torch.amp.GradScaler("cpu")
        delattr(gradients, name)
        with pytest.raises(CoverageError, match=f"GradScaler has no attribute '{name}'"), calls.meter():
            pass


def _train(*, measured: bool, late_deepcopy: bool = False) -> list[torch.Tensor]:
    torch.manual_seed(11)
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    calls = Calls()
    steps = calls.meter()
    losses = []
    if measured:
        steps.__enter__()
    for _ in range(6):
        if measured:
            steps.delivered()
        optimizer.zero_grad()
        loss = net(torch.randn(16, 3)).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    if measured:
        if late_deepcopy:
            copy.deepcopy((net, optimizer))
            torch.save((net, optimizer), io.BytesIO())
        assert steps.counts().taken == 6
        steps.__exit__(None, None, None)
    return [*losses, *net.state_dict().values(), torch.get_rng_state()]


def test_measured_run_is_bit_identical() -> None:
    plain = _train(measured=False)
    measured = _train(measured=True, late_deepcopy=True)
    assert all(torch.equal(one, other) for one, other in zip(plain, measured, strict=True))
