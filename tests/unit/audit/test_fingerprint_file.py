"""Files of fingerprints: one spelling, and no number that a comparison could trip over."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from palm_torch.audit import fingerprint, fingerprint_file
from palm_torch.encoding import encode_base64, encode_json
from palm_torch.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAN_BFLOAT16 = np.array([np.nan], ml_dtypes.bfloat16).tobytes()


def made() -> fingerprint_file.Fingerprint:
    rows = np.random.default_rng(3).standard_normal((2, 3, 20)).astype(np.float32)
    return fingerprint.make({"a": rows, "b": rows[:, :2]}, top=2)


def test_one_spelling(tmp_path: Path) -> None:
    whole = made()
    assert fingerprint_file.decode(whole.encode()) == whole
    whole.save(tmp_path / "f.json")
    assert fingerprint_file.read(tmp_path / "f.json") == whole
    assert whole.digest == fingerprint_file.digest((tmp_path / "f.json").read_bytes())
    assert whole.digest != dataclasses.replace(whole, sites=whole.sites[:1]).digest


def test_one_sequence() -> None:
    whole = made()
    second = whole.sequence(1)
    assert [(part.sequences, part.tokens) for part in second.sites] == [(1, 3), (1, 2)]
    assert (second.sites[0].projection_array() == whole.sites[0].projection_array()[3:]).all()
    assert (second.sites[1].value_array() == whole.sites[1].value_array()[2:]).all()
    for number in (-1, 2):
        with pytest.raises(EvidenceError, match="expected a sequence from 0 to 1"):
            whole.sequence(number)


def _with(name: str, change: Callable[[bytes], bytes]) -> Callable[[fingerprint_file.SiteFingerprint], Any]:
    return lambda part: {name: change(getattr(part, name))}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _: {"tokens": 0}, "expected 1 to 1048576 rows"),
        (lambda _: {"sequences": 1 << 20}, "expected 1 to 1048576 rows"),
        (lambda _: {"sequences": 1}, "scales: expected 3 rows of 4 bytes, got 24 bytes"),
        (_with("scales", lambda data: data[:-1]), "scales: expected 6 rows of 4 bytes, got 23"),
        (_with("projections", lambda data: data + b"\0"), "projections: expected 6 rows of 32 bytes"),
        (_with("places", lambda data: data[:-4]), "places: expected 6 rows of 4 bytes, got 44"),
        (_with("values", lambda data: data[:-2]), "values: expected 6 rows of 4 bytes"),
        (lambda _: {"places": b"", "values": b""}, "places: expected 1 to 20 of each row, got 0"),
        (_with("scales", lambda data: data[:-4] + b"\0\0\xc0\x7f"), "expected finite numbers"),
        (_with("scales", lambda data: data[:-4] + b"\0\0\x80\xbf"), "scales from 0 on"),
        (_with("projections", lambda data: b"\0\x7c" + data[2:]), "expected finite numbers"),
        (_with("values", lambda data: NAN_BFLOAT16 + data[2:]), "expected finite numbers"),
        (_with("places", lambda data: data[:4] + data[:4] + data[8:]), "expected ascending numbers below 20"),
        (_with("places", lambda data: data[:-4] + b"\x14\0\0\0"), "expected ascending numbers below 20"),
    ],
)
def test_parts_that_do_not_fit(change: Callable[[fingerprint_file.SiteFingerprint], Any], says: str) -> None:
    part = made().sites[0]
    with pytest.raises(EvidenceError, match=says):
        dataclasses.replace(part, **change(part))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"media_type": "text/plain"}, "media_type: expected"),
        ({"seed": b"short"}, "seed: expected nothing or 32 bytes, got 5"),
        ({"sites": ()}, "sites: expected one or more, each once, got 0"),
        ({"sites": made().sites[:1] * 2}, "sites: expected one or more, each once, got 2"),
    ],
)
def test_documents_that_are_none(change: Any, says: str) -> None:
    with pytest.raises(EvidenceError, match=says):
        dataclasses.replace(made(), **change)


def test_files_that_are_none(tmp_path: Path) -> None:
    value = json.loads(made().encode())
    value["sites"][0]["scales"] = encode_base64(b"\0\0\xc0\x7f" * 6)
    with pytest.raises(EvidenceError, match=r"f\.sites\[0\].*expected finite numbers"):
        fingerprint_file.decode(encode_json(value), what="f")
    with pytest.raises(EvidenceError, match="cannot read the fingerprint"):
        fingerprint_file.read(tmp_path / "none")
