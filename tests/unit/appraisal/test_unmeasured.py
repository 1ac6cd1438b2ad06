"""What a run says of itself that no digest covers, and what is left open when it was resumed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from workshop import put

from palm_torch import chain_verification
from palm_torch.appraisal import resumption, unmeasured
from palm_torch.errors import ClaimError

if TYPE_CHECKING:
    from relay import ResumedRun
    from workshop import GoodRun


def other_operation(good: GoodRun) -> Any:
    return SimpleNamespace(claims=object(), run=good.end.run)


def test_only_training_says_so(good: GoodRun) -> None:
    assert unmeasured.of_statement(other_operation(good)) == []
    assert resumption.left_open([object()], other_operation(good)) == []  # type: ignore[list-item]


def test_modules_with_state_of_their_own_are_counted(good: GoodRun) -> None:
    assert unmeasured.of_statement(good.end) == []
    told = put(good.end, "claims.configuration.value.extra_state", ["head", "body"])
    (found,) = unmeasured.of_statement(told)
    assert found.about == "claims"
    assert found.reason == "2 modules keep extra state, such as head, which is in no digest"


@pytest.mark.parametrize("value", [None, "head", {"head": 1}])
def test_a_list_of_another_form_is_a_claim_of_nothing(good: GoodRun, value: Any) -> None:
    told = put(good.end, "claims.configuration.value.extra_state", value)
    with pytest.raises(ClaimError, match=r"^configuration: expected 'extra_state' to be a list, got "):
        unmeasured.of_statement(told)


def test_generators_are_listed_once_for_each_time_it_was_resumed(resumed: ResumedRun) -> None:
    checked: Any = [object(), object()]
    for listed in ([], [{}], "twice"):
        end = put(resumed.end, "claims.seeds.value.resumed", listed)
        with pytest.raises(ClaimError, match=r"^seeds: resumed 2 times, generators are listed otherwise$"):
            resumption.left_open(checked, end)


def test_only_state_that_was_left_makes_an_earlier_session(resumed: ResumedRun) -> None:
    session = resumed.sessions[0]
    part = SimpleNamespace(session=session.opening, receipt=session.file.envelope)
    assert list(chain_verification._earlier(SimpleNamespace(segments=(part,)))) == []  # type: ignore[arg-type]
    (first, _) = chain_verification._earlier(resumed.bundle)
    assert (first.session, first.steps) == (session.opening.run_id, 1)
