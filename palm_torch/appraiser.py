"""What one call of a door rests on, read once: clock, policies, requests, what an authority signed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch import files
from palm_torch import receipt as receipt_files
from palm_torch import request as request_files
from palm_torch.appraisal import freshness as freshnesses
from palm_torch.appraisal import verifier
from palm_torch.appraisal.at_hand import NO_DATA
from palm_torch.errors import PolicyError, RequestError
from palm_torch.evidence import GpuEndorsements
from palm_torch.policies import policy as policy_files
from palm_torch.policies import reference_values as reference_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_torch.appraisal.at_hand import Data, Whole
    from palm_torch.appraisal.closing import Closing
    from palm_torch.collateral_file import CollateralFile
    from palm_torch.gpu_files import Tokens
    from palm_torch.policies.policy import Policy
    from palm_torch.result import AttestationResult

CLOCK: Final = "this machine's clock"
ASSERTED: Final = "asserted by you"
MAX_ROOT_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraiser:
    """What one call of a door rests on, whichever and however many files it appraises.

    Attributes:
        at: The time that the caller asserts; None if it asserts none.
        now: That time, or this machine's clock when the call began.
        freshness: The caller's choice.
        references: Reference values of an authority, verified.
        timestamp_root: Root certificate of a time-stamping authority, PEM.
        gpu_files: What the makers of GPUs say of them, as far as the caller has it.
    """

    at: datetime | None
    now: datetime
    freshness: freshnesses.Rule
    references: reference_files.VerifiedValues | None
    timestamp_root: bytes | None
    gpu_files: GpuEndorsements | None

    @classmethod
    def of(
        cls,
        *,
        at: datetime | None,
        freshness: freshnesses.Rule,
        reference_values: str | Path | None,
        authority_key: str | Path | None,
        timestamp_root: str | Path | None,
        gpu_files: GpuEndorsements | None = None,
    ) -> Appraiser:
        """Reads the clock and what the caller names.

        Args:
            at: The time that the caller asserts, aware; None for this machine's clock.
            freshness: The caller's choice; see `verify`.
            reference_values: Signed values of an authority; they go with its key.
            authority_key: The authority's public key, PEM.
            timestamp_root: Root certificate of a time-stamping authority, PEM.
            gpu_files: What the makers of GPUs say of them, from `palm_torch.gpu_files`.

        Raises:
            InputError: If a file is missing or malformed.
            RejectedError: If the reference values are not the authority's, or do not hold now.
        """
        now = at or datetime.now(UTC).replace(microsecond=0)
        return cls(
            at=at,
            now=now,
            freshness=freshness,
            references=_reference_values(reference_values, authority_key, now),
            timestamp_root=None if timestamp_root is None else _read_root(Path(timestamp_root)),
            gpu_files=gpu_files,
        )

    def policy(self, path: Path) -> Policy:
        """Reads a policy file, with the authority's values where it asks for them.

        Raises:
            PolicyError: If the file cannot be read or does not parse.
        """
        return policy_files.load(path, references=self.references)

    def sealed(  # noqa: PLR0913 (each is another thing that a caller may hold)
        self,
        data: bytes,
        *,
        what: str,
        policy: Policy,
        request: bytes | None,
        artifacts: Mapping[str, Path] | None = None,
        collateral: CollateralFile | None = None,
        whole: Whole | None = None,
        data_at_hand: Data = NO_DATA,
        tokens: Tokens | None = None,
    ) -> AttestationResult:
        """Appraises sealed evidence; as `verify`, but with bytes in hand.

        Args:
            data: The evidence.
            what: Its name, for messages.
            policy: What is demanded, from `policy`.
            request: The request that it should answer, the file's bytes; None if there was none.
            artifacts: Files to compare with what it says of a role.
            collateral: What the platform's vendor says of it; None takes what the evidence carries.
            whole: What this part of a run says together with others.
            data_at_hand: What the caller holds of the data; coverage maps are looked up beside `what`.
            tokens: What NVIDIA's attestation service thought of its GPUs.
        """
        return verifier.verify(
            data,
            policy=policy,
            at=self.at if self.timestamp_root is not None else self.now,
            time_source=self.source,
            timestamp_root=self.timestamp_root,
            challenge=request,
            freshness_rule=self.freshness,
            collateral=collateral,
            gpu_files=self.gpu_files,
            files=artifacts,
            whole=whole,
            data_at_hand=dataclasses.replace(data_at_hand, evidence=Path(what)),
            tokens=tokens,
            what=what,
        )

    def receipt(
        self,
        data: bytes,
        *,
        what: str,
        policy: Policy,
        request: bytes | None,
        artifacts: Mapping[str, Path],
        closing: bytes | Closing | None,
        collateral: CollateralFile | None,
    ) -> AttestationResult:
        """Appraises a receipt; as `verify`, but with bytes in hand.

        Args:
            data: The receipt.
            what: Its name, for messages.
            policy: What is demanded, from `policy`.
            request: The request that its session should answer, the file's bytes; None if there was none.
            artifacts: Files to compare with what it says of a role.
            closing: The sealed evidence of its session, the file's bytes, or for several receipts what was
                made of them; None leaves it unclosed.
            collateral: What the platform's vendor says of it; None takes what the receipt carries.
        """
        from palm_torch.appraisal import receipts  # noqa: PLC0415 (evidence needs no part of it, and starts faster)

        return receipts.verify(
            receipt_files.decode(data, what=what),
            policy=policy,
            at=self.now,
            time_source=self.source,
            challenge=request,
            freshness_rule=self.freshness,
            closing=closing,
            collateral=collateral,
            gpu_files=self.gpu_files,
            files=artifacts,
        )

    @property
    def source(self) -> str:
        """Where the time comes from, as the result shall say."""
        return CLOCK if self.at is None else ASSERTED


def read_request(path: Path) -> bytes:
    """Reads a request file, without looking at it.

    Raises:
        RequestError: If it is missing, unreadable or too large.
    """
    return files.read_bounded(
        path, max_bytes=request_files.MAX_REQUEST_BYTES, what="the request", error=RequestError
    )


def _reference_values(
    path: str | Path | None, key: str | Path | None, at: datetime
) -> reference_files.VerifiedValues | None:
    if path is None and key is None:
        return None
    if path is None or key is None:
        raise PolicyError("--reference-values and --authority-key go together: give both")
    return reference_files.load(Path(path), key=Path(key), at=at)


def _read_root(path: Path) -> bytes:
    return files.read_bounded(path, max_bytes=MAX_ROOT_BYTES, what="the root certificate", error=PolicyError)
