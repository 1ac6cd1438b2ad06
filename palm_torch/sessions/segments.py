"""A resumed run: earlier sessions that ended at a checkpoint, and what ties them to the one that was sealed.

An earlier session has no end quote. Its key, which its begin quote seals, signed a receipt at the
checkpoint; the session that resumed from it names that receipt in its own begin statement, which its begin
quote seals. So a chain leads from the end quote back to the first begin quote. For each segment, oldest
first:

1. Its session was opened by a genuine platform that the rules accept (`palm_torch.sessions.openings`).
2. Its key signed the receipt, which names that session.
3. It goes on from the segment before: its begin statement and its receipt both name that receipt.
4. Its event log is the one the receipt names, with as many earlier receipts in it as the number of the
   receipt says.
5. Its log says once that the model it loaded is the one that the segment before had left.
6. It answers the same request, if the sealed session answers one.

Then what the receipts say is compared, with each other and with the end statement
(`palm_torch.appraisal.continuation`). Work that was thrown away before a session was resumed leaves no
trace: see `NOT_CHECKED`. What a script restored besides is the verifier's to tell
(`palm_torch.appraisal.resumption`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from palm_torch.commit import history
from palm_torch.digest import SHA256, Digest, sha256_digest
from palm_torch.errors import BindingError, EvidenceError, FreshnessError, prefixed
from palm_torch.receipt import SegmentReceipt
from palm_torch.sessions import gpus, openings, seals
from palm_torch.statement import Code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from palm_torch.cvm.platforms import Requirements
    from palm_torch.evidence import Bundle, Challenge, Segment
    from palm_torch.statement import Begin

RESUMED: Final = "resumed"
"""Type of the log entry of a resumed session: the receipt, and the model that was found loaded."""

RECEIPT: Final = "receipt"
"""Type of the log entry of every receipt that was issued, of either kind: its digest."""

NOT_CHECKED: Final = (
    "whether a checkpoint that the run was resumed from was the newest one, and whether other runs went on "
    "from it: work that was thrown away leaves no trace; what runs share shows with --seen or in a chain"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSegment:
    """One segment of which every step but the comparison with the end statement holds.

    Attributes:
        number: Its place in the run, from 1.
        session: What opened its session.
        receipt: SHA-256 of its receipt's payload.
        content: What the receipt says.
        code: The code loaded until then.
        entries: Its event log.
    """

    number: int
    session: openings.VerifiedOpening
    receipt: Digest
    content: SegmentReceipt
    code: Code
    entries: tuple[dict[str, Any], ...]


def verify_chain(
    chain: Sequence[Segment],
    *,
    requirements: Requirements,
    at: datetime,
    collateral: Mapping[str, str] | None = None,
    at_hand: gpus.AtHand = gpus.NOTHING,
) -> tuple[CheckedSegment, ...]:
    """Verifies the segments of a run as far as they go, steps 1 to 5 and the operation.

    Args:
        chain: The segments, oldest first.
        requirements: The root that every begin quote must lead to, and the platform that every session
            must have run on.
        at: Time of verification, aware.
        collateral: Serves the segments that carry none, by field.
        at_hand: What the makers of GPUs say.

    Raises:
        InputError: If a part does not parse; the message names the segment, counted from 1.
        RejectedError: Of the class that fits, if a step fails.
    """
    checked: tuple[CheckedSegment, ...] = ()
    for number, segment in enumerate(chain, 1):
        with prefixed(f"segment {number}"):
            session = openings.verify(  # 1
                segment.session, requirements=requirements, at=at, collateral=collateral, at_hand=at_hand
            )
            content, code = openings.verify_receipt(segment.receipt, session)  # 2
            if not isinstance(content, SegmentReceipt):
                raise EvidenceError(f"expected a receipt of kind 'segment', got {content.KIND!r}")
            link_begin(session.begin, checked)  # 3
            if content.resumes != session.begin.resumes:
                raise BindingError(
                    f"the session goes on from {session.begin.resumes or 'nothing'}, its receipt from "
                    f"{content.resumes or 'nothing'}"
                )
            entries = _log_of(segment.log, content)  # 4
            _check_resumed(entries, checked)  # 5
        item = CheckedSegment(
            number=number,
            session=session,
            receipt=sha256_digest(segment.receipt.payload),
            content=content,
            code=code,
            entries=entries,
        )
        checked = (*checked, item)
    return checked


def verify(
    bundle: Bundle,
    begin: Begin,
    *,
    requirements: Requirements,
    at: datetime,
    collateral: Mapping[str, str],
    at_hand: gpus.AtHand = gpus.NOTHING,
) -> tuple[CheckedSegment, ...]:
    """Verifies the segments of a bundle, and that the sealed session goes on from the last of them.

    Args:
        bundle: The evidence; its own quotes are the caller's business.
        begin: The begin statement of the sealed session.
        requirements: The root that every begin quote must lead to, and the platform that every session
            must have run on.
        at: Time of verification, aware.
        collateral: The bundle's own, or what takes its place.
        at_hand: What the makers of GPUs say.

    Returns:
        The segments, oldest first; none for a run that was never resumed.

    Raises:
        InputError: If a part does not parse; the message names the segment, counted from 1.
        RejectedError: Of the class that fits, if a step fails.
    """
    checked = verify_chain(
        bundle.segments, requirements=requirements, at=at, collateral=collateral, at_hand=at_hand
    )
    with prefixed("the sealed session"):
        link_begin(begin, checked)  # 3
        _check_resumed(seals.read_log(bundle.log), checked)  # 5
    for segment in checked:  # 6
        with prefixed(f"segment {segment.number}"):
            _check_challenge(segment.session.opening.challenge, bundle.challenge)
            own = segment.session.opening.collateral
            if own is not None and own == bundle.collateral:
                raise EvidenceError("collateral: the bundle's own, spelled twice; expected null")
    return checked


def link_begin(begin: Begin, before: Sequence[CheckedSegment]) -> None:
    """Checks that a session goes on from the newest of the segments before it, in the same operation.

    Args:
        begin: The session's begin statement.
        before: The segments before it, oldest first; none if it must start anew.

    Raises:
        BindingError: If it goes on from something else, or starts anew.
    """
    expected = before[-1].receipt if before else None
    if begin.resumes != expected:
        raise BindingError(
            f"it goes on from {begin.resumes or 'nothing'}, but the segment before it is "
            f"{expected or 'missing'}"
        )
    if before and begin.operation != before[-1].session.begin.operation:
        raise BindingError(
            f"it attests {begin.operation!r}, the segment before it {before[-1].session.begin.operation!r}"
        )


def describe(checked: Sequence[CheckedSegment]) -> str:
    """Returns one line about the segments of a resumed run."""
    places = ", ".join(
        f"from step {item.content.steps.taken} of session {item.session.opening.run_id[:8]}"
        for item in checked
    )
    times = "once" if len(checked) == 1 else f"{len(checked)} times"
    machines = len({item.session.quote.machine for item in checked})
    return f"resumed {times}: {places}; the sessions before ran on {machines} machine{'s'[: machines - 1]}"


def _log_of(log: Sequence[bytes], content: SegmentReceipt) -> tuple[dict[str, Any], ...]:
    issued, root = content.issued, Digest(SHA256, history.root_of(log))
    if (len(log), root) != (issued.log_size, issued.log_root):
        raise BindingError(
            f"an event log of {len(log)} entries, root {root}; the receipt was issued after "
            f"{issued.log_size} entries, root {issued.log_root}"
        )
    entries = seals.read_log(log)
    earlier = sum(entry["type"] == RECEIPT for entry in entries)
    if earlier != issued.sequence:
        raise BindingError(
            f"the receipt is number {issued.sequence} of its session, the event log knows {earlier} before it"
        )
    return entries


def _check_resumed(entries: Sequence[dict[str, Any]], before: Sequence[CheckedSegment]) -> None:
    found = [entry["payload"] for entry in entries if entry["type"] == RESUMED]
    expected = [{"receipt": str(item.receipt), "model": str(item.content.model)} for item in before[-1:]]
    if found != expected:
        raise BindingError(
            f"event log: expected {expected or 'nothing'} under {RESUMED!r}, got {found or 'nothing'!s:.400}"
        )


def _check_challenge(found: Challenge, sealed: Challenge) -> None:
    """Work that nobody had asked for yet must not pass as an answer."""
    if sealed.kind == "challenged" and found != sealed:
        raise FreshnessError(
            f"the evidence answers the request with SHA-256 {sealed.nonce.hex()}, this part of the run is "
            f"{found.kind}, nonce {found.nonce.hex()}"
        )
