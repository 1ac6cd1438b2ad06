"""How records were delivered: each rule of a policy with what satisfies it and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch.appraisal import claims, consistency, data_rules, reservations
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.errors import ClaimError, PolicyError
from palm_torch.policies.policy import ClaimRules, Range

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.statement import Statement

GOOD = workshop.make_statement("run")
DATA = "claims.data.dataset1"
CHAIN = Digest(TAGGED_SHA256, bytes(32))


def rules(**changes: Any) -> ClaimRules:
    fields = {"property": "train", "data": ("any",), "initial": ("any",), "tokenizer": ("any",)}
    return ClaimRules(**(fields | changes))


def trained(counts: list[int]) -> Statement:
    return put(GOOD, f"{DATA}.uses", {"train": at_hand.delivered(bytes(counts))})


def stream() -> Statement:
    """Two epochs of the records, from a stream that has no index."""
    end = put(put(GOOD, f"{DATA}.manifest", None), f"{DATA}.records", None)
    uses = {"train": put(at_hand.delivered(bytes([2]) * at_hand.RECORDS), "counts", None)}
    return put(put(end, f"{DATA}.uses", uses), f"{DATA}.record_bytes", None)


PADDED = put(GOOD, f"{DATA}.uses.train.padded", 2)
INEXACT = put(GOOD, f"{DATA}.uses.eval.exact", new=False)
RANKS = put(GOOD, f"{DATA}.uses.train.order", (CHAIN, CHAIN))

CASES: dict[str, tuple[Statement, dict[str, Any], dict[str, Any], str]] = {
    "some records twice": (
        trained([1, 2] * 5),
        {"multiplicity": Range(least=1, greatest=2)},
        {"multiplicity": Range(least=1, greatest=1)},
        r"^data\.dataset1\.train, multiplicity: the policy demands >= 1 and <= 1, the evidence says 2$",
    ),
    "a record left out": (
        trained([1] * 9 + [0]),
        {"multiplicity": Range(greatest=1)},
        {"multiplicity": Range(least=1)},
        r"multiplicity: .*the evidence says 0$",
    ),
    "with replacement": (
        trained([0, 3, 1, 1, 0, 2, 0, 1, 1, 1]),
        {"multiplicity": Range(least=0, greatest=3)},
        {"multiplicity": Range(greatest=2)},
        r"the evidence says 3$",
    ),
    "counted as read": (
        INEXACT,
        {},
        {"exact": True},
        r"^data\.dataset1\.eval: the policy demands exact counts, .*may have dropped records$",
    ),
    "padded": (
        PADDED,
        {"padded": 2},
        {"padded": 1},
        "^padded: the policy demands at most 1 records .*the evidence says 2$",
    ),
    "padded, unset": (PADDED, {"padded": 2}, {}, "^padded: the policy demands at most 0 "),
    "a stream": (
        stream(),
        {"streams": True},
        {},
        r"^data\.dataset1: the policy demands data with an index, the evidence says it was a stream",
    ),
    "a stream has no multiplicities": (
        stream(),
        {"streams": True},
        {"streams": True, "multiplicity": Range(least=0)},
        r"^data\.dataset1\.train: the policy demands multiplicities >= 0, .*stream",
    ),
    "a stream has no epochs": (
        stream(),
        {"streams": True, "records": Range(least=20)},
        {"streams": True, "epochs": Range(least=1)},
        "^epochs: .*the evidence says 0$",
    ),
    "read as another type": (
        put(GOOD, f"{DATA}.layout", "float16[8]"),
        {"layout": ("uint16[8]", "float16[8]")},
        {"layout": ("uint16[8]", "jsonl")},
        r"^data\.dataset1, layout: the policy demands uint16\[8\] or jsonl, .* were read as 'float16\[8\]'$",
    ),
    "order chains": (
        RANKS,
        {"ranks": Range(greatest=2)},
        {"ranks": Range(greatest=1)},
        r"^data\.dataset1\.train, ranks: the policy demands <= 1, the evidence says 2$",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_rule_admits_and_refuses(name: str) -> None:
    end, satisfied, broken, message = CASES[name]
    consistency.check(end)
    claims.check_claims(end, rules(**satisfied))
    with pytest.raises(ClaimError, match=message):
        claims.check_claims(end, rules(**broken))


def test_no_training_data_satisfies_no_least_multiplicity() -> None:
    empty = put(GOOD, f"{DATA}.uses", {"eval": GOOD.claims.data["dataset1"].uses["eval"]})
    data_rules.check(empty.claims.data, rules(multiplicity=Range(greatest=1)))
    with pytest.raises(ClaimError, match=r"multiplicity: .*says 0"):
        data_rules.check(empty.claims.data, rules(multiplicity=Range(least=1)))


def test_evaluation_may_repeat_records() -> None:
    data_rules.check(GOOD.claims.data, rules(multiplicity=Range(least=2, greatest=2)))


def test_padding_adds_up_over_uses() -> None:
    twice = put(PADDED, f"{DATA}.uses.eval.padded", 1)
    data_rules.check(twice.claims.data, rules(padded=3))
    with pytest.raises(ClaimError, match="the evidence says 3"):
        data_rules.check(twice.claims.data, rules(padded=2))


def test_padding_that_is_not_known_is_accepted_knowingly() -> None:
    unknown = put(GOOD, f"{DATA}.uses.train.padded", None)
    consistency.check(unknown)
    data_rules.check(unknown.claims.data, rules(unknown_padding=True))
    for padded in (0, 1000):
        with pytest.raises(
            ClaimError, match=r"^data\.dataset1\.train, padded: .* this is not known: another"
        ):
            data_rules.check(unknown.claims.data, rules(padded=padded))
    said = {claim.name: claim.value for claim in claims.claims_of(unknown, "hardware")}
    assert "how many of them repeated to make ranks equal is not known" in said["data dataset1, train"]


def test_a_negative_number_of_padded_records_is_no_rule() -> None:
    with pytest.raises(PolicyError, match="padded: expected 0 or more, got -1"):
        rules(padded=-1)


@pytest.mark.parametrize(
    ("path", "new", "broken"),
    [
        ("uses.train.exact", False, {"claims.exact": True}),
        ("uses.train.padded", 1, {}),
        ("layout", "float16[8]", {"claims.layout": ["uint16[8]"]}),
    ],
)
def test_validly_sealed_evidence_is_refused_too(good: GoodRun, path: str, new: Any, broken: Any) -> None:
    bent = good.sealed_end(f"{DATA}.{path}", new)
    with pytest.raises(ClaimError):
        good.verify(bent, policy=good.policy(broken))


def test_a_stream_warns_that_nobody_can_tell_which_records() -> None:
    (said,) = reservations.of_statement(stream())
    assert said.reason == (
        "data dataset1: a stream, no index: which records it gave, and which it left out, cannot be told"
    )
    assert "--dataset" in said.advice


def test_a_stream_in_words() -> None:
    said = {claim.name: claim.value for claim in claims.claims_of(stream(), "hardware")}
    assert said["data dataset1"] == "a stream of records (uint16[8]), without index or manifest"
    assert said["data dataset1, train"] == "20 delivered"


def test_ranks_and_padding_in_words() -> None:
    said = {claim.name: claim.value for claim in claims.claims_of(put(RANKS, *PADDED_TOO), "hardware")}
    assert said["data dataset1, train"] == (
        "20 delivered to 2 ranks, 2 of them repeated to make ranks equal, 10 different ones of 10, "
        "each 2 times"
    )


PADDED_TOO = (f"{DATA}.uses.train.padded", 2)


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        (f"{DATA}.uses.train.padded", 21, "21 of 20 records repeated"),
        (f"{DATA}.uses.train.padded", -1, "-1 of 20 records repeated"),
        (f"{DATA}.uses.train.order", (), "0 order chains"),
        (f"{DATA}.uses.train.counts", None, "counts by index exactly where"),
        (f"{DATA}.records", None, "a stream, and a manifest of it"),
    ],
)
def test_what_contradicts_itself(path: str, new: Any, message: str) -> None:
    with pytest.raises(ClaimError, match=message):
        consistency.check(put(GOOD, path, new))
