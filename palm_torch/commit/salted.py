"""Commitments to things that could be guessed, opened on demand.

A question or an answer of a few words is known to whoever guesses it and compares digests. So its digest has
a salt of 32 random bytes, which its owner keeps: without the salt the digest says nothing, with it one thing
alone fits. An opening is a file with role, content and salt; whoever has it and the digest can check it.

Specification: docs/spec/55-inference.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from palm_torch import codec, files
from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import BindingError, EncodingError, EvidenceError, SealError

KIND: Final = "salted"
"""Kind of an artifact whose digest is such a commitment."""

TYPE: Final = "palm-torch/salted-opening/v1"
SALTS_TYPE: Final = "palm-torch/salts/v1"
SUFFIX: Final = ".palm-opening.json"
SALT_BYTES: Final = 32
MAX_CONTENT_BYTES: Final = 64 << 20
MAX_FORM_CHARACTERS: Final = 256

MAX_FILE_BYTES: Final = 2 * MAX_CONTENT_BYTES
"""Largest opening, and largest file of salts, in bytes."""

_TAG: Final = "palm-torch/salted/v1"


@dataclass(frozen=True, slots=True)
class Content:
    """What is committed to.

    Attributes:
        form: How the bytes are to be read: ``text`` (UTF-8), ``bytes``, or a tensor's element type and shape
            such as ``int64[1,17]`` (little endian, row-major).
        content: The bytes.

    Raises:
        EncodingError: If there are too many of them, or the form is none in plain ASCII.
    """

    form: str
    content: bytes

    def __post_init__(self) -> None:
        """Refuses what no opening could carry."""
        plain = self.form.isascii() and self.form.isprintable()
        if not plain or not 0 < len(self.form) <= MAX_FORM_CHARACTERS:
            raise EncodingError(
                f"form: expected 1 to {MAX_FORM_CHARACTERS} printable ASCII characters, got "
                f"{self.form[:80]!r}"
            )
        if len(self.content) > MAX_CONTENT_BYTES:
            raise EncodingError(
                f"content: expected at most {MAX_CONTENT_BYTES} bytes, got {len(self.content)}: commit to a "
                "digest of it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SaltedOpening:
    """A commitment's content and salt, as they travel to whoever may know them.

    Attributes:
        digest: The commitment.
        role: What it stands for, such as ``query``; no part of the digest.
        form: As in `Content`.
        content: As in `Content`.
        salt: 32 bytes.
        type: Always `TYPE`.
    """

    digest: Digest
    role: str
    form: str
    content: bytes
    salt: bytes
    type: str = TYPE

    def __post_init__(self) -> None:
        """Refuses another type of document, and what can be no content."""
        if self.type != TYPE:
            raise EncodingError(f"type: expected {TYPE!r}, got {self.type[:80]!r}")
        if len(self.salt) != SALT_BYTES:
            raise EncodingError(f"salt: expected {SALT_BYTES} bytes, got {len(self.salt)}")
        Content(self.form, self.content)

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        return encode_json(codec.to_json(self))

    def save(self, path: str | Path) -> None:
        """Writes the opening to a file that only its owner may read, until it is handed on.

        Raises:
            SealError: If it cannot be written.
        """
        files.write_atomically(Path(path), [self.encode()], error=SealError, mode=0o600)


def commit(content: Content, salt: bytes) -> Digest:
    """Returns the commitment to a content.

    Args:
        content: What is committed to.
        salt: 32 bytes, random and never used for another content.

    Raises:
        EncodingError: If the salt has another length.
    """
    if len(salt) != SALT_BYTES:
        raise EncodingError(f"salt: expected {SALT_BYTES} bytes, got {len(salt)}")
    return tagged_digest(_TAG, salt, content.form.encode("ascii"), content.content)


def decode(data: bytes, *, what: str = "opening") -> SaltedOpening:
    """Decodes an opening that nobody has checked, accepting exactly what `SaltedOpening.encode` makes.

    Raises:
        EvidenceError: If the bytes are anything else.
    """
    return codec.from_bytes(SaltedOpening, data, what=what, max_bytes=MAX_FILE_BYTES, error=EvidenceError)


def verify(opening: SaltedOpening, expected: Digest | None, *, what: str = "opening") -> Content:
    """Checks that an opening is that of a commitment, and returns what was committed to.

    Args:
        opening: The opening.
        expected: The commitment, from a receipt or a statement that was verified; None where it has none.
        what: Name of the opening, for messages.

    Raises:
        BindingError: If it is another commitment's, or content and salt do not make it.
    """
    content = Content(opening.form, opening.content)
    computed = commit(content, opening.salt)
    if opening.digest != expected or computed != expected:
        raise BindingError(
            f"{what}: expected one of {expected or 'none'}, got one that says {opening.digest} and makes "
            f"{computed}"
        )
    return content


@dataclass(frozen=True, slots=True, kw_only=True)
class Salts:
    """The secrets of one answer, for its owner to keep.

    Attributes:
        answer: Number of the answer in its session.
        query: Salt of the question, 32 bytes.
        response: Salt of the answer.
    """

    answer: int
    query: bytes
    response: bytes

    @classmethod
    def drawn(cls, answer: int) -> Salts:
        """Returns new ones for an answer."""
        drawn = os.urandom(2 * SALT_BYTES)
        return cls(answer=answer, query=drawn[:SALT_BYTES], response=drawn[SALT_BYTES:])

    def opening(self, role: Literal["query", "response"], content: Content) -> SaltedOpening:
        """Returns what shows to others what was asked or answered.

        Args:
            role: Which of the two.
            content: What it was; another one makes an opening that no verifier accepts.
        """
        salt = self.query if role == "query" else self.response
        return SaltedOpening(
            digest=commit(content, salt), role=role, form=content.form, content=content.content, salt=salt
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SaltsFile:
    """The secrets of a session's answers, as a file of its owner.

    Attributes:
        run_id: Name of the run.
        salts: One for each answer, in order.
        type: Always `SALTS_TYPE`.
    """

    run_id: str
    salts: tuple[Salts, ...]
    type: str = SALTS_TYPE

    def __post_init__(self) -> None:
        """Refuses another type of document."""
        if self.type != SALTS_TYPE:
            raise EncodingError(f"type: expected {SALTS_TYPE!r}, got {self.type[:80]!r}")

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        return encode_json(codec.to_json(self))

    def save(self, path: str | Path) -> None:
        """Writes the secrets to a file that only its owner may read.

        Raises:
            SealError: If it cannot be written.
        """
        files.write_atomically(Path(path), [self.encode()], error=SealError, mode=0o600)


def decode_salts(data: bytes, *, what: str = "salts") -> SaltsFile:
    """Decodes a file of salts, accepting exactly what `SaltsFile.encode` makes.

    Raises:
        EvidenceError: If the bytes are anything else.
    """
    return codec.from_bytes(SaltsFile, data, what=what, max_bytes=MAX_FILE_BYTES, error=EvidenceError)
