"""Evidence made at leisure, until one run looked good, is presented as the answer to a challenge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import workshop
from workshop import NEVER, put

from palm_torch import request
from palm_torch.errors import BindingError, FreshnessError
from palm_torch.result import Tier

if TYPE_CHECKING:
    from workshop import GoodRun


@pytest.fixture(scope="module")
def leisurely(tmp_path_factory: pytest.TempPathFactory) -> GoodRun:
    return workshop.make_good_run(tmp_path_factory.mktemp("machine") / "keys", challenge=None)


def test_it_answers_no_request(leisurely: GoodRun) -> None:
    with pytest.raises(FreshnessError, match="it is unchallenged"):
        leisurely.verify(challenge=workshop.make_request())


def test_calling_it_challenged_breaks_the_seal(leisurely: GoodRun) -> None:
    called = put(leisurely.bundle, "challenge.kind", "challenged")
    with pytest.raises(BindingError):
        leisurely.verify(called, challenge=NEVER, freshness_rule="not_checked")
    asked = workshop.make_request()
    named = put(called, "challenge.nonce", request.nonce_of(asked))
    with pytest.raises(BindingError):
        leisurely.verify(named, challenge=asked)


def test_calling_challenged_evidence_unchallenged_breaks_it_too(good: GoodRun) -> None:
    """Else evidence for one verifier's eyes could be shown to all as nobody's."""
    with pytest.raises(BindingError):
        good.verify(put(good.bundle, "challenge.kind", "unchallenged"), challenge=NEVER)


def test_honestly_shown_it_is_a_warning(leisurely: GoodRun) -> None:
    result = leisurely.verify(challenge=NEVER)
    assert result.freshness == "unchallenged"
    assert result.tier is Tier.WARNING
    assert any("nobody's request and may be old" in warning for warning in result.warnings)
