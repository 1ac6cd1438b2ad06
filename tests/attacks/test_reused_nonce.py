"""Old evidence is shown again to a verifier that asked anew, or the nonce is made weak enough to guess."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import workshop
from workshop import NEVER, put

from palm_torch import request
from palm_torch.errors import BindingError, EvidenceError, FreshnessError, RequestError

if TYPE_CHECKING:
    from workshop import GoodRun


def test_old_evidence_does_not_answer_a_new_request(good: GoodRun) -> None:
    with pytest.raises(FreshnessError, match="does not answer this request"):
        good.verify(challenge=workshop.make_request(nonce="01" * 32))


def test_writing_the_new_nonce_into_old_evidence_breaks_the_seal(good: GoodRun) -> None:
    asked = workshop.make_request(nonce="01" * 32)
    with pytest.raises(BindingError):
        good.verify(put(good.bundle, "challenge.nonce", request.nonce_of(asked)), challenge=asked)


@pytest.mark.parametrize("size", [0, 1, 16, 31, 33, 64])
def test_a_nonce_of_another_length_is_no_nonce(good: GoodRun, size: int) -> None:
    with pytest.raises(RequestError, match=f"nonce: expected 32 bytes, got {size}"):
        good.verify(challenge=good.request.replace(b"5a" * 32, b"5a" * size))
    with pytest.raises(EvidenceError):
        good.verify(good.data.replace(b'"nonce":"', b'"nonce":"' + b"AAAA" * max(size // 3, 1), 1))


def test_an_absent_request_is_no_freshness(good: GoodRun) -> None:
    with pytest.raises(FreshnessError, match="not at hand"):
        good.verify(challenge=NEVER)
    with pytest.raises(RequestError):
        good.verify(challenge=b"")


def test_who_asks_with_the_same_file_gets_the_same_answer(good: GoodRun) -> None:
    """The limit of it: the request file is the nonce, so whoever asks anew draws a new one."""
    assert good.verify(challenge=workshop.make_request()).freshness == "challenged"
