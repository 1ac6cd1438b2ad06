"""The code that ran, against the code part of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch import statement
from palm_torch.errors import CodeError

if TYPE_CHECKING:
    from palm_torch.policies.policy import CodeRules
    from palm_torch.roles import Value
    from palm_torch.statement import Code


def check(rules: CodeRules, code: Code, environment: Value) -> list[str]:
    """Checks code and installed packages.

    Args:
        rules: What the policy allows.
        code: The code that ran.
        environment: Where the installed packages are listed.

    Returns:
        What the policy leaves unchecked.

    Raises:
        CodeError: If code or packages are none of those that the policy names.
    """
    if rules.digests and code.digest not in rules.digests:
        raise CodeError(f"code {code.digest} is none of the {len(rules.digests)} the policy names")
    packages = statement.value_digest(environment.value.get("packages"))
    if not rules.packages:
        return [f"which installed packages ran: the policy names none; these are {packages}"]
    if packages not in rules.packages:
        raise CodeError(f"installed packages {packages} are none of those the policy names")
    return []
