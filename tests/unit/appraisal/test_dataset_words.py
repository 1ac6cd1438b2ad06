"""A dataset in words: what it is made of, what identifies it, how much of it was delivered."""

from __future__ import annotations

from typing import Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch.appraisal import claims, dataset_words
from palm_torch.receipt import DatasetAccount

GOOD = workshop.make_statement("run")
DATASET = "claims.data.dataset1"
TRAIN = f"{DATASET}.uses.train"


def said(end: Any) -> dict[str, str]:
    return {claim.name: claim.value for claim in claims.claims_of(end, strength="hardware")}


def of_format(name: str, **changes: Any) -> Any:
    end = put(GOOD, f"{DATASET}.format", name)
    for field, value in ({"record_bytes": None, "layout": name} | changes).items():
        end = put(end, f"{DATASET}.{field}", value)
    return end


def test_a_dataset_by_its_size_and_manifest() -> None:
    assert said(GOOD)["data dataset1"] == f"10 records of 16 bytes (uint16[8]), {at_hand.MANIFEST.digest}"
    unnamed = put(GOOD, f"{DATASET}.manifest", None)
    assert said(unnamed)["data dataset1"] == "10 records of 16 bytes (uint16[8]), no manifest"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("bin", "records of different lengths (bin)"),
        ("jsonl", "records of different lengths (jsonl)"),
        ("chunks", "4 KiB chunks of a file"),
        ("items", "items made by code"),
        ("encoded", "items, as bytes made by the script's own encode="),
        ("4 KiB chunks", "records of different lengths (4 KiB chunks)"),
    ],
)
def test_a_dataset_by_what_it_is_made_of(name: str, what: str) -> None:
    assert said(of_format(name))["data dataset1"] == f"10 {what}, {at_hand.MANIFEST.digest}"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("jsonl", "records (jsonl)"),
        ("items", "items made by code"),
        ("encoded", "items, as bytes made by the script's own encode="),
    ],
)
def test_a_stream_by_what_it_is_made_of(name: str, what: str) -> None:
    stream = put(of_format(name, records=None, manifest=None), f"{TRAIN}.counts", None)
    assert said(stream)["data dataset1"] == f"a stream of {what}, without index or manifest"
    assert said(stream)["data dataset1, train"] == "20 delivered"


@pytest.mark.parametrize(
    ("layout", "shown"),
    [
        ('[["text","string"]]', '[["text","string"]]'),
        ("x" * 49, "x" * 48 + "…"),
        ("a\nACCEPTED\u2028b", "a\\nACCEPTED\\u2028b"),
    ],
)
def test_a_layout_is_shown_as_text_of_others(layout: str, shown: str) -> None:
    rows = of_format("arrow", layout=layout)
    assert said(rows)["data dataset1"] == (
        f"10 records of different lengths ({shown}), {at_hand.MANIFEST.digest}"
    )
    odd = of_format("chunks", layout="jsonl")
    assert said(odd)["data dataset1"].startswith("10 4 KiB chunks of a file (jsonl), ")


def test_an_account_in_a_receipt_has_the_same_words() -> None:
    held = DatasetAccount(
        format="chunks", manifest=None, records=7, record_bytes=None, layout="chunks", uses={}
    )
    assert dataset_words.in_words(held) == "7 4 KiB chunks of a file, no manifest"


@pytest.mark.parametrize(
    ("least", "greatest", "words"),
    [(1, 1, "each once"), (2, 2, "each 2 times"), (0, 1, "each 0 to 1 times"), (1, 3, "each 1 to 3 times")],
)
def test_how_often_each_record_was_delivered(least: int, greatest: int, words: str) -> None:
    end = put(put(GOOD, f"{TRAIN}.counts.least", least), f"{TRAIN}.counts.greatest", greatest)
    assert said(end)["data dataset1, train"] == f"20 delivered, 10 different ones of 10, {words}"


def test_without_a_manifest_indices_were_counted() -> None:
    end = put(GOOD, f"{DATASET}.manifest", None)
    assert said(end)["data dataset1, train"].startswith("20 delivered, 10 different indices of 10, ")


def test_ranks_and_what_was_repeated_for_them() -> None:
    order = next(iter(GOOD.claims.data["dataset1"].uses["train"].order))
    end = put(put(GOOD, f"{TRAIN}.order", (order, order)), f"{TRAIN}.padded", 2)
    assert said(end)["data dataset1, train"].startswith(
        "20 delivered to 2 ranks, 2 of them repeated to make ranks equal, 10 different ones"
    )
