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
from typing import TYPE_CHECKING

from palm_torch.cvm import platforms, simulated, simulated_snp
from palm_torch.cvm.certificates import TrustAnchor
from palm_torch.digest import Digest, sha256_digest
from palm_torch.errors import AttesterError, FreshnessError, MeasurementError, SessionError
from palm_torch.evidence import Segment
from palm_torch.sessions import gpu_evidence, segments

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from palm_torch.attesting.checkpoint import Checkpoint
    from palm_torch.attesting.gpus import SessionGpus
    from palm_torch.cvm.attester import Attester
    from palm_torch.evidence import Challenge, Opening
    from palm_torch.statement import SourceFile


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
    return tuple(_lean(segment, own) for segment in (*found.state.segments, last))


def check_chain(
    chain: tuple[Segment, ...], own: Opening, *, attester: Attester, gpus: SessionGpus, at: datetime
) -> tuple[segments.CheckedSegment, ...]:
    """Verifies the sessions before this one, step 2.

    Args:
        chain: What `chain_of` returned.
        own: What opened this session.
        attester: This machine's.
        gpus: This machine's; those of the earlier sessions have to be as many, and genuine.
        at: The time.

    Raises:
        InputError: If a part does not parse.
        RejectedError: Of the class that fits, if a check fails.
    """
    requirements = platforms.requirements_of(
        own.attester, own.begin.quote, simulated_root=simulated_root_of(attester)
    )
    if own.begin.gpus:
        requirements = dataclasses.replace(
            requirements,
            gpu=gpu_evidence.rules_for_own(len(own.begin.gpus)),
            simulated_gpu_root=gpus.simulated_root(),
        )
    return segments.verify_chain(chain, requirements=requirements, at=at, collateral=own.collateral)


def simulated_root_of(attester: Attester) -> TrustAnchor | None:
    """Returns the root that a simulated machine's own quotes lead to; None for hardware.

    Raises:
        AttesterError: If a simulated one does not show its root.
    """
    if not attester.simulated:
        return None
    if not isinstance(attester, simulated.SimulatedTdx | simulated_snp.SimulatedSnp):
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


def _lean(segment: Segment, own: Opening) -> Segment:
    session = segment.session
    if session.collateral is None or session.attester != own.attester:
        return segment
    theirs, ours = (
        platforms.endorsed_by(opening.attester, opening.begin.quote) for opening in (session, own)
    )
    if theirs != ours:
        return segment
    return dataclasses.replace(segment, session=dataclasses.replace(segment.session, collateral=None))
