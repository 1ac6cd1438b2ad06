"""The event log loses an inconvenient entry, gains a convenient one, or tells them in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workshop import put

from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import BindingError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workshop import GoodRun


def renumbered(log: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Returns the entries with the numbers of their new places, so that only the seal can tell."""
    documents = [decode_json(entry, what="entry", max_bytes=1 << 20) for entry in log]
    return tuple(encode_json({**dict(entry), "seq": index}) for index, entry in enumerate(documents))


def rewritten(log: tuple[bytes, ...]) -> Iterator[tuple[bytes, ...]]:
    for index in range(len(log)):
        yield log[:index] + log[index + 1 :]
        yield (*log[: index + 1], *log[index:])
        yield log[:index]
    yield log[::-1]
    yield (*log, encode_json({"seq": len(log), "type": "reviewed", "payload": {}}))


def test_a_rewritten_log_breaks_the_seal(good: GoodRun) -> None:
    for log in rewritten(good.bundle.log):
        with pytest.raises(BindingError, match="end quote: report data"):
            good.verify(put(good.bundle, "log", log))
        with pytest.raises(BindingError, match="end quote: report data"):
            good.verify(put(good.bundle, "log", renumbered(log)))


def test_a_log_sealed_anew_must_still_be_the_one_the_register_saw(good: GoodRun) -> None:
    """Code in the domain can ask for any report data; the register was extended, and stays extended."""
    for log in rewritten(good.bundle.log):
        forged = good.resealed(put(good.bundle, "log", renumbered(log)), register_of=good.bundle)
        with pytest.raises(BindingError, match=r"RTMR\[3\] of the end quote does not follow"):
            good.verify(forged)


def test_an_order_that_contradicts_its_numbers(good: GoodRun) -> None:
    with pytest.raises(EvidenceError, match="log entry 0: expected an object with 'seq': 0"):
        good.verify(good.resealed(put(good.bundle, "log", good.bundle.log[::-1])))


def test_twin_an_honest_longer_log_is_accepted(good: GoodRun) -> None:
    longer = (*good.bundle.log, encode_json({"seq": 3, "type": "epoch", "payload": {"number": 3}}))
    assert good.verify(good.resealed(put(good.bundle, "log", longer))).checks
