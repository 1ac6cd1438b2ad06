"""Calibrations: thresholds from honest runs, the verdict they give, and files."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from palm_torch.audit import calibration, fingerprint, fingerprint_distance
from palm_torch.audit.fingerprint_distance import MEASURES, Distances
from palm_torch.commit.trace_groups import Site
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.audit.fingerprint_file import Fingerprint

NOISE = 0.003


def activations(prompt: int, noise: float = 0.0, seed: int = 0) -> Fingerprint:
    source = np.random.default_rng([prompt, 7])
    rows = source.standard_normal((1, 40, 64))
    rows += noise * np.random.default_rng([prompt, seed, 9]).standard_normal(rows.shape)
    return fingerprint.make({"a": rows.astype(np.float32), "b": rows[:, :, ::2].astype(np.float32)})


def honest(prompts: int = 60, runs: int = 2) -> list[list[tuple[Distances, ...]]]:
    return [
        [
            fingerprint_distance.distances(activations(prompt), activations(prompt, NOISE, run))
            for run in range(runs)
        ]
        for prompt in range(prompts)
    ]


@pytest.fixture(scope="module")
def made() -> calibration.Calibration:
    return calibration.calibrate(honest(), tokens=(40, 40), rate=0.1, about={"model": "made up"})


def test_every_third_prompt_gives_the_units_and_the_others_the_scores(made: calibration.Calibration) -> None:
    runs = honest()
    assert [unit.site for unit in made.sites] == [Site("a"), Site("b")]
    for number, unit in enumerate(made.sites):
        of_site = [run[number].measures for prompt in runs[::3] for run in prompt]
        for name in MEASURES:
            least = 2**-13 if name == "drift" else 2**-10
            expected = max(least, *(measures[name] for measures in of_site))
            assert unit.measures[name] == expected
    others = [prompt for at, prompt in enumerate(runs) if at % 3]
    assert len(made.scores) == 40
    assert made.scores == tuple(
        sorted(max(calibration.score(made, run) for run in prompt) for prompt in others)
    )
    assert (made.exceeding, made.threshold) == (0, made.scores[-1])
    assert made.rate_bound == pytest.approx(1 - 0.05 ** (1 / 40))
    assert made.expected_rate == pytest.approx(1 / 41)


def test_with_more_prompts_some_exceed_the_threshold() -> None:
    made = calibration.calibrate(honest(60, 1), tokens=(40, 40), rate=0.2)
    assert made.exceeding == 3
    assert made.threshold == max(1, made.scores[-4])
    assert sum(score > made.threshold for score in made.scores) <= 3


def test_runs_that_were_all_equal_leave_room_for_a_last_bit() -> None:
    made = calibration.calibrate(
        [[fingerprint_distance.distances(activations(at), activations(at))] for at in range(6)],
        tokens=(40, 40),
    )
    assert (set(made.scores), made.threshold) == ({0.0}, 1.0)
    assert calibration.compare(activations(1), activations(1, 1e-5), made).verdict == "alike"
    assert calibration.compare(activations(1), activations(1, 1e-2), made).verdict == "different"


def test_honest_runs_are_alike_and_others_are_not(made: calibration.Calibration) -> None:
    words = [
        calibration.compare(activations(prompt), activations(prompt, NOISE, 5), made).verdict
        for prompt in range(1000, 1030)
    ]
    assert words.count("alike") >= 27
    found = calibration.compare(activations(1), activations(1, 3 * NOISE), made)
    assert found.verdict == "different"
    assert found.score > found.threshold == made.threshold
    assert "in honest runs" in found.why


def test_the_token_that_decided_is_named(made: calibration.Calibration) -> None:
    rows = np.random.default_rng([1, 7]).standard_normal((1, 40, 64))
    rows[0, 12] *= -1
    edited = fingerprint.make({"a": rows.astype(np.float32), "b": rows[:, :, ::2].astype(np.float32)})
    found = calibration.compare(activations(1), edited, made)
    assert found.verdict == "different"
    assert found.why.endswith("token 12 of sequence 0")


def test_other_sizes_are_different_without_a_distance(made: calibration.Calibration) -> None:
    rows = np.ones((1, 39, 64), np.float32)
    shorter = fingerprint.make({"a": rows, "b": rows[:, :, ::2]})
    found = calibration.compare(activations(1), shorter, made)
    assert (found.verdict, found.score, found.distances) == ("different", math.inf, ())
    assert found.why == "a: 40 tokens against 39"


def test_a_score_that_is_no_number_is_no_agreement(
    made: calibration.Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def distances(*_: Any) -> tuple[Distances, ...]:
        nothing = dict.fromkeys(MEASURES, math.nan)
        return tuple(Distances(unit.site, nothing, 0, 0) for unit in made.sites)

    monkeypatch.setattr(fingerprint_distance, "distances", distances)
    assert calibration.compare(activations(1), activations(1), made).verdict == "different"


def test_other_sites_than_those_of_the_calibration(made: calibration.Calibration) -> None:
    whole = activations(1)
    part = dataclasses.replace(whole, sites=whole.sites[:1])
    with pytest.raises(DataError, match="my fingerprint: expected the sites of the calibration, a, b, got a"):
        calibration.compare(part, whole, made)
    with pytest.raises(DataError, match="their fingerprint: expected"):
        calibration.compare(whole, part, made)


def test_runs_that_give_no_calibration() -> None:
    runs = honest(3, 1)
    for prompts in (runs[:1], [runs[0], []]):
        with pytest.raises(DataError, match="expected 2 prompts or more, each run again"):
            calibration.calibrate(prompts, tokens=(40, 40))
    with pytest.raises(DataError, match="all runs to be of the same sites"):
        calibration.calibrate([runs[0], [runs[1][0][:1]]], tokens=(40, 40))


def test_one_spelling(made: calibration.Calibration, tmp_path: Path) -> None:
    made.save(tmp_path / "k.json")
    assert calibration.read(tmp_path / "k.json") == made
    assert calibration.decode(made.encode()).threshold == made.threshold
    with pytest.raises(DataError, match="cannot read the calibration"):
        calibration.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"media_type": "x"}, "media_type: expected"),
        ({"sites": ()}, "sites: expected one or more, each once, got 0"),
        ({"scores": (2.0, 1.0)}, "scores: expected finite numbers, ascending"),
        ({"scores": (1.0, math.inf)}, "scores: expected finite numbers, ascending"),
        ({"scores": ()}, "false alarms: expected"),
        ({"exceeding": 40}, "false alarms: expected 0 to 39 of 40"),
        ({"confidence": 1.0}, "false alarms: expected"),
        ({"tokens": (40,)}, "tokens: expected a fewest and a most"),
        ({"tokens": (0, 40)}, "tokens: expected a fewest and a most"),
    ],
)
def test_calibrations_that_no_runs_give(made: calibration.Calibration, change: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        dataclasses.replace(made, **change)
    with pytest.raises(DataError, match="sites: expected one or more, each once, got 4"):
        dataclasses.replace(made, sites=made.sites * 2)


@pytest.mark.parametrize("change", [{"drift": 0.0}, {"drift": math.inf}, {"other": 1.0}])
def test_units_that_measure_nothing(change: dict[str, float]) -> None:
    with pytest.raises(DataError, match="measures: expected a number above 0"):
        calibration.Units(site=Site("a"), measures={**dict.fromkeys(MEASURES, 1.0), **change})


def test_more_scores_than_anybody_computes_a_bound_of(made: calibration.Calibration) -> None:
    most = (0.5,) * calibration.MAX_SCORES
    assert dataclasses.replace(made, scores=most, exceeding=9).threshold == 1.0
    with pytest.raises(DataError, match="scores: expected at most 4096, got 4097"):
        dataclasses.replace(made, scores=(*most, 0.5), exceeding=4000)
