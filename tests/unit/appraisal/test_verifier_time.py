"""At which time evidence is judged: given by the caller, or by a time-stamp token."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import stamping
from stamping import STAMPED, Authority
from workshop import NOW, put

from palm_torch.appraisal import moment, verifier
from palm_torch.cvm import timestamp
from palm_torch.errors import BindingError, EvidenceError, FreshnessError, InputError
from palm_torch.result import Reservation

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.evidence import Bundle

LOOKED_PAST = "the time-stamp token: no root of a time-stamping authority was given"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return stamping.make_authority()


@pytest.fixture(scope="module")
def stamped(good: GoodRun, authority: Authority) -> Bundle:
    raw = authority.token(good.bundle.digest_to_stamp().value)
    token = timestamp.normalised(raw, root=authority.root.certificate)
    return dataclasses.replace(good.bundle, timestamp=token)


def judged(good: GoodRun, authority: Authority, accuracy: Any, at: datetime | None = None) -> moment.Moment:
    """Returns the time that a token of such an accuracy gives."""
    raw = authority.token(good.bundle.digest_to_stamp().value, info={"accuracy": accuracy})
    token = timestamp.normalised(raw, root=authority.root.certificate)
    bundle = dataclasses.replace(good.bundle, timestamp=token)
    return moment.of(bundle, at=at, source="asserted", root=authority.root.pem)


def test_without_a_root_a_token_is_looked_past_and_that_is_said(good: GoodRun, stamped: Bundle) -> None:
    found = good.verify(stamped)
    assert LOOKED_PAST in found.not_checked
    assert found.time == f"{NOW.isoformat()} (given by the caller)"
    assert LOOKED_PAST not in good.verify().not_checked


def test_a_token_gives_the_time(good: GoodRun, stamped: Bundle, authority: Authority) -> None:
    found = good.verify(stamped, at=None, timestamp_root=authority.root.pem)
    (stamp,) = [check for check in found.checks if check.name == "time stamp"]
    signer = stamp.detail.removesuffix(f" saw the evidence at {STAMPED.isoformat()}, accurate to 1.5 s")
    assert signer.endswith("CN=TSA")
    assert found.time == f"{STAMPED.isoformat()} (time-stamped by {signer}, accurate to 1.5 s)"
    assert LOOKED_PAST not in found.not_checked


def test_a_time_of_the_callers_own_is_kept_beside_a_token(
    good: GoodRun, stamped: Bundle, authority: Authority
) -> None:
    for at in (STAMPED, STAMPED + timedelta(hours=1)):
        found = good.verify(stamped, at=at, time_source="asserted", timestamp_root=authority.root.pem)
        assert found.time == f"{at.isoformat()} (asserted)"
        assert "time stamp" in [check.name for check in found.checks]


def test_a_time_before_the_token_is_refused(good: GoodRun, stamped: Bundle, authority: Authority) -> None:
    early = STAMPED - timedelta(seconds=1)
    with pytest.raises(FreshnessError) as caught:
        good.verify(stamped, at=early, timestamp_root=authority.root.pem)
    assert str(caught.value) == (
        f"verification at {early.isoformat()} lies before the time stamp, {STAMPED.isoformat()}"
    )


def test_a_root_asks_for_a_token(good: GoodRun, authority: Authority) -> None:
    with pytest.raises(FreshnessError) as caught:
        good.verify(timestamp_root=authority.root.pem)
    assert str(caught.value) == (
        "the root of a time-stamping authority was given, but the evidence has no token"
    )


def test_without_a_time_there_is_nothing_to_judge_by(good: GoodRun) -> None:
    with pytest.raises(InputError) as caught:
        good.verify(at=None)
    assert str(caught.value) == (
        "at: expected a time, or the root of a time-stamping authority to take it from"
    )
    with pytest.raises(InputError, match=r"^at: expected a time with a time zone$"):
        verifier.verify(good.data, policy=good.policy(), at=datetime(2026, 11, 21))  # noqa: DTZ001 (the point)


def test_a_token_that_nobody_chose_a_root_for_is_still_one_over_this_bundle(
    good: GoodRun, stamped: Bundle
) -> None:
    result = good.verify(stamped)
    assert any(line.startswith("the time-stamp token") for line in result.not_checked)
    with pytest.raises(EvidenceError):
        good.verify(put(good.bundle, "timestamp", b""))
    other = put(stamped, "log", (*stamped.log, b"{}"))
    with pytest.raises(BindingError, match="it is over sha256"):
        good.verify(other)


def test_a_time_of_the_callers_own_says_where_it_comes_from(good: GoodRun, stamped: Bundle) -> None:
    asserted = moment.Moment(at=NOW, latest=NOW, source="asserted")
    assert moment.of(good.bundle, at=NOW, source="asserted", root=None) == asserted
    looked_past = dataclasses.replace(asserted, not_checked=(LOOKED_PAST,))
    assert moment.of(stamped, at=NOW, source="asserted", root=None) == looked_past


def test_an_inaccurate_token_comes_with_advice(good: GoodRun, authority: Authority) -> None:
    reservation = Reservation(
        about="freshness",
        reason="the time stamp may be off by 61.005 s",
        advice="ask for a time stamp of an authority that knows the time to the second",
    )
    found = judged(good, authority, {"seconds": 61, "millis": 5})
    assert found.reservations == (reservation,)
    assert found.latest == STAMPED + timedelta(seconds=61, milliseconds=5)
    assert judged(good, authority, {"seconds": 60}).reservations == ()


def test_a_token_whose_accuracy_ends_beyond_every_calendar(good: GoodRun, authority: Authority) -> None:
    """Such a sum has no date: the latest moment is then the last one that there is."""
    found = judged(good, authority, {"seconds": 2**40})
    assert (found.at, found.latest) == (STAMPED, datetime.max.replace(tzinfo=UTC))
    own = judged(good, authority, {"seconds": 2**40}, at=STAMPED)
    assert (own.at, own.latest) == (STAMPED, STAMPED)
