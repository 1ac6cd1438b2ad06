"""Segments of a resumed run: the chain from the end quote back to the first begin quote, link by link."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import relay
import workshop
from workshop import NEVER, NOW, put

from palm_torch.cvm import platforms, simulated_quote
from palm_torch.digest import Digest, sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import (
    BindingError,
    EvidenceError,
    FreshnessError,
    PlatformError,
    SignatureError,
    TrustAnchorError,
)
from palm_torch.evidence import Challenge
from palm_torch.sessions import openings, segments

if TYPE_CHECKING:
    from pathlib import Path

    from relay import ResumedRun

    from palm_torch.evidence import Bundle

OTHER = sha256_digest(b"another")


def chain(
    run: ResumedRun, bundle: Bundle | None = None, **options: Any
) -> tuple[segments.CheckedSegment, ...]:
    policy = run.policy()
    found = (bundle or run.bundle).segments
    given: dict[str, Any] = {
        "requirements": policy.platform.requirements(),
        "at": NOW,
        "collateral": platforms.fields_of(run.machine.collateral()),
    }
    return segments.verify_chain(found, **(given | options))


# What is accepted ---------------------------------------------------------------------------------


def test_the_chain_is_verified_from_the_first_session_on(resumed: ResumedRun) -> None:
    checked = chain(resumed)
    assert [item.number for item in checked] == [1, 2]
    assert [item.content.steps.taken for item in checked] == [1, 2]
    for item, session in zip(checked, resumed.sessions, strict=False):
        assert session.segment is not None
        assert item.receipt == session.segment.digest
        assert item.session.begin.run_id == session.opening.run_id
        assert [entry["seq"] for entry in item.entries] == [0, 1, 2]
    assert [item.content.resumes for item in checked] == [None, checked[0].receipt]


def test_no_segments_are_a_run_that_was_never_resumed(resumed: ResumedRun) -> None:
    assert segments.verify_chain((), requirements=resumed.policy().platform.requirements(), at=NOW) == ()


def test_the_result_tells_of_the_segments(resumed: ResumedRun) -> None:
    result = resumed.verify()
    (detail,) = [check.detail for check in result.checks if check.name == "segments"]
    first, second = (session.opening.run_id[:8] for session in resumed.sessions[:2])
    assert detail == (
        f"resumed 2 times: from step 1 of session {first}, from step 2 of session {second}; "
        "the sessions before ran on 1 machine"
    )
    assert segments.NOT_CHECKED in result.not_checked


def test_a_run_that_was_never_resumed_does_not_speak_of_segments(good: Any) -> None:
    result = good.verify()
    assert "segments" not in {check.name for check in result.checks}
    assert segments.NOT_CHECKED not in result.not_checked


def test_segments_in_words(resumed: ResumedRun) -> None:
    (first, second) = chain(resumed)
    assert segments.describe([first]).startswith("resumed once: from step 1 of session ")
    platform = dataclasses.replace(second.session.quote.platform, ppid=bytes(16))
    elsewhere = _quote_on(second, platform)
    assert segments.describe([first, elsewhere]).endswith("ran on 2 machines")


def _quote_on(segment: Any, platform: Any) -> Any:
    quote = segment.session.quote
    values = {field.name: getattr(quote, field.name) for field in dataclasses.fields(quote)}
    from palm_torch.cvm import tdx

    moved = tdx.VerifiedQuote(**{**values, "platform": platform}, token=tdx._MADE_HERE)
    session = {
        field.name: getattr(segment.session, field.name) for field in dataclasses.fields(segment.session)
    }
    opened = openings.VerifiedOpening(**{**session, "quote": moved}, token=openings._MADE_HERE)
    return dataclasses.replace(segment, session=opened)


def test_segments_of_unchallenged_sessions(tmp_path: Path) -> None:
    run = relay.make_resumed_run(tmp_path / "keys", challenge=None)
    nonces = {session.opening.challenge.nonce for session in run.sessions}
    assert len(nonces) == 3
    result = run.verify(challenge=NEVER)
    assert result.freshness == "unchallenged"


def test_an_end_that_answers_nobody_may_follow_parts_that_answered(resumed: ResumedRun) -> None:
    bundle = resumed.bent(
        relay.only("challenge", 3, lambda _: Challenge(kind="unchallenged", nonce=bytes(32)))
    )
    assert resumed.verify(bundle, challenge=NEVER).freshness == "unchallenged"


def test_a_segment_may_have_collateral_of_its_own(resumed: ResumedRun) -> None:
    earlier = workshop.machine(resumed.folder, NOW - timedelta(days=1)).collateral()
    own = dataclasses.asdict(earlier)
    assert own != resumed.bundle.collateral
    bundle = put(resumed.bundle, "segments.0.session.collateral", own)
    assert resumed.verify(bundle).checks
    broken = {**own, "tcb_info_signature": "00" * 64}
    with pytest.raises(SignatureError, match=r"^segment 1: "):
        resumed.verify(put(bundle, "segments.0.session.collateral", broken))


# What is refused ----------------------------------------------------------------------------------


def test_collateral_is_spelled_once(resumed: ResumedRun) -> None:
    bundle = put(resumed.bundle, "segments.1.session.collateral", resumed.bundle.collateral)
    with pytest.raises(EvidenceError, match="segment 2: collateral: the bundle's own, spelled twice"):
        resumed.verify(bundle)


def test_no_collateral_at_all(resumed: ResumedRun) -> None:
    with pytest.raises(EvidenceError, match="segment 1: no collateral, which says"):
        chain(resumed, collateral=None)


def test_another_root(resumed: ResumedRun, tmp_path: Path) -> None:
    stranger = relay.make_resumed_run(tmp_path / "keys")
    with pytest.raises(TrustAnchorError, match=r"^segment 1: "):
        chain(resumed, stranger.bundle)


def test_another_platform(resumed: ResumedRun) -> None:
    requirements = resumed.policy({"platform.tdx.mr_td": ["00" * 48]}).platform.requirements()
    with pytest.raises(PlatformError, match=r"^segment 1: mr_td: expected"):
        chain(resumed, requirements=requirements)


def test_a_receipt_of_another_kind(resumed: ResumedRun) -> None:
    bundle = put(resumed.bundle, "segments.0.receipt", resumed.sessions[0].file.envelope)
    with pytest.raises(EvidenceError, match="segment 1: expected a receipt of kind 'segment', got 'receipt'"):
        resumed.verify(bundle)


def test_a_missing_segment(resumed: ResumedRun) -> None:
    first, second = resumed.bundle.segments
    for parts, message in (
        ((), "the sealed session: it goes on from sha256:[0-9a-f]{64}, but the segment before it is missing"),
        (
            (first,),
            "the sealed session: it goes on from sha256:[0-9a-f]{64}, but the segment before it is sha256",
        ),
        ((second,), "segment 1: it goes on from sha256:[0-9a-f]{64}, but the segment before it is missing"),
        ((second, first), "segment 1: it goes on from"),
        ((first, first, second), "segment 2: it goes on from nothing, but the segment before it is sha256"),
        ((first, second, second), "segment 3: it goes on from"),
    ):
        with pytest.raises(BindingError, match=message):
            resumed.verify(put(resumed.bundle, "segments", parts))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_session_that_goes_on_from_something_else(resumed: ResumedRun, number: int) -> None:
    what = f"segment {number}" if number < 3 else "the sealed session"
    bent = [OTHER] if number == 1 else [OTHER, None]
    for resumes in bent:
        bundle = resumed.bent(
            relay.only("begin", number, lambda begin, resumes=resumes: put(begin, "resumes", resumes))
        )
        with pytest.raises(
            BindingError, match=f"^{what}: it goes on from {resumes or 'nothing'}, but the segment"
        ):
            resumed.verify(bundle)


def test_a_receipt_that_goes_on_from_something_else(resumed: ResumedRun) -> None:
    for number, resumes, message in (
        (1, OTHER, f"segment 1: the session goes on from nothing, its receipt from {OTHER}"),
        (2, OTHER, "segment 2: the session goes on from sha256:[0-9a-f]{64}, its receipt from " + str(OTHER)),
        (2, None, "segment 2: the session goes on from sha256:[0-9a-f]{64}, its receipt from nothing"),
    ):
        bundle = resumed.bent(
            relay.only("receipt", number, lambda content, resumes=resumes: put(content, "resumes", resumes))
        )
        with pytest.raises(BindingError, match=message):
            resumed.verify(bundle)


def test_another_operation(resumed: ResumedRun) -> None:
    bundle = resumed.bent(relay.only("begin", 1, lambda begin: put(begin, "operation", "infer")))
    with pytest.raises(BindingError, match="segment 2: it attests 'train', the segment before it 'infer'"):
        resumed.verify(bundle)
    bundle = resumed.bent(relay.only("begin", 3, lambda begin: put(begin, "operation", "infer")))
    with pytest.raises(
        BindingError, match="the sealed session: it attests 'infer', the segment before it 'train'"
    ):
        resumed.verify(bundle)


def test_another_log(resumed: ResumedRun) -> None:
    log = resumed.bundle.segments[1].log
    for other in (log[:-1], (*log, log[-1]), log[::-1], (log[1], log[0], *log[2:]), ()):
        with pytest.raises(
            BindingError, match=r"segment 2: an event log of . entries, root sha256:.* was issued after 3"
        ):
            resumed.verify(put(resumed.bundle, "segments.1.log", other))


def test_a_log_that_is_none(resumed: ResumedRun) -> None:
    bundle = resumed.bent(relay.only("log", 1, lambda log: (b"{}", *log[1:])))
    with pytest.raises(EvidenceError, match="segment 1: log entry 0: expected an object with 'seq': 0"):
        resumed.verify(bundle)


@pytest.mark.parametrize("sequence", [0, 2])
def test_receipts_that_the_log_does_not_know(resumed: ResumedRun, sequence: int) -> None:
    bundle = resumed.bent(relay.only("receipt", 2, lambda content: put(content, "issued.sequence", sequence)))
    with pytest.raises(
        BindingError,
        match=f"segment 2: the receipt is number {sequence} of its session, the event log knows 1",
    ):
        resumed.verify(bundle)


def resumed_entry(seq: int, **payload: Any) -> bytes:
    return encode_json({"seq": seq, "type": "resumed", "payload": payload})


def test_a_session_says_once_what_it_went_on_from(resumed: ResumedRun) -> None:
    def twice(log: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return (*log, log[0].replace(b'"seq":0', b'"seq":%d' % len(log)))

    def never(log: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return (log[0].replace(b'"resumed"', b'"started"'), *log[1:])

    def other(log: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return (log[0].replace(b"palm-sha256:", b"sha256:"), *log[1:])

    def begun(log: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return (*log, resumed_entry(len(log), receipt=str(OTHER), model=str(OTHER)))

    for number, bend, message in (
        (1, begun, "segment 1: event log: expected nothing under 'resumed', got .*" + str(OTHER)),
        (2, twice, r"segment 2: event log: expected \[\{'receipt': 'sha256"),
        (2, never, "segment 2: event log: expected .* got nothing"),
        (2, other, "segment 2: event log: expected .* got "),
        (3, never, "the sealed session: event log: expected .* got nothing"),
        (3, twice, "the sealed session: event log"),
    ):
        with pytest.raises(BindingError, match=message):
            resumed.verify(resumed.bent(relay.only("log", number, bend)))


def test_a_part_that_answers_another_request(resumed: ResumedRun) -> None:
    for kind in ("challenged", "unchallenged"):
        bundle = resumed.bent(
            relay.only("challenge", 1, lambda _, kind=kind: Challenge(kind=kind, nonce=b"n" * 32))
        )
        with pytest.raises(
            FreshnessError,
            match=f"segment 1: the evidence answers the request with .*, this part of the run is {kind}",
        ):
            resumed.verify(bundle)


# Openings -----------------------------------------------------------------------------------------


def test_a_verified_opening_is_made_by_verification_alone(resumed: ResumedRun) -> None:
    (first, *_) = chain(resumed)
    with pytest.raises(TypeError, match=r"made by openings\.verify alone"):
        dataclasses.replace(first.session, token=object())


def test_openings_that_cannot_be_appraised(resumed: ResumedRun) -> None:
    session = resumed.sessions[0]
    gpu = workshop.evidence.GpuEvidence(evidence=b"report", chain=b"chain")

    def sealed(**changes: Any) -> Any:
        begin = put(workshop.statement.decode_begin(session.opening.begin.statement), "gpu", changes["gpu"])
        return put(session.opening, "begin.statement", begin.encode())

    for opening, error, message in (
        (put(session.opening, "attester", "snp"), EvidenceError, "SNP endorsements: unknown key"),
        (put(session.opening, "begin.gpus", (gpu,)), BindingError, "begin quote: report data seals other"),
        (
            relay.sealed_opening(session.machine, put(session.opening, "begin.gpus", (gpu,))),
            PlatformError,
            "evidence of GPUs, of which the policy accepts none: no platform.gpu",
        ),
        (sealed(gpu=({"cc": "on"},)), BindingError, "begin quote: report data seals other claims"),
        (
            relay.sealed_opening(session.machine, sealed(gpu=({"cc": "on"},))),
            PlatformError,
            "evidence of GPUs, of which the policy accepts none: no platform.gpu",
        ),
        (
            put(session.opening, "run_id", "another"),
            BindingError,
            "begin quote: report data seals other claims",
        ),
        (put(session.opening, "challenge.nonce", bytes(32)), BindingError, "begin quote: report data seals"),
        (
            put(session.opening, "challenge.kind", "unchallenged"),
            BindingError,
            "begin quote: report data seals",
        ),
    ):
        with pytest.raises(error, match=f"^segment 1: {message}"):
            resumed.verify(
                put(resumed.bundle, "segments.0.session", dataclasses.replace(opening, collateral=None))
            )


def test_a_begin_statement_of_another_session(resumed: ResumedRun) -> None:
    for request in (OTHER, None):
        bundle = resumed.bent(relay.only("begin", 1, lambda begin, new=request: put(begin, "request", new)))
        with pytest.raises(BindingError, match=r"^segment 1: the begin statement names another request than"):
            resumed.verify(bundle)
    opening = resumed.sessions[0].opening
    begin = put(workshop.statement.decode_begin(opening.begin.statement), "run_id", "another")
    other = put(opening, "begin.statement", begin.encode())
    sealed = dataclasses.replace(relay.sealed_opening(resumed.machine, other), collateral=None)
    with pytest.raises(
        BindingError, match=r"^segment 1: run '[0-9a-f]{32}', but the begin statement is of 'ano"
    ):
        resumed.verify(put(resumed.bundle, "segments.0.session", sealed))


def test_a_register_that_the_begin_statement_does_not_name(resumed: ResumedRun) -> None:
    bundle = resumed.bent(relay.only("begin", 2, lambda begin: put(begin, "register", "01" * 48)))
    with pytest.raises(BindingError, match=r"segment 2: RTMR\[3\] of the begin quote is not the one"):
        resumed.verify(bundle)
    assert bytes(48) == simulated_quote.RTMR_ZERO


def test_a_receipt_names_its_session(resumed: ResumedRun) -> None:
    begin = Digest("sha256", bytes(32))
    for path, new, message in (
        ("issued.run_id", "another", "segment 1: receipt: expected one of run [0-9a-f]{32}, got 'another'"),
        (
            "issued.begin",
            begin,
            "segment 1: receipt: expected one of the session that began with quote sha256:",
        ),
    ):
        bundle = resumed.bent(
            relay.only("receipt", 1, lambda content, path=path, new=new: put(content, path, new))
        )
        with pytest.raises(BindingError, match=message):
            resumed.verify(bundle)


# words of the event log that travel: a segment says them, and a verifier of another make looks for them


def test_the_types_of_the_entries_are_those_of_the_specification() -> None:
    assert (segments.RESUMED, segments.RECEIPT) == ("resumed", "receipt")
