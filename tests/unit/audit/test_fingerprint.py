"""Fingerprints: what is kept of a row, that it stays close, and that it belongs to rows a trace shows."""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from palm_torch.audit import fingerprint, fingerprint_file
from palm_torch.commit.trace_groups import Site
from palm_torch.errors import BindingError, DataError, EvidenceError

SITE = Site("model.layers.3")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def drawn(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.float64])
def test_what_is_kept_of_a_row(dtype: Any) -> None:
    rows = drawn(2, 5, 40, dtype=dtype)
    (part,) = fingerprint.make({SITE: rows}, top=3).sites
    assert (part.sequences, part.tokens, part.channels, part.top, part.width) == (2, 5, 40, 3, 16)
    x = rows.astype(np.float64).reshape(10, 40)
    scales = np.abs(x).mean(axis=1)
    assert part.scale_array() == pytest.approx(scales, rel=1e-6)
    expected = np.arcsinh(x / scales[:, None]) @ fingerprint.directions(SITE, 40)
    assert part.projection_array() == pytest.approx(expected, abs=2e-3)
    for row, places, values in zip(x, part.place_array(), part.value_array(), strict=True):
        assert sorted(places) == sorted(np.argsort(-np.abs(row))[:3])
        assert values == pytest.approx(row[places], rel=2**-8)


def test_one_sequence_may_come_without_its_dimension_and_a_site_by_name() -> None:
    rows = drawn(4, 20)
    assert fingerprint.make({SITE: rows[None]}) == fingerprint.make({"model.layers.3": rows})


def test_rows_are_looked_at_in_pieces_that_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, counts = drawn(2, 7, 30), np.arange(14).reshape(2, 7) % 3 > 0
    whole = fingerprint.make({SITE: rows}, counts=counts)
    monkeypatch.setattr(fingerprint, "_CHUNK_ELEMENTS", 60)
    pieces = fingerprint.make({SITE: rows}, counts=counts)
    assert pieces.sites[0].places == whole.sites[0].places
    assert pieces.sites[0].projection_array() == pytest.approx(whole.sites[0].projection_array(), abs=2e-3)


def test_directions_are_orthonormal_and_follow_from_site_width_and_seed() -> None:
    found = fingerprint.directions(SITE, 100)
    assert found.T @ found == pytest.approx(np.eye(16), abs=1e-6)
    others = (
        fingerprint.directions(Site("model.layers.4"), 100),
        fingerprint.directions(Site("model.layers.3", "0"), 100),
        fingerprint.directions(SITE, 100, bytes(32)),
        fingerprint.directions(SITE, 100, b"\x01" * 32),
    )
    for number, other in enumerate(others):
        assert np.abs(found - other).max() > 0.1
        assert all(np.abs(other - later).max() > 0.1 for later in others[number + 1 :])


def test_fewer_channels_than_directions() -> None:
    (part,) = fingerprint.make({SITE: drawn(3, 5)}, top=8).sites
    assert (part.width, part.top) == (5, 5)
    assert part.place_array().tolist() == [[0, 1, 2, 3, 4]] * 3


def test_tokens_that_do_not_count_and_rows_of_zeros_are_the_same() -> None:
    rows = drawn(1, 3, 20)
    zeroed = rows.copy()
    zeroed[0, 1] = 0
    masked = fingerprint.make({SITE: rows}, counts=np.array([[True, False, True]]))
    assert masked.sites[0].scales == fingerprint.make({SITE: zeroed}).sites[0].scales
    assert masked.sites[0].scale_array()[1] == 0
    assert not masked.sites[0].projection_array()[1].any()


def test_a_channel_a_thousand_times_larger_does_not_hide_the_others() -> None:
    rows = drawn(64, 512)
    rows[:, 7] = 1000
    changed = rows.copy()
    changed[:, 256:] *= 1.1
    a, b = (fingerprint.make({SITE: array}).sites[0].projection_array() for array in (rows, changed))
    distance = np.median(np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1))
    plain = np.linalg.norm(rows - changed) / np.linalg.norm(rows)
    assert distance > 0.02 > 5 * plain


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 3), np.int64), "expected floats of .* got int64"),
        (np.zeros(3, np.float32), r"sequences × tokens × channels, got float32 \[3\]"),
        (np.zeros((0, 3), np.float32), r"got float32 \[0, 3\]"),
        (np.array([[1, np.nan]], np.float32), "expected finite activations"),
        (np.array([[1, 1e300]]), "expected finite activations"),
        (np.array([[1, 3.4e38]], np.float32), "out of range"),
    ],
)
def test_what_has_no_fingerprint(array: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        fingerprint.make({SITE: array})


def test_arguments_that_are_none() -> None:
    with pytest.raises(DataError, match="top: expected 1 to 64, got 65"):
        fingerprint.make({SITE: drawn(3, 100)}, top=65)
    for counts in (np.ones((1, 2), bool), np.ones((1, 3))):
        with pytest.raises(DataError, match=r"counts: expected booleans \[1, 3\]"):
            fingerprint.make({SITE: drawn(3, 9)}, counts=counts)
    with pytest.raises(EvidenceError, match="seed: expected nothing or 32 bytes, got 3"):
        fingerprint.make({SITE: drawn(3, 9)}, seed=b"abc")
    with pytest.raises(EvidenceError, match="sites: expected one or more"):
        fingerprint.make({})


@pytest.mark.parametrize("dtype", [BFLOAT16, np.float32])
@pytest.mark.parametrize("seed", [b"", b"s" * 32])
def test_rows_that_it_was_made_of(dtype: Any, seed: bytes) -> None:
    rows = drawn(2, 9, 64, dtype=dtype)
    rows[1, 4, 10:20] = rows[1, 4, 10]  # equal magnitudes: any of them may be among the largest
    (part,) = fingerprint.make({SITE: rows}, seed=seed).sites
    fingerprint.check_rows(part, rows[1, 3:6], sequence=1, token=3, seed=seed)
    with pytest.raises(BindingError, match="sequence 0, token 3: its scale is not that of the row"):
        fingerprint.check_rows(part, rows[1, 3:6], sequence=0, token=3, seed=seed)


def bent(part: fingerprint_file.SiteFingerprint, **arrays: Any) -> fingerprint_file.SiteFingerprint:
    return dataclasses.replace(part, **{name: array.tobytes() for name, array in arrays.items()})


def test_rows_that_it_was_not_made_of() -> None:
    rows = drawn(1, 9, 64)
    (part,) = fingerprint.make({SITE: rows}).sites
    scales, projections = part.scale_array(), part.projection_array().astype(np.float16)
    scales[5] *= np.float32(1.00001)
    projections[6, 3] += np.float16(0.01)
    values = np.frombuffer(part.values, BFLOAT16).reshape(9, 8).copy()
    values[2, 1] *= 2
    # its smaller elements in the place of its larger ones
    places = np.sort(np.argsort(np.abs(rows[0]), axis=1)[:, :8], axis=1)
    smaller = np.take_along_axis(rows[0], places, axis=1).astype(BFLOAT16)
    cases = (
        (bent(part, scales=scales), "token 5: its scale"),
        (bent(part, projections=projections), "token 6: its projection"),
        (bent(part, values=values), "token 2: its values"),
        (bent(part, places=places.astype("<u4"), values=smaller), "token 0: its largest elements"),
    )
    for changed, says in cases:
        with pytest.raises(BindingError, match=says):
            fingerprint.check_rows(changed, rows[0], sequence=0, token=0)


@pytest.mark.parametrize(("shape", "sequence", "token"), [((2, 63), 0, 0), ((3, 64), 0, 7), ((1, 64), 1, 0)])
def test_rows_that_it_does_not_have(shape: tuple[int, int], sequence: int, token: int) -> None:
    (part,) = fingerprint.make({SITE: drawn(1, 9, 64)}).sites
    with pytest.raises(DataError, match="expected rows of 64 channels, within 1 × 9"):
        fingerprint.check_rows(part, drawn(*shape), sequence=sequence, token=token)
