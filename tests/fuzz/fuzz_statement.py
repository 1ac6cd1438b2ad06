"""End statements, begin statements and the contents of receipts, and the checks that read them."""

from __future__ import annotations

from laws import REFUSED, accepted, ours

from palm_torch import receipt, statement
from palm_torch.appraisal import claims, consistency, reservations
from palm_torch.policies.policy import ClaimRules, Range
from palm_torch.statement import Begin, Statement

JSON = True
ANYTHING = ClaimRules(
    property="train",
    data=("any",),
    initial=("any",),
    tokenizer=("any",),
    records=Range(least=0),
    epochs=Range(least=0),
    steps=Range(least=0),
    arguments={"lr": Range(least=0)},
    reported={"loss": Range(least=0)},
)


def one_input(data: bytes) -> None:
    end = accepted(data, statement.decode, Statement.encode)
    if end is not REFUSED:
        ours(consistency.check, end)
        ours(claims.check_claims, end, ANYTHING)
        ours(claims.check_measured, end, "data")
        ours(reservations.of_statement, end)
        assert claims.claims_of(end, "code")
    accepted(data, statement.decode_begin, Begin.encode)
    content = accepted(data, receipt.decode_content, receipt.encode_content)
    if content is not REFUSED:
        assert isinstance(content.subjects(), dict)
