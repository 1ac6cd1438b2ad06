"""Evidence as the reason to believe a weights root: appraised, and then asked which weights it names."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from palm_torch import appraiser, collateral_file, gpu_files, part_files, receipt, statement
from palm_torch import evidence as bundles
from palm_torch.commands import arguments
from palm_torch.commit import weights_lists
from palm_torch.digest import Digest
from palm_torch.errors import ArtifactError, BindingError, DataError
from palm_torch.result import AttestationResult

if TYPE_CHECKING:
    from palm_torch.commit.opening_file import WeightsOpening
    from palm_torch.statement import Statement


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
    **appraisal: Any,  # noqa: ANN401 (as in `_appraise`)
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
    result, end = _appraise(evidence, **appraisal)
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


def _appraise(  # noqa: PLR0913 (one for each option)
    evidence: Path,
    *,
    policy: Path,
    request: Path | None,
    at: str | None,
    freshness: Literal["required", "not_checked"],
    reference_values: Path | None,
    authority_key: Path | None,
    timestamp_root: Path | None,
    collateral: Path | None,
    rims: tuple[str, ...],
    ocsp: tuple[Path, ...],
    gpu_crls: tuple[Path, ...],
    parts: tuple[Path, ...],
    nras: tuple[Path, ...],
    jwks: Path | None,
) -> tuple[AttestationResult, Statement]:
    """Returns what was found, and the statement in the very bytes that were appraised."""
    judge = appraiser.Appraiser.of(
        at=None if at is None else arguments.moment(at, "--at"),
        freshness=freshness,
        reference_values=reference_values,
        authority_key=authority_key,
        timestamp_root=timestamp_root,
        gpu_files=gpu_files.read(rims=rims, ocsp=ocsp, crls=gpu_crls),
    )
    appraise = functools.partial(
        judge.sealed,
        policy=judge.policy(policy),
        request=None if request is None else appraiser.read_request(request),
        collateral=None if collateral is None else collateral_file.read(collateral),
        tokens=gpu_files.read_tokens(nras=nras, jwks=jwks),
    )
    if parts:
        result, accepted = part_files.verify(
            [evidence, *parts], appraise=lambda part, what, whole: appraise(part, what=what, whole=whole)
        )
        return result, statement.decode(accepted[0][0].end.statement)
    data = bundles.read(evidence)
    if receipt.is_receipt(data):
        raise DataError(f"{evidence}: a receipt; expected sealed evidence, or give the root with --root")
    result = appraise(data, what=str(evidence))
    return result, statement.decode(bundles.decode(data, what=str(evidence)).end.statement)
