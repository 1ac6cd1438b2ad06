"""Marks of parameters: every write by others moves past them, a step sets them anew."""

from __future__ import annotations

import gc

import torch

from palm_torch.hooks.writes import WriteWatch


def parameters(number: int = 3) -> list[torch.Tensor]:
    return [torch.nn.Parameter(torch.ones(2)) for _ in range(number)]


def write(tensor: torch.Tensor) -> None:
    with torch.no_grad():
        tensor.add_(1)


def test_any_of_them_is_seen_until_it_is_stepped() -> None:
    tensors = parameters()
    watch = WriteWatch()
    watch.watch(tensors)
    assert not watch.written(tensors)
    write(tensors[1])
    assert watch.written(tensors)
    assert not watch.written(tensors[2:])
    watch.watch(tensors)  # a mark that is there stays
    assert watch.written(tensors)
    assert not watch.written_since_a_step()  # none has stepped
    watch.stepped(tensors[:2])
    assert not watch.written(tensors)
    write(tensors[0])
    assert watch.written_since_a_step()


def test_parameters_are_not_held_and_their_places_may_be_taken() -> None:
    tensors = parameters()
    watch = WriteWatch()
    watch.watch(tensors)
    watch.stepped(tensors)
    write(tensors[0])
    kept = tensors.pop()
    del tensors
    gc.collect()
    assert not watch.written_since_a_step()
    assert watch.counts(kept)
    assert len(watch._marks) == len(watch._alive) == len(watch._stepped) == 1
    again = parameters(50)
    assert not any(map(watch.counts, again))


def test_tensors_without_a_counter_are_left_out() -> None:
    with torch.inference_mode():
        tensor = torch.ones(2)
    watch = WriteWatch()
    watch.watch([tensor])
    assert not watch.counts(tensor)
