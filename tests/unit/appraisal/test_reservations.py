"""What keeps a result from being affirming whatever the policy says, each with advice."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import workshop
from workshop import put

from palm_torch import statement
from palm_torch.appraisal import reservations
from palm_torch.digest import sha256_digest
from palm_torch.policies.policy import CodeRules
from palm_torch.result import Reservation
from palm_torch.roles import Artifact, Source
from palm_torch.statement import CodeSource

GOOD = workshop.make_statement("run")
CODE = GOOD.run.code
NAMED = CodeRules(digests=(CODE.digest,), packages=(statement.value_digest([]),))


def only(found: list[Reservation]) -> Reservation:
    (item,) = found
    assert item.advice
    return item


def test_a_plain_loop_has_none() -> None:
    assert reservations.of_statement(GOOD) == []


@pytest.mark.parametrize(
    "key",
    [
        "steps_without_new_records",
        "writes_outside_steps",
        "parameters_changed_without_steps",
        "optimizers_begun_with_state",
        "batches_carried_over",
    ],
)
def test_a_count_that_is_not_zero(key: str) -> None:
    said = only(reservations.of_statement(put(GOOD, f"claims.configuration.value.{key}", 3)))
    assert (said.about, said.reason[:2]) == ("claims", "3 ")


def test_records_counted_as_read() -> None:
    said = only(reservations.of_statement(put(GOOD, "claims.data.dataset1.uses.train.exact", new=False)))
    assert said.reason.startswith("data dataset1, train: counted as read")


def test_no_training_data_at_all() -> None:
    said = only(reservations.of_statement(put(GOOD, "claims.data", {})))
    assert said.reason.startswith("no training data was counted")


@pytest.mark.parametrize(("kind", "says"), [("opened", "1 files that the"), ("file", "1 inputs")])
def test_inputs_that_the_script_read_by_itself(kind: str, says: str) -> None:
    item = Artifact(source=Source.MEASURED, kind=kind, digest=sha256_digest(b"x"))
    said = only(reservations.of_statement(put(GOOD, "run.inputs", {"a": item})))
    assert said.reason.startswith(says)
    assert "such as a" in said.reason


def test_other_properties_have_none() -> None:
    other: Any = dataclasses.replace(GOOD, claims=object())
    assert reservations.of_statement(other) == []


def test_code_that_was_named_and_hashed_before_it_ran() -> None:
    assert reservations.of_code(NAMED, CODE) == []


def test_unreviewed_code() -> None:
    said = only(reservations.of_code(CodeRules(unreviewed=True), CODE))
    assert said.about == "code"
    assert str(CODE.digest) in said.advice


@pytest.mark.parametrize("rules", [NAMED, CodeRules(covered_by_image=True)])
def test_self_reported_code_counts_in_a_measured_image_only(rules: CodeRules) -> None:
    found = reservations.of_code(rules, dataclasses.replace(CODE, source=CodeSource.SELF_REPORTED))
    assert [item.about for item in found] == ([] if rules.covered_by_image else ["code"])


def test_modules_without_a_digest() -> None:
    said = only(reservations.of_code(NAMED, put(CODE, "files.1.digest", None)))
    assert said.reason == "1 modules without a digest ran, such as helper"


# every reservation in full: what it is about, the reason, and what the reader can do


USE = "claims.data.dataset1.uses.train"


def item(kind: str) -> Artifact:
    return Artifact(source=Source.MEASURED, kind=kind, digest=sha256_digest(b"x"))


def test_code() -> None:
    assert reservations.of_code(CodeRules(unreviewed=True), CODE) == [
        Reservation(
            about="code",
            reason="unreviewed code: the policy names no code digest",
            advice=(
                "have somebody read the files that ran (`palm-torch inspect --json` lists them); then "
                f"name their digest in the policy, under code.digests: {CODE.digest}"
            ),
        )
    ]
    reported = dataclasses.replace(put(CODE, "files.1.digest", None), source=CodeSource.SELF_REPORTED)
    assert reservations.of_code(NAMED, reported) == [
        Reservation(
            about="code",
            reason="self-reported code: the session was opened inside a running script",
            advice="ask for a run under `palm-torch run`, which hashes the code before it runs",
        ),
        Reservation(
            about="code",
            reason="1 modules without a digest ran, such as helper",
            advice="ask for a run without code from archives, command lines or run time",
        ),
    ]


def test_inputs_that_lay_on_the_hosts_storage() -> None:
    advice = (
        "storage of the host is not to be trusted: ask for a script that hands on bytes, in run.input(...), "
        "run.output(...) or run.receipt(...), or reads its data through palm-torch"
    )
    inputs = {"b": item("opened"), "a": item("opened"), "c": item("file"), "d": item("bytes")}
    assert reservations.of_statement(put(GOOD, "run.inputs", inputs)) == [
        Reservation(
            about="claims",
            reason=(
                "2 files that the script opened by itself were hashed when opened, such as a: what it read "
                "later may differ"
            ),
            advice=advice,
        ),
        Reservation(
            about="claims",
            reason="1 inputs were hashed where they lay, such as c: what the script read may differ",
            advice=advice,
        ),
    ]


def test_data_that_was_not_counted_or_not_exactly() -> None:
    (nothing,) = reservations.of_statement(put(GOOD, "claims.data", {}))
    assert (nothing.about, nothing.advice) == (
        "claims",
        "ask for a script that reads through palm_torch.AttestedMmapDataset and DataLoader",
    )
    assert reservations.of_statement(put(GOOD, f"{USE}.exact", new=False)) == [
        Reservation(
            about="claims",
            reason=(
                "data dataset1, train: counted as read; code between the dataset and the loop may have "
                "dropped records"
            ),
            advice="read the collate function and the datasets that wrap the attested one",
        )
    ]


@pytest.mark.parametrize(
    ("key", "reason", "advice"),
    [
        (
            "steps_without_new_records",
            "steps followed no newly delivered record of their optimizer",
            "see in the code what those steps were computed from",
        ),
        (
            "writes_outside_steps",
            "times parameters were written to between steps, by other code than an optimizer",
            "see in the code what writes to parameters between the steps",
        ),
        (
            "parameters_changed_without_steps",
            "parameters changed or were written to although no optimizer steps them",
            (
                "see in the code what writes to them, such as a moving average; compare initial and final "
                "tensors"
            ),
        ),
        (
            "optimizers_begun_with_state",
            "optimizers had a state before their first step, and what made it is not in this evidence",
            "see in the code where it was loaded from, for moments can move weights anywhere",
        ),
        (
            "batches_carried_over",
            "batches waited for their step when the run was resumed, and their gradients may be lost",
            "see in the code whether it saved the gradients; ask for checkpoints right after a step",
        ),
    ],
)
def test_counts_that_are_not_zero_or_not_there(key: str, reason: str, advice: str) -> None:
    for count in (1, None, "0"):
        changed: Any = put(GOOD, f"claims.configuration.value.{key}", count)
        assert reservations.of_statement(changed) == [
            Reservation(about="claims", reason=f"{count} {reason}", advice=advice)
        ]


def test_data_without_a_manifest() -> None:
    bare = put(GOOD, "claims.data.dataset1.manifest", None)
    assert reservations.of_statement(bare) == [
        Reservation(
            about="claims",
            reason=(
                "data dataset1: no manifest: indices were counted, not contents; what lay there may have "
                "changed between two readings, or two sessions"
            ),
            advice="ask for data with a manifest (`palm-torch measure`), and name that in the policy",
        )
    ]
    assert reservations.of_statement(put(GOOD, "claims.data.dataset1.uses.eval.delivered", 5)) == []


@pytest.mark.parametrize(
    ("name", "about", "says"),
    [
        ("SIMULATED", "platform", "simulated TEE: no hardware vouches"),
        ("UNCHALLENGED", "freshness", "unchallenged: the evidence answers nobody's request"),
        ("NOT_CHECKED", "freshness", "freshness not checked"),
        ("UNCLOSED", "session", "unclosed: "),
    ],
)
def test_what_each_that_is_always_the_same_is_about(name: str, about: str, says: str) -> None:
    found = getattr(reservations, name)
    assert found.about == about
    assert found.reason.startswith(says)
    assert found.advice


def test_outputs_that_lay_on_the_hosts_storage() -> None:
    said = only(reservations.of_statement(put(GOOD, "run.outputs", {"b": item("bytes"), "a": item("file")})))
    assert said.reason == "1 outputs were hashed where they lay, such as a: what was written may differ"


def test_code_that_is_named_without_its_packages() -> None:
    assert reservations.of_code(CodeRules(digests=(CODE.digest,)), CODE) == [
        Reservation(
            about="code",
            reason="unpinned packages: the policy names code, but no list of installed packages",
            advice="name those that you reviewed, under code.packages; NOT SHOWN gives the digest",
        )
    ]


def test_what_the_script_opened_by_itself_and_could_not_be_hashed() -> None:
    """A role that the script left empty and says so is no such thing."""
    absent = Artifact(source=Source.MEASURED, kind="none", digest=None)
    inputs = {"opened:/proc/b": absent, "opened:/proc/a": absent, "tokenizer": absent, "c": item("bytes")}
    assert reservations.of_statement(put(GOOD, "run.inputs", inputs)) == [
        Reservation(
            about="claims",
            reason=(
                "2 things that the script opened by itself, or could read, have no digest, such as "
                "opened:/proc/a: nothing is known of what came from them"
            ),
            advice=(
                "storage of the host is not to be trusted: ask for a script that hands on bytes, in "
                "run.input(...), run.output(...) or run.receipt(...), or reads its data through palm-torch"
            ),
        )
    ]
    assert reservations.of_statement(put(GOOD, "run.inputs", {"tokenizer": absent})) == []


# settings that change which code is loaded or run


ENVIRONMENT = "run.environment.value"


def settings(**value: Any) -> list[Reservation]:
    """Returns what a statement with such an environment leaves open."""
    return reservations.of_statement(put(GOOD, ENVIRONMENT, {"packages": workshop.PACKAGES, **value}))


def test_settings_that_change_the_code_in_full() -> None:
    variables = {"PYTHONPATH": "x", "HOME": "x", "LD_PRELOAD": "x"}
    assert settings(variables=variables, python={"optimize": 2, "version": "3.11"}) == [
        Reservation(
            about="code",
            reason=(
                "settings that change which code is loaded or run: LD_PRELOAD, PYTHONPATH, Python's -O "
                "(level 2)"
            ),
            advice=(
                "ask for a run without them, or for an image that sets them and nothing else; their digests "
                "stand in the environment (`palm-torch inspect --json`)"
            ),
        )
    ]


@pytest.mark.parametrize("name", reservations.LOADING)
def test_each_variable_that_changes_the_code(name: str) -> None:
    said = only(settings(variables={name: "x"}))
    assert said.reason == f"settings that change which code is loaded or run: {name}"
    assert settings(variables={name.lower(): "x", f"{name}X": "x"}) == []


def test_optimized_python() -> None:
    said = only(settings(python={"optimize": 1}))
    assert said.reason == "settings that change which code is loaded or run: Python's -O (level 1)"
    assert settings(python={"optimize": 0}) == []
    assert settings(python={"OPTIMIZE": 1}) == []


@pytest.mark.parametrize("other", ["3.11", None, ["LD_PRELOAD", "optimize"], 1])
def test_settings_of_another_form_say_nothing(other: Any) -> None:
    assert settings(variables=other, python=other) == []
    assert settings() == []
