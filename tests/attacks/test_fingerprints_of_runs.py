"""A prover that would have its fingerprint believed: what it may not say, and what only a seed shows."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from palm_torch.audit import calibration, fingerprint, fingerprint_distance, fingerprint_file
from palm_torch.commit.trace_groups import Site
from palm_torch.encoding import encode_base64, encode_json
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from palm_torch.audit.fingerprint_file import Fingerprint

SITE = Site("model.layers.7")
SEED = b"drawn by the verifier afterwards"


def rows(noise: float = 0.0, seed: int = 0) -> Any:
    honest = np.random.default_rng(1).standard_normal((1, 32, 256))
    return (honest + noise * np.random.default_rng([2, seed]).standard_normal(honest.shape)).astype(
        np.float32
    )


def made(of: Any, **words: Any) -> Fingerprint:
    return fingerprint.make({SITE: of}, **words)


@pytest.fixture(scope="module")
def honest() -> calibration.Calibration:
    runs = [[fingerprint_distance.distances(made(rows()), made(rows(0.002, run)))] for run in range(60)]
    return calibration.calibrate(runs, tokens=(32, 32), rate=0.1)


def verdict(theirs: Fingerprint, honest: calibration.Calibration) -> str:
    return calibration.compare(made(rows()), theirs, honest).verdict


def test_twin_an_honest_run(honest: calibration.Calibration) -> None:
    theirs = made(rows(0.002, 99))
    assert verdict(theirs, honest) == "alike"
    fingerprint.check_rows(theirs.sites[0], rows(0.002, 99)[0, 5:9], sequence=0, token=5)


def test_another_model(honest: calibration.Calibration) -> None:
    assert verdict(made(rows(0.02)), honest) == "different"


def test_attack_100_the_fingerprint_of_the_run_that_should_have_been_beside_the_trace_of_another_one(
    honest: calibration.Calibration,
) -> None:
    theirs, served = made(rows(0.002, 99)), rows(0.02)
    assert verdict(theirs, honest) == "alike"
    with pytest.raises(BindingError, match=r"token 5: its scale is not that of the row which the trace has"):
        fingerprint.check_rows(theirs.sites[0], served[0, 5:9], sequence=0, token=5)


def test_tokens_that_it_would_rather_not_have_compared(honest: calibration.Calibration) -> None:
    counts = np.ones((1, 32), bool)
    counts[0, 20] = False
    found = calibration.compare(made(rows()), made(rows(0.002, 99), counts=counts), honest)
    assert (found.verdict, found.distances[0].token) == ("different", 20)
    counts[:] = False
    assert verdict(made(rows(), counts=counts), honest) == "different"


def test_fewer_tokens_of_context(honest: calibration.Calibration) -> None:
    assert verdict(made(rows()[:, 8:]), honest) == "different"


@pytest.mark.parametrize("field", ["projections", "scales", "values"])
def test_numbers_that_compare_with_nothing(field: str) -> None:
    document = json.loads(made(rows()).encode())
    size = len(getattr(made(rows()).sites[0], field))
    document["sites"][0][field] = encode_base64(b"\xff\x7f" * (size // 2))  # NaN in each of the three types
    with pytest.raises(EvidenceError, match="expected finite numbers"):
        fingerprint_file.decode(encode_json(document))


def unseen() -> Any:
    """Returns rows that differ by what the public directions do not see, and not in the largest elements."""
    x = rows().astype(np.float64)
    directions = fingerprint.directions(SITE, 256).astype(np.float64)
    scale = np.abs(x).mean(axis=2, keepdims=True)
    free = np.random.default_rng(3).standard_normal(x.shape) * 0.3
    kept = np.zeros(x.shape, bool)
    np.put_along_axis(kept, np.argsort(-np.abs(x), axis=2)[..., :40], values=True, axis=2)
    for at in np.ndindex(x.shape[:2]):
        moving = ~kept[at]
        basis, _ = np.linalg.qr(directions[moving])
        push = free[at][moving]
        free[at] = 0
        free[at][moving] = push - basis @ (basis.T @ push)
    changed = scale * np.sinh(
        np.arcsinh(x / scale) + free
    )  # its mean magnitude is another one, but for little
    return np.where(kept, x, changed).astype(np.float32)


def test_a_change_that_public_directions_do_not_see_is_seen_from_others() -> None:
    plain, changed = rows(), unseen()
    (public,) = fingerprint_distance.distances(made(plain), made(changed))
    (drawn,) = fingerprint_distance.distances(made(plain, seed=SEED), made(changed, seed=SEED))
    moved = np.linalg.norm(changed - plain) / np.linalg.norm(plain)
    assert moved > 0.2
    assert public.measures["projection"] < 0.05
    assert drawn.measures["projection"] > 3 * public.measures["projection"]
    assert drawn.measures["projection"] > 0.1


def test_attack_100_another_seed_than_the_verifier_s(honest: calibration.Calibration) -> None:
    other = dataclasses.replace(made(rows()), seed=SEED)
    with pytest.raises(DataError, match="expected one seed, got two"):
        verdict(other, honest)
