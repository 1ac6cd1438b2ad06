"""What a request asks of a trace: places, whole blocks, coordinates, signs."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import audited
import pytest

from palm_torch.challenge import challenge, request
from palm_torch.challenge.places import Place
from palm_torch.digest import sha256_digest
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.challenge.request import AuditRequest

CLAIMS = sha256_digest(b"claims")


@pytest.fixture(scope="module")
def made() -> audited.Audited:
    return audited.Audited(audited.llama())


def drawn(made: audited.Audited, **changed: Any) -> AuditRequest:
    options = {"claims": CLAIMS, "nonce": audited.NONCE, "queries": 200, **changed}
    return request.draw(made.encoded, made.geometry, **options)


def test_places_lie_in_the_trace_and_heads_where_logits_are(made: audited.Audited) -> None:
    asked = challenge.asked(drawn(made), made.context)
    assert len(asked.places) == 200
    assert {place.part for place in asked.places} == {0, 1, 2, 3}
    assert {place.sequence for place in asked.places} == {0, 1}
    assert {place.token for place in asked.places if place.part < 3} == set(range(8))
    assert {place.token for place in asked.places if place.part == 3} == {4, 5, 6, 7}


def test_the_places_are_those_of_ten_naive_lines(made: audited.Audited) -> None:
    """The algorithm of the specification again, without any of its code."""
    asked = drawn(made, weights=(1, 3, 5, 2), queries=50)
    parts = [str(CLAIMS).encode(), str(made.root).encode(), audited.NONCE]
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    seed = hashlib.sha512(b"palm-torch/audit/v1" + framed).digest()
    stream = hashlib.shake_256(seed + b"\0\0\0\6places").digest(1 << 14)
    numbers = (int.from_bytes(stream[at : at + 8], "big") for at in range(0, 1 << 14, 8))

    def below(bound: int) -> int:
        return next(number for number in numbers if number < 2**64 // bound * bound) % bound

    expected = []
    for _ in range(50):
        part = [0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3][below(11)]
        expected.append(Place(part, below(2), below(8) if part < 3 else 4 + below(4)))
    assert list(challenge.asked(asked, made.context).places) == expected


def test_the_same_request_asks_the_same_and_another_nonce_something_else(made: audited.Audited) -> None:
    first = challenge.asked(drawn(made), made.context)
    assert challenge.asked(drawn(made), made.context) == first
    for changed in (
        {"nonce": bytes(32)},
        {"claims": None},
        {"claims": sha256_digest(b"others")},
        {"weights": (1, 1, 1, 9)},
    ):
        assert challenge.asked(drawn(made, **changed), made.context).places != first.places
    other = dataclasses.replace(drawn(made), trace=drawn(audited.Audited(audited.llama(), tokens=None)).trace)
    assert challenge.asked(other, made.context).places != first.places
    fewer = challenge.asked(drawn(made, queries=20), made.context)
    assert fewer.places == first.places[:20]


def test_whole_blocks_are_different_ones() -> None:
    made = audited.Audited(audited.llama(num_hidden_layers=6))
    found = [challenge.asked(drawn(made, whole=count), made.context).whole for count in range(7)]
    assert found[6][:3] == found[3]
    assert [len(set(one)) for one in found] == list(range(7))
    assert set(found[6]) == {1, 2, 3, 4, 5, 6}


def test_coordinates(made: audited.Audited) -> None:
    asked = challenge.asked(drawn(made, coordinates=3), made.context)
    first = asked.coordinates(0, "query", 32)
    assert len(first) == 3
    assert list(first) == sorted(set(first))
    assert all(0 <= number < 32 for number in first)
    assert asked.coordinates(0, "query", 2) == (0, 1)
    others = {asked.coordinates(0, "up", 1 << 20), asked.coordinates(1, "query", 1 << 20)}
    assert len(others | {asked.coordinates(0, "query", 1 << 20)}) == 3
    assert challenge.asked(drawn(made), made.context).coordinates(0, "query", 32) == ()


def test_signs(made: audited.Audited) -> None:
    asked = challenge.asked(drawn(made), made.context)
    signs = asked.signs(1, "query", 1003)
    assert len(signs) == 1003
    assert set(signs) == {-1, 1}
    assert abs(sum(signs)) < 200
    assert asked.signs(1, "query", 10) == signs[:10]
    data = hashlib.shake_256(asked.seed + len(b"signs/1/query").to_bytes(4, "big") + b"signs/1/query").digest(
        1
    )
    assert signs[:8] == tuple(-1 if data[0] >> bit & 1 else 1 for bit in range(8))
    assert asked.signs(2, "query", 1003) != signs
    assert asked.signs(1, "key", 1003) != signs


def test_a_trace_of_a_model_of_another_width(made: audited.Audited) -> None:
    wider = dataclasses.replace(drawn(made), geometry=audited.llama(intermediate_size=64))
    with pytest.raises(DataError, match=r"gate_proj: expected 64 channels, as the request says .* got 48"):
        challenge.asked(wider, made.context)
    other = audited.Audited(audited.llama(), channels={"lm_head": 63})
    with pytest.raises(DataError, match="lm_head: expected 64 channels"):
        challenge.asked(drawn(other), other.context)
