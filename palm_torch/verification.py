"""`palm_torch.verify`: reads the files and the clock, then asks the verifier, which reads neither."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from palm_torch import evidence as bundles
from palm_torch import policy as policies
from palm_torch import request as requests
from palm_torch import verifier
from palm_torch.errors import EvidenceError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_torch.result import AttestationResult

CLOCK: Final = "this machine's clock"
ASSERTED: Final = "asserted by you"


def verify(
    evidence: str | Path,
    *,
    policy: str | Path,
    request: str | Path | None = None,
    at: datetime | None = None,
    freshness: Literal["required", "not_checked"] = "required",
    artifacts: Mapping[str, str | Path] | None = None,
) -> AttestationResult:
    """Appraises an evidence file against a policy file, offline.

    Args:
        evidence: The evidence, a ``.palm.json`` file.
        policy: What is demanded, a YAML file; see `palm_torch.policy`.
        request: The request file that the evidence should answer, if there was one.
        at: The time of verification, aware; this machine's clock if None. The result repeats which.
        freshness: ``not_checked`` accepts evidence that answers a request which is not at hand.
        artifacts: Files to compare with what the evidence says of a role, such as
            ``{"model": "model.safetensors"}``.

    Returns:
        The result: what was checked, what was not, the warnings, and every claim with its strength.

    Raises:
        InputError: If a file is missing or malformed; nothing was appraised.
        RejectedError: If the evidence must not be believed.
    """
    return verifier.verify(
        bundles.read_bounded(Path(evidence), max_bytes=bundles.MAX_BUNDLE_BYTES, what="the evidence"),
        policy=policies.load(Path(policy)),
        at=at if at is not None else datetime.now(UTC).replace(microsecond=0),
        time_source=CLOCK if at is None else ASSERTED,
        challenge=None if request is None else _read_request(Path(request)),
        freshness=freshness,
        files={role: Path(path) for role, path in (artifacts or {}).items()},
        what=str(evidence),
    )


def _read_request(path: Path) -> bytes:
    try:
        return bundles.read_bounded(path, max_bytes=requests.MAX_REQUEST_BYTES, what="the request")
    except EvidenceError as error:
        raise RequestError(str(error)) from error
