"""A bundle is written so that two readers see two values, or so that no reader survives it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from workshop import put

from palm_torch import evidence
from palm_torch.errors import EvidenceError, RequestError

if TYPE_CHECKING:
    from workshop import GoodRun

HOSTILE = {
    "the last of two keys wins": b'{"tier":"contraindicated","tier":"affirming"}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "a number beyond doubles": b'{"a":1e999}',
    "a number beyond 2^53": b'{"a":9007199254740993}',
    "a number of a million digits": b'{"a":' + b"9" * 1_000_000 + b"}",
    "minus zero": b'{"a":-0}',
    "another spelling of a number": b'{"a":1.0}',
    "ten thousand brackets": b"[" * 10_000 + b"]" * 10_000,
    "a million brackets": b"[" * 1_000_000,
    "a thousand objects deep": b'{"a":' * 1_000 + b"0" + b"}" * 1_000,
    "a lone surrogate": b'{"a":"\\ud800"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}',
    "a comment": b"/**/{}",
    "two documents": b"{}{}",
    "a zero byte": b"\x00",
    "a trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_reader_is_taken_in(good: GoodRun, name: str) -> None:
    document = HOSTILE[name]
    with pytest.raises(EvidenceError):
        good.verify(document)
    with pytest.raises(EvidenceError):
        good.verify(good.resealed(good.with_end(document)))
    with pytest.raises(EvidenceError):
        good.verify(good.resealed(good.with_begin(document)))
    with pytest.raises(RequestError):
        good.verify(challenge=document)


@pytest.mark.parametrize("name", HOSTILE)
def test_nor_is_the_event_log(good: GoodRun, name: str) -> None:
    if len(HOSTILE[name]) <= evidence.MAX_LOG_ENTRY_BYTES:
        with pytest.raises(EvidenceError, match="log entry 0"):
            good.verify(good.resealed(put(good.bundle, "log.0", HOSTILE[name])))


def test_every_key_written_twice_is_refused(good: GoodRun) -> None:
    for key, value in json.loads(good.data).items():
        pair = json.dumps(key).encode() + b":" + json.dumps(value, separators=(",", ":")).encode()
        with pytest.raises(EvidenceError):
            good.verify(b"{" + pair + b"," + good.data[1:])


def test_the_same_values_in_another_spelling_are_other_evidence(good: GoodRun) -> None:
    document = json.loads(good.data)
    for spelling in (
        json.dumps(document),
        json.dumps(document, separators=(",", ":"), sort_keys=False, indent=1),
        json.dumps(dict(reversed(document.items())), separators=(",", ":")),
    ):
        with pytest.raises(EvidenceError, match="not in canonical form"):
            good.verify(spelling.encode())


def test_twin_the_canonical_spelling_of_the_same_values_is_accepted(good: GoodRun) -> None:
    document = json.loads(good.data)
    canonical = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    assert good.verify(canonical.encode()).checks
