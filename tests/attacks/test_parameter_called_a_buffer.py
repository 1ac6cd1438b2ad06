"""Whoever controls the network between two machines lets them train apart, and excuses it at the end.

Buffers may differ between machines, parameters may not. What machines tell each other of them goes through a
store that nobody vouches for: an answer that repeats what a machine said itself, and calls a parameter a
buffer that differs, would have it seal that this parameter need not be compared.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from palm_torch import codec
from palm_torch.attesting import ranks_machines
from palm_torch.attesting.ranks_machines import Agreed
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import CoverageError


def root(number: int) -> Digest:
    return Digest(TAGGED_SHA256, bytes([number]) * 32)


OWN = Agreed(
    architecture=root(1),
    optimizers=root(2),
    initial=root(3),
    model=root(4),
    buffers={"norm.running_mean": (root(5), root(6))},
    differing=(),
)


def told(**changes: Any) -> bytes:
    return encode_json(codec.to_json(dataclasses.replace(OWN, **changes)))


def test_machines_that_trained_apart_are_told_apart() -> None:
    with pytest.raises(CoverageError, match="machine 1: model: expected"):
        ranks_machines.check([told(), told(model=root(9))], OWN)
    statistics = told(buffers={"norm.running_mean": (root(5), root(7))})
    assert ranks_machines.check([told(), statistics], OWN) == ("norm.running_mean",)


@pytest.mark.parametrize(
    "forged",
    [
        told(differing=("dec.weight",)),
        told(differing=("dec.weight", "norm.running_mean")),
        told(buffers={**OWN.buffers, "dec.weight": (root(7), root(8))}),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_parameter_is_not_excused_by_calling_it_a_buffer(forged: bytes, place: int) -> None:
    answers = [told(), told()]
    answers[place] = forged  # the store may change what comes back to a machine as its own, too
    with pytest.raises(CoverageError, match=f"machine {place}: expected buffers .*, got 'dec.weight'"):
        ranks_machines.check(answers, OWN)
