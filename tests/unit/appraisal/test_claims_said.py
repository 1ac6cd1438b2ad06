"""What claims say in full: the messages of refused ones, the text of reported ones."""

from __future__ import annotations

from typing import Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch.appraisal import claims
from palm_torch.digest import sha256_digest
from palm_torch.errors import ClaimError
from palm_torch.policies.policy import ClaimRules, Range
from palm_torch.properties import Bind
from palm_torch.roles import Artifact, Source

GOOD = workshop.make_statement("run")
CONFIGURATION = "claims.configuration.value"
TOKENIZER = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"tokenizer"))
DECLARED = Artifact(source=Source.DECLARED, kind="file", digest=sha256_digest(b"said"))


def rules(**changes: Any) -> ClaimRules:
    fields = {"property": "train", "data": ("any",), "initial": ("any",), "tokenizer": ("any",)}
    return ClaimRules(**(fields | changes))


def refusal(end: Any, **changes: Any) -> str:
    with pytest.raises(ClaimError) as caught:
        claims.check_claims(end, rules(**changes))
    return str(caught.value)


def test_optimizers_are_claimed_as_far_as_they_are_listed_in_our_form() -> None:
    adam = {"class": "torch.optim.adam.Adam", "steps": 3, "steps_inside": 0, "begun_with": None}
    sgd = {"class": "torch.optim.sgd.SGD", "steps": 0, "steps_inside": 2, "begun_with": "sha256:0"}

    def said(listed: Any) -> list[tuple[str, str]]:
        found = claims.claims_of(put(GOOD, f"{CONFIGURATION}.optimizers", listed), "hardware")
        return [(claim.name, claim.value) for claim in found if claim.name.startswith("optimizer")]

    assert said([adam, sgd]) == [
        ("optimizer 1", "torch.optim.adam.Adam, 3 steps"),
        ("optimizer 2", "torch.optim.sgd.SGD, 0 steps and 2 within another's, began with the state sha256:0"),
    ]
    assert said([{"class": 7}, 8, None, {"class": "x" * 999}])[0][1] == f"{'x' * 160}, None steps"
    for odd in (None, {}, "text", []):
        assert said(odd) == []


def test_a_tokenizer_that_was_measured_is_compared() -> None:
    end = put(GOOD, "claims.tokenizer", TOKENIZER)
    digest, other = str(TOKENIZER.digest), str(sha256_digest(b"other"))
    claims.check_claims(end, rules(tokenizer=(other, digest)))
    assert refusal(end, tokenizer=(other,)) == (
        f"tokenizer: the policy demands {other}, the evidence says {digest}"
    )
    assert refusal(end, tokenizer=("none",)) == (
        f"tokenizer: the policy demands none, the evidence says {digest}"
    )


def test_all_that_would_do_is_listed_in_order() -> None:
    names = sorted(str(sha256_digest(name)) for name in (b"a", b"b", b"c"))
    assert refusal(GOOD, initial=tuple(reversed(names))) == (
        f"initial: the policy demands {', '.join(names)}, the evidence says {at_hand.INITIAL.digest}"
    )


def test_what_is_merely_declared_is_listed_in_order() -> None:
    end = put(put(GOOD, "run.inputs.b", DECLARED), "run.outputs.a", DECLARED)
    assert refusal(end) == "2 values are merely declared (a, b), the policy allows 0"
    claims.check_claims(end, rules(declared=2))


def test_a_declared_environment_counts() -> None:
    end = put(GOOD, "run.environment.source", Source.DECLARED)
    assert claims.declared(end) == ["environment"]
    assert refusal(end) == "1 values are merely declared (environment), the policy allows 0"


def test_a_role_that_was_left_empty_is_not_declared() -> None:
    assert GOOD.claims.tokenizer.source is Source.DECLARED
    assert claims.declared(GOOD) == []


def test_a_configuration_of_another_form_is_named() -> None:
    wanted = {"arguments": {"lr": Range(least=0)}}
    group = {"options": {"lr": {"least": 0}}}
    for path, new, message in (
        ("optimizers", {}, "configuration: expected 'optimizers' to be of type list, got {}"),
        (
            "optimizers",
            [{"groups": []}],
            "arguments.lr: no optimizer is listed, or none with a parameter group",
        ),
        ("optimizers", [1], "configuration: expected 'groups' to be of type list, got None"),
        ("optimizers.0.groups", "x" * 99, f"got {'x' * 99!r:.80}"),
        ("optimizers.0.groups", [{}], "configuration: expected 'options' to be of type dict, got None"),
        ("optimizers.0.groups", [{"options": {}}], "arguments.lr: a parameter group does not say"),
        ("optimizers.0.groups", [group], "arguments.lr: expected a number, the evidence says None"),
    ):
        said = refusal(put(GOOD, f"{CONFIGURATION}.{path}", new), **wanted)
        assert message in said


def test_what_the_evidence_says_of_the_run() -> None:
    said = {
        claim.name: (claim.value, claim.strength) for claim in claims.claims_of(GOOD, strength="hardware")
    }
    assert said["code"] == (str(GOOD.run.code.digest), "hardware")
    assert said["reported loss"] == ("first 2.5, last 0.5 of 4 values", "reported by code")
    assert said["tokenizer"] == ("none", "declared")


def test_numbers_are_shortened_and_words_are_not() -> None:
    end = put(put(GOOD, "run.reported.loss.first", "NaN"), "run.reported.loss.last", 0.123456789)
    said = {claim.name: claim.value for claim in claims.claims_of(end, strength="code")}
    assert said["reported loss"] == "first NaN, last 0.123457 of 4 values"


def test_a_role_is_measured_if_everything_in_it_is() -> None:
    for role in ("data", "model", "recipe", "log"):
        claims.check_measured(GOOD, role)
    unmeasured = {
        "nothing": GOOD,
        "loss": GOOD,
        "tokenizer": GOOD,
        "data": put(GOOD, "claims.data", {}),
        "recipe": put(GOOD, "run.inputs.recipe", DECLARED),
    }
    for role, end in unmeasured.items():
        with pytest.raises(ClaimError) as caught:
            claims.check_measured(end, role)
        assert str(caught.value) == (
            f"the request asks for the role {role!r}, which the evidence has not measured"
        )


def test_what_has_no_source_is_not_declared() -> None:
    """A digest or a count is part of what its role was measured of."""
    bind = Bind(
        files={"a.bin": TOKENIZER, "b.bin": DECLARED},
        manifest=TOKENIZER,
        multiset=at_hand.MANIFEST.multiset,
        records_root=at_hand.MODEL.digest,
        records=10,
        framing=GOOD.run.environment,
    )
    assert claims.declared(put(GOOD, "claims", bind)) == ["files"]
