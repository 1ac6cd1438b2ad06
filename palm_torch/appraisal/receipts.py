"""Checking a receipt: what was signed, by whose key, and whether that session came to a good end.

1. The session was opened by a genuine platform that the policy accepts (`palm_torch.sessions.openings`):
   begin quote, platform, binding, GPUs, key.
2. Its key signed the receipt, which names this session.
3. The operation is the one that the policy asks for.

Without the sealed evidence of the run:

4. Challenge: the session answers the request at hand.
5. Code is the code that the policy names. What was measured lived on the CPU and on the GPUs of step 1.

With it (`closing`):

6. That evidence is accepted under the same policy and request, the session is its own or that of one of its
   segments, and the event log holds the receipt where it says it stands.
7. Code is part of the code that was accepted with the evidence. An answer is the one that the session's log
   has there, and is not revoked.

And then:

8. The model, tokenizer and decoding of an answer are those that the policy demands.
9. Files at hand are those that the receipt speaks of.

Without its closing evidence a receipt is *unclosed*: nothing shows what else happened in the session, or that
it ended. The result is then at most a warning.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from palm_torch.appraisal import (
    answer_receipts,
    artifacts,
    claims,
    code_rules,
    composite,
    continuation,
    dataset_words,
    freshness,
    inference_claims,
    reservations,
    verifier,
)
from palm_torch.appraisal.at_hand import NO_FILE
from palm_torch.appraisal.closing import NAME as CLOSING_NAME
from palm_torch.appraisal.closing import Closing
from palm_torch.commit import history
from palm_torch.digest import SHA256, Digest, sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import (
    ArtifactError,
    BindingError,
    ClaimError,
    CodeError,
    InputError,
    PlatformError,
    RejectedError,
)
from palm_torch.policies.inference_rules import InferenceRules
from palm_torch.receipt import AnswerReceipt, ArtifactsReceipt, SegmentReceipt
from palm_torch.result import AttestationResult, Check, Claim, Reservation, Tier, labelled, strength_of
from palm_torch.roles import FILE, Source
from palm_torch.sessions import gpus, openings, segments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from palm_torch.collateral_file import CollateralFile
    from palm_torch.evidence import Bundle, GpuEndorsements
    from palm_torch.policies.policy import Policy
    from palm_torch.receipt import Content, Receipt
    from palm_torch.roles import Artifact
    from palm_torch.sessions.openings import VerifiedOpening
    from palm_torch.statement import Code

NOT_CHECKED: Final = (
    "data, initial weights, settings and metrics: the sealed evidence of the run has them, a receipt has not",
)
"""What is left open when no closing evidence is given."""

ANSWER_NOT_CHECKED: Final = (
    (
        "devices, settings, how many answers the session gave and whether this one is revoked: the sealed "
        "evidence of the session has them, a receipt has not"
    ),
    inference_claims.NOT_SHOWN,
)
"""Likewise, of an answer's receipt."""


def verify(  # noqa: PLR0913 (everything that it rests on is an argument)
    found: Receipt,
    *,
    policy: Policy,
    at: datetime,
    time_source: str = "given by the caller",
    challenge: bytes | None = None,
    freshness_rule: freshness.Rule = "required",
    closing: bytes | Closing | None = None,
    collateral: CollateralFile | None = None,
    gpu_files: GpuEndorsements | None = None,
    files: Mapping[str, Path] | None = None,
) -> AttestationResult:
    """Appraises a receipt.

    Args:
        found: The receipt, from `palm_torch.receipt.decode`.
        policy: What is demanded. Its platform and code parts apply; of its claims, the operation. The rest
            of them applies to the closing evidence.
        at: The time of verification, an aware datetime.
        time_source: Where `at` comes from; repeated in the result.
        challenge: The bytes of the request file that the session should answer; None if there was none.
        freshness_rule: ``not_checked`` accepts a session that answers a request which is not at hand.
        closing: The sealed evidence of the run that the receipt was issued in, an evidence file's bytes; or
            what was made of them once, for several receipts.
        collateral: What the platform's vendor says of it, to be used in place of what the receipt carries.
        gpu_files: What the makers of GPUs say of them; a kind of file of which there are some takes the
            place of that of the closing evidence. A receipt itself carries none.
        files: Files to compare with what the receipt says of a role: role → path.

    Returns:
        The result; its session is ``unclosed``, and it is at most a warning, unless `closing` was given.

    Raises:
        InputError: If a part of the receipt, the closing evidence or the request is malformed.
        RejectedError: If the receipt must not be believed; its ``checks`` attribute lists what had passed.
    """
    if at.utcoffset() is None:
        raise InputError("at: expected a time with a time zone")
    checks: list[Check] = []
    try:
        closed = Closing(closing) if isinstance(closing, bytes) else closing
        sealed = None if closed is None else closed.bundle
        requirements = policy.platform.requirements()
        at_hand = gpus.read(
            None if sealed is None else sealed.gpu_endorsements, gpu_files, requirements=requirements, now=at
        )
        session = openings.verify(  # 1
            found.session if collateral is None else dataclasses.replace(found.session, collateral=None),
            requirements=requirements,
            at=at,
            collateral=_collateral_of(found, sealed, collateral),
            at_hand=at_hand,
        )
        checks.append(Check(name="session", detail=f"its begin quote leads to {session.quote.anchor.name}"))
        content, code = openings.verify_receipt(found.envelope, session)  # 2
        checks.append(Check(name="signature", detail="the receipt is signed by the session's key"))
        if session.begin.operation != policy.claims.property:  # 3
            raise ClaimError(
                f"the policy asks for {policy.claims.property!r}, the session is of "
                f"{session.begin.operation!r}"
            )
        if closed is None or sealed is None:  # neither, or both
            result = _unclosed(session, content, code, policy, at, challenge, freshness_rule)
        else:
            result = closed.appraise(  # 6
                policy=policy,
                at=at,
                challenge=challenge,
                freshness_rule=freshness_rule,
                collateral=collateral,
                gpus_at_hand=at_hand,
            )
            _check_place(found, content, sealed)
            if isinstance(content, AnswerReceipt):  # 7
                answer_receipts.check_place(content, closed.end, closed.replayed)
                checks.append(Check(name="answer", detail="the session's, in its place, and not revoked"))
            continuation.check_code(code, closed.end.run.code)
        if isinstance(content, AnswerReceipt) and isinstance(policy.claims, InferenceRules):
            answer_receipts.check(content, policy.claims)  # 8
            checks.append(Check(name="claims", detail="model, tokenizer, decoding: as the policy demands"))
        for role, path in (files or {}).items():  # 9
            _compare(role, path, content)
            checks.append(Check(name="artifact", detail=f"{path} is the {role} of the receipt"))
    except RejectedError as error:
        error.checks = (*checks, *error.checks)
        raise
    kept = (*result.reservations, *_of_files(content))
    left_open = tuple(line for line in result.not_checked if line != NO_FILE)
    return dataclasses.replace(
        result,
        tier=Tier.WARNING if kept else result.tier,
        time=f"{at.isoformat()} ({time_source})",
        checks=(*checks, *result.checks),
        reservations=kept,
        not_checked=left_open if files else (*left_open, NO_FILE),
        claims=_claims(content, result),
    )


def _of_files(content: Content) -> list[Reservation]:
    return reservations.of_files(
        content.artifacts if isinstance(content, ArtifactsReceipt) else {},
        kind=FILE,
        says="{count} files were hashed where they lay, such as {name}: what the script wrote may differ",
    )


def _collateral_of(
    found: Receipt, sealed: Bundle | None, given: CollateralFile | None
) -> Mapping[str, str] | None:
    if given is not None:
        return given.fields_for(found.session.attester)
    return None if sealed is None else sealed.collateral


def _unclosed(
    session: VerifiedOpening,
    content: Content,
    code: Code,
    policy: Policy,
    at: datetime,
    challenge: bytes | None,
    rule: freshness.Rule,
) -> AttestationResult:
    answer = freshness.check(  # 4
        session.opening.challenge, asked=challenge, rule=rule, at=at, operation=session.begin.operation
    )
    try:
        unpinned = code_rules.check(policy.code, code, session.begin.environment)  # 5
    except CodeError as error:
        raise CodeError(
            f"{error}; if the policy names the code of the whole run, some of it loaded later, give the "
            "sealed evidence with --closing"
        ) from error
    if isinstance(content, SegmentReceipt):
        try:
            gpus.check_devices(content.devices, session.gpus.states)
        except PlatformError as error:
            if session.begin.resumes is None:
                raise
            raise PlatformError(
                f"{error}; the receipt names the devices of the whole run, which went on from receipt "
                f"{session.begin.resumes}, and the GPUs of its earlier sessions are not in it: give the "
                "sealed evidence with --closing"
            ) from error
    left_open = [*verifier.NOT_CHECKED, *composite.left_open([session.gpus]), *unpinned]
    if isinstance(content, AnswerReceipt) and isinstance(policy.claims, InferenceRules):
        left_open += (*ANSWER_NOT_CHECKED, *inference_claims.waved_through(policy.claims))
    else:
        left_open += NOT_CHECKED
    if isinstance(policy.claims, InferenceRules) and not isinstance(content, AnswerReceipt):
        left_open.append(
            "model, tokenizer and decoding: this receipt is of files or values, and of no answer"
        )
    if answer.roles:
        left_open.append(f"the roles that the request asks for: {', '.join(answer.roles)}")
    if session.begin.resumes is not None:
        left_open.append(f"the earlier part of the run, which ended with receipt {session.begin.resumes}")
    kept = [reservations.UNCLOSED, *reservations.of_code(policy.code, code)]
    if answer.state != "challenged":
        kept.append(reservations.UNCHALLENGED if answer.state == "unchallenged" else reservations.NOT_CHECKED)
    simulations = composite.simulation(machine=session.quote.simulated, attested=[session.gpus])
    return AttestationResult(
        tier=Tier.WARNING,
        simulated=bool(simulations),
        operation=session.begin.operation,
        run_id=session.opening.run_id,
        freshness=answer.state,
        session="unclosed",
        time="",
        co_location="unproven",
        checks=tuple(composite.checks(session.gpus, when="at begin")),
        reservations=(*simulations, *kept),
        not_checked=tuple(left_open),
        claims=(),
    )


def _check_place(found: Receipt, content: Content, sealed: Bundle) -> None:
    """Checks that the receipt stands in the closed run where it says it stands."""
    wanted = dataclasses.replace(found.session, collateral=None)
    sessions = [
        *(
            (segment.session, segment.log, sha256_digest(segment.receipt.payload))
            for segment in sealed.segments
        ),
        (sealed.opening, sealed.log, None),
    ]
    for opening, log, last in sessions:
        if dataclasses.replace(opening, collateral=None) != wanted:
            continue
        if found.digest != last:
            _check_logged(found, content, log)
        return
    raise BindingError(
        f"{CLOSING_NAME}: it is of run {sealed.run_id} in {len(sessions)} sessions, none of them the "
        f"receipt's, {found.session.run_id!r:.80}"
    )


def _check_logged(found: Receipt, content: Content, log: tuple[bytes, ...]) -> None:
    size = content.issued.log_size
    entry = encode_json({"seq": size, "type": segments.RECEIPT, "payload": {"digest": str(found.digest)}})
    if Digest(SHA256, history.root_of(log[:size])) != content.issued.log_root or log[size : size + 1] != (
        entry,
    ):
        raise BindingError(
            f"{CLOSING_NAME}: the event log of {len(log)} entries does not hold receipt {found.digest} as "
            f"entry {size}: it was issued in a part of the session that the run did not go on from"
        )


def _compare(role: str, path: Path, content: Content) -> None:
    filled: Mapping[str, Artifact] = content.artifacts if isinstance(content, ArtifactsReceipt) else {}
    if isinstance(content, AnswerReceipt):
        filled = {"tokenizer": content.tokenizer}
    if role not in filled or filled[role].digest is None:
        raise ArtifactError(
            f"the receipt has no role {role!r} to compare a file with; it has {', '.join(filled) or 'none'}"
        )
    artifacts.compare_file(role, path, filled[role])


def _claims(content: Content, result: AttestationResult) -> tuple[Claim, ...]:
    if isinstance(content, AnswerReceipt):
        said = answer_receipts.said(content)
    elif isinstance(content, ArtifactsReceipt):
        said = _said_of_artifacts(content)
    else:
        said = _said_of_state(content)
    return labelled(
        (*said, ("code", str(content.issued.code.digest), Source.MEASURED)),
        strength_of(simulated=result.simulated, reservations=result.reservations),
    )


def _said_of_artifacts(content: ArtifactsReceipt) -> Iterator[tuple[str, str, Source]]:
    for role, artifact in content.artifacts.items():
        yield role, str(artifact.digest or "none"), artifact.source


def _said_of_state(content: SegmentReceipt) -> Iterator[tuple[str, str, Source]]:
    for name in ("architecture", "initial", "model"):
        yield name, str(getattr(content, name)), Source.MEASURED
    yield "steps", claims.steps_in_words(content.steps), content.steps.source
    for name, held in content.data.items():
        yield f"data {name}", dataset_words.in_words(held), Source.MEASURED
        for use, account in sorted(held.uses.items()):
            yield f"data {name}, {use}", f"{account.delivered} delivered", Source.MEASURED
