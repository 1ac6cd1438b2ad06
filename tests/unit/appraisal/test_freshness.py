"""Challenged, unchallenged or not checked: what answers a request, what does not, and what is said."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import workshop
from workshop import NEVER, NOW, put

from palm_torch import request
from palm_torch.appraisal import freshness
from palm_torch.digest import sha256_digest
from palm_torch.errors import (
    BindingError,
    ClaimError,
    FreshnessError,
    InputError,
    RequestError,
)
from palm_torch.evidence import Challenge
from palm_torch.roles import Artifact, Source

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.evidence import Bundle


@pytest.fixture(scope="module")
def unchallenged(tmp_path_factory: pytest.TempPathFactory) -> GoodRun:
    return workshop.make_good_run(tmp_path_factory.mktemp("machine") / "keys", challenge=None)


@pytest.mark.parametrize("what", ["not JSON", "another type", "not canonical"])
def test_a_request_that_is_none(good: GoodRun, what: Any) -> None:
    data = {
        "not JSON": b"",
        "another type": good.request.replace(b"request/v1", b"request/v2"),
        "not canonical": good.request + b"\n",
    }[what]
    with pytest.raises(RequestError):
        good.verify(challenge=data)


def test_evidence_that_answers_another_request(good: GoodRun) -> None:
    with pytest.raises(FreshnessError, match="does not answer this request"):
        good.verify(challenge=workshop.make_request(nonce="5b" * 32))


def test_a_byte_of_the_request_beside_the_nonce_counts_too(good: GoodRun) -> None:
    with pytest.raises(FreshnessError, match="does not answer this request"):
        good.verify(challenge=workshop.make_request(expires="2036-11-22T00:00:00Z"))


def test_unchallenged_evidence_answers_no_request(good: GoodRun, unchallenged: GoodRun) -> None:
    with pytest.raises(FreshnessError, match="it is unchallenged"):
        unchallenged.verify(challenge=good.request)


def test_unchallenged_evidence_without_a_request_is_accepted_with_a_warning(unchallenged: GoodRun) -> None:
    policy = unchallenged.policy()
    result = unchallenged.verify(challenge=NEVER, policy=policy)
    assert result.freshness == "unchallenged"
    assert any("unchallenged" in warning for warning in result.warnings)
    assert "freshness" not in [check.name for check in result.checks]


def test_challenged_evidence_without_its_request(good: GoodRun) -> None:
    with pytest.raises(FreshnessError, match="not at hand"):
        good.verify(challenge=NEVER)
    result = good.verify(challenge=NEVER, freshness_rule="not_checked")
    assert result.freshness == "not_checked"
    assert "whether the evidence answers the request it was made for" in result.not_checked
    assert "freshness not checked, by the verifier's choice" in result.warnings


def test_a_request_at_hand_is_checked_even_if_freshness_need_not_be(good: GoodRun) -> None:
    assert good.verify(freshness_rule="not_checked").freshness == "challenged"
    with pytest.raises(FreshnessError):
        good.verify(freshness_rule="not_checked", challenge=workshop.make_request(nonce="00" * 32))


def answering(good: GoodRun, **changes: Any) -> tuple[Bundle, bytes]:
    """Returns validly sealed evidence that answers a request of this kind, and the request."""
    asked = workshop.make_request(**changes)
    nonce = request.nonce_of(asked)
    begin = put(good.begin, "request", dataclasses.replace(good.begin.request, value=nonce))
    bundle = put(good.with_begin(begin.encode()), "challenge.nonce", nonce)
    return good.resealed(bundle), asked


def test_a_request_is_in_time_until_its_last_second(good: GoodRun) -> None:
    bundle, asked = answering(good, expires=NOW.strftime(request.TIME_FORMAT))
    assert good.verify(bundle, challenge=asked).freshness == "challenged"
    with pytest.raises(FreshnessError, match="expired at 2026-11-21T12:00:00Z"):
        good.verify(bundle, challenge=asked, at=NOW + timedelta(microseconds=1))


def test_a_request_without_expiry_does_not_expire(good: GoodRun) -> None:
    bundle, asked = answering(good, expires=None)
    assert good.verify(bundle, challenge=asked, at=NOW + timedelta(days=20)).freshness == "challenged"


def test_a_request_for_another_operation(good: GoodRun) -> None:
    bundle, asked = answering(good, operation="evaluate")
    with pytest.raises(FreshnessError, match="asks for 'evaluate'"):
        good.verify(bundle, challenge=asked)


@pytest.mark.parametrize("role", ["model", "initial", "data", "steps", "recipe", "log", "architecture"])
def test_a_role_asked_for_and_measured(good: GoodRun, role: str) -> None:
    bundle, asked = answering(good, roles=(role,))
    assert good.verify(bundle, challenge=asked).freshness == "challenged"


@pytest.mark.parametrize("role", ["tokenizer", "nothing", "loss", "OUTPUTS", "__class__", "operation", "*"])
def test_a_role_asked_for_and_not_measured(good: GoodRun, role: str) -> None:
    bundle, asked = answering(good, roles=("model", role))
    with pytest.raises(ClaimError, match=re.escape(f"the role '{role}'")):
        good.verify(bundle, challenge=asked)


def test_an_input_with_the_name_of_an_empty_role_does_not_fill_it(good: GoodRun) -> None:
    bundle, asked = answering(good, roles=("data",))
    corpus = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"corpus"))
    end = put(put(good.end, "claims.data", {}), "run.inputs.data", corpus)
    with pytest.raises(ClaimError, match="the role 'data'"):
        good.verify(good.resealed(put(bundle, "end.statement", end.encode())), challenge=asked)


def test_the_begin_statement_names_the_request_too(good: GoodRun) -> None:
    other = good.sealed_begin("request", sha256_digest(b"another"))
    with pytest.raises(BindingError, match="another request"):
        good.verify(other)
    with pytest.raises(BindingError, match="another request"):
        good.verify(good.sealed_begin("request", None))


# what is said to whoever verifies without the request: what is missing, and the two ways on


def test_a_request_that_is_not_at_hand() -> None:
    found = Challenge(kind="challenged", nonce=bytes(32))
    with pytest.raises(FreshnessError) as caught:
        freshness.check(found, asked=None, rule="required", at=NOW, operation="train")
    assert str(caught.value) == (
        "the evidence answers a request that is not at hand, or that another piece of evidence answered: "
        "give the request file with --request, or choose --freshness not_checked"
    )
    answer = freshness.check(found, asked=None, rule="not_checked", at=NOW, operation="train")
    assert answer == freshness.Answer(state="not_checked", roles=())


def test_a_rule_that_there_is_not_is_no_way_around() -> None:
    rule: Any = "strict"
    with pytest.raises(InputError, match="expected one of required, not_checked, got 'strict'"):
        freshness.check(
            Challenge(kind="challenged", nonce=bytes(32)), asked=None, rule=rule, at=NOW, operation="train"
        )
