"""Claim rules, each with a statement that satisfies it and validly sealed ones that do not."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch import statement
from palm_torch.appraisal import claims
from palm_torch.digest import sha256_digest
from palm_torch.errors import ClaimError, CodeError
from palm_torch.policies import policy
from palm_torch.policies.policy import ClaimRules, Range
from palm_torch.properties import Bind, Preprocess
from palm_torch.roles import Artifact, Source, Value
from palm_torch.statement import Statement

if TYPE_CHECKING:
    from workshop import GoodRun

OTHER = "sha256:" + "00" * 32
OTHER_ROOT = "palm-sha256:" + "00" * 32
GOOD = workshop.make_statement("run")
DATASET = GOOD.claims.data["dataset1"]
DECLARED = Artifact(source=Source.DECLARED, kind="file", digest=sha256_digest(b"said"))


def rules(**changes: Any) -> ClaimRules:
    fields = {"property": "train", "data": ("any",), "initial": ("any",), "tokenizer": ("any",)}
    return ClaimRules(**(fields | changes))


# name: (rules that GOOD satisfies, rules that it does not, what the message names)
RULES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "data": ({"data": (str(at_hand.MANIFEST.digest),)}, {"data": (OTHER,)}, "data.dataset1"),
    "data, one of two": (
        {"data": (OTHER, str(at_hand.MANIFEST.digest))},
        {"data": (OTHER,)},
        "data.dataset1",
    ),
    "data without a manifest": ({"data": ("any",)}, {"data": ("none",)}, "the policy demands none"),
    "layout": (
        {"layout": ("jsonl", at_hand.MANIFEST.layout)},
        {"layout": ("float16[8]",)},
        r"data\.dataset1, layout: the policy demands float16\[8\], .* read as 'uint16\[8\]'",
    ),
    "initial": ({"initial": (str(at_hand.INITIAL.digest),)}, {"initial": (OTHER_ROOT,)}, "initial: "),
    "initial, none": ({"initial": ("any",)}, {"initial": ("none",)}, "initial: the policy demands none"),
    "initial, taken": (
        {"initial_taken": "first_step"},
        {"initial_taken": "first_delivery"},
        "initial: .* taken at first_delivery, the evidence says first_step",
    ),
    "tokenizer": ({"tokenizer": ("none",)}, {"tokenizer": (OTHER,)}, r"tokenizer: .* says none"),
    "architecture": (
        {"architecture": (str(sha256_digest(b"architecture")),)},
        {"architecture": (OTHER,)},
        "architecture: ",
    ),
    "records, at least": ({"records": Range(least=20)}, {"records": Range(least=21)}, "records: .*>= 21"),
    "records, at most": (
        {"records": Range(greatest=20)},
        {"records": Range(greatest=19)},
        "records: .*<= 19",
    ),
    "epochs": ({"epochs": Range(least=2, greatest=2)}, {"epochs": Range(least=3)}, "epochs: "),
    "multiplicity, at least": (
        {"multiplicity": Range(least=2)},
        {"multiplicity": Range(least=3)},
        r"data\.dataset1\.train, multiplicity: .*>= 3, the evidence says 2",
    ),
    "multiplicity, at most": (
        {"multiplicity": Range(greatest=2)},
        {"multiplicity": Range(greatest=1)},
        r"data\.dataset1\.train, multiplicity: .*<= 1, the evidence says 2",
    ),
    "ranks": (
        {"ranks": Range(least=1, greatest=1)},
        {"ranks": Range(least=2)},
        r"data\.dataset1\.(train|eval), ranks: .*>= 2, the evidence says 1",
    ),
    "exact, padded, unknown padding, streams": (
        {"exact": True, "padded": 0, "unknown_padding": False, "streams": True},
        {"steps": Range(least=5)},
        "steps",
    ),
    "steps": ({"steps": Range(least=4, greatest=4)}, {"steps": Range(greatest=3)}, "steps: "),
    "argument, least over all groups": (
        {"arguments": {"lr": Range(least=0.0001)}},
        {"arguments": {"lr": Range(least=0.0002)}},
        "arguments.lr: .*says 0.0001",
    ),
    "argument, greatest over all groups": (
        {"arguments": {"lr": Range(greatest=0.001)}},
        {"arguments": {"lr": Range(greatest=0.0009)}},
        "arguments.lr: .*says 0.001",
    ),
    "argument that no optimizer has": (
        {},
        {"arguments": {"momentum": Range(least=0)}},
        "group does not say",
    ),
    "argument that is no number": (
        {},
        {"arguments": {"capturable": Range(least=0)}},
        "arguments.capturable: expected a number",
    ),
    "reported": (
        {"reported": {"loss": Range(greatest=0.5)}},
        {"reported": {"loss": Range(greatest=0.4)}},
        "reported.loss: .*<= 0.4",
    ),
    "reported by nobody": ({}, {"reported": {"accuracy": Range(least=0)}}, "the script logged none"),
    "property": ({}, {"property": "infer"}, "asks for 'infer'"),
}


@pytest.mark.parametrize("name", RULES)
def test_each_rule_admits_and_refuses(name: str) -> None:
    satisfied, broken, message = RULES[name]
    claims.check_claims(GOOD, rules(**satisfied))
    with pytest.raises(ClaimError, match=message):
        claims.check_claims(GOOD, rules(**broken))


def test_every_rule_of_a_policy_is_tried() -> None:
    tried = {rule for satisfied, broken, _ in RULES.values() for rule in (*satisfied, *broken)}
    assert tried | {"declared", "interconnect"} == {field.name for field in dataclasses.fields(ClaimRules)}


@pytest.mark.parametrize("name", [name for name, (_, broken, _) in RULES.items() if broken])
def test_each_rule_refuses_validly_sealed_evidence_too(good: GoodRun, name: str) -> None:
    broken = {
        f"claims.{rule}": policy_form(value) for rule, value in RULES[name][1].items() if rule != "property"
    }
    if broken:
        with pytest.raises(ClaimError):
            good.verify(policy=good.policy(broken))


def policy_form(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, Range):
        ends = {"least": value.least, "greatest": value.greatest}
        return {name: end for name, end in ends.items() if end is not None}
    return (
        {name: policy_form(item) for name, item in value.items()} if isinstance(value, dict) else list(value)
    )


# Data that is not there ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "new"),
    [("claims.data", {}), ("claims.data.dataset1.uses", {"eval": DATASET.uses["eval"]})],
    ids=["no dataset", "evaluation only"],
)
def test_a_demand_for_data_is_not_met_by_training_on_none(path: str, new: Any) -> None:
    empty = put(GOOD, path, new)
    claims.check_claims(empty, rules(data=("any",)))
    with pytest.raises(ClaimError, match=r"data: the policy demands sha256:.*the evidence says none"):
        claims.check_claims(empty, rules(data=(str(at_hand.MANIFEST.digest),)))
    for demand in ("records", "epochs"):
        with pytest.raises(ClaimError, match=f"{demand}: .*says 0"):
            claims.check_claims(empty, rules(**{demand: Range(least=1)}))


def test_data_without_a_manifest() -> None:
    unnamed = put(GOOD, "claims.data.dataset1.manifest", None)
    claims.check_claims(unnamed, rules(data=("none",)))
    with pytest.raises(ClaimError, match="says none"):
        claims.check_claims(unnamed, rules(data=(OTHER,)))


def test_every_dataset_must_be_named_and_the_least_one_counts() -> None:
    once = dataclasses.replace(
        DATASET, manifest=sha256_digest(b"2"), uses={"train": at_hand.delivered(bytes([1]) * at_hand.RECORDS)}
    )
    two = put(GOOD, "claims.data", {"dataset1": DATASET, "dataset2": once})
    both = (str(at_hand.MANIFEST.digest), str(sha256_digest(b"2")))
    claims.check_claims(two, rules(data=both, records=Range(least=30, greatest=30), epochs=Range(greatest=1)))
    with pytest.raises(ClaimError, match=r"data\.dataset2"):
        claims.check_claims(two, rules(data=both[:1]))
    with pytest.raises(ClaimError, match="epochs"):
        claims.check_claims(two, rules(epochs=Range(least=2)))


# Values of another form than this library seals ---------------------------------------------------

OPTION = "claims.configuration.value.optimizers.0.groups.0.options.lr"

MALFORMED = {
    "no optimizers": ("claims.configuration.value", {}),
    "optimizers are no list": ("claims.configuration.value.optimizers", {"groups": []}),
    "an optimizer is no object": ("claims.configuration.value.optimizers", ["AdamW"]),
    "an optimizer without groups": ("claims.configuration.value.optimizers", [{"class_name": "AdamW"}]),
    "a group is no object": ("claims.configuration.value.optimizers.0.groups", [[]]),
    "a group without options": ("claims.configuration.value.optimizers.0.groups", [{}]),
    "an option is no object": (OPTION, 0.0005),
    "an option is null": (OPTION, None),
    "an option without its range": (OPTION, {"first": 1, "last": 1}),
    "an option with half a range": (OPTION, {"least": 0.0005}),
    "a least that is text": (f"{OPTION}.least", "inf"),
    "a greatest that is text": (f"{OPTION}.greatest", "nan"),
    "a least that is a truth value": (f"{OPTION}.least", True),
    "a greatest that is nothing": (f"{OPTION}.greatest", None),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_configuration_of_another_form_does_not_satisfy_a_range(name: str) -> None:
    path, new = MALFORMED[name]
    bent = put(GOOD, path, new)
    with pytest.raises(ClaimError):
        claims.check_claims(bent, rules(arguments={"lr": Range(greatest=1)}))
    claims.check_claims(bent, rules())


def test_a_malformed_configuration_is_refused_sealed_as_it_may_be(good: GoodRun) -> None:
    for path, new in MALFORMED.values():
        with pytest.raises(ClaimError):
            good.verify(good.sealed_end(path, new))


@pytest.mark.parametrize("last", ["nan", "inf", "0.1"])
def test_a_last_value_that_is_no_number_satisfies_no_range(last: Any) -> None:
    with pytest.raises(ClaimError, match=r"reported\.loss: expected a number"):
        claims.check_claims(
            put(GOOD, "run.reported.loss.last", last), rules(reported={"loss": Range(greatest=9)})
        )


# Declared values ----------------------------------------------------------------------------------

SOURCES = (
    "claims.architecture.source",
    "claims.data.dataset1.source",
    "claims.configuration.source",
    "claims.initial.source",
    "claims.model.source",
    "claims.steps.source",
    "claims.seeds.source",
    "run.environment.source",
    "run.inputs.recipe.source",
    "run.outputs.log.source",
    "run.reported.loss.source",
)


@pytest.mark.parametrize("path", SOURCES)
def test_every_value_that_is_merely_declared_counts(path: str) -> None:
    declared = put(GOOD, path, Source.DECLARED)
    with pytest.raises(ClaimError, match=r"^1 values are merely declared .*the policy allows 0"):
        claims.check_claims(declared, rules())
    claims.check_claims(declared, rules(declared=1))


def test_a_role_that_is_declared_empty_does_not_count() -> None:
    assert GOOD.claims.tokenizer.source is Source.DECLARED
    claims.check_claims(GOOD, rules(declared=0))
    with pytest.raises(ClaimError, match="tokenizer"):
        claims.check_claims(put(GOOD, "claims.tokenizer", DECLARED), rules())


def test_values_of_one_name_do_not_hide_each_other() -> None:
    measured = dataclasses.replace(DECLARED, source=Source.MEASURED)
    for first, second in (("run.inputs.x", "run.outputs.x"), ("run.outputs.x", "run.inputs.x")):
        with pytest.raises(ClaimError, match=r"1 values are merely declared \(x\)"):
            claims.check_claims(put(put(GOOD, first, DECLARED), second, measured), rules())
    with pytest.raises(ClaimError, match=r"1 values are merely declared \(model\)"):
        claims.check_claims(put(GOOD, "run.inputs.model", DECLARED), rules())


# What this version does not appraise, and what a result says --------------------------------------


def test_another_property_is_not_appraised() -> None:
    end = Statement(
        run=GOOD.run,
        claims=Preprocess(
            data={"raw": DATASET},
            produced={},
            function=DECLARED,
            arguments=Value(source=Source.MEASURED, value={}),
        ),
    )
    with pytest.raises(ClaimError, match="the rules are for training, the evidence is of 'preprocess'"):
        claims.check_claims(end, rules(property="preprocess"))
    assert {claim.name for claim in claims.claims_of(end, "hardware")} >= {"data raw", "function", "code"}
    bound = Statement(
        run=GOOD.run,
        claims=Bind(
            files={"a.bin": DECLARED},
            manifest=DECLARED,
            multiset=at_hand.MANIFEST.multiset,
            records_root=at_hand.MODEL.digest,
            records=at_hand.RECORDS,
            framing=Value(source=Source.MEASURED, value={}),
        ),
    )
    said = {claim.name: claim.value for claim in claims.claims_of(bound, "hardware")}
    assert said["manifest"] == said["files a.bin"] == str(DECLARED.digest)


def test_claims_are_labelled_by_their_source() -> None:
    said = put(put(GOOD, "run.inputs.card", DECLARED), "run.outputs.none", GOOD.claims.tokenizer)
    found = {claim.name: claim for claim in claims.claims_of(said, "hardware")}
    assert found["model"].strength == "hardware"
    assert found["model"].value == str(at_hand.MODEL.digest)
    assert found["reported loss"].strength == "reported by code"
    assert found["reported loss"].value == "first 2.5, last 0.5 of 4 values"
    assert found["input card"].strength == "declared"
    assert found["output none"].value == "none"
    assert found["tokenizer"].value == "none"
    assert found["steps"].value == "4 taken, 0 skipped"
    assert found["data dataset1, train"].value == "20 delivered, 10 different ones of 10, each 2 times"
    assert found["data dataset1, eval"].value == "4 delivered, 2 different ones of 10, each 0 to 3 times"
    assert str(at_hand.MANIFEST.digest) in found["data dataset1"].value
    unnamed = claims.claims_of(put(GOOD, "claims.data.dataset1.manifest", None), "code")
    assert {claim.name: claim for claim in unnamed}["data dataset1"].value.endswith("no manifest")


def test_what_is_waved_through_is_what_the_policy_calls_any() -> None:
    assert claims.waved_through(rules(initial=(OTHER,), architecture=("none",))) == [
        "data: the policy accepts any",
        "tokenizer: the policy accepts any",
    ]
    assert policy.ANY == "any"


# rules for arguments and installed packages


CONFIGURATION = "claims.configuration.value"


def test_arguments_without_any_optimizer() -> None:
    with pytest.raises(ClaimError, match="no optimizer is listed"):
        claims._check_argument(
            "lr", put(GOOD, f"{CONFIGURATION}.optimizers", []).claims.configuration, Range(least=0)
        )


def test_packages_that_the_policy_names(good: GoodRun) -> None:
    found = statement.value_digest(good.end.run.environment.value["packages"])
    result = good.verify(policy=good.policy({"code.packages": [str(found)]}))
    assert not any("installed packages" in line for line in result.not_checked)
    other = statement.value_digest([])
    with pytest.raises(CodeError, match=r"installed packages .* are none of those"):
        good.verify(policy=good.policy({"code.packages": [str(other)]}))
