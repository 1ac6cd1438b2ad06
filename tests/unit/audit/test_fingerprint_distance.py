"""Distances of fingerprints: 0 for equal ones, and each measure rises with what it is there for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palm_torch.audit import fingerprint, fingerprint_distance
from palm_torch.audit.fingerprint_distance import MEASURES
from palm_torch.errors import DataError


def rows(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def apart(a: Any, b: Any, **words: Any) -> fingerprint_distance.Distances:
    made = (fingerprint.make({"a": array}, **words) for array in (a, b))
    (found,) = fingerprint_distance.distances(*made)
    assert tuple(found.measures) == MEASURES
    assert all(0 <= value <= 2 for value in found.measures.values())
    return found


def test_equal_fingerprints_are_not_apart() -> None:
    assert set(apart(rows(2, 30, 50), rows(2, 30, 50)).measures.values()) == {0.0}


def test_other_activations_are_far_apart() -> None:
    found = apart(rows(2, 30, 200), rows(2, 30, 200, seed=1)).measures
    assert found["projection"] > 1
    assert found["top"] > 0.1


def test_an_edit_of_one_token_is_found_and_named() -> None:
    changed = rows(2, 30, 50)
    changed[1, 17] += rows(50, seed=2)
    found = apart(rows(2, 30, 50), changed)
    assert (found.sequence, found.token) == (1, 17)
    assert found.measures["projection worst"] > 0.3
    assert found.measures["projection"] == found.measures["projection high"] == 0


def test_an_edit_of_some_tokens_shows_in_the_high_quantile() -> None:
    changed = rows(1, 30, 50)
    changed[0, ::5] += rows(6, 50, seed=2)
    found = apart(rows(1, 30, 50), changed).measures
    assert found["projection high"] > 0.3 > found["projection"] == 0


def test_a_gain_shows_in_the_scale() -> None:
    found = apart(rows(1, 30, 50), rows(1, 30, 50) * np.float32(1.01)).measures
    assert found["scale"] == pytest.approx(0.01, rel=0.02)
    assert found["projection"] < 1e-3  # what is projected does not depend on the scale


def test_drift_tells_a_common_push_from_noise_of_the_same_size() -> None:
    noise = rows(1, 400, 50, seed=2) * 0.05
    push = np.broadcast_to(noise[:, :1], noise.shape)
    noisy, pushed = (apart(rows(1, 400, 50), rows(1, 400, 50) + by).measures for by in (noise, push))
    assert pushed["projection"] == pytest.approx(noisy["projection"], rel=0.5)
    assert pushed["drift"] > 5 * noisy["drift"]


def test_a_channel_that_comes_up_is_seen_from_either_side() -> None:
    changed = rows(1, 30, 50)
    changed[0, 4, 9] = 40
    for a, b in ((rows(1, 30, 50), changed), (changed, rows(1, 30, 50))):
        found = apart(a, b, top=2).measures
        assert found["top worst"] > 0.4
        assert found["top"] < 0.05


def test_an_element_that_is_only_just_among_the_largest_makes_no_distance() -> None:
    a = rows(1, 1, 50)
    a[0, 0, :3] = 10, 5, -4.99
    b = a.copy()
    b[0, 0, 2] = -5.01
    assert apart(a, b, top=2).measures["top worst"] < 0.01


def test_tokens_that_only_one_counts_are_as_far_apart_as_can_be() -> None:
    counts = np.ones((1, 30), bool)
    counts[0, 3] = False
    a = fingerprint.make({"a": rows(1, 30, 50)})
    b = fingerprint.make({"a": rows(1, 30, 50)}, counts=counts)
    for mine, theirs in ((a, b), (b, a)):
        (found,) = fingerprint_distance.distances(mine, theirs)
        assert (found.measures["projection worst"], found.token) == (2, 3)
    (found,) = fingerprint_distance.distances(b, b)
    assert found.measures["projection worst"] == 0
    none = fingerprint.make({"a": np.zeros((1, 2, 9), np.float32)})
    with pytest.raises(DataError, match="no token counts in either"):
        fingerprint_distance.distances(none, none)


def test_fingerprints_that_cannot_be_compared() -> None:
    mine = fingerprint.make({"a": rows(1, 30, 50)})
    for other, says in (
        (fingerprint.make({"b": rows(1, 30, 50)}), "expected both of a, got one of b"),
        (fingerprint.make({"a": rows(1, 30, 50)}, seed=bytes(32)), "expected one seed, got two"),
        (fingerprint.make({"a": rows(1, 30, 50)}, top=3), "as many top in both, got 8 and 3"),
        (fingerprint.make({"a": rows(1, 29, 50)}), "as many tokens in both, got 30 and 29"),
    ):
        with pytest.raises(DataError, match=says):
            fingerprint_distance.distances(mine, other)


def test_sizes_that_differ() -> None:
    mine = fingerprint.make({"a": rows(1, 30, 50)})
    cases = (((1, 30, 49), "50 channels against 49"), ((2, 30, 50), "1 sequences against 2"))
    for shape, says in cases:
        assert fingerprint_distance.shapes_differ(mine, fingerprint.make({"a": rows(*shape)})) == f"a: {says}"
    assert fingerprint_distance.shapes_differ(mine, mine) == ""
