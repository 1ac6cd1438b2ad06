"""Sealing a run: two quotes, one key, one log.

The begin quote seals what was known before the loop, the end quote seals the statement, the event log and
the begin quote itself. The session key exists in memory alone; the same public key under both quotes makes
them one session (docs/spec/60-evidence.md).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from palm_torch import dsse, evidence, receipt, statement
from palm_torch.attesting.gpus import SessionGpus
from palm_torch.attesting.ranks import Alone
from palm_torch.commit.history import History
from palm_torch.cvm import binding, platforms
from palm_torch.digest import SHA256, Digest, sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import AttesterError, EncodingError, InputError, SealError, SessionError
from palm_torch.evidence import Bundle, Challenge, Opening, Phase
from palm_torch.files import write_atomically
from palm_torch.receipt import Place
from palm_torch.sessions import seals

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.attesting.ranks import Company
    from palm_torch.collateral_file import CollateralFile
    from palm_torch.cvm.attester import Attester
    from palm_torch.dsse import Envelope
    from palm_torch.encoding import Json
    from palm_torch.evidence import Segment
    from palm_torch.receipt import CodeSoFar, Content, Issued

RUN_ID_BYTES: Final = 16

RESERVED_ENTRIES: Final = 1_000
"""Entries of the event log that receipts leave to what the run itself has to log."""

FINAL_WEIGHTS: Final = "final weights"
RESULT: Final = "result"
LAST: Final = frozenset({FINAL_WEIGHTS, RESULT})
"""Types of a log's last entry, where a model was made and elsewhere: there is always room for it."""

FAILED_TYPE: Final = "palm-torch/failed-seal/v1"


class Sealer:
    """Seals one run with one attester.

    Args:
        attester: The platform that vouches.
        nonce: SHA-256 of the verifier's request file; None makes the run unchallenged.
        collateral: What the platform's vendor says of it, where the platform itself does not know.
        gpus: The machine's GPUs; None asks none for evidence.

    Attributes:
        run_id: Random name of the run.
        attester: The platform that vouches.
        gpus: The machine's GPUs.
        company: The other ranks, if there are any.
        challenge: Whom the run answers.
        segments: Earlier parts of the run, oldest first.
        lock: Held by whoever logs entries that belong together, where threads of a script may do so at once.

    Raises:
        EvidenceError: If the collateral is of another kind of platform.
    """

    def __init__(
        self,
        attester: Attester,
        *,
        nonce: bytes | None,
        collateral: CollateralFile | None = None,
        gpus: SessionGpus | None = None,
    ) -> None:
        self.run_id: Final = secrets.token_hex(RUN_ID_BYTES)
        self.attester: Final = attester
        self.gpus: Final = gpus or SessionGpus()
        self.company: Company = Alone()
        self.lock: Final = threading.RLock()
        self._given = None if collateral is None else collateral.fields_for(attester.platform)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._spki = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._key_id = dsse.key_id(self._key.public_key())
        self.challenge: Final = Challenge(
            kind="unchallenged" if nonce is None else "challenged",
            nonce=secrets.token_bytes(evidence.MIN_NONCE_BYTES) if nonce is None else nonce,
        )
        self._log = History()
        self._entries: list[bytes] = []
        self._register_log: tuple[bytes, ...] = ()
        self._register: bytes | None = None
        self._begin: Phase | None = None
        self._issued = 0
        self.segments: tuple[Segment, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether the platform, or a GPU, is a simulation; one of them makes the whole one."""
        return self.attester.simulated or self.gpus.simulated

    @property
    def request(self) -> Digest | None:
        """Digest of the request file that the run answers; None if it answers none."""
        return Digest(SHA256, self.challenge.nonce) if self.challenge.kind == "challenged" else None

    def register(self) -> str | None:
        """Returns the runtime register in hex, None where there is none that the session may extend."""
        found = self.attester.register()
        return None if found is None else found.hex()

    def boot_log(self) -> Digest | None:
        """Returns the digest of the machine's boot log; None where there is none."""
        found = self.attester.boot_log()
        return None if found is None else sha256_digest(found)

    def begin(self, begin_statement: bytes) -> None:
        """Seals the begin statement, which names what `gpus` found at begin.

        Raises:
            AttesterError: If the platform or a GPU does not attest.
            SealError: If the statement is larger than a bundle can hold.
            InputError: If a report of a GPU, or a file that shall travel with it, does not parse.
            RejectedError: If no verifier would accept them.
        """
        self._register_log, self._register = self.attester.register_log(), self.attester.register()
        root = binding.begin_claims_root(begin_statement, self._spki)
        try:
            self._begin = self._phase("begin", begin_statement, root)
        except InputError as error:
            raise SealError(f"the begin statement could not be sealed: {error}") from error
        ctx = seals.context(self.challenge, run_id=self.run_id, phase="begin", claims_root=root)
        self.gpus.check(self._begin.gpus, ctx)

    def record(self, kind: str, payload: dict[str, Json] | bytes) -> None:
        """Appends an event to the log and extends the runtime register with its digest.

        Args:
            kind: What happened, the entry's type.
            payload: The rest of it, as JSON, or as canonical JSON's bytes.

        Raises:
            SealError: If the log is full, or the entry larger than a bundle can hold.
            AttesterError: If the register cannot be extended.
        """
        if len(self._entries) >= evidence.MAX_LOG_ENTRIES - (kind not in LAST):
            raise SealError(
                f"event {kind!r}: the event log holds at most {evidence.MAX_LOG_ENTRIES} entries, the last "
                f"of them for {FINAL_WEIGHTS!r}"
            )
        spelled = payload if isinstance(payload, bytes) else encode_json(payload)
        entry = b'{"payload":%b,"seq":%d,"type":%b}' % (spelled, len(self._entries), _spelled_kind(kind))
        if len(entry) > evidence.MAX_LOG_ENTRY_BYTES:
            raise SealError(
                f"event {kind!r}: expected at most {evidence.MAX_LOG_ENTRY_BYTES} bytes, got {len(entry)}"
            )
        if self.attester.runtime_register == "rtmr3":
            self.attester.extend(hashlib.sha384(entry).digest())
        self._log.append(entry)
        self._entries.append(entry)

    def require_room(self, entries: int) -> None:
        """Checks that the log has room for entries beside what the run itself has to log.

        Args:
            entries: How many, such as 2 for an event and the receipt that rests on it.

        Raises:
            SealError: If it has not.
        """
        most = evidence.MAX_LOG_ENTRIES - RESERVED_ENTRIES
        if len(self._entries) + entries > most:
            raise SealError(
                f"receipt: the event log has room for {most} entries until the last checkpoint, receipt or "
                "answer, and it is used up: issue fewer of them, such as one receipt for several files, "
                "run.receipt(a=..., b=...), or one session for every ten thousand answers; the session "
                "itself can go on"
            )

    @property
    def log(self) -> tuple[bytes, ...]:
        """The event log as it stands."""
        return tuple(self._entries)

    def opening(self, *, fresh: bool = False) -> Opening:
        """Returns what opened the session: whoever has it can check what the session key signed.

        Args:
            fresh: Whether to collect collateral anew, or take what was collected before.

        Raises:
            SessionError: If the run has not begun.
            AttesterError: If the platform has no collateral at hand.
        """
        return self._opened() if fresh else self._opening

    def issue(self, make: Callable[[Issued], Content], code: CodeSoFar) -> Envelope:
        """Signs a receipt with the session key and logs it.

        The receipt names the event log as it stood before its own entry.

        Args:
            make: Returns the receipt's content, given where in the session it is issued.
            code: The code loaded so far.

        Raises:
            SessionError: If the run has not begun.
            SealError: If the receipt is larger than can be signed, or the log is full.
            AttesterError: If the runtime register cannot be extended.
        """
        return self.issue_spelled(lambda place: receipt.encode_content(make(place.with_code(code))))

    def issue_spelled(self, spell: Callable[[Place], bytes]) -> Envelope:
        """Signs a receipt as `issue` does.

        Args:
            spell: Returns the receipt's bytes, given where in the session it is issued.

        Raises:
            SessionError: As `issue`.
            SealError: As `issue`.
            AttesterError: As `issue`.
        """
        self.require_room(1)
        place = self.place()
        try:
            payload = spell(place)
            envelope = dsse.sign(
                payload, payload_type=dsse.IN_TOTO_PAYLOAD, key=self._key, named=self._key_id
            )
        except EncodingError as error:
            raise SealError(f"the receipt could not be signed: {error}") from error
        self.record("receipt", b'{"digest":"%b"}' % str(sha256_digest(payload)).encode("ascii"))
        self._issued += 1
        return envelope

    def place(self) -> Place:
        """Returns where in the session a receipt would be issued now.

        Raises:
            SessionError: If the run has not begun.
        """
        return Place(
            self.run_id,
            self._begin_digest,
            self._issued,
            Digest(SHA256, self._log.root()),
            len(self._entries),
        )

    @functools.cached_property
    def _opening(self) -> Opening:
        return self._opened()

    def _opened(self) -> Opening:
        if self._begin is None:
            raise SessionError("opening: the run has not begun")
        return Opening(
            attester=self.attester.platform,
            run_id=self.run_id,
            session_key=self._spki,
            challenge=self.challenge,
            register_log=self._register_log,
            begin=self._begin,
            collateral=self._collect(),
        )

    def _collect(self) -> dict[str, str] | None:
        if self._given is not None:
            return self._given
        collateral = self.attester.collateral()
        return None if collateral is None else platforms.fields_of(collateral)

    @functools.cached_property
    def _begin_digest(self) -> Digest:
        if self._begin is None:
            raise SessionError("receipt: the run has not begun")
        return sha256_digest(self._begin.quote)

    def end(self, end_statement: bytes) -> Bundle:
        """Seals the end statement and returns the whole bundle; may be called again if it failed.

        1. The runtime register, if there is one, holds what the event log says, and nothing else.
        2. The end quote.
        3. One collateral can speak for both quotes.
        4. What is written can be read.

        Raises:
            SessionError: If the run has not begun.
            SealError: If the platform or a GPU does not attest, a part is larger than a bundle can hold, or
                no verifier could accept the bundle: an event was interrupted between register and log, or
                firmware was updated since the begin.
        """
        if self._begin is None:
            raise SessionError("end: the run has not begun")
        root = binding.end_claims_root(
            end_statement, self._log.root(), len(self._entries), self._spki, self._begin.quote
        )
        try:
            self._check_register()  # 1
            phase = self._phase("end", end_statement, root)  # 2
            self._check_endorsed(self._begin.quote, phase.quote)  # 3
            collateral = self._collect()
            bundle = Bundle(
                media_type=evidence.MEDIA_TYPE,
                attester=self.attester.platform,
                run_id=self.run_id,
                session_key=self._spki,
                challenge=self.challenge,
                segments=tuple(_without(segment, collateral) for segment in self.segments),
                boot_log=self.attester.boot_log(),
                register_log=self._register_log,
                begin=self._begin,
                log=tuple(self._entries),
                end=phase,
                collateral=collateral,
                gpu_endorsements=self.gpus.endorsements(),
                timestamp=None,
            )
            statement.decode(evidence.decode(bundle.encode()).end.statement)  # 4
        except (AttesterError, InputError) as error:
            raise SealError(f"the run was measured but could not be sealed: {error}") from error
        return bundle

    def close(self) -> None:
        """Gives the runtime register back, for another session; nothing can be sealed any more."""
        self.attester.close()

    def _check_register(self) -> None:
        if self._register is None:
            return
        found, expected = self.attester.register(), seals.replayed(self._register, self._entries)
        if found != expected:
            raise SealError(
                "the run was measured but could not be sealed: the runtime register does not hold what the "
                f"event log says: expected {expected.hex()}, got {found.hex() if found else found}; an event "
                "was interrupted before it was logged, or something else has extended the register: run again"
            )

    def _check_endorsed(self, *quotes: bytes) -> None:
        if len({platforms.endorsed_by(self.attester.platform, raw) for raw in quotes}) > 1:
            raise SealError(
                "the run was measured but could not be sealed: the platform's firmware or key was updated "
                "while it ran, so that no one chain of certificates speaks for both the begin and the end "
                "quote, and no verifier could accept them: run again"
            )

    def _phase(self, name: binding.Phase, sealed: bytes, claims_root: bytes) -> Phase:
        """Asks the GPUs, and then the platform for a quote over what they answered."""
        ctx = seals.context(self.challenge, run_id=self.run_id, phase=name, claims_root=claims_root)
        gpus = self.gpus.collect(ctx)
        wanted = seals.report_data(
            self.challenge, run_id=self.run_id, phase=name, claims_root=claims_root, gpus=gpus
        )
        return Phase(statement=sealed, quote=self._quote(wanted), gpus=gpus)

    def _quote(self, wanted: bytes) -> bytes:
        raw = self.attester.quote(wanted)
        try:
            sealed = platforms.report_data_of(self.attester.platform, raw)
        except InputError as error:
            raise AttesterError(f"{self.attester.name}: its quote does not parse: {error}") from error
        if sealed != wanted:
            raise AttesterError(
                f"{self.attester.name}: the quote carries other report data than was asked for"
            )
        return raw


@functools.cache
def _spelled_kind(kind: str) -> bytes:
    return encode_json(kind)


def _without(segment: Segment, collateral: dict[str, str] | None) -> Segment:
    """Returns a segment without the collateral that is the bundle's own: it is spelled once."""
    if segment.session.collateral is None or segment.session.collateral != collateral:
        return segment
    return dataclasses.replace(segment, session=dataclasses.replace(segment.session, collateral=None))


def diagnose(failure: SealError, *, run_id: str, operation: str) -> str:
    """Writes down what failed into the working folder, and says where.

    The file is no evidence; that it cannot be written is no reason to lose the run.

    Args:
        failure: What failed.
        run_id: Name of the run, part of the file's name.
        operation: The operation that was attested.
    """
    path = Path(f"palm-{run_id}.failed.json")
    content: dict[str, Json] = {
        "type": FAILED_TYPE,
        "evidence": False,
        "run_id": run_id,
        "operation": operation,
        "error": str(failure),
    }
    try:
        write_atomically(path, [encode_json(content)], error=SealError)
    except SealError as refused:
        return f"no diagnosis was written: {refused}"
    return f"diagnosis in {path.absolute()}"
