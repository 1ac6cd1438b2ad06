"""Requests of audits: what they may ask, and that their bytes are canonical."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import audited
import pytest

from palm_torch.challenge import request
from palm_torch.digest import sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import DataError, EncodingError, RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.challenge.request import AuditRequest

CONTEXT = b"the bytes of a context"
CLAIMS = sha256_digest(b"claims")


@pytest.fixture
def good() -> AuditRequest:
    return request.draw(CONTEXT, audited.llama(), claims=CLAIMS, nonce=audited.NONCE)


def test_what_is_drawn(good: AuditRequest) -> None:
    assert (good.queries, good.whole, good.coordinates, good.weights) == (16, 0, 0, (1, 1, 1, 1))
    assert good.nonce == audited.NONCE.hex()
    fresh = [request.draw(CONTEXT, audited.gpt2(), claims=None, weights=[1, 2, 3, 4]) for _ in range(2)]
    assert fresh[0].nonce != fresh[1].nonce
    assert fresh[0].weights == (1, 2, 3, 4)
    assert fresh[0].trace == good.trace


def test_a_file_and_back(good: AuditRequest, tmp_path: Path) -> None:
    good.save(tmp_path / "r.json")
    assert request.read(tmp_path / "r.json") == good
    assert (tmp_path / "r.json").read_bytes() == good.encode()
    assert request.decode(good.encode(), what="r").digest == good.digest


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"media_type": "x"}, "media_type: expected"),
        ({"trace": CLAIMS}, "trace: expected a palm-sha256 root"),
        ({"nonce": "00"}, "nonce: expected 32 bytes, got 1"),
        ({"nonce": "AA" * 32}, "nonce: expected lower-case"),
        ({"queries": -1}, "queries: expected a number from 0 to 4096, got -1"),
        ({"queries": 4097}, "queries: expected a number from 0 to 4096, got 4097"),
        ({"whole": 3}, "whole: expected a number from 0 to 2, got 3"),
        ({"coordinates": 65}, "coordinates: expected a number from 0 to 64, got 65"),
        ({"queries": 0}, "queries: expected at least one place, or one whole block"),
        ({"weights": (1, 1, 1)}, "weights: expected 4, one for each part, got 3"),
        ({"weights": (1, 0, 1, 1)}, "weights: expected numbers from 1 to 2^32, got 0"),
        ({"weights": (1, 2**32 + 1, 1, 1)}, "weights: expected numbers from 1 to 2^32"),
    ],
)
def test_what_no_answer_could_show(good: AuditRequest, changed: dict[str, Any], says: str) -> None:
    with pytest.raises((RequestError, EncodingError)) as caught:
        dataclasses.replace(good, **changed)
    assert str(caught.value).startswith(says)


def test_whole_blocks_alone(good: AuditRequest) -> None:
    assert dataclasses.replace(good, queries=0, whole=2).whole == 2


def test_a_malformed_file_is_one_clear_error(good: AuditRequest, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no\.json: cannot read the request"):
        request.read(tmp_path / "no.json")
    document = json.loads(good.encode())
    document["geometry"]["heads"] = 3
    with pytest.raises(RequestError, match=r"r\.geometry\.key_value_heads: expected a divisor"):
        request.decode(encode_json(document), what="r")
    with pytest.raises(RequestError, match="not in canonical form"):
        request.decode(good.encode() + b"\n", what="r")


def test_a_nonce_of_another_length_is_never_drawn() -> None:
    with pytest.raises(EncodingError, match="nonce: expected 32 bytes, got 16"):
        request.draw(CONTEXT, audited.llama(), claims=None, nonce=bytes(16))


def test_no_field_is_left_out_of_the_digest(good: AuditRequest) -> None:
    others = {
        "claims": None,
        "trace": dataclasses.replace(good, trace=request.draw(b"", good.geometry, claims=None).trace).trace,
        "nonce": bytes(32).hex(),
        "geometry": audited.llama(rms_norm_eps=1e-5),
        "queries": 17,
        "whole": 1,
        "coordinates": 1,
        "weights": (1, 1, 1, 2),
    }
    assert {"media_type", *others} == {field.name for field in dataclasses.fields(good)}
    digests = {dataclasses.replace(good, **{name: value}).digest for name, value in others.items()}
    assert len(digests | {good.digest}) == 9


def test_a_folder_that_is_not_there(good: AuditRequest, tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        good.save(tmp_path / "none" / "r.json")
    with pytest.raises(DataError):
        audited.llama(hidden_size=0)
