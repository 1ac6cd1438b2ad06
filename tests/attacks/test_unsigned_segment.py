"""A checkpoint that no session signed is presented as the earlier part of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from workshop import put

from palm_torch import dsse
from palm_torch.dsse import Envelope, Signature
from palm_torch.errors import BindingError, EvidenceError, SignatureError

if TYPE_CHECKING:
    from relay import ResumedRun


def test_a_signature_of_zeros(resumed: ResumedRun) -> None:
    for sig in (
        bytes(64),
        bytes(72),
        b"\x30\x06\x02\x01\x00\x02\x01\x00",
        b"\x30\x06\x02\x01\x01\x02\x01\x01",
        b"\0",
    ):
        with pytest.raises(SignatureError, match="segment 1: receipt: the signature"):
            resumed.verify(put(resumed.bundle, "segments.0.receipt.signatures.0.sig", sig))


def test_no_signature(resumed: ResumedRun) -> None:
    data = resumed.data
    start = data.index(b'"signatures":[') + len(b'"signatures":[')
    unsigned = data[:start] + data[data.index(b"]", start) :]
    with pytest.raises(EvidenceError, match="signatures: expected exactly one, got 0"):
        resumed.verify(unsigned)


def test_a_signature_of_somebody_else(resumed: ResumedRun) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    payload = resumed.bundle.segments[0].receipt.payload
    forged = dsse.sign(payload, payload_type=dsse.IN_TOTO_PAYLOAD, key=own)
    with pytest.raises(
        SignatureError, match=r"segment 1: receipt: expected a signature of key .* got one of"
    ):
        resumed.verify(put(resumed.bundle, "segments.0.receipt", forged))
    claimed = resumed.bundle.segments[0].receipt.signatures[0].keyid
    disguised = Envelope(payload, dsse.IN_TOTO_PAYLOAD, (Signature(claimed, forged.signatures[0].sig),))
    with pytest.raises(SignatureError, match="segment 1: receipt: the signature does not verify"):
        resumed.verify(put(resumed.bundle, "segments.0.receipt", disguised))


def test_a_signature_of_a_key_that_no_quote_vouches_for(resumed: ResumedRun) -> None:
    """The attacker replaces session key and signature together: then the begin quote is about another key."""
    own: Any = ec.generate_private_key(ec.SECP256R1())
    payload = resumed.bundle.segments[0].receipt.payload
    forged = put(
        resumed.bundle,
        "segments.0.receipt",
        dsse.sign(payload, payload_type=dsse.IN_TOTO_PAYLOAD, key=own),
    )
    stranger = resumed.sessions[1].opening.session_key
    for key in (stranger, b"", b"\0" * 91):
        with pytest.raises((BindingError, EvidenceError), match="segment 1: begin quote: report data"):
            resumed.verify(put(forged, "segments.0.session.session_key", key or b"\0"))


def test_the_other_signature_of_a_pair(resumed: ResumedRun) -> None:
    """ECDSA signatures come in pairs (s and n - s); one bundle has one spelling."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    r, s = decode_dss_signature(resumed.bundle.segments[1].receipt.signatures[0].sig)
    twin = encode_dss_signature(r, dsse._P256_ORDER - s)
    with pytest.raises(SignatureError, match="segment 2: receipt: the signature is not in canonical form"):
        resumed.verify(put(resumed.bundle, "segments.1.receipt.signatures.0.sig", twin))
