"""Evidence as the reason to believe a weights root: appraised, and then asked which weights it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from palm_torch import appraiser, collateral_file, receipt, statement
from palm_torch import evidence as bundles
from palm_torch.commands import arguments
from palm_torch.commit import weights_lists
from palm_torch.digest import Digest
from palm_torch.errors import BindingError, DataError
from palm_torch.result import AttestationResult

if TYPE_CHECKING:
    from palm_torch.commit.opening_file import WeightsOpening


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Whose weights a root is, by evidence that was accepted.

    Attributes:
        evidence: The evidence.
        result: What its appraisal found.
        roles: The roles that the root fills, with what each says; what came out is the first.
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


def named(evidence: Path, read: WeightsOpening, opening: Path, **appraisal: Any) -> Named:  # noqa: ANN401 (as in `_appraise`)
    """Appraises evidence and finds the role that the opening's root fills.

    Args:
        evidence: The evidence.
        read: The opening, of which nothing was checked yet.
        opening: Its file, for messages.
        appraisal: What the evidence is appraised with, by the words of the command line.

    Raises:
        InputError: If a file is missing or malformed, or the opening is under another scheme.
        RejectedError: If the evidence must not be believed, or names other weights.
    """
    if read.scheme != "hash":
        raise DataError(
            f"{opening}: an opening under scheme {read.scheme}, but evidence names roots of scheme hash: "
            "open under that, or check this one with --root"
        )
    data = bundles.read(evidence)  # the bytes that are appraised are those that are read
    if receipt.is_receipt(data):
        raise DataError(f"{evidence}: a receipt; expected sealed evidence, or give the root with --root")
    result = _appraise(data, evidence, **appraisal)
    end = statement.decode(bundles.decode(data, what=str(evidence)).end.statement)
    listed = weights_lists.of_statement(end)
    roles = {
        role: weights_lists.meaning(end, role) for role, item in listed.items() if item.digest == read.root
    }
    if not roles:
        said = ", ".join(f"{role} {item.digest}" for role, item in listed.items()) or "no weights"
        raise BindingError(f"{opening}: it is under the root {read.root}, the evidence names {said}")
    return Named(evidence=evidence, result=result, roles=roles, root=listed[next(iter(roles))].digest)


def _appraise(  # noqa: PLR0913 (one for each option)
    data: bytes,
    evidence: Path,
    *,
    policy: Path,
    request: Path | None,
    at: str | None,
    freshness: Literal["required", "not_checked"] | None,
    reference_values: Path | None,
    authority_key: Path | None,
    timestamp_root: Path | None,
    collateral: Path | None,
) -> AttestationResult:
    judge = appraiser.Appraiser.of(
        at=None if at is None else arguments.moment(at, "--at"),
        freshness=freshness or "required",
        reference_values=reference_values,
        authority_key=authority_key,
        timestamp_root=timestamp_root,
    )
    return judge.sealed(
        data,
        what=str(evidence),
        policy=judge.policy(policy),
        request=None if request is None else appraiser.read_request(request),
        collateral=None if collateral is None else collateral_file.read(collateral),
    )
