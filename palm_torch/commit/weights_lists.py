"""Weights that somebody lists, tensor by tensor: a commitment lists one model, evidence one for each role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch import evidence, files, receipt, statement
from palm_torch.commit import weights_commitment
from palm_torch.commit.weights_commitment import MEDIA_TYPE, WeightsCommitment
from palm_torch.errors import ArtifactError, DataError, EvidenceError
from palm_torch.roles import Weights

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.statement import Statement

MEANINGS: Final = {
    "initial": "the model it began with",
    "base": "the model it began with",
    "model": "the model it speaks of",
}
"""What a role says of weights, for people; what a run trained is its result."""

RESULT: Final = "the model that came out"


def of_statement(end: Statement) -> dict[str, Weights]:
    """Returns the weights that a statement names, by role; what came out is the first."""
    filled = {role: item for role, item in end.roles().items() if isinstance(item, Weights)}
    outputs = [role for role in filled if role in type(end.claims).OUTPUTS]
    return {role: filled[role] for role in (*outputs, *(role for role in filled if role not in outputs))}


def result_role(end: Statement) -> str | None:
    """Returns the role of the model that came out; None if nothing did."""
    return next((role for role in of_statement(end) if role in type(end.claims).OUTPUTS), None)


def meaning(end: Statement, role: str) -> str:
    """Returns what a role says of weights, for people."""
    return RESULT if role in type(end.claims).OUTPUTS else MEANINGS[role]


def read(path: Path, *, role: str | None = None) -> dict[str, WeightsCommitment]:
    """Reads the lists of a file; whether it is to be believed is not looked at.

    Args:
        path: Evidence, or a commitment.
        role: The one role of the evidence that counts; None for all.

    Returns:
        The lists, by words for messages.

    Raises:
        InputError: If the file cannot be read, is neither, or lists no weights.
        ArtifactError: If the evidence has no such role.
    """
    data = files.read_bounded(path, what="the list", max_bytes=evidence.MAX_BUNDLE_BYTES, error=EvidenceError)
    if data.startswith(weights_commitment.START):
        if role is not None:
            raise DataError(f"{path}: a commitment, which is of one model: leave out the role {role!r}")
        return {str(path): weights_commitment.decode(data, what=str(path))}
    if receipt.is_receipt(data):
        raise EvidenceError(f"{path}: a receipt: expected sealed evidence, or a commitment")
    end = statement.decode(evidence.decode(data, what=str(path)).end.statement)
    named = of_statement(end)
    if role is not None and role not in named:
        raise ArtifactError(
            f"{path}: expected a role with weights, {', '.join(named) or 'none'}, got {role!r}"
        )
    if not named:
        raise DataError(f"{path}: evidence of {end.operation!r}, which names no weights")
    return {f"the {name} of {path}": _listed(item) for name, item in named.items() if role in (None, name)}


def _listed(weights: Weights) -> WeightsCommitment:
    return WeightsCommitment(
        media_type=MEDIA_TYPE, scheme="hash", root=weights.digest, tensors=weights.tensors
    )
