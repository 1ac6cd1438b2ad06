"""How records were delivered, against the rules of a policy: as what, how often, how exactly, to how many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.appraisal import demands
from palm_torch.errors import ClaimError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from palm_torch.policies.policy import ClaimRules
    from palm_torch.roles import Dataset, Delivered


def check(data: Mapping[str, Dataset], rules: ClaimRules) -> None:
    """Checks every use of every dataset.

    Args:
        data: The datasets of a statement by name.
        rules: What the policy demands.

    Raises:
        ClaimError: Naming dataset and use, what the policy demands and what the statement says.
    """
    for name, dataset in data.items():
        demands.layout(f"data.{name}", dataset, rules.layout)
        if dataset.records is None and not rules.streams:
            raise ClaimError(
                f"data.{name}: the policy demands data with an index, the evidence says it was a stream: "
                "which records were delivered cannot be told"
            )
    for name, use, delivered in uses(data):
        what = f"data.{name}.{use}"
        if rules.exact and not delivered.exact:
            raise ClaimError(
                f"{what}: the policy demands exact counts, the evidence says that code between the dataset "
                "and the loop may have dropped records"
            )
        demands.in_range(f"{what}, ranks", len(delivered.order), rules.ranks)
        if use == "train":
            _check_multiplicity(what, delivered, rules)
    if not any(use == "train" for _, use, _ in uses(data)):
        demands.in_range("multiplicity", 0, rules.multiplicity)
    for name, use, delivered in uses(data):
        if delivered.padded is None and not rules.unknown_padding:
            raise ClaimError(
                f"data.{name}.{use}, padded: the policy demands at most {rules.padded} records that a "
                "sampler repeated to make ranks equal, the evidence says that this is not known: another "
                "sampler than torch's own dealt the records out; `unknown_padding: true` accepts that"
            )
    padded = sum(delivered.padded or 0 for _, _, delivered in uses(data))
    if padded > rules.padded:
        raise ClaimError(
            f"padded: the policy demands at most {rules.padded} records that a sampler repeated to make "
            f"ranks equal, the evidence says {padded}"
        )


def uses(data: Mapping[str, Dataset]) -> Iterator[tuple[str, str, Delivered]]:
    """Yields name, use and what was delivered, for every use of every dataset."""
    for name, dataset in data.items():
        for use, delivered in dataset.uses.items():
            yield name, use, delivered


def _check_multiplicity(what: str, delivered: Delivered, rules: ClaimRules) -> None:
    if rules.multiplicity is None:
        return
    if delivered.counts is None:
        raise ClaimError(
            f"{what}: the policy demands multiplicities {rules.multiplicity}, the evidence says it was a "
            "stream, whose records have none"
        )
    for value in (delivered.counts.least, delivered.counts.greatest):
        demands.in_range(f"{what}, multiplicity", value, rules.multiplicity)
