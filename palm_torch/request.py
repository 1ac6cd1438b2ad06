"""A verifier's challenge: the file that evidence must answer.

What evidence binds is the SHA-256 of the file's exact bytes, so everything in it is bound: the nonce, the
operation asked for, the roles that must be filled, and the time after which an answer comes too late.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from palm_torch import codec
from palm_torch.digest import sha256_digest
from palm_torch.encoding import decode_hex, encode_json
from palm_torch.errors import EncodingError, RequestError
from palm_torch.properties import Operation

TYPE: Final = "palm-torch/request/v1"
MAX_REQUEST_BYTES: Final = 64 << 10
NONCE_BYTES: Final = 32
TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A challenge.

    Attributes:
        type: Always `TYPE`.
        nonce: 32 random bytes of the verifier's, in hex.
        operation: The operation to attest.
        roles: Roles that the evidence must fill with something measured.
        expires: Last moment at which an answer is in time, ``YYYY-MM-DDTHH:MM:SSZ``; None for no limit.
    """

    type: str
    nonce: str
    operation: Operation
    roles: tuple[str, ...]
    expires: str | None

    def __post_init__(self) -> None:
        """Refuses other types, short nonces, roles without a name and times in another form."""
        if self.type != TYPE:
            raise EncodingError(f"expected type {TYPE!r}, got {self.type[:80]!r}")
        decode_hex(self.nonce, what="nonce", length_bytes=NONCE_BYTES)
        for role in self.roles:
            if not role.strip() or not role.isprintable():
                raise EncodingError(f"roles: expected names in printable text, got {role[:80]!r}")
        if self.expires is not None:
            parse_time(self.expires, what="expires")

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        return encode_json(codec.to_json(self))

    def expired(self, at: datetime) -> bool:
        """Returns whether `at`, an aware datetime, lies after the last moment for an answer."""
        return self.expires is not None and at > parse_time(self.expires)


def decode(data: bytes, *, what: str = "request") -> Request:
    """Decodes a request file, accepting exactly what `Request.encode` makes.

    Raises:
        RequestError: If the bytes are not a canonical request.
    """
    return codec.from_bytes(Request, data, what=what, max_bytes=MAX_REQUEST_BYTES, error=RequestError)


def nonce_of(data: bytes) -> bytes:
    """Returns what evidence binds of a request: the SHA-256 of the file's bytes, 32 bytes."""
    return sha256_digest(data).value


def parse_time(text: str, *, what: str = "time") -> datetime:
    """Parses ``YYYY-MM-DDTHH:MM:SSZ`` to an aware datetime; a moment has one spelling.

    Args:
        text: The time as it is written.
        what: Name of the field, the beginning of the message.

    Raises:
        EncodingError: If the text has another form (strptime alone takes other digits, and fewer).
    """
    try:
        parsed = datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise EncodingError(f"{what}: expected YYYY-MM-DDTHH:MM:SSZ, got {text[:40]!r}") from error
    if f"{parsed.replace(tzinfo=None).isoformat()}Z" != text:
        raise EncodingError(f"{what}: expected YYYY-MM-DDTHH:MM:SSZ, got {text[:40]!r}")
    return parsed
