"""Fingerprints of anything: one spelling, close to themselves, never a NaN, and only our own errors."""

from __future__ import annotations

import math
import random
from typing import Any

import mutations
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.audit import calibration, fingerprint, fingerprint_distance, fingerprint_file
from palm_torch.audit.fingerprint_distance import MEASURES
from palm_torch.challenge import scores_file
from palm_torch.commit.trace_groups import Site
from palm_torch.errors import DataError, InputError

LARGEST = 2.0**127

elements = st.floats(-LARGEST, LARGEST, width=32) | st.floats(-4, 4, width=32)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    shape = [draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 18))]
    values = draw(st.lists(elements, min_size=math.prod(shape), max_size=math.prod(shape)))
    return np.array(values, np.float32).reshape(shape)


@given(array=arrays(), top=st.integers(1, 64), seed=st.sampled_from([b"", b"s" * 32]))
def test_whatever_is_finite_has_one_that_is_its_own(array: Any, top: int, seed: bytes) -> None:
    made = fingerprint.make({"a": array}, top=top, seed=seed)
    assert fingerprint_file.decode(made.encode()) == made
    (part,) = made.sites
    for sequence, rows in enumerate(array):
        fingerprint.check_rows(part, rows, sequence=sequence, token=0, seed=seed)
    if array.any() and part.scale_array().any():
        (found,) = fingerprint_distance.distances(made, made)
        assert set(found.measures.values()) == {0.0}


@given(pair=st.tuples(arrays(), arrays()).filter(lambda pair: pair[0].shape == pair[1].shape))
def test_distances_are_numbers_from_0_to_2(pair: tuple[Any, Any]) -> None:
    mine, theirs = (fingerprint.make({"a": array}) for array in pair)
    try:
        (found,) = fingerprint_distance.distances(mine, theirs)
        (back,) = fingerprint_distance.distances(theirs, mine)
    except DataError:
        assert not any(made.sites[0].scale_array().any() for made in (mine, theirs))
        return
    assert all(0 <= value <= 2 + 1e-9 for value in found.measures.values())
    assert all(math.isclose(back.measures[name], found.measures[name], abs_tol=1e-9) for name in MEASURES)


def documents() -> list[tuple[bytes, Any]]:
    rows = np.random.default_rng(0).standard_normal((2, 3, 20)).astype(np.float32)
    made = [fingerprint.make({"a": rows + np.float32(0.01 * number)}, top=2) for number in range(4)]
    runs = [[fingerprint_distance.distances(made[0], other)] for other in made]
    parts = tuple(scores_file.PartScore(name=name, score=0.5, cost=3) for name in "abc")
    who = (scores_file.Verifier(budget=6, first=0, end=2),)
    scores = scores_file.Scores(media_type=scores_file.MEDIA_TYPE, measure="l1", parts=parts, verifiers=who)
    return [
        (made[0].encode(), fingerprint_file.decode),
        (calibration.calibrate(runs, tokens=(3, 3), about={"a": "b"}).encode(), calibration.decode),
        (scores.encode(), scores_file.decode),
    ]


DOCUMENTS = documents()


@given(which=st.integers(0, 2), seed=st.integers(0, 2**32), flips=st.integers(0, 3))
def test_a_document_that_was_changed_is_another_one_or_none(which: int, seed: int, flips: int) -> None:
    data, decode = DOCUMENTS[which]
    choices = random.Random(seed)
    changed = bytearray(mutations.mutate(data, [data], choices).data)
    for _ in range(flips if changed else 0):
        changed[choices.randrange(len(changed))] ^= 1 << choices.randrange(8)
    try:
        found = decode(bytes(changed))
    except InputError:
        return
    assert found.encode() == bytes(changed)
    if isinstance(found, fingerprint_file.Fingerprint) and [part.site for part in found.sites] == [Site("a")]:
        honest = calibration.decode(DOCUMENTS[1][0])
        try:
            said = calibration.compare(fingerprint_file.decode(data), found, honest)
        except InputError:
            return
        assert not math.isnan(said.score)
