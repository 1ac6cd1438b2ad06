"""Evidence as the reason to believe a weights root: appraised, and then asked which weights it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_torch import statement
from palm_torch.commands import evidence_appraisal
from palm_torch.commit import weights_lists
from palm_torch.digest import Digest
from palm_torch.errors import ArtifactError, BindingError, DataError
from palm_torch.result import AttestationResult

if TYPE_CHECKING:
    from palm_torch.commit.opening_file import WeightsOpening


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Whose weights a root is, by evidence that was accepted.

    Attributes:
        evidence: The evidence.
        result: What its appraisal found.
        roles: The roles that the root fills, with what each says; the one that was asked for is the first.
        root: The root.
    """

    evidence: Path
    result: AttestationResult
    roles: dict[str, str]
    root: Digest

    @property
    def strength(self) -> str:
        """Who vouches for the root."""
        role = next(iter(self.roles))
        return next(claim.strength for claim in self.result.claims if claim.name == role)


def named(
    evidence: Path,
    read: WeightsOpening,
    opening: Path,
    *,
    role: str | None,
    **appraisal: Any,  # noqa: ANN401 (as in `evidence_appraisal.sealed`)
) -> Named:
    """Appraises evidence and finds that the opening's root fills the role that is asked for.

    Args:
        evidence: The evidence.
        read: The opening, of which nothing was checked yet.
        opening: Its file, for messages.
        role: Which weights; None for those that came out. No other role stands in for it.
        appraisal: What the evidence is appraised with, by the words of the command line.

    Raises:
        InputError: If a file is missing or malformed, or the opening is under another scheme.
        RejectedError: If the evidence must not be believed, or names other weights in this role.
    """
    if read.scheme != "hash":
        raise DataError(
            f"{opening}: an opening under scheme {read.scheme}, but evidence names roots of scheme hash: "
            "open under that, or check this one with --root"
        )
    result, bundle = evidence_appraisal.sealed(evidence, **appraisal)
    end = statement.decode(bundle.end.statement)
    listed = weights_lists.of_statement(end)
    wanted = weights_lists.result_role(end) if role is None else role
    if wanted not in listed:
        asked = "a model that came out" if role is None else f"the role {role!r}"
        names = ", ".join(listed) or "nothing"
        raise ArtifactError(
            f"{evidence}: expected {asked}, it names weights as {names}: --role says which ones you mean"
        )
    filled = [name for name, item in listed.items() if item.digest == read.root]
    if wanted not in filled:
        others = " and ".join(f"{name}, {weights_lists.meaning(end, name)}" for name in filled)
        found = f"the root of {others}: --role {filled[0]} asks for that" if filled else f"{read.root}"
        raise BindingError(
            f"{opening}: expected it under the root of {wanted}, {listed[wanted].digest}, it is under {found}"
        )
    order = (wanted, *(name for name in filled if name != wanted))
    roles = {name: weights_lists.meaning(end, name) for name in order}
    return Named(evidence=evidence, result=result, roles=roles, root=listed[wanted].digest)
