"""The claims of a binding against the rules of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.appraisal import demands

if TYPE_CHECKING:
    from palm_torch.policies.dataset_rules import BindRules
    from palm_torch.properties import Bind


def check(claims: Bind, rules: BindRules) -> None:
    """Checks which dataset was bound.

    Raises:
        ClaimError: Naming the claim, what the policy demands and what the statement says.
    """
    demands.reference("manifest", claims.manifest.digest, rules.references("manifest"))
    demands.in_range("records", claims.records, rules.records)
