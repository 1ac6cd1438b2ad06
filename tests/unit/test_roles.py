"""Roles refuse values that cannot be."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import records_at_hand as at_hand

from palm_torch.digest import sha256_digest
from palm_torch.errors import EncodingError
from palm_torch.roles import Artifact, Dataset, Source, Steps

DIGEST = sha256_digest(b"")


def test_an_artifact_is_there_with_a_digest_or_absent_without() -> None:
    Artifact(source=Source.MEASURED, kind="file", digest=DIGEST)
    Artifact(source=Source.DECLARED, kind="none", digest=None)
    for kind, digest in (("file", None), ("none", DIGEST)):
        with pytest.raises(EncodingError, match=f"artifact of kind '{kind}'"):
            Artifact(source=Source.MEASURED, kind=kind, digest=digest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": -1}, "multiset count is negative: -1"),
        ({"state": "00"}, "expected 384 bytes, got 1"),
        ({"state": "AB" * 384}, "lower-case"),
        ({"state": "zz" * 384}, "not hexadecimal"),
    ],
)
def test_a_multiset_has_a_state_and_a_count(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        dataclasses.replace(at_hand.MANIFEST.multiset, **change)


@pytest.mark.parametrize("counts", [{"taken": -1}, {"skipped": -1}])
def test_steps_are_not_negative(counts: dict[str, int]) -> None:
    with pytest.raises(EncodingError, match="steps are negative"):
        Steps(source=Source.MEASURED, **({"taken": 0, "skipped": 0} | counts))
    assert Steps(source=Source.MEASURED, taken=0, skipped=0).taken == 0


def test_data_is_used_to_train_or_to_evaluate() -> None:
    dataset = at_hand.make_train().data["dataset1"]
    assert isinstance(dataset, Dataset)
    use = dataset.uses["train"]
    for uses in ({}, {"train": use}, {"train": use, "eval": use}):
        dataclasses.replace(dataset, uses=uses)
    with pytest.raises(EncodingError, match="unknown use of a dataset: 'test'"):
        dataclasses.replace(dataset, uses={"train": use, "test": use})


def test_sources_in_falling_order_of_strength() -> None:
    assert list(Source) == ["measured", "reported by code", "declared"]


def test_an_empty_multiset_is_one() -> None:
    assert dataclasses.replace(at_hand.MANIFEST.multiset, count=0).count == 0


def test_a_message_names_the_state_of_a_multiset() -> None:
    with pytest.raises(EncodingError, match=r"^multiset state: expected 384 bytes, got 1$"):
        dataclasses.replace(at_hand.MANIFEST.multiset, state="00")
