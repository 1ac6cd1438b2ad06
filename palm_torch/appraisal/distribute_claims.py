"""The claims of a distribution against the rules of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch import statement
from palm_torch.appraisal import demands, preprocess_claims
from palm_torch.errors import ClaimError
from palm_torch.roles import Source

if TYPE_CHECKING:
    from palm_torch.policies.dataset_rules import DistributeRules
    from palm_torch.properties import Distribute


def check(claims: Distribute, rules: DistributeRules) -> None:
    """Checks what was read, what was computed of it, and the numbers that came of it.

    Raises:
        ClaimError: Naming the claim, what the policy demands and what the statement says.
    """
    demands.read(claims.data, rules)
    preprocess_claims.check_function(claims, rules)
    found = claims.distribution
    if found.source is not Source.MEASURED and not rules.computed_by_script:
        raise ClaimError(
            f"distribution: the policy demands one of palm-torch itself, the evidence says: {found.source}"
        )
    digest = statement.value_digest(found.value)
    demands.reference("distribution", digest, rules.references("distribution"))
    for path, allowed in rules.bounds.items():
        name = f"bounds.{path}"
        demands.in_range(name, demands.number(name, _at(found.value, path)), allowed)


def _at(value: object, path: str) -> object:
    """Returns the part of a distribution that a path leads to; a name may itself hold dots."""
    if isinstance(value, dict):
        if path in value:
            return value[path]
        for name, part in value.items():
            if path.startswith(f"{name}."):
                return _at(part, path.removeprefix(f"{name}."))
    raise ClaimError(f"bounds: the distribution has no {path!r}")
