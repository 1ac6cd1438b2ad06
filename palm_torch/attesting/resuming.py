"""Going on from a checkpoint: nothing that comes back from a disk is believed before it was verified.

The very functions of the verifier check the chain of segments, under the root of this machine's own
attester and for the image that this session itself runs in:

1. The checkpoint parses, and the state is the one that its receipt names (`palm_torch.attesting.checkpoint`).
2. Every session of the chain was opened by a genuine platform under this machine's root, with the same
   measurements as this session's own begin quote, and its key signed its receipt
   (`palm_torch.sessions.segments`).
3. Operation and challenge are this session's.
4. No source file that is loaded now has changed since.

That the model, the optimizers and the data are the checkpoint's shows when they are first used
(`palm_torch.attesting.training`). An older checkpoint of the same run is as genuine as the newest: which one
it was stands in the evidence.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from palm_torch.cvm import appraisal, quote, simulated
from palm_torch.cvm import collateral as collaterals
from palm_torch.cvm.certificates import INTEL_SGX_ROOT, TrustAnchor
from palm_torch.digest import Digest, sha256_digest
from palm_torch.errors import AttesterError, FreshnessError, MeasurementError, SessionError
from palm_torch.evidence import Segment
from palm_torch.sessions import segments

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from palm_torch.attesting.checkpoint import Checkpoint
    from palm_torch.cvm.attester import Attester
    from palm_torch.evidence import Challenge, Opening
    from palm_torch.statement import SourceFile

_PINNED: Final = (*appraisal.IMAGE_REGISTERS, *appraisal.HOST_REGISTERS)


def receipt_of(found: Checkpoint) -> Digest:
    """Returns the identity of a checkpoint's receipt: what a session that goes on from it names."""
    return sha256_digest(found.envelope.payload)


def chain_of(found: Checkpoint, own: Opening) -> tuple[Segment, ...]:
    """Returns the segments of a run up to a checkpoint, oldest first, as the session's bundle carries them.

    Args:
        found: The checkpoint.
        own: What opened this session; segments of the same platform need no collateral of their own.
    """
    last = Segment(session=found.state.session, log=found.state.log, receipt=found.envelope)
    if own.collateral is None:
        return (*found.state.segments, last)
    platform = quote.parse_quote(own.begin.quote).certificates
    return tuple(_lean(segment, platform) for segment in (*found.state.segments, last))


def check_chain(
    chain: tuple[Segment, ...], own: Opening, *, attester: Attester, at: datetime
) -> tuple[segments.CheckedSegment, ...]:
    """Verifies the sessions before this one, step 2.

    Args:
        chain: What `chain_of` returned.
        own: What opened this session.
        attester: This machine's.
        at: The time.

    Raises:
        InputError: If a part does not parse.
        RejectedError: Of the class that fits, if a check fails.
    """
    report = quote.parse_quote(own.begin.quote).td_report
    pinned: dict[str, Any] = {name: (getattr(report, name).hex(),) for name in _PINNED}
    rules = appraisal.TdxRules(
        **pinned,
        td_attributes=tuple(sorted(appraisal.OPTIONAL_ATTRIBUTE_BITS)),
        tcb_statuses=appraisal.TCB_STATUSES,
    )
    collateral = None if own.collateral is None else collaterals.from_json(dict(own.collateral))
    return segments.verify_chain(chain, anchor=anchor_of(attester), rules=rules, at=at, collateral=collateral)


def anchor_of(attester: Attester) -> TrustAnchor:
    """Returns the root that this machine's own quotes lead to.

    Raises:
        AttesterError: If it is a simulated one that does not show its root.
    """
    if not attester.simulated:
        return INTEL_SGX_ROOT
    if not isinstance(attester, simulated.SimulatedTdx):
        raise AttesterError(f"resume: {attester.name} does not show its root certificate")
    return TrustAnchor.from_certificate(attester.root_certificate(), name="this machine's simulated root")


def check_challenge(found: Challenge, own: Challenge) -> None:
    """Checks that the run goes on answering whom it answered, step 3.

    Raises:
        SessionError: If the checkpoint answers a request, and this session none.
        FreshnessError: If they answer different requests, or the checkpoint none: work that nobody had
            asked for yet must not pass as an answer.
    """
    if own.kind == "unchallenged":
        if found.kind == "challenged":
            raise SessionError(
                f"resume: the run answers the request with SHA-256 {found.nonce.hex()}: give the same file, "
                "attested(..., request=...)"
            )
        return
    if found != own:
        raise FreshnessError(
            f"resume: the session answers the request with SHA-256 {own.nonce.hex()}, the checkpoint is "
            f"{found.kind}, nonce {found.nonce.hex()}: resume with the request that the run began with"
        )


def check_code(before: Iterable[SourceFile], now: Iterable[SourceFile]) -> None:
    """Checks that source files loaded now are those that ran before the checkpoint, step 4.

    Raises:
        MeasurementError: Naming the first module that is not.
    """
    known = {file.module: file for file in before}
    for file in now:
        earlier = known.get(file.module)
        if earlier is not None and earlier.digest != file.digest:
            raise MeasurementError(
                f"resume: the source file of {file.module} changed since the checkpoint: expected "
                f"{earlier.digest}, got {file.digest}; resume with the code that the run began with, or "
                "begin a new run from its weights"
            )


def _lean(segment: Segment, platform: tuple[bytes, ...]) -> Segment:
    if segment.session.collateral is None:
        return segment
    if quote.parse_quote(segment.session.begin.quote).certificates != platform:
        return segment
    return dataclasses.replace(segment, session=dataclasses.replace(segment.session, collateral=None))
