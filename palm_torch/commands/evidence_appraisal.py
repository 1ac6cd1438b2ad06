"""Evidence and receipts, appraised as the words of a command line say, together with what they say.

What is returned was decoded from the very bytes that were appraised.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from palm_torch import appraiser, collateral_file, gpu_files, part_files
from palm_torch import evidence as bundles
from palm_torch import receipt as receipts
from palm_torch.appraiser import Appraiser
from palm_torch.commands import arguments
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.evidence import Bundle
    from palm_torch.receipt import Content
    from palm_torch.result import AttestationResult


def sealed(evidence: Path, **words: Any) -> tuple[AttestationResult, Bundle]:  # noqa: ANN401 (as `appraising.options` has them)
    """Appraises sealed evidence.

    Args:
        evidence: The file.
        words: By the names of the options of `palm_torch.commands.appraising`.

    Raises:
        InputError: If a file is missing or malformed, or it is a receipt.
        RejectedError: If it must not be believed.
    """
    parts: tuple[Path, ...] = words["parts"]
    judge = _judge(words)
    tokens = gpu_files.read_tokens(nras=words["nras"], jwks=words["jwks"])
    appraise: Any = functools.partial(judge.sealed, **_asked(judge, words), tokens=tokens)
    if parts:
        result, accepted = part_files.verify(
            [evidence, *parts], appraise=lambda part, what, whole: appraise(part, what=what, whole=whole)
        )
        return result, accepted[0][0]
    data = bundles.read(evidence)
    if receipts.is_receipt(data):
        raise DataError(f"{evidence}: a receipt; expected sealed evidence, or give the root with --root")
    alone: AttestationResult = appraise(data, what=str(evidence))
    return alone, bundles.decode(data, what=str(evidence))


def signed(receipt: Path, closing: Path | None, **words: Any) -> tuple[AttestationResult, Content]:  # noqa: ANN401 (as above)
    """Appraises a receipt.

    Args:
        receipt: The file.
        closing: The sealed evidence of its session; None leaves it unclosed.
        words: As in `sealed`.

    Raises:
        InputError: If a file is missing or malformed, or the first is no receipt.
        RejectedError: If it must not be believed.
        click.UsageError: If something is given that is for sealed evidence alone.
    """
    for name, option in (("parts", "--part"), ("timestamp_root", "--timestamp-root"), ("nras", "--nras")):
        if words[name]:
            raise click.UsageError(f"{option} goes with sealed evidence alone: leave out --receipt")
    data = bundles.read(receipt)
    if not receipts.is_receipt(data):
        raise DataError(f"{receipt}: expected a receipt; sealed evidence goes with --evidence")
    judge = _judge(words)
    result = judge.receipt(
        data,
        what=str(receipt),
        artifacts={},
        closing=None if closing is None else bundles.read(closing),
        **_asked(judge, words),
    )
    payload = receipts.decode(data, what=str(receipt)).envelope.payload
    return result, receipts.decode_content(payload, what=str(receipt))


def _judge(words: dict[str, Any]) -> Appraiser:
    at = words["at"]
    return Appraiser.of(
        at=None if at is None else arguments.moment(at, "--at"),
        freshness=words["freshness"],
        reference_values=words["reference_values"],
        authority_key=words["authority_key"],
        timestamp_root=words["timestamp_root"],
        gpu_files=gpu_files.read(rims=words["rims"], ocsp=words["ocsp"], crls=words["gpu_crls"]),
    )


def _asked(judge: Appraiser, words: dict[str, Any]) -> dict[str, Any]:
    request, collateral = words["request"], words["collateral"]
    return {
        "policy": judge.policy(words["policy"]),
        "request": None if request is None else appraiser.read_request(request),
        "collateral": None if collateral is None else collateral_file.read(collateral),
    }
