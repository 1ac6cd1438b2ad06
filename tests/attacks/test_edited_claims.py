"""Attack 43: after the run is sealed, somebody improves it: cleaner data, a lower loss, a better model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
from workshop import put

from palm_torch import statement
from palm_torch.digest import sha256_digest
from palm_torch.errors import BindingError, EvidenceError

if TYPE_CHECKING:
    from composite_run import CompositeRun
    from workshop import GoodRun

IMPROVEMENTS: dict[str, tuple[str, Any]] = {
    "another dataset": ("claims.data.dataset1.manifest", sha256_digest(b"licensed data")),
    "a lower loss": ("run.reported.loss.last", 0.01),
    "a reported value called measured": ("run.reported.loss.source", "measured"),
    "other weights": ("claims.model", at_hand.INITIAL),
    "more epochs": ("claims.data.dataset1.uses.train.counts.least", 3),
    "a smaller learning rate": (
        "claims.configuration.value.optimizers.0.groups.0.options.lr.greatest",
        0.0001,
    ),
    "reviewed code": ("run.code.files.0.digest", sha256_digest(b"the reviewed script")),
    "self-reported code called imported": ("run.code.source", statement.CodeSource.SELF_REPORTED),
}


@pytest.mark.parametrize("name", IMPROVEMENTS)
def test_attack_43_an_edited_claim_breaks_the_seal(good: GoodRun, name: str) -> None:
    with pytest.raises(BindingError, match="end quote: report data seals other claims"):
        good.verify(good.with_end(put(good.end, *IMPROVEMENTS[name]).encode()))


def test_attack_43_the_subject_cannot_be_edited_alone(good: GoodRun) -> None:
    model = at_hand.MODEL.digest.value.hex().encode()
    data = good.bundle.end.statement
    at = data.index(model, data.index(b'"subject"'))
    forged = data[:at] + b"0" * 64 + data[at + 64 :]
    with pytest.raises(EvidenceError, match="subject"):
        good.verify(good.with_end(forged))
    with pytest.raises(EvidenceError, match="subject"):
        good.verify(good.resealed(good.with_end(forged)))


@pytest.mark.parametrize("name", IMPROVEMENTS)
def test_attack_43_with_gpus_an_edited_claim_breaks_the_seal(composite: CompositeRun, name: str) -> None:
    edited = composite.with_end(put(composite.end, *IMPROVEMENTS[name]).encode())
    with pytest.raises(BindingError, match="end quote: report data seals other claims"):
        composite.verify(edited)


@pytest.mark.parametrize("name", IMPROVEMENTS)
def test_attack_43_gpus_answered_other_claims_than_those_that_a_new_quote_seals(
    pair: CompositeRun, name: str
) -> None:
    edited = pair.with_end(put(pair.end, *IMPROVEMENTS[name]).encode())
    with pytest.raises(BindingError, match="GPU 0: GPU report: it answers another nonce"):
        pair.verify(pair.resealed(edited, phases=("end",)))
