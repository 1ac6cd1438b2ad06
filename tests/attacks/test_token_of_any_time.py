"""An authority that is content with any time whatever lets a late answer pass as one in time."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import stamping
import workshop
from stamping import STAMPED, Authority

from palm_torch import request
from palm_torch.appraisal import moment
from palm_torch.cvm import timestamp
from palm_torch.errors import FreshnessError
from palm_torch.result import Tier

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.result import AttestationResult

TEN_YEARS = 315_360_000
LONGEST = {"seconds": 2**33}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return stamping.make_authority()


@pytest.fixture(scope="module")
def urgent(tmp_path_factory: pytest.TempPathFactory) -> GoodRun:
    """A run that answers a request which expires one minute after the time that the token says."""
    last = (STAMPED + timedelta(minutes=1)).strftime(request.TIME_FORMAT)
    asked = workshop.make_request(expires=last)
    return workshop.make_good_run(tmp_path_factory.mktemp("machine") / "keys", challenge=asked)


def verify(run: GoodRun, authority: Authority, accuracy: Any, **options: Any) -> AttestationResult:
    raw = authority.token(run.bundle.digest_to_stamp().value, info={"accuracy": accuracy})
    token = timestamp.normalised(raw, root=authority.root.certificate)
    stamped = dataclasses.replace(run.bundle, timestamp=token)
    return run.verify(stamped, **({"at": None, "timestamp_root": authority.root.pem} | options))


@pytest.mark.parametrize("accuracy", [{"seconds": 61}, {"seconds": TEN_YEARS}, LONGEST])
def test_a_late_answer_is_not_in_time_by_an_inaccurate_token(
    urgent: GoodRun, authority: Authority, accuracy: dict[str, int]
) -> None:
    with pytest.raises(FreshnessError, match="the request expired at"):
        verify(urgent, authority, accuracy)


def test_twin_an_accurate_token_shows_that_it_was_in_time(urgent: GoodRun, authority: Authority) -> None:
    for accuracy in ({"seconds": 1}, {"seconds": 60}):
        result = verify(urgent, authority, accuracy)
        assert result.freshness == "challenged"
        assert f"accurate to {accuracy['seconds']} s" in result.time
        assert not any("time stamp" in reason for reason in result.warnings)


def test_an_inaccurate_token_is_a_reservation(good: GoodRun, authority: Authority) -> None:
    result = verify(good, authority, {"seconds": 61, "millis": 5})
    assert "the time stamp may be off by 61.005 s" in result.warnings
    assert result.tier is Tier.WARNING
    assert next(check.detail for check in result.checks if check.name == "time stamp").endswith(
        "accurate to 61.005 s"
    )


def test_an_authority_that_does_not_say_is_repeated(good: GoodRun, authority: Authority) -> None:
    result = verify(good, authority, None)
    assert moment.NO_ACCURACY in result.not_checked
    assert result.time.endswith("accuracy unknown)")
    assert moment.NO_ACCURACY not in verify(good, authority, {"seconds": 1}).not_checked


def test_a_time_of_ones_own_is_judged_as_it_is(urgent: GoodRun, authority: Authority) -> None:
    """Whoever verifies at a time of his own needs no token for it; its accuracy is told all the same."""
    result = verify(urgent, authority, {"seconds": TEN_YEARS}, at=STAMPED)
    assert any("may be off by 315360000 s" in reason for reason in result.warnings)
