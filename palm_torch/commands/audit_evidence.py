"""What the commands of an audit share: the context, what was sealed about it, and what nobody did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from palm_torch.errors import BindingError, EvidenceError
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.commands.trace_evidence import Named
    from palm_torch.digest import Digest

NOT_SEALED: Final = (
    "NOT SEALED: the request names nothing that was sealed before it was drawn. What follows says whether "
    "the trace is consistent in itself, and nothing of what was served, by whom, or when."
)
NOT_APPRAISED: Final = (
    "NOT APPRAISED: the request names sealed claims, and neither --evidence nor --receipt is given: that "
    "they are sealed rests on whoever drew the request."
)


def context(path: Path) -> bytes:
    """Reads a trace's context, without looking at it.

    Raises:
        EvidenceError: If the file cannot be read.
    """
    from palm_torch.commit import trace

    return read_bounded(path, what="the context", max_bytes=trace.MAX_CONTEXT_BYTES, error=EvidenceError)


def named(
    data: bytes, what: Path, *, evidence: Path | None, receipt: Path | None, words: dict[str, Any]
) -> Named | None:
    """Appraises evidence, or a receipt, that names a trace; None if neither is given.

    Args:
        data: The trace's context.
        what: Its file, for messages.
        evidence: Sealed evidence.
        receipt: The receipt of an answer.
        words: What they are appraised with.

    Raises:
        InputError: If a file is missing or malformed.
        RejectedError: If the evidence must not be believed, or names no such trace.
    """
    if evidence is None and receipt is None:
        return None
    from palm_torch.commands import trace_evidence

    return trace_evidence.named(data, str(what), evidence=evidence, receipt=receipt, **words)


def require_claims(request: Path, claims: Digest | None, found: Named | None) -> None:
    """Refuses a request that was drawn about other claims than those of the evidence.

    Args:
        request: The request's file, for messages.
        claims: What it names.
        found: What was appraised; None if nothing was.

    Raises:
        BindingError: If they differ.
    """
    if found is not None and claims != found.claims:
        raise BindingError(
            f"{request}: expected a request about the claims {found.claims} of {found.source}, got one about "
            f"{claims or 'none'}"
        )


def warn(*, sealed: bool, appraised: bool) -> None:
    """Says on standard error what nobody vouches for.

    Args:
        sealed: Whether the request names claims.
        appraised: Whether what sealed them was appraised.
    """
    if not sealed:
        click.secho(NOT_SEALED, fg="yellow", err=True)
    elif not appraised:
        click.secho(NOT_APPRAISED, fg="yellow", err=True)
