"""Digests of records and of groups of 64 record digests: one hash per record, everything else follows.

Both are BLAKE3 in keyed mode. The key separates the two domains and carries the salt; BLAKE3 binds the
length of what it hashes by itself. Specification: docs/spec/40-data.md, section 1.
"""

from __future__ import annotations

import hashlib
from typing import Final

from blake3 import blake3

from palm_torch.encoding import length_prefixed
from palm_torch.errors import DataError

DIGEST_BYTES: Final = 32
GROUP_RECORDS: Final = 64
GROUP_BYTES: Final = GROUP_RECORDS * DIGEST_BYTES

MIN_SALT_BYTES: Final = 16

GROUP_KEY: Final = hashlib.sha256(b"palm-torch/record-group/v1").digest()


def record_key(salt: bytes | None = None, *, kind: str = "") -> bytes:
    """Returns the 32-byte key of record digests: ``SHA-256(tag ‖ LP(salt))``, or with ``LP(kind)`` after it.

    Args:
        salt: Secret of a private dataset, at least 16 bytes, or None. Without it nobody can tell from the
            digests whether a guessed record is in the dataset.
        kind: What gives the bytes of a record their meaning, such as the columns of a row; empty where a
            record is the bytes that lie in a file.

    Raises:
        DataError: If the salt is none: see `check_salt`.
    """
    check_salt(salt)
    framed = length_prefixed(salt or b"") + (length_prefixed(kind.encode()) if kind else b"")
    return hashlib.sha256(b"palm-torch/record/v1" + framed).digest()


def check_salt(salt: bytes | None) -> None:
    """Refuses what hides nothing: a salt that can be guessed, above all the empty one, which is none.

    Raises:
        DataError: If it is neither None nor at least 16 bytes.
    """
    if salt is None:
        return
    if not isinstance(salt, bytes):
        raise DataError(
            f"salt: expected bytes, got {type(salt).__name__}; secrets.token_bytes(32) makes a good one"
        )
    if len(salt) < MIN_SALT_BYTES:
        raise DataError(
            f"salt: expected at least {MIN_SALT_BYTES} bytes that nobody can guess, got {len(salt)}; "
            "secrets.token_bytes(32) makes a good one"
        )


def record_digest(
    record: bytes | bytearray | memoryview, *, salt: bytes | None = None, kind: str = ""
) -> bytes:
    """Returns the 32-byte digest of one record's exact bytes; salt and kind as for `record_key`."""
    return blake3(record, key=record_key(salt, kind=kind)).digest()


def group_digests(digests: bytes) -> bytes:
    """Returns the digests of consecutive groups of 64 record digests, the last of which may be shorter.

    Args:
        digests: Record digests, 32 bytes each, beginning at a group's first.

    Returns:
        32 bytes per group.
    """
    view = memoryview(digests)
    return b"".join(
        blake3(view[at : at + GROUP_BYTES], key=GROUP_KEY).digest() for at in range(0, len(view), GROUP_BYTES)
    )
