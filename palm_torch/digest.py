"""Digests that say which algorithm made them, and hashes that say what they are for.

A digest travels as ``algorithm:hex``. A tagged hash is ``SHA-256(tag ‖ LP(part) ‖ LP(part) …)``: the
tag names the purpose and its version, the length prefixes make the framing unambiguous. The verifier
asks for the algorithm it wants; a digest never gets to choose.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.encoding import decode_hex, length_prefixed
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from pathlib import Path

SHA256: Final = "sha256"
"""Plain SHA-256 of the bytes of one file or document."""

TAGGED_SHA256: Final = "palm-sha256"
"""A tagged hash of this module, or a tree root built from such hashes."""

LENGTHS_BYTES: Final = {SHA256: 32, TAGGED_SHA256: 32, "sha384": 48, "palm-mset-mu-3072": 384}
"""Every algorithm a digest may name, with the length of its value in bytes."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A digest with the name of its algorithm.

    Attributes:
        algorithm: A key of `LENGTHS_BYTES`.
        value: The digest bytes.

    Raises:
        EncodingError: If the algorithm is unknown or the value has another length.
    """

    algorithm: str
    value: bytes

    def __post_init__(self) -> None:
        """Refuses unknown algorithms and wrong lengths."""
        expected = LENGTHS_BYTES.get(self.algorithm)
        if expected is None:
            raise EncodingError(f"unknown digest algorithm {self.algorithm[:40]!r}")
        if len(self.value) != expected:
            raise EncodingError(f"{self.algorithm}: expected {expected} bytes, got {len(self.value)}")

    def __str__(self) -> str:
        """Returns the form that travels, ``algorithm:hex``."""
        return f"{self.algorithm}:{self.value.hex()}"

    @classmethod
    def parse(cls, text: str, *, what: str = "digest") -> Digest:
        """Parses ``algorithm:hex``.

        Raises:
            EncodingError: If the text has another form, algorithm or length.
        """
        algorithm, colon, value = text.partition(":")
        if not colon:
            raise EncodingError(f"{what}: expected 'algorithm:hex', got {text[:80]!r}")
        parsed = decode_hex(value, what=what)
        try:
            return cls(algorithm, parsed)
        except EncodingError as error:
            raise EncodingError(f"{what}: {error}") from error


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    """Returns ``SHA-256(tag ‖ LP(part₁) ‖ LP(part₂) …)``, 32 bytes.

    Tags are raw ASCII of the form ``palm-torch/<purpose>/v<n>``, none a prefix of another.
    """
    return hashlib.sha256(tag.encode("ascii") + b"".join(map(length_prefixed, parts))).digest()


def tagged_digest(tag: str, *parts: bytes) -> Digest:
    """Returns `tagged_hash` as a named digest."""
    return Digest(TAGGED_SHA256, tagged_hash(tag, *parts))


def sha256_digest(data: bytes) -> Digest:
    """Returns the plain SHA-256 of a document's bytes as a named digest."""
    return Digest(SHA256, hashlib.sha256(data).digest())


def sha256_file(path: Path) -> Digest:
    """Returns the plain SHA-256 of a file, read once, in pieces.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as stream:
        return Digest(SHA256, hashlib.file_digest(stream, "sha256").digest())
