"""Ways to let a tapped model compute one thing and show another: each ends in an error or in a count."""

from __future__ import annotations

import collections
import copy
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tap_sink import Block, Recorded, Stack, hooks_of, record
from torch import nn

from palm_torch.errors import CoverageError, SessionError
from palm_torch.hooks import tap_hooks, taps

if TYPE_CHECKING:
    from collections.abc import Callable

X = torch.ones(2, 8)


def zero(_module: nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
    return output * 0


def add_a_later_hook(model: Stack) -> None:
    model.layers[1].register_forward_hook(zero)
    model(X)


def add_a_later_hook_afterwards(model: Stack) -> None:
    model(X)
    model.layers[1].register_forward_hook(zero)


def add_a_hook_in_the_call(model: Stack) -> None:
    model.layers[1].register_forward_pre_hook(
        lambda module, _args: module.register_forward_hook(zero) and None, prepend=True
    )
    model(X)


def move_the_tap_to_the_front(model: Stack) -> None:
    module = model.layers[1]
    module.register_forward_hook(zero)
    module._forward_hooks.move_to_end(next(iter(module._forward_hooks)))
    module._forward_hooks.move_to_end(next(iter(module._forward_hooks)))
    model(X)


def a_hook_that_says_it_is_a_tap(model: Stack) -> None:
    class Tap:
        __module__, __qualname__ = tap_hooks.Tap.__module__, tap_hooks.Tap.__qualname__

        def __call__(self, *args: Any) -> torch.Tensor:
            return zero(*args)

    model.layers[1].register_forward_hook(Tap())
    model(X)


def a_kind_of_tap(model: Stack) -> None:
    class Kind(tap_hooks.Tap):
        def __call__(self, *args: Any) -> Any:
            return zero(*args)

    model.layers[1].register_forward_hook(Kind(1, captured=True))
    model(X)


@pytest.mark.parametrize(
    "replace",
    [
        add_a_later_hook,
        add_a_later_hook_afterwards,
        add_a_hook_in_the_call,
        a_hook_that_says_it_is_a_tap,
        a_kind_of_tap,
        move_the_tap_to_the_front,
    ],
)
def test_a_later_hook_replaces_an_output(replace: Callable[[Stack], None]) -> None:
    model = Stack()
    with pytest.raises(CoverageError, match=r"layers\.1: a forward hook that was registered after the tap"):
        record(model, "blocks", lambda: replace(model))
    assert not any(
        isinstance(hook, tap_hooks.Arrival) for m in model.modules() for hook in m._forward_pre_hooks.values()
    )


def test_a_hook_that_was_there_before_is_part_of_the_model() -> None:
    model = Stack()
    model.layers[1].register_forward_hook(zero)
    sink, _ = record(model, "blocks", lambda: model(X))
    assert not any(torch.frombuffer(bytearray(sink.bytes["layers.1|", 0]), dtype=torch.float32))


def test_a_hook_hides_from_the_list_while_it_runs() -> None:
    """It is taken off the list before our hook looks, and yet runs after it."""
    model = nn.Sequential(Block(), Block(), Block())
    handles = []
    module = model[1]
    module.register_forward_hook(lambda *_: handles.pop().remove() if handles else None)

    def forward() -> None:
        module.register_forward_pre_hook(
            lambda *_: handles.append(module.register_forward_hook(zero)), prepend=True
        )
        model(X)

    with pytest.raises(CoverageError, match=r"2 was called with another tensor than 1 returned"):
        record(model, "blocks", forward)


def test_an_output_is_written_over_before_the_next_module_gets_it() -> None:
    class Spoiler(Block):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            x.detach().mul_(0)
            result: torch.Tensor = super().__call__(x)
            return result

    model = nn.Sequential(Block(), Spoiler(), Block())
    with torch.no_grad(), pytest.raises(CoverageError, match="or with one that changed"):
        record(model, ["0", "1", "2"], lambda: model(X.clone()))


@pytest.mark.parametrize("name", ["layers.0", "layers.1.up", "norm"])
def test_a_module_is_called_past_its_hooks(name: str) -> None:
    class Bypassed(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.down(torch.relu(self.up.forward(x)))

    class Model(Stack):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.layers[0].forward(x)
            return self.norm.forward(self.layers[2](self.layers[1](x)))

    model = Model()
    model.layers[1] = Bypassed()
    with pytest.raises(CoverageError, match=rf"ran {name} 0 times.*\n.*called by its \.forward"):
        record(model, [name], lambda: model(X))


def test_one_call_past_the_hooks_is_not_made_up_for_by_another() -> None:
    class Model(Stack):
        turn = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.turn += 1
            for layer in self.layers:
                x = layer.forward(x) if self.turn == 2 and layer is self.layers[1] else layer(x)
            return x

    model = Model()
    with pytest.raises(CoverageError, match=r"call 2 of the model ran layers\.1 0 times, expected 1"):
        record(model, "blocks", lambda: (model(X), model(X), model.layers[1](X)))
    model.turn = 0
    with pytest.raises(CoverageError, match=r"layers\.1: 1 calls beside those of the model"):
        record(model, "blocks", lambda: (model(X), model.layers[1](X), model(X)))


def test_a_module_is_exchanged_for_the_call() -> None:
    model = Stack()
    original = model.layers[1]

    def exchange() -> None:
        model.layers[1] = Block()
        model(X)
        model.layers[1] = original

    with pytest.raises(CoverageError, match=r"ran layers\.1 0 times"):
        record(model, "blocks", exchange)

    def exchange_at_the_end() -> None:
        model(X)
        model.layers[1] = Block()

    with pytest.raises(CoverageError, match=r"layers\.1: another module was put in its place"):
        record(model, "blocks", exchange_at_the_end)
    assert hooks_of(model) == hooks_of(original) == 0


def test_the_layers_are_exchanged_as_a_whole() -> None:
    model = Stack()

    def exchange() -> None:
        model(X)
        model.layers = nn.ModuleList([Block()])

    with pytest.raises(CoverageError, match=r"layers\.0: another module was put in its place"):
        record(model, "blocks", exchange)


def clear(model: Stack) -> None:
    model.layers[1]._forward_hooks.clear()
    model(X)


def clear_at_the_end(model: Stack) -> None:
    model(X)
    model.layers[1]._forward_hooks.clear()


def other_dictionary(model: Stack) -> None:
    model(X)
    model.layers[1]._forward_hooks = collections.OrderedDict()


def off_in_the_call(model: Stack) -> None:
    hooks = model.layers[1]._forward_hooks
    model.layers[1].register_forward_pre_hook(lambda *_: hooks.clear())
    model(X)


@pytest.mark.parametrize("attack", [clear, clear_at_the_end, other_dictionary, off_in_the_call])
def test_taps_are_taken_off(attack: Callable[[Stack], None]) -> None:
    model = Stack()
    with pytest.raises(CoverageError, match=r"ran layers\.1 0 times|layers\.1: its tap was taken off"):
        record(model, "blocks", lambda: attack(model))


def test_the_wrong_copy_runs() -> None:
    model = Stack()

    def run_a_copy() -> None:
        twin = copy.deepcopy(model)
        twin.layers[0].up.weight.data.zero_()
        twin(X)

    with pytest.raises(CoverageError, match="a copy of it ran 1 times instead"):
        record(model, "blocks", run_a_copy)


def test_a_tap_is_hung_on_another_module() -> None:
    model, other = Stack(), Block()

    def steal() -> None:
        model(X)
        other.register_forward_hook(next(iter(model.layers[0]._forward_hooks.values())))
        other(X)

    sink, tapped = record(model, "blocks", steal)
    assert tapped.strangers == {"layers.0": 1}
    assert len(sink.order) == 3


def test_a_call_in_a_backward_pass_passes_for_a_recomputation() -> None:
    class Late(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: torch.Tensor, model: nn.Module) -> torch.Tensor:
            context.model = model
            return x.clone()

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> Any:
            context.model(X)
            return gradient, None

    model = Stack()
    x = X.clone().requires_grad_()
    with pytest.raises(CoverageError, match="the model did not run in the block"):
        record(model, "blocks", lambda: Late.apply(x, model).sum().backward())


def test_a_process_that_is_forked_inside_records_nothing() -> None:
    model = Stack()
    sink = Recorded()
    with taps.Taps(model, "blocks", sink):
        model(X)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                model(X)
            except SessionError as error:
                os.write(writer, str(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        said = os.read(reader, 4096).decode()
        os.waitpid(child, 0)
        os.close(reader)
    assert f"process {child} was forked inside of the block" in said
    assert len(sink.order) == 3


def test_a_container_is_called_experts() -> None:
    """Names decide what may be skipped; so how often it ran is told, and never said to be all."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([Block() for _ in range(3)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.experts[0](x)

    model = Model()
    _, tapped = record(model, "blocks", lambda: model(X))
    assert [(one.fired, one.expected, one.rule) for one in tapped.coverage] == [
        (fired, 1, "at will in calls of the model (experts)") for fired in (1, 0, 0)
    ]


def test_a_thread_runs_the_model_beside() -> None:
    model = Stack()

    def beside() -> None:
        model(X)
        errors: list[SessionError] = []

        def forward() -> None:
            try:
                model(X)
            except SessionError as error:
                errors.append(error)

        thread = threading.Thread(target=forward)
        thread.start()
        thread.join()
        assert len(errors) == 1

    with pytest.raises(SessionError, match="on two threads"):
        record(model, "blocks", beside)
