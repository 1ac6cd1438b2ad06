"""What a loop received, counted, multiplied and chained in the plainest way: the specification in ten lines.

Nothing here is fast, and nothing is shared with the code under test but the prime.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from palm_torch.commit import multiset

if TYPE_CHECKING:
    from collections.abc import Sequence

PRIME = multiset.MSET_MU_3072.modulus
_STREAM_KEY = hashlib.sha256(b"palm-torch/mset-mu-3072/v1").digest()


def framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def digest(record: bytes, kind: str = "") -> bytes:
    """Returns a record's digest from its canonical bytes."""
    parts = (b"", kind.encode()) if kind else (b"",)
    return blake3(record, key=hashlib.sha256(b"palm-torch/record/v1" + framed(*parts)).digest()).digest()


def element(one: bytes) -> int:
    """Returns the number that stands for a record digest."""
    return int.from_bytes(blake3(one, key=_STREAM_KEY).digest(400), "big") % PRIME


def product(digests: Sequence[bytes]) -> str:
    """Returns the multiset hash of record digests, in hex."""
    state = 1
    for one in digests:
        state = state * element(one) % PRIME
    return state.to_bytes(384, "big").hex()


def chain(batches: Sequence[Sequence[bytes]]) -> bytes:
    """Returns the order chain of batches of record digests."""
    link = bytes(32)
    for batch in batches:
        link = hashlib.sha256(b"palm-torch/order/v1" + framed(link, b"".join(batch))).digest()
    return link


def coverage(counts: Sequence[int]) -> bytes:
    """Returns the coverage root of at most 1,024 records."""
    assert len(counts) <= 1024
    return hashlib.sha256(b"\0" + b"".join(count.to_bytes(4, "little") for count in counts)).digest()


def claim(batches: Sequence[Sequence[bytes]], written: Sequence[bytes] | None, kind: str) -> dict[str, Any]:
    """Returns what has to be claimed.

    Args:
        batches: Canonical bytes of the records that the loop received, batch by batch.
        written: Canonical bytes of the dataset's records, no two alike; None for a stream.
        kind: What gives the bytes their meaning.
    """
    received = [record for batch in batches for record in batch]
    digests = [[digest(record, kind) for record in batch] for batch in batches]
    found: dict[str, Any] = {
        "delivered": len(received),
        "multiset": product([one for batch in digests for one in batch]),
        "order": chain(digests),
        "counts": None,
    }
    if written is not None:
        times = Counter(received)
        counts = [times.pop(record, 0) for record in written]
        assert not times, "the loop received a record that was never written"
        found["counts"] = (sum(map(bool, counts)), min(counts), max(counts), coverage(counts))
    return found
