"""A session issues a good receipt, goes wrong and is killed; the receipt is shown as if all had been well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import relay
from workshop import NOW, put

from palm_torch.appraisal import receipts, verifier
from palm_torch.errors import BindingError, ClaimError, EvidenceError
from palm_torch.result import Tier

if TYPE_CHECKING:
    from relay import ResumedRun


def options(run: ResumedRun) -> dict[str, Any]:
    return {"policy": run.policy(), "at": NOW, "challenge": run.request}


def test_alone_it_is_a_warning_that_says_so(resumed: ResumedRun) -> None:
    for session in resumed.sessions:
        for found in filter(None, (session.file, session.segment)):
            result = receipts.verify(found, **options(resumed))
            assert result.session == "unclosed"
            assert result.tier is Tier.WARNING
            assert any(warning.startswith("unclosed") for warning in result.warnings)


def test_another_session_of_the_same_run_does_not_close_it(resumed: ResumedRun) -> None:
    other = relay.make(resumed.machine, resumed.request)
    with pytest.raises(BindingError, match=r"none of them the receipt's"):
        receipts.verify(resumed.sessions[0].file, closing=other.data, **options(resumed))


def test_a_checkpoint_is_no_end(resumed: ResumedRun) -> None:
    """The segment receipt of the session is not closing evidence, and neither is the receipt itself."""
    session = resumed.sessions[0]
    assert session.segment is not None
    for closing in (session.segment.encode(), session.file.encode()):
        with pytest.raises(EvidenceError, match="closing evidence: "):
            receipts.verify(session.file, closing=closing, **options(resumed))


def test_an_end_that_the_policy_rejects_closes_nothing(resumed: ResumedRun) -> None:
    bent = relay.make(
        resumed.machine,
        resumed.request,
        bend=relay.only("end", 3, lambda end: put(end, "claims.steps.taken", 9)),
    )
    with pytest.raises(ClaimError, match="steps"):
        receipts.verify(bent.sessions[0].file, closing=bent.data, **options(resumed))


def test_a_receipt_is_no_evidence(resumed: ResumedRun) -> None:
    for session in resumed.sessions:
        with pytest.raises(EvidenceError):
            verifier.verify(session.file.encode(), **options(resumed))
