"""The multiset hash of deliveries from digests and counts, against one multiplication per delivery."""

from __future__ import annotations

import hashlib
import struct

import pytest

from palm_torch.commit import deliveries, multiset
from palm_torch.errors import DataError

FORMS = {1: "B", 2: "H", 4: "I"}
DIGESTS = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(12))


def naive(counts: list[int]) -> multiset.MultisetHash:
    made = multiset.MultisetHash()
    for index, count in enumerate(counts):
        made.add(DIGESTS[index * 32 : index * 32 + 32], count)
    return made


def packed(counts: list[int], width: int) -> bytes:
    return struct.pack(f"<{len(counts)}{FORMS[width]}", *counts)


def whole(size: int) -> multiset.MultisetHash:
    return naive([1] * size)


CASES = {
    "each once": ([1] * 12, 1),
    "none": ([0] * 12, 1),
    "some twice": ([1, 2] * 6, 1),
    "counts of every digit": ([0, 1, 2, 3, 15, 16, 17, 100, 127, 128, 254, 255], 1),
    "two bytes": ([0, 1, 255, 256, 257, 511, 512, 65_535, 4096, 3, 2, 1], 2),
    "four bytes": ([0, 65_536, 2**32 - 1, 2**31, 1, 255, 256, 2**24, 2**24 - 1, 7, 7, 7], 4),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("base", [0, 1, 2, 300])
def test_it_is_the_product_delivery_by_delivery(name: str, base: int) -> None:
    counts, width = CASES[name]
    made = deliveries.Deliveries(base=base, whole=whole(12))
    for start in (0, 5):  # in two pieces
        part = counts[start : start + 5] if start == 0 else counts[5:]
        piece = DIGESTS[start * 32 : (start + len(part)) * 32]
        made.add(piece, packed(part, width), width)
    assert made.total() == naive(counts)
    assert made.total().count == sum(counts)


def test_without_a_base_the_whole_dataset_is_not_needed() -> None:
    made = deliveries.Deliveries()
    made.add(DIGESTS, bytes(range(12)), 1)
    assert made.total() == naive(list(range(12)))
    with pytest.raises(DataError, match="3 times the whole dataset"):
        deliveries.Deliveries(base=3)


def test_records_of_the_base_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = deliveries.Deliveries(base=2, whole=whole(12))
    multiplied: list[int] = []
    genuine = multiset.MultisetHash.add_many
    monkeypatch.setattr(
        multiset.MultisetHash,
        "add_many",
        lambda self, digests: (multiplied.append(len(digests) // 32), genuine(self, digests))[1],
    )
    made.add(DIGESTS, bytes([2]) * 12, 1)
    made.add(DIGESTS[:64], bytes([2, 1]), 1)
    assert multiplied == [1]


@pytest.mark.parametrize(("digests", "counts"), [(b"\0" * 31, b"\1"), (b"\0" * 32, b""), (b"", b"\1")])
def test_counters_and_digests_go_together(digests: bytes, counts: bytes) -> None:
    with pytest.raises(DataError, match="one counter per digest"):
        deliveries.Deliveries().add(digests, counts, 1)
