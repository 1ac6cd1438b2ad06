"""Checking evidence: everything it rests on is an argument, nothing is fetched, no clock is read.

`verify` returns an `AttestationResult` or raises. It says what was checked and what was not.

 1. Decode bundle, statements, log and collateral: size limits, canonical bytes only.
 2. Challenge: the request in force at the given time, and the evidence answering that request.
 3. Begin and end quotes are genuine: chain to the one root the policy names, revocation, quoting enclave,
    signatures (docs/spec/30-hardware.md numbers these steps).
 4. The platform is in the state the policy asks for: TCB, attributes, registers.
 5. Both quotes come from one trust domain on one machine.
 6. Binding: report data of both quotes recomputed from nonce, run, phase, statement, log and session key.
 7. Event log: entries in order, root as sealed, RTMR[3] replayed from its value at begin to that at end.
 8. End statement continues begin statement: run, operation, code, environment, inputs.
 9. Devices: whatever ran on other than the CPU has evidence of its own.
10. Claims agree with themselves: weights roots, multiset counts, multiplicities.
11. Code is the code the policy names.
12. Claims are what the policy demands.
13. Files at hand are those the evidence speaks of.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from palm_torch import artifacts, claims, consistency, evidence, request, statement
from palm_torch.commit import history
from palm_torch.cvm import appraisal, binding, collateral, tdx
from palm_torch.digest import SHA256, Digest
from palm_torch.encoding import decode_json
from palm_torch.errors import (
    BindingError,
    ClaimError,
    CodeError,
    EncodingError,
    EvidenceError,
    FreshnessError,
    InputError,
    PlatformError,
    RejectedError,
)
from palm_torch.evidence import Bundle, Phase
from palm_torch.result import AttestationResult, Check, Tier
from palm_torch.statement import Begin, Statement

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from palm_torch.policy import Policy

Freshness = Literal["challenged", "unchallenged", "not_checked"]

NOT_CHECKED: Final = (
    "whether the session key's machine also holds the GPUs it names (co-location)",
    "whether this is the only run that was made of these inputs (best of N)",
    "what the code means: a digest says which code ran, not that it is right",
)


@dataclass(slots=True)
class _Findings:
    checks: list[Check] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=lambda: list(NOT_CHECKED))

    def passed(self, name: str, detail: str) -> None:
        self.checks.append(Check(name=name, detail=detail))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decoded:
    bundle: Bundle
    begin: Begin
    end: Statement
    collateral: collateral.Collateral


def verify(
    data: bytes,
    *,
    policy: Policy,
    at: datetime,
    time_source: str = "given by the caller",
    challenge: bytes | None = None,
    freshness: Literal["required", "not_checked"] = "required",
    files: Mapping[str, Path] | None = None,
    what: str = "evidence",
) -> AttestationResult:
    """Appraises one evidence bundle.

    Args:
        data: The bundle's bytes.
        policy: What is demanded.
        at: The time of verification, an aware datetime.
        time_source: Where `at` comes from; repeated in the result.
        challenge: The bytes of the request file that the evidence should answer; None if there was none.
        freshness: ``not_checked`` accepts challenged evidence without its request, and says so.
        files: Files to compare with what the evidence says of a role: role → path.
        what: Name of the bundle, for messages about malformed bytes.

    Returns:
        The result, at least a warning.

    Raises:
        InputError: If the bundle, the request or a file is malformed.
        RejectedError: If the evidence must not be believed; its ``checks`` attribute lists what had passed.
    """
    if at.utcoffset() is None:
        raise InputError("at: expected a time with a time zone")
    findings = _Findings()
    try:
        decoded = _decode(data, what)  # 1
        findings.passed("encoding", f"{len(data)} bytes, canonical, version 1")
        return _verify(decoded, policy, at, time_source, challenge, freshness, files or {}, findings)
    except RejectedError as error:
        error.checks = tuple(findings.checks)
        raise


def _verify(
    decoded: _Decoded,
    policy: Policy,
    at: datetime,
    time_source: str,
    challenge: bytes | None,
    freshness: Literal["required", "not_checked"],
    files: Mapping[str, Path],
    findings: _Findings,
) -> AttestationResult:
    bundle, end = decoded.bundle, decoded.end

    state = _check_challenge(decoded, challenge, freshness, at, findings)  # 2

    anchor = policy.platform.anchor()
    quotes = {
        name: tdx.verify_quote(phase.quote, decoded.collateral, anchors=(anchor,), now=at)  # 3
        for name, phase in (("begin", bundle.begin), ("end", bundle.end))
    }
    simulated = any(quote.simulated for quote in quotes.values())
    findings.passed("signatures", f"begin and end quotes lead to {anchor.name}")
    for quote in quotes.values():  # 4
        appraisal.appraise(quote, policy.platform.tdx)
    findings.passed("platform", f"TCB {quotes['end'].tcb_status}, registers as the policy pins them")

    appraisal.check_same_td(quotes["begin"], quotes["end"])  # 5
    findings.passed("one machine", f"both quotes come from one trust domain, PPID {quotes['end'].ppid.hex()}")
    _check_binding(decoded, quotes["begin"], quotes["end"])  # 6
    findings.passed("binding", "both quotes seal this run, these statements, this log and this session key")
    _check_log(decoded, quotes["begin"], quotes["end"])  # 7
    findings.passed("event log", f"{len(bundle.log)} entries in order, RTMR[3] replays")
    _check_continuation(decoded)  # 8
    findings.passed("continuation", "the end statement continues the begin statement")
    _check_devices(end)  # 9
    findings.passed("devices", "CPU only; no GPU evidence needed")
    consistency.check(end)  # 10
    findings.passed("consistency", "weights roots, counts and multiplicities agree with each other")
    _check_code(policy, end, findings)  # 11
    claims.check_claims(end, policy.claims)  # 12
    findings.passed("claims", f"the {end.operation} claims are what the policy demands")
    findings.not_checked += claims.waved_through(policy.claims)
    findings.warnings += claims.reservations(end)
    for role, path in files.items():  # 13
        artifacts.compare(role, path, end)
        findings.passed("artifact", f"{path} is the {role} of the evidence")

    if simulated:
        findings.warnings.insert(0, "simulated TEE: no hardware vouches for any of this")
    return AttestationResult(
        tier=Tier.WARNING if findings.warnings else Tier.AFFIRMING,
        simulated=simulated,
        operation=end.operation,
        run_id=bundle.run_id,
        freshness=state,
        time=f"{at.isoformat()} ({time_source})",
        co_location="unproven",
        checks=tuple(findings.checks),
        warnings=tuple(findings.warnings),
        not_checked=tuple(findings.not_checked),
        claims=claims.claims_of(
            end, "simulated" if simulated else "code" if findings.warnings else "hardware"
        ),
    )


def _decode(data: bytes, what: str) -> _Decoded:
    bundle = evidence.decode(data, what=what)
    if bundle.attester != "tdx":
        raise PlatformError(f"attester {bundle.attester!r}: this version appraises 'tdx'")
    if bundle.begin.gpus or bundle.end.gpus:
        raise PlatformError("GPU evidence: this version cannot appraise it, and leaves nothing unchecked")
    if bundle.collateral is None:
        raise EvidenceError("evidence: no collateral in the bundle")
    begin = statement.decode_begin(bundle.begin.statement)
    if begin.gpu:
        raise PlatformError("GPU state in the begin statement, and no GPU evidence that vouches for it")
    return _Decoded(
        bundle=bundle,
        begin=begin,
        end=statement.decode(bundle.end.statement),
        collateral=collateral.from_json(dict(bundle.collateral)),
    )


def _check_challenge(
    decoded: _Decoded,
    challenge: bytes | None,
    freshness: Literal["required", "not_checked"],
    at: datetime,
    findings: _Findings,
) -> Freshness:
    found = decoded.bundle.challenge
    if challenge is not None:
        asked = request.decode(challenge)
        if found.kind != "challenged" or found.nonce != request.nonce_of(challenge):
            raise FreshnessError(
                f"the evidence does not answer this request (SHA-256 {request.nonce_of(challenge).hex()}): "
                f"it is {found.kind}, nonce {found.nonce.hex()}"
            )
        if asked.expired(at):
            raise FreshnessError(f"the request expired at {asked.expires}, the time is {at.isoformat()}")
        if asked.operation != decoded.end.operation:
            raise FreshnessError(
                f"the request asks for {asked.operation!r}, the evidence is of {decoded.end.operation!r}"
            )
        for role in asked.roles:
            claims.check_measured(decoded.end, role)
        findings.passed("freshness", "answers the request at hand")
        return "challenged"
    if found.kind == "unchallenged":
        findings.warnings.append("unchallenged: the evidence answers nobody's request and may be old")
        return "unchallenged"
    if freshness == "required":
        raise FreshnessError(
            "the evidence answers a request that is not at hand: give the request file, or choose "
            "freshness not_checked"
        )
    findings.warnings.append("freshness not checked, by the verifier's choice")
    findings.not_checked.append("whether the evidence answers the request it was made for")
    return "not_checked"


def _check_binding(decoded: _Decoded, begin: tdx.VerifiedQuote, end: tdx.VerifiedQuote) -> None:
    bundle = decoded.bundle
    begin_root = binding.begin_claims_root(bundle.begin.statement, bundle.session_key)
    end_root = binding.end_claims_root(
        bundle.end.statement,
        history.root_of(bundle.log),
        len(bundle.log),
        bundle.session_key,
        bundle.begin.quote,
    )
    phases: tuple[tuple[binding.Phase, tdx.VerifiedQuote, Phase, bytes], ...] = (
        ("begin", begin, bundle.begin, begin_root),
        ("end", end, bundle.end, end_root),
    )
    for name, quote, phase, root in phases:
        ctx = binding.context(
            nonce=bundle.challenge.nonce,
            challenged=bundle.challenge.kind == "challenged",
            run_id=bundle.run_id,
            phase=name,
            claims_root=root,
        )
        gpus = binding.gpu_hash([(gpu.evidence, gpu.chain) for gpu in phase.gpus])
        binding.check_report_data(
            quote.quote.td_report.report_data, binding.report_data(ctx, gpus), what=f"{name} quote"
        )


def _check_log(decoded: _Decoded, begin: tdx.VerifiedQuote, end: tdx.VerifiedQuote) -> None:
    register = begin.quote.td_report.rt_mrs[3]
    if decoded.begin.register != register.hex():
        raise BindingError("RTMR[3] of the begin quote is not the one the begin statement names")
    for index, entry in enumerate(decoded.bundle.log):
        try:
            document = decode_json(entry, what=f"log entry {index}", max_bytes=evidence.MAX_LOG_ENTRY_BYTES)
        except EncodingError as error:
            raise EvidenceError(str(error)) from error
        seq = document.get("seq") if isinstance(document, dict) else None
        if type(seq) is not int or seq != index:
            raise EvidenceError(f"log entry {index}: expected an object with 'seq': {index}")
        register = hashlib.sha384(register + hashlib.sha384(entry).digest()).digest()
    if register != end.quote.td_report.rt_mrs[3]:
        raise BindingError(
            "RTMR[3] of the end quote does not follow from its value at begin and the event log"
        )


def _check_continuation(decoded: _Decoded) -> None:
    bundle, begin, end = decoded.bundle, decoded.begin, decoded.end
    if not bundle.run_id == begin.run_id == end.run.run_id:
        raise BindingError("bundle, begin statement and end statement name different runs")
    challenge = bundle.challenge
    if begin.request != (Digest(SHA256, challenge.nonce) if challenge.kind == "challenged" else None):
        raise BindingError("the begin statement names another request than the bundle answers")
    if begin.operation != end.operation:
        raise BindingError(f"begun as {begin.operation!r}, ended as {end.operation!r}")
    packages = begin.environment.value.get("packages")
    ended_with = end.run.environment.value.get("packages")
    if not isinstance(packages, list) or not isinstance(ended_with, list):
        raise ClaimError("the installed packages are not listed")
    if ended_with[: len(packages)] != packages:
        raise ClaimError("packages that were installed at begin are missing, or others, at end")
    if begin.code.source != end.run.code.source:
        raise CodeError("the code identity was taken in one way at begin and in another at end")
    ended = {file.module: file.digest for file in end.run.code.files}
    for file in begin.code.files:
        if file.module not in ended or ended[file.module] != file.digest:
            raise CodeError(f"source file of {file.module} at begin is missing or another one at end")
    for name, artifact in begin.inputs.items():
        if end.run.inputs.get(name) != artifact:
            raise ClaimError(f"input {name!r} at begin is missing or another one at end")


def _check_devices(end: Statement) -> None:
    if not end.run.devices:
        raise PlatformError("the statement names no device on which the measured tensors lived")
    for device in end.run.devices:
        if device.type != "cpu":
            raise PlatformError(f"tensors lived on {device.type!r}, and no GPU evidence vouches for it")


def _check_code(policy: Policy, end: Statement, findings: _Findings) -> None:
    code = end.run.code
    packages = statement.value_digest(end.run.environment.value.get("packages"))
    if not policy.code.packages:
        findings.not_checked.append(
            f"which installed packages ran: the policy names none; these are {packages}"
        )
    elif packages not in policy.code.packages:
        raise CodeError(f"installed packages {packages} are none of those the policy names")
    if policy.code.digests and code.digest not in policy.code.digests:
        raise CodeError(f"code {code.digest} is none of the {len(policy.code.digests)} the policy names")
    if policy.code.unreviewed:
        findings.warnings.append("unreviewed code: the policy names no code digest")
    elif code.source is statement.CodeSource.SELF_REPORTED and not policy.code.covered_by_image:
        findings.warnings.append("self-reported code: the session was opened inside a running script")
    findings.passed("code", f"{code.digest}, {len(code.files)} source files, {code.source.value}")
