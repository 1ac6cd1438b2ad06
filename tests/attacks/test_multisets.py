"""Other records than were bound are delivered, so chosen that the multiset hash shall not notice."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from palm_torch.commit.multiset import MSET_MU_3072, MultisetHash

ORDER = MSET_MU_3072.modulus - 1
"""Order of the group: every element to this power is 1."""


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def hash_of(records: Counter[str]) -> MultisetHash:
    made = MultisetHash()
    for name, times in records.items():
        made.add(digest(name), times=times)
    return made


@pytest.mark.parametrize("times", [1, 2, 2**8, 2**16, 2**32, 2**53 - 1])
def test_one_record_many_times_for_none(times: int) -> None:
    """A sum of 16-bit lanes forgets a record that comes 65,536 times; a product does not."""
    made = hash_of(Counter({"x": times}))
    assert made != MultisetHash()
    assert made.state != MultisetHash().state
    lanes = [int.from_bytes(digest("x")[at : at + 2], "little") * 2**16 % 2**16 for at in range(0, 32, 2)]
    assert not any(lanes)  # the twin: such a sum would be that of no record


@pytest.mark.parametrize(
    "swapped",
    [
        {"a": 2, "c": 1},
        {"b": 2, "c": 1},
        {"a": 3},
        {"a": 1, "b": 1, "d": 1},
        {"d": 1, "e": 1, "f": 1},
    ],
)
def test_as_many_other_records(swapped: dict[str, int]) -> None:
    """The count is the same; a record was dropped for a copy of another one, or for a new one."""
    bound = Counter(a=1, b=1, c=1)
    made = hash_of(Counter(swapped))
    assert made.count == hash_of(bound).count
    assert made.state != hash_of(bound).state
    assert made.digest() != hash_of(bound).digest()


def test_as_often_as_the_group_is_large() -> None:
    """The product is that of no record: nobody delivers so many, and the count would say it."""
    element = MSET_MU_3072.element(digest("x"))
    assert pow(element, ORDER, MSET_MU_3072.modulus) == 1
    assert ORDER.bit_length() == 3072
    empty = MultisetHash()
    counted = MultisetHash.from_state(empty.state, 2**53 - 1)
    assert counted.digest() != empty.digest()
    assert counted != empty
