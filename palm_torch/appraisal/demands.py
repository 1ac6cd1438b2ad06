"""The kinds of demand that claim rules make: one of some digests or layouts, and a number in a range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.errors import ClaimError
from palm_torch.policies.bounds import ANY, NONE

if TYPE_CHECKING:
    from palm_torch.digest import Digest
    from palm_torch.policies.bounds import Range, References
    from palm_torch.policies.dataset_rules import DistributeRules, PreprocessRules
    from palm_torch.roles import Dataset


def reference(name: str, digest: Digest | None, allowed: References) -> None:
    """Checks a digest against the references of its role.

    Raises:
        ClaimError: If it is none of them.
    """
    if allowed.word == ANY or (allowed.word == NONE and digest is None):
        return
    if digest is None or digest not in allowed.digests:
        wanted = "none" if allowed.word == NONE else ", ".join(sorted(map(str, allowed.digests)))
        raise ClaimError(f"{name}: the policy demands {wanted}, the evidence says {digest or 'none'}")


def layout(name: str, dataset: Dataset, allowed: tuple[str, ...] | None) -> None:
    """Checks how a dataset's records were read against the kinds that a policy names; unset accepts all.

    Raises:
        ClaimError: If it is none of them.
    """
    if allowed is not None and dataset.layout not in allowed:
        raise ClaimError(
            f"{name}, layout: the policy demands {' or '.join(allowed)}, the evidence says that its records "
            f"were read as {dataset.layout!r:.160}"
        )


def in_range(name: str, value: float, allowed: Range | None) -> None:
    """Checks a number against its range; an unset one holds every number.

    Raises:
        ClaimError: If it lies outside.
    """
    if allowed is not None and not allowed.holds(value):
        raise ClaimError(f"{name}: the policy demands {allowed}, the evidence says {value}")


def number(name: str, value: object) -> float:
    """Returns a value that has to be a number.

    Raises:
        ClaimError: If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ClaimError(f"{name}: expected a number, the evidence says {value!r:.80}")
    return float(value)


def read(data: dict[str, Dataset], rules: PreprocessRules | DistributeRules) -> None:
    """Checks which data was read, as what, and how often each record of it.

    Args:
        data: What the evidence says was read, by name.
        rules: What the policy demands.

    Raises:
        ClaimError: Naming the dataset.
    """
    if not data:
        raise ClaimError("data: the evidence says that nothing was read")
    allowed = rules.references("data")
    for name, dataset in data.items():
        what = f"data.{name}"
        reference(what, dataset.manifest, allowed)
        layout(what, dataset, rules.layout)
        found = dataset.uses.get("read")
        if found is None:
            raise ClaimError(f"{what}: the evidence says that it was not read")
        if rules.exact and not found.exact:
            raise ClaimError(
                f"{what}: the policy demands exact counts, the evidence says that code between the dataset "
                "and what was read from it may have dropped records"
            )
        if found.counts is None:
            if not rules.streams:
                raise ClaimError(
                    f"{what}: the policy demands data with an index, the evidence says it was a stream: how "
                    "often each record was read cannot be told"
                )
            continue
        for count in (found.counts.least, found.counts.greatest):
            in_range(f"{what}: times that each record was read", count, rules.multiplicity)
