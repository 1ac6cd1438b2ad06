"""The word ``[authority]`` in a policy: a trusted authority's list in place of one's own.

It is resolved in the document, before any value is looked at: a policy that was read holds plain values.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

from palm_torch.encoding import Json
from palm_torch.errors import PolicyError
from palm_torch.policies import reference_values

if TYPE_CHECKING:
    from palm_torch.policies.reference_values import VerifiedValues

AUTHORITY: Final = "authority"
"""Alone in a list, it stands for the authority's list of the same name."""

_HOW: Final = (
    "give its file and its public key (--reference-values FILE --authority-key PEM); without them nothing of "
    "the policy can be checked, except that it is YAML"
)


def resolve(document: Json, verified: VerifiedValues | None, *, what: str) -> Json:
    """Returns a policy's document with the authority's list in place of every ``[authority]``.

    Args:
        document: The policy as it was parsed, before its values were looked at.
        verified: The authority's values; None if the verifier was given none.
        what: Name of the policy, for messages.

    Raises:
        PolicyError: If the policy asks for a list that nobody brought, or for nothing of what was brought.
    """
    resolved = copy.deepcopy(document)
    lists = verified.values.lists() if verified else {}
    asked = False
    for path in reference_values.PATHS:
        part, name = _part(resolved, path)
        if part is None or part.get(name) != [AUTHORITY]:
            continue
        if verified is None:
            raise PolicyError(
                f"{what}: {path}: [{AUTHORITY}] stands for a trusted authority's values: {_HOW}"
            )
        if not lists[path]:
            raise PolicyError(
                f"{what}: {path}: the policy asks the authority, and {verified.values.issuer!r} names no "
                f"value; list the values here, or ask for reference values that do"
            )
        part[name] = list[Json](lists[path])
        asked = True
    if verified and not asked:
        raise PolicyError(
            f"{what}: the policy asks the authority for nothing: write [{AUTHORITY}] where the values of "
            f"{verified.values.issuer!r} shall count, or leave the reference values out"
        )
    return resolved


def _part(document: Json, path: str) -> tuple[dict[str, Json] | None, str]:
    *parents, name = path.split(".")
    for parent in parents:
        document = document.get(parent) if isinstance(document, dict) else None
    return (document if isinstance(document, dict) else None), name
