"""Every rule for the properties of datasets: a value that accepts good evidence, one that rejects it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
import yaml
from workshop import put

from palm_torch import statement
from palm_torch.appraisal import (
    artifacts,
    claims,
    consistency,
    dataset_claims,
    policy_summary,
    policy_template,
    reservations,
)
from palm_torch.digest import sha256_digest
from palm_torch.errors import ArtifactError, ClaimError, DataError, PolicyError
from palm_torch.policies import policy
from palm_torch.policies.bounds import Range
from palm_torch.policies.dataset_rules import BindRules, DistributeRules, PreprocessRules
from palm_torch.properties import Bind, Distribute, Preprocess
from palm_torch.roles import FUNCTION, MANIFEST, Artifact, Dataset, Source, Value, Written
from palm_torch.statement import Statement

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

ABSENT = object()
RUN = workshop.make_statement("run").run
OTHER = str(sha256_digest(b"other"))
MADE = str(at_hand.MANIFEST.digest)
CODE = sha256_digest(b"code")
ARGUMENTS = {"by": 2, "deep": {"a": 1}}
FOUND = {"records": 10, "shares": {"en": 0.75, "de.at": 0.25}, "name": "x"}


def source() -> Dataset:
    dataset = workshop.make_statement("run").claims.data["dataset1"]
    counted = dataset.uses["train"].counts
    assert counted is not None
    counts = dataclasses.replace(counted, distinct=10, least=1, greatest=1)
    once = dataclasses.replace(
        dataset.uses["train"], delivered=10, counts=counts, multiset=at_hand.MANIFEST.multiset
    )
    return dataclasses.replace(dataset, uses={"read": once})


FUNCTION_ROLE = Artifact(source=Source.MEASURED, kind=FUNCTION, digest=CODE)
WRITTEN = Written(
    source=Source.MEASURED,
    framing={"record_bytes": 8},
    files={"a.bin": Artifact(source=Source.MEASURED, kind="shard", digest=CODE)},
    digest=at_hand.MANIFEST.digest,
    records_root=at_hand.MANIFEST.digests_root,
    records=10,
    multiset=at_hand.MANIFEST.multiset,
)
GOOD = {
    "bind": Bind(
        files={},
        manifest=Artifact(source=Source.MEASURED, kind=MANIFEST, digest=at_hand.MANIFEST.digest),
        multiset=at_hand.MANIFEST.multiset,
        records_root=at_hand.MANIFEST.digests_root,
        records=10,
        framing=Value(source=Source.MEASURED, value={"format": "bin"}),
    ),
    "preprocess": Preprocess(
        data={"dataset1": source()},
        produced={"train": WRITTEN},
        function=FUNCTION_ROLE,
        arguments=Value(source=Source.MEASURED, value=ARGUMENTS),
    ),
    "distribute": Distribute(
        data={"dataset1": source()},
        distribution=Value(source=Source.MEASURED, value=FOUND),
        function=FUNCTION_ROLE,
        arguments=Value(source=Source.MEASURED, value={}),
    ),
}
MANIFEST_READ = str(source().manifest)
LAYOUT = at_hand.MANIFEST.layout
BASE: dict[str, dict[str, Any]] = {
    "bind": {"manifest": [MADE]},
    "preprocess": {
        "data": [MANIFEST_READ],
        "function": [str(CODE)],
        "arguments": [str(statement.value_digest(ARGUMENTS))],
        "produced": [MADE],
    },
    "distribute": {
        "data": [MANIFEST_READ],
        "function": [str(CODE)],
        "arguments": ["none"],
        "distribution": [str(statement.value_digest(FOUND))],
    },
}
# (operation, rule): (values that accept, values that reject)
RULES: dict[tuple[str, str], tuple[list[Any], list[Any]]] = {
    ("bind", "property"): ([], []),
    ("bind", "manifest"): ([[OTHER, MADE], ["any"]], [[OTHER], ["none"]]),
    ("bind", "records"): ([{"least": 10, "greatest": 10}], [{"least": 11}, {"greatest": 9}]),
    ("bind", "declared"): ([0, 1], []),
    ("preprocess", "property"): ([], []),
    ("preprocess", "data"): ([[MANIFEST_READ, OTHER], ["any"]], [[OTHER], ["none"]]),
    ("preprocess", "layout"): ([[LAYOUT], ["jsonl", LAYOUT]], [["jsonl"], ["uint16[]", "float16[8]"]]),
    ("preprocess", "function"): ([["any"]], [[OTHER], ["none"]]),
    ("preprocess", "arguments"): ([["any"]], [[OTHER], ["none"]]),
    ("preprocess", "produced"): ([["any"], [MADE, OTHER]], [[OTHER], ["none"]]),
    ("preprocess", "multiplicity"): (
        [{"least": 0}, {"least": 1, "greatest": 1}],
        [{"least": 2}, {"least": 0, "greatest": 0}],
    ),
    ("preprocess", "exact"): ([True, False], []),
    ("preprocess", "streams"): ([True, False], []),
    ("preprocess", "records"): ([{"least": 10}], [{"least": 11}]),
    ("preprocess", "ranges"): (
        [{"by": {"least": 2, "greatest": 2}}],
        [{"by": {"least": 3}}, {"deep": {"least": 0}}, {"other": {"least": 0}}],
    ),
    ("preprocess", "declared"): ([0, 1], []),
    ("distribute", "property"): ([], []),
    ("distribute", "data"): ([["any"]], [[OTHER], ["none"]]),
    ("distribute", "layout"): ([[LAYOUT]], [["int16[8]"]]),
    ("distribute", "function"): ([["any"]], [[OTHER]]),
    ("distribute", "arguments"): ([["none"], ["any"]], [[OTHER]]),
    ("distribute", "distribution"): ([["any"]], [[OTHER], ["none"]]),
    ("distribute", "multiplicity"): ([{"least": 0}], [{"least": 2}]),
    ("distribute", "exact"): ([True, False], []),
    ("distribute", "streams"): ([True], []),
    ("distribute", "ranges"): ([{}], [{"by": {"least": 0}}]),
    ("distribute", "bounds"): (
        [{"records": {"least": 10}, "shares.en": {"least": 0.7}, "shares.de.at": {"greatest": 0.3}}],
        [
            {"records": {"greatest": 9}},
            {"shares.en": {"least": 0.8}},
            {"shares.fr": {"least": 0}},
            {"shares": {"least": 0}},
            {"name": {"least": 0}},
            {"records.x": {"least": 0}},
        ],
    ),
    ("distribute", "computed_by_script"): ([True, False], []),
    ("distribute", "declared"): ([0, 1], []),
}


def end(operation: str) -> Statement:
    return Statement(run=RUN, claims=GOOD[operation])


def rules(operation: str, **changes: Any) -> Any:
    document = {
        "version": 1,
        "platform": {
            "tdx": {name: ["00" * 48] for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2")},
        },
        "code": {"unreviewed": True},
        "claims": {
            name: value
            for name, value in {"property": operation, **BASE[operation], **changes}.items()
            if value is not ABSENT
        },
    }
    return policy.parse(yaml.safe_dump(document).encode()).claims


def test_every_rule_stands_in_the_table() -> None:
    found = {
        (operation, field.name)
        for operation, kind in (
            ("bind", BindRules),
            ("preprocess", PreprocessRules),
            ("distribute", DistributeRules),
        )
        for field in dataclasses.fields(kind)
    }
    assert found == RULES.keys()


@pytest.mark.parametrize("operation", GOOD)
def test_the_base_accepts_and_is_whole(operation: str) -> None:
    consistency.check(end(operation))
    claims.check_claims(end(operation), rules(operation))
    assert claims.waved_through(rules(operation)) == []
    for role in BASE[operation]:
        with pytest.raises(PolicyError, match=f"missing key '{role}'"):
            rules(operation, **{role: ABSENT})


@pytest.mark.parametrize(("operation", "rule"), RULES)
def test_a_rule_that_is_met_and_one_that_is_not(operation: str, rule: str) -> None:
    accepting, rejecting = RULES[operation, rule]
    for value in accepting:
        claims.check_claims(end(operation), rules(operation, **{rule: value}))
    for value in rejecting:
        with pytest.raises(ClaimError):
            claims.check_claims(end(operation), rules(operation, **{rule: value}))


@pytest.mark.parametrize("operation", ["preprocess", "distribute"])
@pytest.mark.parametrize(
    ("change", "value"),
    [("counts.least", 0), ("counts.greatest", 2), ("counts.least", 2)],
)
def test_records_left_out_or_read_twice_are_rejected_when_nothing_is_said(
    operation: str, change: str, value: int
) -> None:
    other = put(end(operation), f"claims.data.dataset1.uses.read.{change}", value)
    with pytest.raises(ClaimError, match="times that each record was read"):
        claims.check_claims(other, rules(operation))
    claims.check_claims(other, rules(operation, multiplicity={"least": 0, "greatest": 9}))


@pytest.mark.parametrize("operation", ["preprocess", "distribute"])
def test_streams_are_rejected_unless_the_policy_takes_them(operation: str) -> None:
    stream = put(end(operation), "claims.data.dataset1.uses.read.counts", None)
    with pytest.raises(ClaimError, match="it was a stream"):
        claims.check_claims(stream, rules(operation))
    claims.check_claims(stream, rules(operation, streams=True))


@pytest.mark.parametrize("operation", ["preprocess", "distribute"])
def test_nothing_read_is_no_claim(operation: str) -> None:
    for without in (
        put(end(operation), "claims.data", {}),
        put(end(operation), "claims.data.dataset1.uses", {}),
    ):
        with pytest.raises(ClaimError, match=r"not read|nothing was read"):
            claims.check_claims(without, rules(operation, data=["any"]))


def test_nothing_written_is_no_claim() -> None:
    with pytest.raises(ClaimError, match="nothing was written"):
        claims.check_claims(put(end("preprocess"), "claims.produced", {}), rules("preprocess"))


def test_what_a_script_computed_is_rejected_unless_the_policy_takes_it() -> None:
    reported = put(end("distribute"), "claims.distribution.source", Source.REPORTED)
    with pytest.raises(ClaimError, match="the policy demands one of palm-torch itself"):
        claims.check_claims(reported, rules("distribute"))
    claims.check_claims(reported, rules("distribute", computed_by_script=True))
    assert any("its code alone" in item.reason for item in reservations.of_statement(reported))


@pytest.mark.parametrize("operation", GOOD)
def test_a_declared_role_counts(operation: str) -> None:
    role = {"bind": "manifest", "preprocess": "function", "distribute": "function"}[operation]
    declared = put(end(operation), f"claims.{role}.source", Source.DECLARED)
    with pytest.raises(ClaimError, match="1 values are merely declared"):
        claims.check_claims(declared, rules(operation))
    claims.check_claims(declared, rules(operation, declared=1))


@pytest.mark.parametrize("operation", GOOD)
@pytest.mark.parametrize("other", GOOD)
def test_rules_are_for_one_property(operation: str, other: str) -> None:
    if operation != other:
        with pytest.raises(ClaimError, match=f"asks for '{operation}', the evidence is of '{other}'"):
            claims.check_claims(end(other), rules(operation))
        with pytest.raises(ClaimError, match="the rules are for"):
            dataset_claims.check(GOOD[other], rules(operation))


def test_negative_numbers_and_empty_lists_are_refused() -> None:
    with pytest.raises(PolicyError, match="declared: expected 0 or more"):
        rules("bind", declared=-1)
    with pytest.raises(PolicyError, match="manifest: an empty list"):
        rules("bind", manifest=[])
    for layout, got in (([], "an empty list"), (["any"], "'any'"), ([LAYOUT, ""], "''")):
        with pytest.raises(PolicyError, match=f"layout: expected kinds of records, .* got {got}; leave"):
            rules("preprocess", layout=layout)
    with pytest.raises(PolicyError, match="unknown key 'layout'"):
        rules("bind", layout=[LAYOUT])
    with pytest.raises(PolicyError, match="unknown key 'initial'"):
        rules("bind", initial=["any"])


@pytest.mark.parametrize("operation", GOOD)
def test_what_is_waved_through_is_said(operation: str) -> None:
    open_rules = rules(operation, **{role: ["any"] for role in BASE[operation]})
    assert claims.waved_through(open_rules) == [f"{role}: the policy accepts any" for role in BASE[operation]]


def test_loose_rules_are_said() -> None:
    loose = rules("distribute", multiplicity={"least": 0}, computed_by_script=True)
    assert loose.multiplicity == Range(least=0)
    said = claims.waved_through(loose)
    assert [line.partition(":")[0] for line in said] == ["multiplicity", "computed_by_script"]


def test_data_without_a_manifest_is_a_reservation() -> None:
    plain = put(end("preprocess"), "claims.data.dataset1.manifest", None)
    assert any("no manifest" in item.reason for item in reservations.of_statement(plain))
    stream = put(end("preprocess"), "claims.data.dataset1.records", None)
    assert any("a stream without index" in item.reason for item in reservations.of_statement(stream))
    assert list(dataset_claims.reservations(GOOD["preprocess"])) == []


def test_what_a_result_says() -> None:
    said = {claim.name: claim.value for claim in claims.claims_of(end("preprocess"), "hardware")}
    assert said["produced train"] == f"10 records of 8 bytes in 1 files, {MADE}"
    assert said["function"] == str(CODE)
    assert said["arguments"].startswith('{"by":2,"deep":{"a":1}}, palm-sha256:')
    said = {claim.name: claim.value for claim in claims.claims_of(end("distribute"), "hardware")}
    assert said["arguments"] == "none"
    assert '"records":10' in said["distribution"]
    said = {claim.name: claim.value for claim in claims.claims_of(end("bind"), "hardware")}
    assert said["records"].startswith("10, ")
    long = put(end("distribute"), "claims.distribution.value", {"a": "x" * 1000})
    said = {claim.name: claim.value for claim in claims.claims_of(long, "hardware")}
    assert len(said["distribution"]) < 400


def test_the_multiset_of_what_was_written_has_its_count() -> None:
    with pytest.raises(ClaimError, match=r"produced\.train"):
        consistency.check(put(end("preprocess"), "claims.produced.train.records", 11))


@pytest.mark.parametrize("operation", GOOD)
def test_a_policy_to_start_from_accepts_what_it_was_made_of(good: GoodRun, operation: str) -> None:
    statement_of = Statement(run=good.end.run, claims=GOOD[operation])
    text = policy_template.starting_policy(good.with_end(statement_of.encode()).encode())
    made = policy.parse(text.encode())
    claims.check_claims(statement_of, made.claims)
    assert claims.waved_through(made.claims) == []
    assert all(ord(character) < 128 for character in text)
    assert policy_summary.summarize(made).demands


def test_a_policy_to_start_from_says_what_to_check(good: GoodRun) -> None:
    def text(found: Any) -> str:
        return policy_template.starting_policy(
            good.with_end(Statement(run=good.end.run, claims=found).encode()).encode()
        )

    reported = put(end("distribute"), "claims.distribution.source", Source.REPORTED).claims
    assert "computed_by_script: true" in text(reported)
    assert f'  layout:\n    - "{LAYOUT}"\n' in text(GOOD["distribute"])
    nameless = put(end("preprocess"), "claims.data.dataset1.manifest", None).claims
    assert "data: [none]" in text(nameless)
    mixed = dataclasses.replace(
        GOOD["preprocess"], data={"a": source(), "b": dataclasses.replace(source(), manifest=None)}
    )
    assert "data: [any]" in text(mixed)
    stream = put(put(end("preprocess"), "claims.data.dataset1.uses.read.counts", None), "run", good.end.run)
    assert "streams: true" in text(stream.claims)
    filtered = put(end("preprocess"), "claims.data.dataset1.uses.read.exact", False).claims
    assert "exact: false" in text(filtered)


def test_a_manifest_at_hand_is_compared(tmp_path: Path) -> None:
    path = at_hand.write_manifest(tmp_path / "made.palm-manifest")
    for role, operation in (
        ("manifest", "bind"),
        ("produced.train", "preprocess"),
        ("produced", "preprocess"),
    ):
        artifacts.compare(role, path, end(operation))
        other = put(
            end(operation),
            "claims.manifest.digest" if operation == "bind" else "claims.produced.train.digest",
            CODE,
        )
        with pytest.raises(ArtifactError, match=f"is not the {role} of the evidence: expected the manifest"):
            artifacts.compare(role, path, other)
        with pytest.raises(DataError, match="a folder; its manifest is"):
            artifacts.compare(role, tmp_path, end(operation))
