"""Every bit of a trace's context, root and opening: none may be another; and random mutations of both."""

from __future__ import annotations

import dataclasses
import os
import random
from typing import TYPE_CHECKING

import mutations
import pytest
import traces
from traces import DECODING

from palm_torch.codec import to_json
from palm_torch.commit import trace, trace_opening, trace_question
from palm_torch.commit.trace import Site
from palm_torch.errors import BindingError, PalmTorchError

if TYPE_CHECKING:
    from palm_torch.commit.trace_opening import TraceOpening

THOROUGH = os.environ.get("PALM_TORCH_THOROUGH") == "1"
COUNT = 20_000 if THOROUGH else 600
"""Mutations of each document."""


class Good:
    """A small trace and the opening of one of its rows."""

    def __init__(self, scheme: str) -> None:
        self.trace = traces.MadeUp(
            (traces.layers(2), "bfloat16", 8, DECODING),
            ((Site("head"),), "uint8", 3, DECODING),
            scheme=scheme,
        )
        self.question = trace_question.ask(self.trace.context, Site("head"), tokens=8, batch=1)
        self.opening = self.trace.open(self.question, "uint8", 3)
        self.file = self.opening.encode()

    def read(self, file: bytes) -> TraceOpening:
        return trace_opening.decode(file, what="opening")

    def verify(self, file: bytes) -> trace_opening.Shown:
        return trace_opening.verify(self.trace.root, self.trace.encoded, self.question, self.read(file))


@pytest.fixture(scope="module", params=["hash", "kzg"])
def good(request: pytest.FixtureRequest) -> Good:
    return Good(request.param)


def flips(data: bytes) -> list[bytes]:
    """Returns the data with another bit, for one bit of each byte, or for each if thorough."""
    choices = random.Random(0)
    found = []
    for at in range(len(data)):
        for bit in range(8) if THOROUGH else [choices.randrange(8)]:
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            found.append(bytes(changed))
    return found


def test_twin_the_good_ones_are_accepted(good: Good) -> None:
    assert good.verify(good.file).values == traces.content("head| uint8 3", 3 * 18)[-3:]


def test_every_bit_of_an_opening(good: Good) -> None:
    for changed in flips(good.file):
        with pytest.raises(PalmTorchError):
            good.verify(changed)


def test_every_bit_of_tiles_and_proof(good: Good) -> None:
    for field in ("tiles", "proof"):
        for changed in flips(getattr(good.opening, field)):
            bent = dataclasses.replace(good.opening, **{field: changed})
            with pytest.raises(PalmTorchError):
                trace_opening.verify(good.trace.root, good.trace.encoded, good.question, bent)


def test_every_bit_of_context_and_root(good: Good) -> None:
    for changed in flips(good.trace.encoded):
        with pytest.raises(BindingError, match="it is of another trace"):
            trace_opening.verify(good.trace.root, changed, good.question, good.opening)
    for changed in flips(good.trace.root.value):
        root = dataclasses.replace(good.trace.root, value=changed)
        with pytest.raises(BindingError):
            trace_opening.verify(root, good.trace.encoded, good.question, good.opening)


def test_random_mutations_of_an_opening_are_refused(good: Good) -> None:
    choices = random.Random(1)
    fields: set[str] = set()
    for _ in range(COUNT):
        mutation = mutations.mutate(good.file, [good.file, good.trace.encoded], choices)
        fields |= mutation.fields
        if mutation.data != good.file:
            with pytest.raises(PalmTorchError):
                good.verify(mutation.data)
    said = to_json(good.opening)
    assert isinstance(said, dict)
    assert {name.partition(".")[0] for name in fields} >= set(said)


def test_random_mutations_of_a_context_never_change_what_is_shown(good: Good) -> None:
    """With a root over it, what no verifier trusts: a mutated context is refused, or shows the same bytes."""
    choices = random.Random(2)
    shown = refused = 0
    for _ in range(COUNT):
        data = mutations.mutate(good.trace.encoded, [good.file, good.trace.encoded], choices).data
        root = trace.root(data)
        try:
            found = trace_opening.verify(
                root, data, good.question, dataclasses.replace(good.opening, root=root)
            )
        except PalmTorchError:
            refused += 1
            continue
        shown += 1
        assert found.values == good.verify(good.file).values
    assert shown
    assert refused > shown
