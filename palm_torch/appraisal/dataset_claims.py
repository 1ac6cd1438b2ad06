"""The properties of datasets: which rules judge them, and what a result says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from palm_torch import statement
from palm_torch.appraisal import bind_claims, distribute_claims, preprocess_claims
from palm_torch.encoding import encode_json
from palm_torch.errors import ClaimError
from palm_torch.policies.bounds import ANY
from palm_torch.policies.dataset_rules import ONCE, BindRules, DistributeRules, PreprocessRules
from palm_torch.properties import Bind, Distribute, Preprocess
from palm_torch.result import Reservation
from palm_torch.roles import Source, Value, Written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.policies.dataset_rules import DatasetRules
    from palm_torch.properties import Property

MAX_SHOWN: Final = 160
"""Characters of a value that a result shows."""


def check(claims: Property, rules: DatasetRules) -> None:
    """Checks a property of a dataset against its rules.

    Raises:
        ClaimError: Naming the claim, what the policy demands and what the statement says.
    """
    if isinstance(claims, Bind) and isinstance(rules, BindRules):
        bind_claims.check(claims, rules)
    elif isinstance(claims, Preprocess) and isinstance(rules, PreprocessRules):
        preprocess_claims.check(claims, rules)
    elif isinstance(claims, Distribute) and isinstance(rules, DistributeRules):
        distribute_claims.check(claims, rules)
    else:
        raise ClaimError(f"the rules are for {rules.property!r}, the claims are {type(claims).__name__}")


def waved_through(rules: DatasetRules) -> Iterator[str]:
    """Yields what rules let pass unread."""
    for role in rules.ROLES:
        if rules.references(role).word == ANY:
            yield f"{role}: the policy accepts any"
    if isinstance(rules, BindRules):
        return
    if rules.multiplicity != ONCE:
        yield f"multiplicity: each record of the data was read {rules.multiplicity} times, not exactly once"
    if isinstance(rules, DistributeRules) and rules.computed_by_script:
        yield "computed_by_script: a distribution that the script computed by itself"


def reservations(claims: Property) -> Iterator[Reservation]:
    """Yields what the claims themselves leave open, whatever a policy says."""
    if isinstance(claims, (Preprocess, Distribute)):
        for name, dataset in claims.data.items():
            if not all(delivered.exact for delivered in dataset.uses.values()):
                yield Reservation(
                    about="claims",
                    reason=f"data {name}: counted as read; code between the dataset and what was read from "
                    "it may have dropped records",
                    advice="read the collate function and the datasets that wrap the attested one",
                )
            if dataset.records is None:
                yield Reservation(
                    about="claims",
                    reason=f"data {name}: a stream without index: which records were left out cannot be told",
                    advice="ask for data with an index and a manifest (`palm-torch bind`)",
                )
            elif dataset.manifest is None:
                yield Reservation(
                    about="claims",
                    reason=f"data {name}: no manifest: what lay there may have changed between two readings",
                    advice="ask for data with a manifest (`palm-torch bind`), and name that in the policy",
                )
    if isinstance(claims, Distribute) and claims.distribution.source is not Source.MEASURED:
        yield Reservation(
            about="claims",
            reason="the distribution was handed over by the script: its code alone says how it was computed",
            advice="read the function, or ask for one of palm-torch's own statistics",
        )


def said(claims: Property) -> Iterator[tuple[str, str, Source]]:
    """Yields name, words and source of what a result says beside artifacts and datasets."""
    if isinstance(claims, Bind):
        yield "records", f"{claims.records}, {_shown(claims.framing.value)}", Source.MEASURED
        yield "records root", str(claims.records_root), Source.MEASURED
        yield "multiset", f"{claims.multiset.scheme} of {claims.multiset.count} records", Source.MEASURED
    if isinstance(claims, Preprocess):
        for name, written in claims.produced.items():
            yield f"produced {name}", written_in_words(written), written.source
    if isinstance(claims, (Preprocess, Distribute)):
        yield "arguments", _value(claims.arguments), claims.arguments.source
    if isinstance(claims, Distribute):
        yield "distribution", _value(claims.distribution), claims.distribution.source


def written_in_words(written: Written) -> str:
    """Returns how much was written, and what identifies it."""
    size = written.framing.get("record_bytes")
    long = f"of {size} bytes" if isinstance(size, int) else "of different lengths"
    return f"{written.records} records {long} in {len(written.files)} files, {written.digest}"


def _value(value: Value) -> str:
    return f"{_shown(value.value)}, {statement.value_digest(value.value)}" if value.value else "none"


def _shown(value: dict[str, Any]) -> str:
    text = encode_json(value).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
