"""The processor time that passes inside of the library's own code while a model runs.

The library is not changed for it: clocks are put around its functions from here. Reading a clock takes a few
microseconds after a matrix product that emptied the caches; how many is measured, on hooks that do nothing in
the same places, and taken off.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from palm_torch.committing import lanes, proof
from palm_torch.hooks import tap_hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn


@dataclass(frozen=True)
class Account:
    """What a run took, in processor time.

    Attributes:
        spent: Nanoseconds of each call of ours, by name, without those of the clock.
        clock_ns: What was taken off each.
        rest_s: What else the model's thread did, in seconds; with torch on one thread that is the model.
    """

    spent: dict[str, list[int]]
    clock_ns: int
    rest_s: float

    @property
    def ours_s(self) -> float:
        """All that is ours, in seconds: on the model's thread, and of threads of our own."""
        return sum(map(sum, self.spent.values())) / 1e9

    @property
    def percent(self) -> float:
        """Share of ours in what the model took on one core."""
        return 100 * self.ours_s / self.rest_s


def of(work: Callable[[], object], plain: Callable[[], object], modules: Iterable[nn.Module]) -> Account:
    """Runs something with torch on one thread, where its processor time says what it took.

    Args:
        work: What runs the model, committing to it.
        plain: What runs the model for a moment and nothing else.
        modules: Modules that are hooked, or a part of them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spent: defaultdict[str, list[int]] = defaultdict(list)
    try:
        clock_ns = _clock_ns(plain, modules)
        with _clocks(spent):
            began = time.thread_time()
            work()
            whole = time.thread_time() - began
    finally:
        torch.set_num_threads(threads)
    on_loop = sum(sum(times) for name, times in spent.items() if name != "threads")
    net = {name: [taken - clock_ns for taken in times] for name, times in spent.items()}
    return Account(net, clock_ns, whole - on_loop / 1e9)


def _clock_ns(plain: Callable[[], object], modules: Iterable[nn.Module]) -> int:
    """Returns how long a hook takes, by this clock, that does nothing."""
    times: list[int] = []
    nothing = clocked(lambda *_: None, times)
    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(nothing).remove)
        plain()
    return int(statistics.median(times))


@contextlib.contextmanager
def _clocks(spent: defaultdict[str, list[int]]) -> Iterator[None]:
    places: list[tuple[Any, str, str]] = [
        (tap_hooks.Tap, "__call__", "hooks"),
        (tap_hooks.Arrival, "__call__", "hooks"),
        (proof.Proof, "__enter__", "entering"),
        (proof.Proof, "__exit__", "leaving"),
        (lanes.Lane, "_run", "threads"),
    ]
    with contextlib.ExitStack() as stack:
        for owner, attribute, name in places:
            original = getattr(owner, attribute)
            setattr(owner, attribute, clocked(original, spent[name]))
            stack.callback(setattr, owner, attribute, original)
        yield


def clocked(function: Callable[..., Any], times: list[int]) -> Callable[..., Any]:
    """Returns a function that does the same and notes the nanoseconds that its thread spent in it."""

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (whatever the function takes)
        began = time.thread_time_ns()
        try:
            return function(*args, **kwargs)
        finally:
            times.append(time.thread_time_ns() - began)

    return timed
