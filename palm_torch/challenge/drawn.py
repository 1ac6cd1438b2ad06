"""What every request whose places are drawn has: claims, a trace, and a nonce that came after both."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from palm_torch import codec, files
from palm_torch.challenge import drawing
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.encoding import decode_hex, encode_json
from palm_torch.errors import RequestError

NONCE_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnRequest:
    """What a verifier asks of a trace, at places that nobody chose.

    Attributes:
        media_type: Which carries the version.
        claims: What was sealed about the run: the claims root of the end of sealed evidence, or the SHA-256
            of a receipt's statement; None if nothing was sealed.
        trace: The trace root.
        nonce: 32 bytes in hex, drawn by the verifier when it had all of that, and used once.
    """

    media_type: str
    claims: Digest | None
    trace: Digest
    nonce: str

    @property
    def seed(self) -> bytes:
        """What everything that is asked is drawn from, 64 bytes."""
        return drawing.seed(self.claims, self.trace, decode_hex(self.nonce, what="nonce"))

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        return encode_json(codec.to_json(self))

    def save(self, path: str | Path) -> None:
        """Writes the request to a file, whole or not at all.

        Raises:
            RequestError: If it cannot be written.
        """
        files.write_atomically(Path(path), [self.encode()], error=RequestError)

    def require_drawn(self, media_type: str) -> None:
        """Refuses another version, and what is no root or no nonce.

        Args:
            media_type: The one that is expected.

        Raises:
            RequestError: If it is of another version, or `trace` is no root of a trace.
            EncodingError: If the nonce is not 32 bytes in hex.
        """
        if self.media_type != media_type:
            raise RequestError(f"media_type: expected {media_type!r}, got {self.media_type[:80]!r}")
        if self.trace.algorithm != TAGGED_SHA256:
            raise RequestError(f"trace: expected a {TAGGED_SHA256} root, got {self.trace}")
        decode_hex(self.nonce, what="nonce", length_bytes=NONCE_BYTES)


def fresh(nonce: bytes | None) -> str:
    """Returns a nonce in hex.

    Args:
        nonce: Its bytes; None draws them.
    """
    return (secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce).hex()
