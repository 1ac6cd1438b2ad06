"""Sealing a run: two quotes, one key, one log.

The begin quote seals what was known before the loop, the end quote seals the statement, the event log and
the begin quote itself. The session key exists in memory alone; the same public key under both quotes makes
them one session (docs/spec/60-evidence.md).
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from palm_torch import evidence, statement
from palm_torch.commit.history import History
from palm_torch.cvm import binding, quote
from palm_torch.digest import SHA256, Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import AttesterError, InputError, SealError, SessionError
from palm_torch.evidence import Bundle, Challenge, Phase
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    from palm_torch.cvm.attester import Attester
    from palm_torch.encoding import Json

RUN_ID_BYTES: Final = 16
FAILED_TYPE: Final = "palm-torch/failed-seal/v1"


class Sealer:
    """Seals one run with one attester.

    Args:
        attester: The platform that vouches.
        nonce: SHA-256 of the verifier's request file; None makes the run unchallenged.
    """

    def __init__(self, attester: Attester, *, nonce: bytes | None) -> None:
        self.run_id: Final = secrets.token_hex(RUN_ID_BYTES)
        self.attester: Final = attester
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._spki = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._challenge = Challenge(
            kind="unchallenged" if nonce is None else "challenged",
            nonce=secrets.token_bytes(evidence.MIN_NONCE_BYTES) if nonce is None else nonce,
        )
        self._log = History()
        self._entries: list[bytes] = []
        self._begin: Phase | None = None

    @property
    def request(self) -> Digest | None:
        """Digest of the request file that the run answers; None if it answers none."""
        return Digest(SHA256, self._challenge.nonce) if self._challenge.kind == "challenged" else None

    def register(self) -> str | None:
        """Returns the runtime register in hex, None on platforms without one."""
        return self.attester.register().hex() if self.attester.runtime_register == "rtmr3" else None

    def begin(self, begin_statement: bytes) -> None:
        """Seals the begin statement.

        Raises:
            AttesterError: If the platform does not attest.
            SealError: If the statement is larger than a bundle can hold.
        """
        root = binding.begin_claims_root(begin_statement, self._spki)
        try:
            self._begin = Phase(statement=begin_statement, quote=self._quote("begin", root), gpus=())
        except InputError as error:
            raise SealError(f"the begin statement could not be sealed: {error}") from error

    def record(self, kind: str, payload: dict[str, Json]) -> None:
        """Appends an event to the log and extends the runtime register with its digest.

        Raises:
            SealError: If the log is full, or the entry larger than a bundle can hold.
            AttesterError: If the register cannot be extended.
        """
        if len(self._entries) >= evidence.MAX_LOG_ENTRIES:
            raise SealError(f"the event log holds at most {evidence.MAX_LOG_ENTRIES} entries")
        entry = encode_json({"seq": len(self._entries), "type": kind, "payload": payload})
        if len(entry) > evidence.MAX_LOG_ENTRY_BYTES:
            raise SealError(
                f"event {kind!r}: expected at most {evidence.MAX_LOG_ENTRY_BYTES} bytes, got {len(entry)}"
            )
        if self.attester.runtime_register == "rtmr3":
            self.attester.extend(hashlib.sha384(entry).digest())
        self._log.append(entry)
        self._entries.append(entry)

    def end(self, end_statement: bytes) -> Bundle:
        """Seals the end statement and returns the whole bundle; may be called again if it failed.

        Raises:
            SessionError: If the run has not begun.
            SealError: If the platform does not attest, or a part is larger than a bundle can hold.
        """
        if self._begin is None:
            raise SessionError("end: the run has not begun")
        root = binding.end_claims_root(
            end_statement, self._log.root(), len(self._entries), self._spki, self._begin.quote
        )
        try:
            phase = Phase(statement=end_statement, quote=self._quote("end", root), gpus=())
            collateral = self.attester.collateral()
            bundle = Bundle(
                media_type=evidence.MEDIA_TYPE,
                attester=self.attester.platform,
                run_id=self.run_id,
                session_key=self._spki,
                challenge=self._challenge,
                begin=self._begin,
                log=tuple(self._entries),
                end=phase,
                collateral=None if collateral is None else dataclasses.asdict(collateral),
            )
            statement.decode(evidence.decode(bundle.encode()).end.statement)  # what is written can be read
        except (AttesterError, InputError) as error:
            raise SealError(f"the run was measured but could not be sealed: {error}") from error
        return bundle

    def _quote(self, phase: Literal["begin", "end"], claims_root: bytes) -> bytes:
        ctx = binding.context(
            nonce=self._challenge.nonce,
            challenged=self._challenge.kind == "challenged",
            run_id=self.run_id,
            phase=phase,
            claims_root=claims_root,
        )
        wanted = binding.report_data(ctx, binding.gpu_hash([]))
        raw = self.attester.quote(wanted)
        try:
            sealed = quote.parse_quote(raw).td_report.report_data
        except InputError as error:
            raise AttesterError(f"{self.attester.name}: its quote does not parse: {error}") from error
        if sealed != wanted:
            raise AttesterError(
                f"{self.attester.name}: the quote carries other report data than was asked for"
            )
        return raw


def diagnose(failure: SealError, *, run_id: str, operation: str) -> str:
    """Writes down what failed into the working folder, and says where.

    The file is no evidence; that it cannot be written is no reason to lose the run.
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
