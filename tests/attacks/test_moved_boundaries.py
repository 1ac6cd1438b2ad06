"""Bytes are moved from one field to its neighbour, so that plain concatenation would stay the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workshop import put

from palm_torch.cvm import binding
from palm_torch.digest import tagged_hash
from palm_torch.errors import BindingError, EvidenceError

if TYPE_CHECKING:
    from workshop import GoodRun


def test_every_split_of_the_same_bytes_is_another_hash() -> None:
    data = b"abcdefgh"
    splits = [(data[:i], data[i:j], data[j:]) for i in range(9) for j in range(i, 9)]
    assert len({tagged_hash("palm-torch/test/v1", *parts) for parts in splits}) == len(splits)


def test_a_nonce_that_borrows_from_the_run_id() -> None:
    nonce, run_id = bytes(32), "00112233"
    whole = nonce + run_id.encode()
    contexts = {
        binding.context(
            nonce=whole[: 32 + moved],
            challenged=True,
            run_id=whole[32 + moved :].decode(),
            phase="end",
            claims_root=bytes(32),
        )
        for moved in range(9)
    }
    assert len(contexts) == 9


def test_log_entries_joined_split_or_moved(good: GoodRun) -> None:
    first, second, third = good.bundle.log
    for log in (
        (first + second, third),
        (first, second + third),
        (first[:-1], first[-1:] + second, third),
        (b"", first, second, third),
        (first, second, third, b""),
    ):
        with pytest.raises((BindingError, EvidenceError)):
            good.verify(put(good.bundle, "log", log))


def test_a_begin_statement_is_no_end_statement(good: GoodRun) -> None:
    """The tags differ, so what was sealed as one can't be read as the other."""
    data, key = good.bundle.begin.statement, good.bundle.session_key
    assert binding.begin_claims_root(data, key) not in {
        binding.end_claims_root(data, bytes(32), 0, key, quote) for quote in (b"x", good.bundle.begin.quote)
    }
    with pytest.raises(EvidenceError):
        good.verify(put(good.bundle, "end.statement", data))


def test_the_size_of_the_log_is_sealed_beside_its_root(good: GoodRun) -> None:
    arguments = (good.bundle.end.statement, bytes(32))
    tail = (good.bundle.session_key, good.bundle.begin.quote)
    assert len({binding.end_claims_root(*arguments, size, *tail) for size in range(5)}) == 5
