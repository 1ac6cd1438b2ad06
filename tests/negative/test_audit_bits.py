"""Every bit of an audit's request and answer: none may be another; and random mutations of both."""

from __future__ import annotations

import dataclasses
import os
import random
from typing import TYPE_CHECKING, Any

import mutations
import pytest
import spec_audit
import weights_at_hand
from spec_audit import ANSWER, MADE, REQUEST

from palm_torch.challenge import answer as answers
from palm_torch.challenge import challenge
from palm_torch.challenge import request as requests
from palm_torch.commit import weights_opening
from palm_torch.digest import sha256_digest
from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    from pathlib import Path

THOROUGH = os.environ.get("PALM_TORCH_THOROUGH") == "1"
COUNT = 20_000 if THOROUGH else 300
"""Mutations of each document."""

GOOD = {"request": REQUEST.encode(), "context": MADE.encoded, "answer": ANSWER.encode()}


def verify(**changed: bytes) -> Any:
    return spec_audit.verify(**{**GOOD, **changed})


def flips(data: bytes, *, every: int) -> list[bytes]:
    """Returns the data with another bit, for one bit of some of its bytes, or of all if thorough."""
    choices = random.Random(0)
    found = []
    for at in range(0, len(data), 1 if THOROUGH else every):
        changed = bytearray(data)
        changed[at] ^= 1 << choices.randrange(8)
        found.append(bytes(changed))
    return found


def test_twin_the_good_ones_are_accepted() -> None:
    assert len(verify()) == len(ANSWER.openings)


@pytest.mark.parametrize(("name", "every"), [("request", 1), ("context", 7), ("answer", 11)])
def test_any_other_bit(name: str, every: int) -> None:
    for changed in flips(GOOD[name], every=every):
        with pytest.raises(PalmTorchError):
            verify(**{name: changed})


@pytest.mark.parametrize("name", ["request", "answer"])
def test_random_mutations(name: str) -> None:
    choices = random.Random(1)
    for _ in range(COUNT):
        changed = mutations.mutate(GOOD[name], [GOOD["request"], GOOD["answer"]], choices)
        if changed.data == GOOD[name]:
            continue
        try:
            verify(**{name: changed.data})
        except PalmTorchError:
            continue
        found = answers.decode(changed.data, what=name)  # the prover's words are its own, and no opening
        assert dataclasses.replace(found, decoding=None) == ANSWER


def test_every_field_of_a_request_is_bound() -> None:
    others: dict[str, Any] = {
        "media_type": "application/x",
        "claims": sha256_digest(b"others"),
        "trace": REQUEST.digest,
        "nonce": bytes(32).hex(),
        "geometry": dataclasses.replace(REQUEST.geometry, norm_epsilon=1e-5),
        "queries": 2,
        "whole": 1,
        "coordinates": 1,
        "weights": (2, 2, 1),
    }
    assert sorted(others) == sorted(field.name for field in dataclasses.fields(REQUEST))
    for name, value in others.items():
        with pytest.raises(PalmTorchError):
            verify(request=dataclasses.replace(REQUEST, **{name: value}).encode())
    drawn = challenge.asked(REQUEST, MADE.context)
    for name in ("claims", "nonce", "queries", "whole", "coordinates", "weights"):
        changed = requests.decode(dataclasses.replace(REQUEST, **{name: others[name]}).encode(), what="r")
        assert challenge.asked(changed, MADE.context) != drawn, name


def test_every_field_of_an_answer_is_checked(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "m.safetensors", weights_at_hand.SMALL)
    assert ANSWER.tokens is not None
    others: dict[str, Any] = {
        "media_type": "application/x",
        "request": MADE.root,
        "openings": ANSWER.openings[:-1],
        "weights": (weights_opening.read_block(path, "a").opening(),),
        "tokens": dataclasses.replace(ANSWER.tokens, salt=bytes(32)),
        "decoding": "the prover's own words",
    }
    assert sorted(others) == sorted(field.name for field in dataclasses.fields(ANSWER))
    for name in ("media_type", "request", "openings", "weights", "tokens"):
        with pytest.raises(PalmTorchError):
            verify(answer=dataclasses.replace(ANSWER, **{name: others[name]}).encode())
    assert verify(answer=dataclasses.replace(ANSWER, decoding={"seed": 1}).encode()) == verify()
