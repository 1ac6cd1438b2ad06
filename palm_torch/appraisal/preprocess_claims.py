"""The claims of a preprocessing run against the rules of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch import statement
from palm_torch.appraisal import demands
from palm_torch.errors import ClaimError

if TYPE_CHECKING:
    from palm_torch.policies.dataset_rules import DistributeRules, PreprocessRules
    from palm_torch.properties import Distribute, Preprocess


def check(claims: Preprocess, rules: PreprocessRules) -> None:
    """Checks what was read, what was applied to it and what was written.

    Raises:
        ClaimError: Naming the claim, what the policy demands and what the statement says.
    """
    demands.read(claims.data, rules)
    check_function(claims, rules)
    if not claims.produced:
        raise ClaimError("produced: the evidence says that nothing was written")
    for name, written in claims.produced.items():
        demands.reference(f"produced.{name}", written.digest, rules.references("produced"))
    demands.in_range("records", sum(item.records for item in claims.produced.values()), rules.records)


def check_function(claims: Preprocess | Distribute, rules: PreprocessRules | DistributeRules) -> None:
    """Checks which function was applied, and with which arguments.

    Raises:
        ClaimError: As `check`.
    """
    demands.reference("function", claims.function.digest, rules.references("function"))
    arguments = claims.arguments.value
    digest = statement.value_digest(arguments) if arguments else None
    demands.reference("arguments", digest, rules.references("arguments"))
    for name, allowed in rules.ranges.items():
        if name not in arguments:
            raise ClaimError(
                f"ranges.{name}: the policy demands {allowed}, the function had no such argument"
            )
        demands.in_range(f"ranges.{name}", demands.number(f"ranges.{name}", arguments[name]), allowed)
