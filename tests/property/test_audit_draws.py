"""What an audit draws: each as likely as it should be, the same each time, and every place some time."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import audited
import hypothesis.strategies as st
from hypothesis import given, settings

from palm_torch.challenge import challenge, drawing, questions, request
from palm_torch.challenge.places import Place
from palm_torch.commit import trace_rows
from palm_torch.digest import sha256_digest

MADE = audited.Audited(audited.llama())
REQUEST = request.draw(MADE.encoded, MADE.geometry, claims=None, nonce=audited.NONCE)
NONCES = st.binary(min_size=32, max_size=32).map(bytes.hex)
WEIGHTS = st.lists(st.integers(1, 2**32), min_size=4, max_size=4).map(tuple)


def chi_square(found: Counter[int], expected: dict[int, float]) -> float:
    """Returns the sum of (found - expected)^2 / expected."""
    return sum((found[number] - share) ** 2 / share for number, share in expected.items())


def test_parts_are_drawn_by_their_weights_and_tokens_equally() -> None:
    """With 4,096 places of 16 nonces; the bounds are the 99.99 % points of chi-square, the nonces fixed."""
    weights = (1, 3, 9, 2)
    parts: Counter[int] = Counter()
    tokens: Counter[int] = Counter()
    heads: Counter[int] = Counter()
    sequences: Counter[int] = Counter()
    for number in range(16):
        drawn = dataclasses.replace(
            REQUEST, queries=4096, weights=weights, nonce=sha256_digest(bytes([number])).value.hex()
        )
        for place in challenge.asked(drawn, MADE.context).places:
            parts[place.part] += 1
            sequences[place.sequence] += 1
            (heads if place.part == 3 else tokens)[place.token] += 1
    total = 16 * 4096
    assert chi_square(parts, {part: total * weight / 15 for part, weight in enumerate(weights)}) < 21.1
    assert chi_square(sequences, dict.fromkeys(range(2), total / 2)) < 15.2
    assert chi_square(tokens, dict.fromkeys(range(8), sum(tokens.values()) / 8)) < 29.9
    assert chi_square(heads, dict.fromkeys(range(4, 8), sum(heads.values()) / 4)) < 21.1
    assert set(heads) == {4, 5, 6, 7}


def test_twin_a_draw_that_favours_some_is_noticed() -> None:
    stream = drawing.Stream(bytes(64), "twin")
    lame = Counter(int.from_bytes(stream.take(1), "big") % 96 for _ in range(20_000))
    fair = Counter(stream.below(96) for _ in range(20_000))
    expected = dict.fromkeys(range(96), 20_000 / 96)
    assert chi_square(fair, expected) < 155 < chi_square(lame, expected)


@given(NONCES, WEIGHTS, st.integers(1, 64), st.integers(0, 2))
def test_the_same_each_time_and_within_the_trace(
    nonce: str, weights: tuple[int, ...], queries: int, whole: int
) -> None:
    drawn = dataclasses.replace(REQUEST, nonce=nonce, weights=weights, queries=queries, whole=whole)
    asked = challenge.asked(drawn, MADE.context)
    again = challenge.asked(request.decode(drawn.encode(), what="request"), MADE.context)
    assert asked == again
    assert len(asked.places) == queries
    assert len(set(asked.whole)) == whole
    for place in asked.places:
        assert (0 <= place.sequence < 2, 0 <= place.token < 8) == (True, True)
        assert place.part < 3 or place.token >= 4
    found = questions.questions(drawn, MADE.context, asked)
    assert found == questions.questions(drawn, MADE.context, again)
    for question in found:
        trace_rows.locate(MADE.context, question)


@given(NONCES)
@settings(max_examples=20)
def test_every_part_can_be_drawn(nonce: str) -> None:
    """A part with the least weight beside greater ones: with 4,096 places, missed once in e^40."""
    drawn = dataclasses.replace(REQUEST, nonce=nonce, queries=4096, weights=(1, 33, 33, 33))
    assert {place.part for place in challenge.asked(drawn, MADE.context).places} == {0, 1, 2, 3}


PLACES = st.builds(Place, st.integers(0, 2), st.integers(0, 1), st.integers(0, 7))
HEADS = st.builds(Place, st.just(3), st.integers(0, 1), st.integers(4, 7))


@given(st.lists(st.one_of(PLACES, HEADS), max_size=12), st.sets(st.integers(1, 2)), st.integers(1, 9))
def test_questions_are_what_is_needed_and_no_more(places: list[Place], whole: set[int], step: int) -> None:
    """Against a list of every single row that is needed."""
    asked = challenge.asked(REQUEST, MADE.context)
    asked = dataclasses.replace(asked, places=tuple(places), whole=tuple(whole))
    needed: set[tuple[str, int, int]] = set()
    for number in whole:
        for module in asked.parts[number].modules:
            needed.update((module, *row) for row in itertools.product(range(2), range(8)))
    for place in places:
        part = asked.parts[place.part]
        for role, module in part.rows.items():
            token = place.token - 4 if role == "logits" else place.token
            needed.add((module, place.sequence, token))
        for module in part.history.values():
            needed.update((module, place.sequence, token) for token in range(place.token + 1))
    before, questions.MAX_PIECE_ROWS = questions.MAX_PIECE_ROWS, step  # type: ignore[misc]  # put back below
    try:
        found = questions.questions(REQUEST, MADE.context, asked)
    finally:
        questions.MAX_PIECE_ROWS = before  # type: ignore[misc]  # as it was
    rows = [
        (question.site.module, sequence, token)
        for question in found
        for sequence in range(*question.batch)
        for token in range(*question.tokens)
    ]
    assert len(rows) == len(set(rows))
    assert set(rows) == needed
    assert all(question.tokens[1] - question.tokens[0] <= step for question in found)


@given(st.binary(min_size=64, max_size=64), st.lists(st.integers(1, 2**64), min_size=1, max_size=20))
def test_numbers_lie_below_their_bound(seed: bytes, bounds: list[int]) -> None:
    first, second = drawing.Stream(seed, "a"), drawing.Stream(seed, "a")
    for bound in bounds:
        assert 0 <= (number := first.below(bound)) < bound
        assert second.below(bound) == number
