"""A receipt is made to look as if an attested session had signed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import relay
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from workshop import NOW, put

from palm_torch import dsse, receipt
from palm_torch.appraisal import receipts
from palm_torch.digest import sha256_digest
from palm_torch.errors import BindingError, EvidenceError, RejectedError, SignatureError, TrustAnchorError

if TYPE_CHECKING:
    from pathlib import Path

    from relay import ResumedRun

    from palm_torch.receipt import Receipt
    from palm_torch.result import AttestationResult


def check(run: ResumedRun, found: Receipt, **options: Any) -> AttestationResult:
    return receipts.verify(found, policy=run.policy(), at=NOW, challenge=run.request, **options)


@pytest.fixture
def honest(resumed: ResumedRun) -> Receipt:
    return resumed.sessions[0].file


def test_signed_with_a_key_of_ones_own(resumed: ResumedRun, honest: Receipt) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    forged = dsse.sign(honest.envelope.payload, payload_type=dsse.IN_TOTO_PAYLOAD, key=own)
    with pytest.raises(SignatureError, match="receipt: expected a signature of key"):
        check(resumed, put(honest, "envelope", forged))
    spki = own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(BindingError, match="begin quote: report data seals other claims"):
        check(resumed, put(put(honest, "envelope", forged), "session.session_key", spki))


def test_a_whole_session_of_ones_own(resumed: ResumedRun, tmp_path: Path) -> None:
    own = relay.make_resumed_run(tmp_path / "keys")
    with pytest.raises(TrustAnchorError):
        check(resumed, own.sessions[0].file)


def test_moved_to_another_session(resumed: ResumedRun, honest: Receipt) -> None:
    for session in resumed.sessions[1:]:
        with pytest.raises(SignatureError, match="receipt: expected a signature of key"):
            check(resumed, put(honest, "session", session.opening))


def test_parts_of_two_sessions(resumed: ResumedRun, honest: Receipt) -> None:
    other = resumed.sessions[1].opening
    for part in ("run_id", "begin", "session_key"):
        with pytest.raises(RejectedError):
            check(resumed, put(honest, f"session.{part}", getattr(other, part)))


def test_a_new_quote_for_an_old_key_is_another_session(resumed: ResumedRun, honest: Receipt) -> None:
    """The begin quote is asked for again over the same data: the receipt names the first."""
    again = relay.sealed_opening(resumed.machine, honest.session)
    with pytest.raises(BindingError, match=r"receipt: expected one of the session that began with quote"):
        check(resumed, put(honest, "session", again))


def test_another_payload_under_an_honest_signature(resumed: ResumedRun, honest: Receipt) -> None:
    content = receipt.decode_content(honest.envelope.payload)
    other = receipt.encode_content(put(content, "artifacts.checkpoint.digest", sha256_digest(b"backdoored")))
    for payload in (other, resumed.sessions[1].file.envelope.payload, b"{}"):
        with pytest.raises(SignatureError, match="does not verify"):
            check(resumed, put(honest, "envelope.payload", payload))


def test_something_else_that_the_session_signed(resumed: ResumedRun, honest: Receipt) -> None:
    """A DSSE signature is over the type as well: a document of another type is no receipt."""
    session = resumed.sessions[0]
    as_text = dsse.sign(honest.envelope.payload, payload_type="text/plain", key=session.key)
    with pytest.raises(SignatureError, match=r"expected payloadType 'application/vnd.in-toto"):
        check(resumed, put(honest, "envelope", as_text))
    statement = dsse.sign(resumed.bundle.end.statement, payload_type=dsse.IN_TOTO_PAYLOAD, key=session.key)
    with pytest.raises(EvidenceError, match="unknown predicateType 'https://palm-torch/predicate/train/v1'"):
        check(resumed, put(honest, "envelope", statement))


def test_closing_evidence_of_a_stranger_helps_nobody(
    resumed: ResumedRun, honest: Receipt, tmp_path: Path
) -> None:
    own = relay.make_resumed_run(tmp_path / "keys")
    with pytest.raises(TrustAnchorError):
        check(resumed, honest, closing=own.data)
