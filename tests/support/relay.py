"""One good resumed run, made without torch: three sessions, two checkpoints, a receipt of a file in each.

`make` makes the whole chain anew, with any part bent before it is signed, so that a test can ask what a
verifier does with *validly signed* parts that do not belong together.
"""

from __future__ import annotations

import dataclasses
import functools
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import records_at_hand as at_hand
import workshop
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from palm_torch import dsse, evidence, receipt, request, statement
from palm_torch.commit import history
from palm_torch.cvm import binding, simulated_quote
from palm_torch.cvm.simulated import SimulatedTdx
from palm_torch.digest import SHA256, TAGGED_SHA256, Digest, sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.evidence import Bundle, Challenge, GpuEvidence, Opening, Phase, Segment
from palm_torch.receipt import (
    ArtifactsReceipt,
    CodeSoFar,
    DatasetAccount,
    DeliveredSoFar,
    Issued,
    Receipt,
    SegmentReceipt,
)
from palm_torch.roles import Artifact, Source, Steps
from palm_torch.sessions import seals, segments

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.cvm.simulated_gpu import SimulatedGpus
    from palm_torch.receipt import Content

SESSIONS = 3
Bend = Callable[[str, int, Any], Any]
"""Takes what it is, the number of the session from 1, and the value; returns the value to use.

What it is: ``challenge``, ``begin``, ``file``, ``log``, ``receipt``, ``signed``, ``segments``, ``end``.
"""


@dataclass(frozen=True)
class Session:
    """A session of the relay with its key: what a trusted domain holds in its memory.

    Attributes:
        file: The receipt about a file that it issued.
        segment: The receipt about its state; None for the session that was sealed.
    """

    machine: SimulatedTdx
    key: ec.EllipticCurvePrivateKey
    opening: Opening
    log: tuple[bytes, ...]
    file: Receipt
    segment: Receipt | None


@dataclass(frozen=True)
class ResumedRun(workshop.GoodRun):
    """A good run whose bundle has two segments, with the sessions that made it."""

    sessions: tuple[Session, ...]

    def bent(self, bend: Bend) -> Bundle:
        """Returns another such run on the same machine, with parts changed before they were signed."""
        return make(self.machine, self.request or None, bend=bend).bundle


def make_resumed_run(folder: Path, *, challenge: bytes | None = b"") -> ResumedRun:
    """Makes the good run; the arguments are those of `workshop.make_good_run`."""
    asked = workshop.make_request() if challenge == b"" else challenge
    return make(workshop.machine(folder), asked, folder=folder)


def unbent(what: str, number: int, value: Any) -> Any:
    del what, number
    return value


def only(what: str, number: int, change: Callable[[Any], Any]) -> Bend:
    """Returns what bends one part of one session."""
    return lambda found, at, value: change(value) if (found, at) == (what, number) else value


def make(
    machine: SimulatedTdx,
    asked: bytes | None,
    *,
    folder: Any = None,
    bend: Bend = unbent,
    machines: dict[int, SimulatedTdx] | None = None,
    before: tuple[Session, ...] = (),
    gpus: SimulatedGpus | None = None,
) -> ResumedRun:
    """Runs three sessions, each going on from the one before, and seals the last.

    Args:
        machine: Where they run.
        asked: The request they answer; None for unchallenged sessions.
        folder: Where the machine keeps its keys.
        bend: See `Bend`.
        machines: Other machines, by number of the session.
        before: The first sessions, if they need not be run: others go on from the same checkpoint.
        gpus: GPUs of all machines; their endorsements travel with the bundle.
    """
    done: list[Session] = [*before]
    for number in range(len(done) + 1, SESSIONS + 1):
        done.append(_session((machines or {}).get(number, machine), asked, number, done, bend, gpus))
    last = done[-1]
    parts = tuple(_as_segment(session) for session in done[:-1])
    said = workshop.put(workshop.make_statement(last.opening.run_id), "run.gpu", states_of(gpus))
    end = bend("end", SESSIONS, said)
    bundle = Bundle(
        media_type=evidence.MEDIA_TYPE,
        **{field.name: getattr(last.opening, field.name) for field in dataclasses.fields(Opening)},
        segments=bend("segments", SESSIONS, parts),
        boot_log=None,
        log=last.log,
        end=Phase(statement=end.encode(), quote=b"", gpus=()),
        gpu_endorsements=None if gpus is None else gpus.endorsements(),
        timestamp=None,
    )
    bundle = workshop.put(bundle, "end.gpus", answers_of(gpus, seals.end_context(bundle)))
    run = ResumedRun(
        folder=folder, machine=machine, request=asked or b"", bundle=bundle, sessions=tuple(done)
    )
    return dataclasses.replace(run, bundle=run.resealed(bundle, machine=last.machine, phases=("end",)))


def signed(content: Content, session: Session) -> Receipt:
    """Returns a receipt about anything, signed by a session's key."""
    return _signed(content, session.key, session.opening)


def make_opening(
    machine: SimulatedTdx,
    key: ec.EllipticCurvePrivateKey,
    begin: statement.Begin,
    challenge: Challenge,
    gpus: SimulatedGpus | None = None,
) -> Opening:
    """Returns what opens a session, sealed by a machine; its GPUs, if any, have answered."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    opening = Opening(
        attester="tdx",
        run_id=begin.run_id,
        session_key=spki,
        challenge=challenge,
        register_log=workshop.EARLIER,
        begin=Phase(statement=begin.encode(), quote=b"", gpus=()),
        collateral=collateral_of(machine),
    )
    opening = workshop.put(opening, "begin.gpus", answers_of(gpus, seals.begin_context(opening)))
    return sealed_opening(machine, opening)


def states_of(gpus: SimulatedGpus | None) -> tuple[dict[str, Any], ...]:
    """Returns what statements say about the state of GPUs; nothing without any."""
    return () if gpus is None else tuple(state.to_json() for state in gpus.state())


def answers_of(gpus: SimulatedGpus | None, ctx: bytes) -> tuple[GpuEvidence, ...]:
    """Returns evidence of GPUs over the nonces of a context; nothing without any."""
    if gpus is None:
        return ()
    return gpus.collect([binding.gpu_nonce(ctx, number) for number in range(len(gpus.state()))])


def sealed_opening(machine: SimulatedTdx, opening: Opening) -> Opening:
    """Returns an opening with a new begin quote over it as it stands."""
    report = simulated_quote.make_td_report(
        workshop.report_data(opening, "begin"), rtmr3=workshop.register_before(opening.register_log)
    )
    return workshop.put(opening, "begin.quote", simulated_quote.sign_quote(machine._authority, report))


@functools.cache
def collateral_of(machine: SimulatedTdx) -> dict[str, str]:
    return dataclasses.asdict(machine.collateral())


def fixed_code(count: int) -> statement.Code:
    """Returns the first files of the good run's code."""
    files = workshop.FILES[:count]
    return statement.Code(
        source=statement.CodeSource.IMPORTED, digest=statement.code_digest(files), files=files
    )


def _session(
    machine: SimulatedTdx,
    asked: bytes | None,
    number: int,
    before: list[Session],
    bend: Bend,
    gpus: SimulatedGpus | None,
) -> Session:
    earlier = before[-1].segment if before else None
    nonce = None if asked is None else request.nonce_of(asked)
    challenge = bend(
        "challenge",
        number,
        Challenge(
            kind="unchallenged" if nonce is None else "challenged", nonce=nonce or secrets.token_bytes(32)
        ),
    )
    begin = dataclasses.replace(
        workshop.make_begin(secrets.token_hex(16), workshop.register_before(workshop.EARLIER).hex(), None),
        request=Digest(SHA256, challenge.nonce) if challenge.kind == "challenged" else None,
        resumes=None if earlier is None else earlier.digest,
        code=fixed_code(1),
        gpu=states_of(gpus),
    )
    key = ec.generate_private_key(ec.SECP256R1())
    opening = make_opening(machine, key, bend("begin", number, begin), challenge, gpus)
    events: list[tuple[str, dict[str, Any]]] = [("epoch", {"number": number})]
    if earlier is None:
        events.insert(0, ("initial weights", {"root": str(at_hand.INITIAL.digest)}))
    else:
        model = receipt.decode_content(earlier.envelope.payload).model
        events.insert(0, (segments.RESUMED, {"receipt": str(earlier.digest), "model": str(model)}))
    log = bend("log", number, _log(events))
    about = ArtifactsReceipt(
        issued=_issued(opening, log, 0, fixed_code(2)),
        artifacts={
            "checkpoint": Artifact(
                source=Source.MEASURED, kind="bytes", digest=sha256_digest(b"step %d" % number)
            )
        },
    )
    file = _signed(bend("file", number, about), key, opening)
    log = (*log, _receipt_entry(file, len(log)))
    segment = None
    if number < SESSIONS:
        content = bend("receipt", number, _state(opening, log, number, earlier))
        envelope = bend("signed", number, _signed(content, key, opening).envelope)
        segment = Receipt(envelope=envelope, session=opening)
    else:
        log = (*log, encode_json({"seq": len(log), "type": "final weights", "payload": {}}))
    return Session(machine=machine, key=key, opening=opening, log=log, file=file, segment=segment)


def _state(opening: Opening, log: tuple[bytes, ...], number: int, earlier: Receipt | None) -> SegmentReceipt:
    """Returns the state after `number` of three steps' worth: less than the good run's in every count."""
    train = bytes([1] * 3 * number + [0] * (at_hand.RECORDS - 3 * number))
    return SegmentReceipt(
        issued=_issued(opening, log, 1, fixed_code(2)),
        resumes=None if earlier is None else earlier.digest,
        environment=workshop.measured(packages=[["torch", "2.13.0"]], python="3.11"),
        devices=(statement.Device(type="cpu", name=None, uuid=None),),
        architecture=sha256_digest(b"architecture"),
        initial=at_hand.INITIAL.digest,
        model=Digest(TAGGED_SHA256, bytes([number]) * 32),
        optimizers=(sha256_digest(b"optimizer"),),
        steps=Steps(source=Source.MEASURED, taken=number, skipped=0),
        data={
            "dataset1": DatasetAccount(
                format="bin",
                manifest=at_hand.MANIFEST.digest,
                records=at_hand.RECORDS,
                record_bytes=at_hand.RECORD_BYTES,
                layout=at_hand.MANIFEST.layout,
                uses={"train": _account(train)}
                | ({"eval": _account(b"\1" + bytes(9))} if number > 1 else {}),
            )
        },
        seeds=workshop.measured(torch="cd" * 32),
        state=sha256_digest(b"everything else"),
    )


def _account(counts: bytes) -> DeliveredSoFar:
    delivered = at_hand.delivered(counts)
    assert delivered.counts is not None
    return DeliveredSoFar(
        delivered=delivered.delivered,
        order=delivered.order[0],
        coverage=delivered.counts.coverage,
        exact=True,
        product=delivered.multiset,
    )


def _issued(opening: Opening, log: tuple[bytes, ...], sequence: int, code: statement.Code) -> Issued:
    return Issued(
        run_id=opening.run_id,
        begin=sha256_digest(opening.begin.quote),
        sequence=sequence,
        log_root=Digest(SHA256, history.root_of(log)),
        log_size=len(log),
        code=CodeSoFar.of(code, statement.decode_begin(opening.begin.statement).code),
    )


def _log(events: list[tuple[str, dict[str, Any]]]) -> tuple[bytes, ...]:
    return tuple(
        encode_json({"seq": index, "type": kind, "payload": payload})
        for index, (kind, payload) in enumerate(events)
    )


def _receipt_entry(issued: Receipt, index: int) -> bytes:
    return encode_json({"seq": index, "type": segments.RECEIPT, "payload": {"digest": str(issued.digest)}})


def _signed(content: Content, key: ec.EllipticCurvePrivateKey, opening: Opening) -> Receipt:
    envelope = dsse.sign(receipt.encode_content(content), payload_type=dsse.IN_TOTO_PAYLOAD, key=key)
    return Receipt(envelope=envelope, session=opening)


def _as_segment(session: Session) -> Segment:
    assert session.segment is not None
    return Segment(
        session=dataclasses.replace(session.opening, collateral=None),
        log=session.log,
        receipt=session.segment.envelope,
    )
