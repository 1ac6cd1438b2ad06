"""What a time-stamping authority sends back (RFC 3161 section 2.4.2): a status, and a token if it agreed."""

from __future__ import annotations

from typing import Final

from palm_torch.cvm import der
from palm_torch.errors import EncodingError, EvidenceError

MAX_RESPONSE_BYTES: Final = 256 << 10
_WHAT: Final = "time-stamp response"
_GRANTED: Final = (0, 1)
"""Granted, and granted with modifications: what was modified shows in the token, which is checked."""

_STATUS: Final = {2: "rejection", 3: "waiting", 4: "revocation warning", 5: "revocation notification"}
_FAILURES: Final = {
    0: "unknown or unsupported algorithm",
    2: "transaction not permitted or supported",
    5: "wrong data format",
    14: "time source not available",
    15: "policy not supported",
    16: "extension not supported",
    17: "additional information not understood or not available",
    25: "system failure",
}


def token_of_response(data: bytes) -> bytes:
    """Returns the token of a response, unverified.

    Args:
        data: A TimeStampResp, DER.

    Raises:
        EvidenceError: If the bytes are no response, or the authority refused; the message says why it did.
    """
    try:
        return _token(data)
    except EncodingError as error:
        raise EvidenceError(str(error)) from error


def _token(data: bytes) -> bytes:
    if len(data) > MAX_RESPONSE_BYTES:
        raise EncodingError(f"{_WHAT}: expected at most {MAX_RESPONSE_BYTES} bytes, got {len(data)}")
    parts = _sequence(der.read(data, what=_WHAT))
    if not parts:
        raise EncodingError(f"{_WHAT}: empty")
    info = _sequence(parts[0])
    if not info:
        raise EncodingError(f"{_WHAT}: no status")
    status = der.read_integer(info[0], what=f"{_WHAT}: status")
    if status not in _GRANTED:
        raise EvidenceError(f"{_WHAT}: the authority refused: {_reasons(status, info[1:])}")
    if len(parts) != 2:  # noqa: PLR2004 (status and token)
        raise EncodingError(f"{_WHAT}: expected a status and a token, got {len(parts)} parts")
    return parts[1].encoded


def _reasons(status: int, details: tuple[der.Element, ...]) -> str:
    said = [_STATUS.get(status, f"status {status}")]
    for detail in details:
        if detail.tag == der.SEQUENCE:
            texts = der.children(detail, what=_WHAT)
            said += [repr(text.content[:200].decode("utf-8", "replace")) for text in texts]
        elif detail.tag == der.BIT_STRING:
            bits = detail.content[1:]
            said += [
                meaning
                for bit, meaning in _FAILURES.items()
                if bit // 8 < len(bits) and bits[bit // 8] & 0x80 >> bit % 8
            ]
    return ", ".join(said)


def _sequence(element: der.Element) -> tuple[der.Element, ...]:
    der.expect(element, der.SEQUENCE, what=_WHAT)
    return der.children(element, what=_WHAT)
