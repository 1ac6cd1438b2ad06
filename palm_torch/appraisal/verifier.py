"""Checking evidence: everything it rests on is an argument, nothing is fetched, no clock is read.

`verify` returns an `AttestationResult` or raises. It says what was checked and what was not.

 1. Decode bundle, statements, log and collateral: size limits, canonical bytes only.
 2. Time (`palm_torch.appraisal.moment`): the time-stamp token, if the root of its authority was given.
    Challenge: the request in force at the time, and the evidence answering that request.
 3. Begin and end quotes are genuine: chain to the one root the policy names, revocation, signatures, the
    vendor's opinion of the platform (docs/spec/30-hardware.md numbers these steps).
 4. The platform is in the state the policy asks for: TCB, attributes, measurements.
 5. Both quotes come from one trust domain, or one guest, on one machine.
 6. Binding: report data of both quotes recomputed from nonce, run, phase, statement, log and session key.
 7. Event log: entries in order, root as sealed; RTMR[3], where there is one, replayed from boot to begin and
    from begin to end. The boot log, if there is one, replays to RTMR[0] to RTMR[2].
 8. GPUs: at both ends the same, each answered its own nonce, is genuine, and as the policy asks for
    (`palm_torch.sessions.gpus` numbers these steps). Without GPUs: the policy asks for none.
 9. Segments: earlier sessions of a resumed run, each opened by such a platform, each receipt signed by its
    key, one going on from the other (`palm_torch.sessions.segments` numbers these steps).
10. End statement continues begin statement and every segment: run, operation, code, packages, inputs.
11. Devices: whatever ran on other than the CPU has evidence of its own.
12. Claims agree with themselves: weights roots, multiset counts, multiplicities. A part names itself rightly.
    Answers are those of the event log, and so are those that are revoked.
13. Code is the code the policy names.
14. Claims are what the policy demands; those of a part, together with the parts at hand.
15. Files at hand are those the evidence speaks of: weights, manifests with what was delivered of their
    records (`palm_torch.appraisal.datasets_at_hand` numbers these steps), proofs for single records.
16. Somebody else's opinions at hand are theirs, about these GPUs and good. They decide nothing
    (`palm_torch.appraisal.opinions` numbers these steps).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch import statement
from palm_torch.appraisal import (
    claims,
    code_rules,
    composite,
    consistency,
    continuation,
    freshness,
    inference_claims,
    moment,
    own_part,
    reservations,
    resumption,
    unmeasured,
)
from palm_torch.appraisal.at_hand import NO_DATA, NO_FILE, Data, Whole
from palm_torch.appraisal.decoded import Decoded
from palm_torch.cvm import platforms
from palm_torch.errors import InputError, RejectedError
from palm_torch.result import AttestationResult, Check, Reservation, Tier, strength_of
from palm_torch.sessions import gpus, seals, segments

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from palm_torch.collateral_file import CollateralFile
    from palm_torch.evidence import GpuEndorsements
    from palm_torch.gpu_files import Tokens
    from palm_torch.policies.policy import Policy
    from palm_torch.statement import Statement

NOT_CHECKED: Final = (
    "whether this is the only run that was made of these inputs (best of N)",
    "what the code means: a digest says which code ran, not that it is right",
)


_TAKEN: Final = {
    statement.CodeSource.IMPORTED: "each hashed before it ran",
    statement.CodeSource.SELF_REPORTED: "as the running script reported them",
}


_GUEST: Final = {"tdx": "trust domain, PPID", "snp": "guest, chip"}
"""What a machine is called, and what names it, by kind."""


@dataclass(slots=True)
class _Findings:
    checks: list[Check] = field(default_factory=list)
    reservations: list[Reservation] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=lambda: list(NOT_CHECKED))

    def passed(self, name: str, detail: str) -> None:
        self.checks.append(Check(name=name, detail=detail))


@dataclass(frozen=True, slots=True)
class _AtHand:
    files: Mapping[str, Path]
    data: Data
    whole: Whole | None


def verify(  # noqa: PLR0913 (everything that it rests on is an argument)
    data: bytes,
    *,
    policy: Policy,
    at: datetime | None,
    time_source: str = "given by the caller",
    timestamp_root: bytes | None = None,
    challenge: bytes | None = None,
    freshness_rule: freshness.Rule = "required",
    collateral: CollateralFile | None = None,
    gpu_files: GpuEndorsements | None = None,
    gpus_at_hand: gpus.AtHand | None = None,
    files: Mapping[str, Path] | None = None,
    whole: Whole | None = None,
    data_at_hand: Data = NO_DATA,
    tokens: Tokens | None = None,
    what: str = "evidence",
) -> AttestationResult:
    """Appraises one evidence bundle.

    Args:
        data: The bundle's bytes.
        policy: What is demanded.
        at: The time of verification, an aware datetime; None takes the time of the time-stamp token.
        time_source: Where `at` comes from; repeated in the result.
        timestamp_root: Root certificate (PEM) of a time-stamping authority. With it the bundle must carry a
            token of that authority (RFC 3161); without it a token is not looked at.
        challenge: The bytes of the request file that the evidence should answer; None if there was none.
        freshness_rule: ``not_checked`` accepts challenged evidence without its request, and says so.
        collateral: What the platform's vendor says of it, to be used in place of the bundle's own; needed
            for evidence that carries none.
        gpu_files: What the makers of GPUs say of them; a kind of file of which there are some takes the
            place of the bundle's own.
        gpus_at_hand: What `palm_torch.sessions.gpus.read` made of them and of the bundle's own, if that was
            done already; they are not read again.
        files: Files to compare with what the evidence says of a role: role → path.
        whole: What this part of a run says together with others at hand: its claims are judged by that.
        data_at_hand: Manifests, coverage maps and proofs to compare with what the evidence says of its data.
        tokens: What NVIDIA's attestation service thought of the GPUs, and its keys.
        what: Name of the bundle, for messages about malformed bytes.

    Returns:
        The result, at least a warning.

    Raises:
        InputError: If the bundle, the request or a file is malformed.
        RejectedError: If the evidence must not be believed; its ``checks`` attribute lists what had passed.
    """
    if at is not None and at.utcoffset() is None:
        raise InputError("at: expected a time with a time zone")
    findings = _Findings()
    try:
        decoded = Decoded.of(data, what, collateral, gpu_files, gpus_at_hand)  # 1
        findings.passed("encoding", f"{len(data)} bytes, canonical, version 1")
        time = moment.of(decoded.bundle, at=at, source=time_source, root=timestamp_root)  # 2
        findings.checks += time.checks
        findings.reservations += time.reservations
        findings.not_checked += time.not_checked
        at_hand = _AtHand(files or {}, data_at_hand, whole)
        result, attested = _verify(decoded, policy, time, challenge, freshness_rule, at_hand, findings)
        return result if tokens is None else _with_opinions(result, tokens, attested, time.at)  # 16
    except RejectedError as error:
        error.checks = tuple(findings.checks)
        raise


def _verify(
    decoded: Decoded,
    policy: Policy,
    time: moment.Moment,
    challenge: bytes | None,
    rule: freshness.Rule,
    at_hand: _AtHand,
    findings: _Findings,
) -> tuple[AttestationResult, tuple[gpus.Attested, ...]]:
    bundle, begin, end, at = decoded.bundle, decoded.begin, decoded.end, time.at
    whole = at_hand.whole

    state = _check_challenge(decoded, challenge, rule, time.latest, findings)  # 2

    requirements = policy.platform.requirements()
    first, last = quotes = _verify_quotes(decoded, requirements, at)  # 3
    findings.passed("signatures", f"begin and end quotes lead to the root that counts, {last.anchor.name}")
    for quote in quotes:  # 4
        platforms.appraise(quote, requirements)
    findings.passed("platform", f"{last.state}, measurements as the policy pins them")
    findings.not_checked += last.caveats

    platforms.check_same_machine(first, last)  # 5
    findings.passed("one machine", f"both quotes come from one {_GUEST[last.kind]} {last.machine.hex()}")
    seals.check_begin(bundle.opening, begin, first)  # 6
    seals.check_end(bundle, last)
    findings.passed("binding", "both quotes seal this run, these statements, this log and this session key")
    findings.passed("event log", seals.check_log(bundle, begin, quotes))  # 7
    seals.check_boot_log(bundle, begin, quotes)
    if bundle.boot_log is not None:
        findings.passed("boot log", "it replays to RTMR[0] to RTMR[2] of both quotes")
    earlier, attested = _verify_sessions(decoded, requirements, at, findings)  # 8, 9
    continuation.check_begun(begin, end)  # 10
    continuation.check_resumed(earlier, end)
    findings.passed("continuation", "the end statement continues the begin statement")
    if earlier:
        others = resumption.environments(earlier, end)
        findings.passed(
            "segments",
            segments.describe(earlier) + (f"; environments differ in {others}" if others else ""),
        )
        findings.not_checked.append(segments.NOT_CHECKED)
        findings.not_checked += resumption.left_open(earlier, end)
    findings.checks.append(composite.devices(end, attested[0], earlier))  # 11
    consistency.check(end)  # 12
    own_part.check(bundle, end)
    inference_claims.check_log(end, bundle.log)
    findings.passed("consistency", "weights roots, counts and multiplicities agree with each other")
    code = end.run.code
    findings.not_checked += code_rules.check(policy.code, code, end.run.environment)  # 13
    findings.reservations += reservations.of_code(policy.code, code)
    findings.passed("code", f"{len(code.files)} source files, {_TAKEN[code.source]}")
    claims.check_claims(end if whole is None else whole.end, policy.claims)  # 14
    findings.passed("claims", f"the {end.operation} claims are what the policy demands")
    findings.not_checked += claims.waved_through(policy.claims)
    findings.reservations += reservations.of_statement(end)
    findings.reservations += unmeasured.of_statement(end)
    findings.reservations += own_part.reservations(
        end, policy.claims, at_hand=() if whole is None else whole.at_hand
    )
    findings.not_checked += own_part.left_open(end)
    findings.not_checked += inference_claims.left_open(end.claims)
    _compare_files(end, at_hand, findings)  # 15

    simulations = composite.simulation(machine=any(quote.simulated for quote in quotes), attested=attested)
    findings.reservations[:0] = simulations
    simulated = bool(simulations)
    strength = strength_of(simulated=simulated, reservations=findings.reservations)
    result = AttestationResult(
        tier=Tier.WARNING if findings.reservations else Tier.AFFIRMING,
        simulated=simulated,
        operation=end.operation,
        run_id=bundle.run_id,
        freshness=state,
        session="closed",
        time=f"{at.isoformat()} ({time.source})",
        co_location="unproven",
        checks=tuple(findings.checks),
        reservations=tuple(findings.reservations),
        not_checked=tuple(findings.not_checked),
        claims=claims.claims_of(end, strength),
    )
    return result, attested


def _compare_files(end: Statement, at_hand: _AtHand, findings: _Findings) -> None:
    files, data = at_hand.files, at_hand.data
    if files or data.datasets or data.coverage or data.inclusions:
        from palm_torch.appraisal import files_at_hand  # noqa: PLC0415 (many hold nothing; without, it starts faster)

        files_at_hand.compare(end, files, data, checks=findings.checks, left_open=findings.not_checked)
    if not files and not data.datasets:
        findings.not_checked.append(NO_FILE)


def _with_opinions(
    result: AttestationResult, tokens: Tokens, attested: Sequence[gpus.Attested], at: datetime
) -> AttestationResult:
    """Step 16: adds opinions to a result that stands without them."""
    from palm_torch.appraisal import opinions  # noqa: PLC0415 (few verifiers hold any; without, it starts faster)

    return dataclasses.replace(result, opinions=opinions.of_gpus(tokens, composite.places(attested), now=at))


def _verify_quotes(
    decoded: Decoded, requirements: platforms.Requirements, at: datetime
) -> tuple[platforms.Verified, platforms.Verified]:
    kind = decoded.bundle.attester
    endorsements = platforms.read_endorsements(kind, decoded.collateral)
    first, last = (
        platforms.verify(kind, phase.quote, endorsements, requirements=requirements, now=at)
        for phase in (decoded.bundle.begin, decoded.bundle.end)
    )
    return first, last


def _verify_sessions(
    decoded: Decoded, requirements: platforms.Requirements, at: datetime, findings: _Findings
) -> tuple[tuple[segments.CheckedSegment, ...], tuple[gpus.Attested, ...]]:
    """Steps 8 and 9: the earlier sessions, and the GPUs of all of them, at begin and end of the last."""
    bundle, begin = decoded.bundle, decoded.begin
    at_hand = decoded.gpus_at_hand  # 8
    if at_hand is None:
        at_hand = gpus.read(bundle.gpu_endorsements, decoded.gpu_files, requirements=requirements, now=at)
    first, last = composite.verify(
        bundle, begin, decoded.end, requirements=requirements, at_hand=at_hand, now=at
    )
    findings.checks += composite.checks(last, when="at begin and end")
    earlier = segments.verify(  # 9
        bundle, begin, requirements=requirements, at=at, collateral=decoded.collateral, at_hand=at_hand
    )
    for item in earlier:
        findings.checks += composite.checks(item.session.gpus, when=f"at the begin of segment {item.number}")
    attested = (first, last, *(item.session.gpus for item in earlier))
    gpus.check_all_used(at_hand, composite.all_of(attested))
    findings.not_checked += composite.left_open(attested, earlier=bool(earlier))
    return earlier, attested


def _check_challenge(
    decoded: Decoded,
    challenge: bytes | None,
    rule: freshness.Rule,
    latest: datetime,
    findings: _Findings,
) -> freshness.State:
    answer = freshness.check(
        decoded.bundle.challenge, asked=challenge, rule=rule, at=latest, operation=decoded.end.operation
    )
    for role in answer.roles:
        claims.check_measured(decoded.end, role)
    if answer.state == "challenged":
        findings.passed("freshness", "answers the request at hand")
    elif answer.state == "unchallenged":
        findings.reservations.append(reservations.UNCHALLENGED)
    else:
        findings.reservations.append(reservations.NOT_CHECKED)
        findings.not_checked.append("whether the evidence answers the request it was made for")
    return answer.state
