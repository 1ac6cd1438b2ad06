"""What a quote's 64 bytes of report data commit to: the challenge, the run, the phase, the claims, the GPUs.

The attester derives these values to ask for a quote; the verifier derives them again from the bundle and
from its own challenge, and compares all 64 bytes. Nothing here is read from a quote.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final, Literal

from palm_torch.digest import tagged_hash
from palm_torch.encoding import length_prefixed
from palm_torch.errors import BindingError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

CHALLENGED_TAG: Final = "palm-torch/cvm/v1"
UNCHALLENGED_TAG: Final = "palm-torch/cvm-unchallenged/v1"
GPU_NONCE_TAG: Final = "palm-torch/gpu-nonce/v1"
GPU_EVIDENCE_TAG: Final = "palm-torch/gpu-ev/v1"
REPORT_DATA_TAG: Final = "palm-torch/reportdata/v1"
BEGIN_TAG: Final = "palm-torch/begin/v1"
END_TAG: Final = "palm-torch/end/v1"

MIN_NONCE_BYTES: Final = 32
HASH_BYTES: Final = 32
REPORT_DATA_BYTES: Final = 64

Phase = Literal["begin", "end"]


def context(*, nonce: bytes, challenged: bool, run_id: str, phase: Phase, claims_root: bytes) -> bytes:
    """Returns the 32 bytes every other value of one quote derives from.

    Args:
        nonce: The verifier's challenge, at least 32 bytes; for an unchallenged run, as many random ones.
        challenged: Whether the nonce came from a verifier; decides the tag, so that neither kind of
            evidence can be shown as the other.
        run_id: Name of the run.
        phase: Which of the two quotes.
        claims_root: `begin_claims_root` or `end_claims_root`, 32 bytes.

    Raises:
        InputError: If the nonce is too short, or the claims root has another length.
    """
    if len(nonce) < MIN_NONCE_BYTES:
        raise InputError(f"challenge nonce: expected at least {MIN_NONCE_BYTES} bytes, got {len(nonce)}")
    _exactly(claims_root, HASH_BYTES, "claims root")
    tag = CHALLENGED_TAG if challenged else UNCHALLENGED_TAG
    return tagged_hash(tag, nonce, run_id.encode("utf-8"), phase.encode("ascii"), claims_root)


def gpu_nonce(ctx: bytes, index: int) -> bytes:
    """Returns the 32-byte nonce of GPU number `index`: another for each GPU and each phase.

    Raises:
        InputError: If the context has another length.
    """
    _exactly(ctx, HASH_BYTES, "context")
    return hashlib.sha256(GPU_NONCE_TAG.encode("ascii") + ctx + index.to_bytes(4, "big")).digest()


def gpu_hash(gpus: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Returns the 32-byte hash of all GPU evidence, in GPU order.

    Args:
        gpus: For each GPU its raw evidence and its certificates, DER, leaf first, concatenated. None at
            all has a hash of its own.
    """
    framed = b"".join(length_prefixed(evidence) + length_prefixed(chain) for evidence, chain in gpus)
    return hashlib.sha256(GPU_EVIDENCE_TAG.encode("ascii") + len(gpus).to_bytes(4, "big") + framed).digest()


def report_data(ctx: bytes, gpus: bytes) -> bytes:
    """Returns the 64 bytes a quote must carry.

    Args:
        ctx: `context`, 32 bytes.
        gpus: `gpu_hash`, 32 bytes.

    Raises:
        InputError: If one of them has another length.
    """
    _exactly(ctx, HASH_BYTES, "context")
    _exactly(gpus, HASH_BYTES, "GPU hash")
    return hashlib.sha512(REPORT_DATA_TAG.encode("ascii") + ctx + gpus).digest()


def begin_claims_root(begin_statement: bytes, spki: bytes) -> bytes:
    """Returns what the first quote commits to, 32 bytes.

    Args:
        begin_statement: The exact bytes of the statement made at begin; never empty.
        spki: The session key, SubjectPublicKeyInfo, DER.

    Raises:
        InputError: If the statement or the key is empty.
    """
    _not_empty(begin_statement, "begin statement")
    _not_empty(spki, "session key")
    return tagged_hash(BEGIN_TAG, hashlib.sha256(begin_statement).digest(), spki)


def end_claims_root(
    statement: bytes, log_root: bytes, log_size: int, spki: bytes, begin_quote: bytes
) -> bytes:
    """Returns what the last quote commits to, 32 bytes.

    Args:
        statement: The exact bytes of the statement as carried.
        log_root: Root of the event log, 32 bytes.
        log_size: Number of its entries.
        spki: The session key, as at begin.
        begin_quote: The canonical begin quote: the end hangs on this very beginning.

    Raises:
        InputError: If a part is empty, has another length, or the size is not that of a log.
    """
    if not 0 <= log_size < 1 << 63:
        raise InputError(f"event log size: expected 0 to 2^63 - 1, got {log_size}")
    _not_empty(statement, "statement")
    _exactly(log_root, HASH_BYTES, "event log root")
    _not_empty(spki, "session key")
    _not_empty(begin_quote, "begin quote")
    return tagged_hash(
        END_TAG,
        hashlib.sha256(statement).digest(),
        log_root,
        log_size.to_bytes(8, "big"),
        spki,
        hashlib.sha256(begin_quote).digest(),
    )


def check_report_data(found: bytes, expected: bytes, *, what: str) -> None:
    """Compares all 64 bytes of a verified quote's report data, in constant time.

    Raises:
        BindingError: If they differ.
    """
    if len(expected) != REPORT_DATA_BYTES or not hmac.compare_digest(found, expected):
        raise BindingError(
            f"{what}: report data seals other claims: expected {expected.hex()}, got {found.hex()}"
        )


def _exactly(value: bytes, size: int, what: str) -> None:
    if len(value) != size:
        raise InputError(f"{what}: expected {size} bytes, got {len(value)}")


def _not_empty(value: bytes, what: str) -> None:
    if not value:
        raise InputError(f"{what}: expected bytes, got none")
