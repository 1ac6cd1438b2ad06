"""Policies: what is one, what each missing, unknown or mistyped part says, and what its values mean."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import pytest
from authority import VALUES

from palm_torch.cvm import certificates
from palm_torch.errors import PolicyError
from palm_torch.policies import policy
from palm_torch.policies.policy import Range
from palm_torch.policies.reference_values import VerifiedValues

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

HEX = "ab" * 48
MINIMAL = f"""\
version: 1
platform:
  tdx: {{mr_td: [{HEX}], rtmr0: [{HEX}], rtmr1: [{HEX}], rtmr2: [{HEX}]}}
code:
  unreviewed: true
claims:
  property: train
  data: [any]
  initial: [any]
  tokenizer: [none]
"""


def parse(text: str) -> policy.Policy:
    return policy.parse(text.encode("utf-8"))


def refused(text: str | bytes, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        policy.parse(text if isinstance(text, bytes) else text.encode("utf-8"))


# What is a policy ---------------------------------------------------------------------------------


def test_the_least_a_policy_says() -> None:
    parsed = parse(MINIMAL)
    assert parsed.platform.tdx.mr_td == (HEX,)
    assert parsed.platform.requirements().anchor("tdx") is certificates.INTEL_SGX_ROOT
    assert parsed.code.unreviewed
    assert parsed.claims.declared == 0
    assert parsed.claims.architecture == ("any",)
    assert parsed.claims.records is parsed.claims.epochs is parsed.claims.steps is None


def test_the_example_of_the_documentation_has_the_form_of_a_policy() -> None:
    example = (policy.__doc__ or "").split("reference values.\n")[1]
    for placeholder, value in (("<96 hex digits>", HEX), ("<64 hex digits>", "00" * 32), ("[...]", "[]")):
        example = example.replace(placeholder, value)
    example = example.replace("<digest of the manifest>", "00" * 32)
    assert parse(example).claims.property == "train"


def test_the_policy_of_the_good_run_uses_every_rule_and_is_satisfied(good: GoodRun) -> None:
    parsed = good.policy()
    rules = {field.name: getattr(parsed.claims, field.name) for field in dataclasses.fields(parsed.claims)}
    assert all(rules.pop(name) is not None for name in ("records", "epochs", "steps"))
    assert rules.pop("initial_taken") is None
    assert rules.pop("declared") == 0
    unset = ("layout", "multiplicity", "exact", "padded", "unknown_padding", "streams", "ranks")
    assert not any(rules.pop(name) for name in unset)
    assert rules.pop("interconnect") is None
    assert all(rules.values())
    assert good.verify(policy=parsed).checks


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    assert policy.load(path) == parse(MINIMAL)
    path.write_text("", encoding="utf-8")
    with pytest.raises(PolicyError, match=f"^{path}: the policy is empty"):
        policy.load(path)
    with pytest.raises(PolicyError, match="cannot read the policy: No such file"):
        policy.load(tmp_path / "missing.yaml")
    with pytest.raises(PolicyError, match="cannot read the policy: Is a directory"):
        policy.load(tmp_path)


def test_a_file_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(MINIMAL.encode() + b"#" * policy.MAX_POLICY_BYTES)
    with pytest.raises(PolicyError, match=f"^{path}: the policy: expected at most 1048576 bytes, got more"):
        policy.load(path)


# What is none -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{}", "[]", "# nothing\n", "null", "0", "''"])
def test_an_empty_policy_is_an_error(text: Any) -> None:
    refused(text, "the policy is empty; it needs 'version', 'platform', 'code' and 'claims'")


@pytest.mark.parametrize("part", ["version", "platform", "code", "claims"])
def test_each_part_is_mandatory(good: GoodRun, part: Any) -> None:
    refused(good.policy_text({part: None}), f"^policy: missing key '{part}'$")


def test_some_kind_of_machine_is_named(good: GoodRun) -> None:
    refused(good.policy_text({"platform.tdx": None}), "^policy: platform: names no kind of machine: it needs")


@pytest.mark.parametrize("path", ["claims.property", "claims.data", "claims.initial"])
def test_so_is_what_must_be_said_in_so_many_words(good: GoodRun, path: str) -> None:
    parent, _, name = path.rpartition(".")
    refused(good.policy_text({path: None}), f"^policy: {parent}: missing key '{name}'$")


def test_the_tokenizer_must_be_spoken_of(good: GoodRun) -> None:
    refused(good.policy_text({"claims.tokenizer": None}), "missing key 'tokenizer'")


@pytest.mark.parametrize("parent", ["", "platform.", "platform.tdx.", "code.", "claims.", "claims.steps."])
def test_an_unknown_key_is_an_error_wherever_it_stands(good: GoodRun, parent: Any) -> None:
    where = f"policy: {parent.rstrip('.')}".removesuffix(": ")
    refused(good.policy_text({f"{parent}allow_simulated": True}), f"^{where}: unknown key 'allow_simulated'")


# path: a value of another type
WRONG_TYPES: dict[str, Any] = {
    "version": "1",
    "platform": [],
    "platform.tdx": "any",
    "platform.tdx.mr_td": HEX,
    "platform.simulated_root": True,
    "code": "reviewed",
    "code.digests": {},
    "code.unreviewed": 1,
    "claims": [],
    "claims.property": 1,
    "claims.data": "any",
    "claims.data.": "none",
    "claims.initial": [1],
    "claims.tokenizer": True,
    "claims.architecture": {},
    "claims.records": 5,
    "claims.records.least": "5",
    "claims.epochs.least": True,
    "claims.steps": [1, 2],
    "claims.arguments": [],
    "claims.arguments.lr": 0.001,
    "claims.reported": "loss",
    "claims.reported.loss": {"greatest": [1]},
    "claims.declared": 0.5,
}


@pytest.mark.parametrize("path", WRONG_TYPES)
def test_a_value_of_another_type_is_named_with_its_path(good: GoodRun, path: str) -> None:
    text = good.policy_text({path.rstrip("."): WRONG_TYPES[path]})
    refused(text, rf"^policy: {path.rstrip('.')}.*: expected")


def test_version_is_an_integer_and_one(good: GoodRun) -> None:
    refused(good.policy_text({"version": 2}), "policy version 1, got 2")
    refused(good.policy_text({"version": True}), "expected int")
    refused(good.policy_text({"version": 1.0}), "expected int")


NOT_YAML = {
    "not UTF-8": (b"\xff\xfe", "not a YAML document"),
    "a control character": (b"version: \x00", "not a YAML document"),
    "half a list": (b"version: [1", "not a YAML document"),
    "two documents": (b"version: 1\n---\nversion: 1\n", "not a YAML document"),
    "a list": (b"- version", "expected an object, got"),
    "text": (b"version", "expected an object, got"),
    "deep nesting": (b"[" * 20_000, "line 1: nesting deeper than 32"),
    "a day, which is text": (b"version: 2001-02-30", "expected int, got '2001-02-30'"),
    "a number beyond doubles": (b"version: 1" + b":59" * 400 + b".5", "expected a decimal number"),
    "a number of too many digits": (b"version: " + b"9" * 10_000, "not a YAML document"),
    "a binary number without digits": (b"version: 0b_", "expected a decimal number"),
    "an alias": (b"version: &one 1\ncode: *one\n", "line 2: YAML aliases are not read"),
    "a bomb of aliases": (b"a: &a [1]\nb: &b [*a,*a]\nc: [*b,*b]\n", "aliases are not read"),
    "a merge": (b"code: {<<: {unreviewed: true}}", "not a YAML document"),
    "a tag for a Python object": (b"version: !!python/object/apply:os.getcwd []", "tags are not read"),
    "a tag that does not fit": (b"version: !!bool 1", "line 1: YAML tags are not read"),
    "a tag on a mapping": (b"code: !!omap [a: 1]", "YAML tags are not read"),
    "a tag of nobody": (b"version: !mine 1", "YAML tags are not read"),
    "a duplicate key": (b"version: 1\nversion: 1\n", "line 2: 'version' appears twice"),
    "a duplicate key inside": (b"code: {unreviewed: false, unreviewed: true}", "'unreviewed' appears twice"),
    "a key that is a number": (b"1: version", "keys are text, got 1"),
    "a key that is a truth value": (b"code: {yes: true}", "keys are text, got True"),
    "a key that is a list": (b"? [a]\n: 1", "keys are text"),
}


@pytest.mark.parametrize("name", NOT_YAML)
def test_what_yaml_has_and_a_policy_has_not(name: str) -> None:
    text, message = NOT_YAML[name]
    refused(text, message)


# policies: the widest range there is, and messages in full


def test_the_greatest_double_is_a_bound() -> None:
    widest = Range(least=-sys.float_info.max, greatest=sys.float_info.max)
    assert widest.holds(0)
    assert widest.holds(sys.float_info.max)
    assert not widest.holds(float("inf"))


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "a range needs 'least' or 'greatest'"),
        ({"least": float("nan")}, "a range needs finite numbers"),
        ({"greatest": float("inf")}, "a range needs finite numbers"),
        ({"least": 2, "greatest": 1}, "an empty range: least 2 > greatest 1"),
    ],
)
def test_what_is_no_range(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Range(**bounds)
    assert str(caught.value) == message


def test_a_root_that_a_policy_names_is_that_of_a_simulated_tee(good: GoodRun) -> None:
    anchor = good.policy().platform.requirements().anchor("tdx")
    assert (anchor.name, anchor.simulated) == ("simulated TEE", True)
    assert not good.policy(hardware=True).platform.requirements().anchor("tdx").simulated


def test_the_values_of_an_authority_reach_the_policy(good: GoodRun, tmp_path: Path) -> None:
    values = VerifiedValues(values=VALUES, key_id="ab" * 32)
    text = good.policy_text({"claims.data": ["authority"]})
    path = tmp_path / "policy.yaml"
    path.write_bytes(text)
    listed = tuple(map(str, VALUES.claims.data if VALUES.claims else ()))
    for found in (policy.parse(text, references=values), policy.load(path, references=values)):
        assert found.claims.data == listed
    for what in ("rules", "policy"):
        with pytest.raises(PolicyError, match=rf"^{what}: .*authority"):
            policy.parse(text, what=what)
    with pytest.raises(PolicyError, match=r"^rules: line 1: "):
        policy.parse(b"a: *x", what="rules")
