"""DSSE envelopes: the protocol's own example, one canonical spelling, and nothing signed by another key."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from workshop import put

from palm_torch import dsse
from palm_torch.digest import sha256_digest
from palm_torch.dsse import Envelope, Signature
from palm_torch.errors import EncodingError, EvidenceError, SignatureError

TYPE = "http://example.com/HelloWorld"
PAYLOAD = b"hello world"
ENCODED = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
"""Pre-authentication encoding of the two, as the DSSE protocol prints it."""

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

KEYS: dict[str, Any] = {
    "ECDSA P-256": ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def spki(key: Any, form: Any = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    public = getattr(key, "public_key", lambda: key)()
    data: bytes = public.public_bytes(Encoding.DER, form)
    return data


def verify(envelope: Envelope, key: Any, payload_type: str = TYPE) -> bytes:
    return dsse.verify(envelope, payload_type=payload_type, key=key.public_key(), what="note")


@pytest.fixture(params=KEYS)
def key(request: pytest.FixtureRequest) -> Any:
    return KEYS[request.param]


# What is signed -----------------------------------------------------------------------------------


def test_what_is_signed_is_the_protocols_own_example() -> None:
    ecdsa, edwards = KEYS["ECDSA P-256"], KEYS["Ed25519"]
    signed = dsse.sign(PAYLOAD, payload_type=TYPE, key=ecdsa)
    ecdsa.public_key().verify(signed.signatures[0].sig, ENCODED, ec.ECDSA(hashes.SHA256()))
    assert dsse.sign(PAYLOAD, payload_type=TYPE, key=edwards).signatures[0].sig == edwards.sign(ENCODED)


def test_lengths_are_those_of_bytes() -> None:
    key = KEYS["Ed25519"]
    signed = dsse.sign("é".encode(), payload_type="text/é", key=key)
    assert signed.signatures[0].sig == key.sign("DSSEv1 7 text/é 2 é".encode())


def test_what_was_signed_comes_back(key: Any) -> None:
    signed = dsse.sign(PAYLOAD, payload_type=TYPE, key=key)
    assert (signed.payload, signed.payloadType) == (PAYLOAD, TYPE)
    assert verify(signed, key) == PAYLOAD


def test_a_key_is_known_by_the_hash_of_its_public_half(key: Any) -> None:
    signed = dsse.sign(PAYLOAD, payload_type=TYPE, key=key)
    assert signed.signatures[0].keyid == dsse.key_id(key.public_key()) == sha256_digest(spki(key)).value.hex()


def test_of_two_valid_signatures_the_smaller_is_made() -> None:
    for _ in range(16):
        signed = dsse.sign(PAYLOAD, payload_type=TYPE, key=KEYS["ECDSA P-256"])
        assert decode_dss_signature(signed.signatures[0].sig)[1] <= ORDER // 2


# What is refused ----------------------------------------------------------------------------------


def test_another_type(key: Any) -> None:
    signed = dsse.sign(PAYLOAD, payload_type=TYPE, key=key)
    with pytest.raises(SignatureError, match="note: expected payloadType 'text/plain', got 'http://example"):
        verify(signed, key, "text/plain")
    with pytest.raises(SignatureError, match=r"^note: the signature does not verify under key [0-9a-f]{64}$"):
        verify(put(signed, "payloadType", "text/plain"), key, "text/plain")


def test_another_payload(key: Any) -> None:
    signed = dsse.sign(PAYLOAD, payload_type=TYPE, key=key)
    for payload in (b"hello World", b"", PAYLOAD + b"\0"):
        with pytest.raises(SignatureError, match="does not verify"):
            verify(put(signed, "payload", payload), key)


def test_the_border_between_type_and_payload_is_signed(key: Any) -> None:
    signed = dsse.sign(b"b", payload_type="text 1 a", key=key)
    moved = dataclasses.replace(signed, payload=b"a 1 b", payloadType="text")
    with pytest.raises(SignatureError, match="does not verify"):
        verify(moved, key, "text")


def test_another_key(key: Any) -> None:
    signed = dsse.sign(PAYLOAD, payload_type=TYPE, key=key)
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(SignatureError, match=r"note: expected a signature of key [0-9a-f]{64}, got one of"):
        verify(signed, other)
    claimed = put(signed, "signatures.0.keyid", dsse.key_id(other.public_key()))
    with pytest.raises(SignatureError, match="does not verify"):
        verify(claimed, other)


def test_every_bit_of_a_signature_counts(key: Any) -> None:
    signed = dsse.sign(PAYLOAD, payload_type=TYPE, key=key)
    sig = signed.signatures[0].sig
    for bit in range(8 * len(sig)):
        flipped = bytearray(sig)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            verify(put(signed, "signatures.0.sig", bytes(flipped)), key)
    for other in (sig + b"\0", sig[:-1], b"\0" + sig):
        with pytest.raises(SignatureError):
            verify(put(signed, "signatures.0.sig", other), key)


def test_the_other_signature_of_a_pair_is_refused_and_would_verify() -> None:
    key = KEYS["ECDSA P-256"]
    signed = dsse.sign(PAYLOAD, payload_type=TYPE, key=key)
    r, s = decode_dss_signature(signed.signatures[0].sig)
    twin = encode_dss_signature(r, ORDER - s)
    key.public_key().verify(twin, ENCODED, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(SignatureError, match="note: the signature is not in canonical form"):
        verify(put(signed, "signatures.0.sig", twin), key)


# The form that travels ----------------------------------------------------------------------------


def document(**changes: Any) -> dict[str, Any]:
    signed = dsse.sign(PAYLOAD, payload_type=TYPE, key=KEYS["Ed25519"]).to_json()
    assert isinstance(signed, dict)
    return {**signed, **changes}


def test_there_and_back() -> None:
    value = document()
    envelope = dsse.from_json(value, what="note", error=EvidenceError)
    assert envelope.to_json() == value
    assert value["payload"] == "aGVsbG8gd29ybGQ="
    assert value.keys() == {"payload", "payloadType", "signatures"}


def test_malformed_envelopes() -> None:
    (one,) = document()["signatures"]
    for changes, message in (
        ({"signatures": []}, "signatures: expected exactly one, got 0"),
        ({"signatures": [one, one]}, "signatures: expected exactly one, got 2"),
        ({"signatures": [{**one, "keyid": "12"}]}, "keyid: expected 32 bytes"),
        ({"signatures": [{**one, "keyid": one["keyid"].upper()}]}, "keyid"),
        ({"signatures": [{**one, "sig": ""}]}, "sig: expected 1 to 128 bytes, got 0"),
        ({"signatures": [{**one, "sig": "A" * 172}]}, "sig: expected 1 to 128 bytes, got 129"),
        ({"signatures": [{**one, "sig": "AB=="}]}, "base64"),
        ({"signatures": [{**one, "cert": ""}]}, "unknown key 'cert'"),
        ({"signatures": [{"sig": one["sig"]}]}, "missing key 'keyid'"),
        ({"payload": "aGVsbG8gd29ybGQ"}, "base64"),
        ({"payload": 1}, "note.payload: expected text"),
        ({"comment": ""}, "unknown key 'comment'"),
    ):
        with pytest.raises(EvidenceError, match=message):
            dsse.from_json(document(**changes), what="note", error=EvidenceError)


def test_limits() -> None:
    one = Signature("00" * 32, b"1")
    assert Envelope(bytes(dsse.MAX_PAYLOAD_BYTES), TYPE, (one,))
    with pytest.raises(EncodingError, match="payload: expected at most 16777216 bytes, got 16777217"):
        Envelope(bytes(dsse.MAX_PAYLOAD_BYTES + 1), TYPE, (one,))
    assert Signature("00" * 32, bytes(dsse.MAX_SIGNATURE_BYTES))


# Session keys -------------------------------------------------------------------------------------


def test_a_session_key_is_loaded() -> None:
    key = KEYS["ECDSA P-256"]
    assert dsse.key_id(dsse.session_public_key(spki(key))) == dsse.key_id(key.public_key())


def test_what_is_no_session_key() -> None:
    good = spki(KEYS["ECDSA P-256"])
    point = KEYS["ECDSA P-256"].public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    header = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    for data, message in (
        (b"", "not a public key"),
        (b"\x30\x00", "not a public key"),
        (good[:-1], "not a public key"),
        (good + b"\0", "session key: "),
        (spki(KEYS["Ed25519"]), "expected an ECDSA key on P-256"),
        (spki(ec.generate_private_key(ec.SECP384R1())), "expected an ECDSA key on P-256"),
        (spki(rsa.generate_private_key(65537, 2048)), "expected an ECDSA key on P-256"),
        (header + point, "not in canonical DER"),
    ):
        with pytest.raises(SignatureError, match=message):
            dsse.session_public_key(data)


# signatures at the border between the two forms of one, and messages in full


KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
HALF = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2


def refusal(s: int) -> str:
    envelope = Envelope(b"x", "t", (Signature(dsse.key_id(KEY), encode_dss_signature(1, s)),))
    with pytest.raises(SignatureError) as caught:
        dsse.verify(envelope, payload_type="t", key=KEY, what="note")
    return str(caught.value)


def test_half_the_order_is_the_greatest_small_s() -> None:
    for s in (1, HALF - 1, HALF):
        assert refusal(s) == f"note: the signature does not verify under key {dsse.key_id(KEY)}"
    for s in (HALF + 1, HALF + 2, 2 * HALF):
        assert refusal(s) == "note: the signature is not in canonical form (DER, s at most half the order)"


def test_eighty_characters_of_a_foreign_type_are_shown() -> None:
    envelope = Envelope(b"x", "x" * 81, (Signature("00" * 32, b"1"),))
    with pytest.raises(SignatureError) as caught:
        dsse.verify(envelope, payload_type="t", key=KEY, what="note")
    assert str(caught.value) == f"note: expected payloadType 't', got {'x' * 80!r}"


def test_what_is_wrong_with_a_session_key_is_said() -> None:
    edwards: Any = ed25519.Ed25519PrivateKey.generate().public_key()
    point = KEY.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    for data, message in (
        (
            edwards.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            "session key: expected an ECDSA key on P-256",
        ),
        (compressed, "session key: not in canonical DER"),
    ):
        with pytest.raises(SignatureError) as caught:
            dsse.session_public_key(data)
        assert str(caught.value) == message


def test_the_payload_type_is_in_totos() -> None:
    assert dsse.IN_TOTO_PAYLOAD == "application/vnd.in-toto+json"
