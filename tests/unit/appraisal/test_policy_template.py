"""The policy to start from: it accepts the very evidence it was made of, and says that nobody verified it."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch.appraisal import policy_template
from palm_torch.cvm import certificates
from palm_torch.digest import sha256_digest
from palm_torch.errors import InputError, PlatformError, PolicyError, RejectedError, TrustAnchorError
from palm_torch.policies import policy
from palm_torch.properties import Evaluate
from palm_torch.roles import Artifact, Source, Value
from palm_torch.statement import CodeSource, SourceFile, Statement

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.evidence import Bundle
    from palm_torch.policies.policy import Policy
    from palm_torch.result import AttestationResult

DECLARED = Artifact(source=Source.DECLARED, kind="file", digest=sha256_digest(b"said"))
ANYBODY: dict[str, Any] = {"challenge": workshop.NEVER, "freshness_rule": "not_checked"}


def template(good: GoodRun, bundle: Bundle | None = None, **options: Any) -> str:
    options = {"simulated_root": good.machine.root_certificate()} | options
    return policy_template.starting_policy((bundle or good.bundle).encode(), **options)


def accepted(good: GoodRun, bundle: Bundle) -> tuple[Policy, AttestationResult]:
    parsed = policy.parse(template(good, bundle).encode("ascii"))
    return parsed, good.verify(bundle, policy=parsed, **ANYBODY)


# What it accepts ----------------------------------------------------------------------------------


def test_it_accepts_the_very_evidence_and_pins_all_it_can(good: GoodRun) -> None:
    parsed, result = accepted(good, good.bundle)
    assert result.checks
    usual = good.policy()
    for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2"):
        assert getattr(parsed.platform.tdx, name) == getattr(usual.platform.tdx, name)
    assert parsed.code.digests == usual.code.digests
    assert len(parsed.code.packages) == 1
    for role in ("data", "initial", "tokenizer", "architecture"):
        assert getattr(parsed.claims, role) == getattr(usual.claims, role)
    assert parsed.claims.layout == (at_hand.MANIFEST.layout,)
    assert parsed.claims.initial_taken == "first_step"
    assert (parsed.claims.records, parsed.claims.epochs, parsed.claims.steps) == (
        policy.Range(least=20, greatest=20),
        policy.Range(least=2, greatest=2),
        policy.Range(least=4, greatest=4),
    )
    assert parsed.claims.arguments == {"lr": policy.Range(least=0.0001, greatest=0.001)}
    assert parsed.claims.reported == {}
    assert parsed.claims.declared == 0


@pytest.mark.parametrize(
    "layout", ['[["text","string"]]', "a\n  declared: 9", "\u2028\x85declared: 9", "\x1b[2J", "x" * 16000]
)
def test_a_layout_is_pinned_whatever_it_is_called(good: GoodRun, layout: str) -> None:
    odd = good.sealed_end("claims.data.dataset1.layout", layout)
    parsed, result = accepted(good, odd)
    assert parsed.claims.layout == (layout,)
    assert parsed.claims.declared == 0
    assert result.checks
    with pytest.raises(RejectedError, match=r"data\.dataset1, layout: the policy demands"):
        good.verify(policy=parsed)


def test_a_layout_that_is_too_long_for_a_policy_is_left_out_and_said(good: GoodRun) -> None:
    odd = good.sealed_end("claims.data.dataset1.layout", "x" * 17000)
    parsed, result = accepted(good, odd)
    assert parsed.claims.layout is None
    assert result.checks
    assert "`palm-torch inspect` shows it" in plain(template(good, odd))


def test_padding_that_is_not_known_is_admitted_by_name(good: GoodRun) -> None:
    odd = good.sealed_end("claims.data.dataset1.uses.train.padded", None)
    parsed, result = accepted(good, odd)
    assert parsed.claims.unknown_padding
    assert result.checks


def test_no_data_no_layout(good: GoodRun) -> None:
    parsed = policy.parse(template(good, good.with_end(put(good.end, "claims.data", {}).encode())).encode())
    assert parsed.claims.layout is None


def test_another_run_of_the_same_machine_is_not_accepted(good: GoodRun) -> None:
    parsed = policy.parse(template(good).encode())
    for path, new in (
        ("claims.steps.taken", 3),
        ("run.environment.value.packages", []),
        ("claims.initial.taken", "first_delivery"),
    ):
        with pytest.raises(RejectedError, match=r"demands|none of those|missing"):
            good.verify(good.sealed_end(path, new), policy=parsed, **ANYBODY)


def test_a_resumed_run_is_accepted_too(resumed: Any) -> None:
    _, result = accepted(resumed, resumed.bundle)
    assert result.checks


def test_without_a_root_it_demands_intels_and_says_how_to_rehearse(good: GoodRun) -> None:
    text = template(good, simulated_root=None)
    parsed = policy.parse(text.encode())
    assert parsed.platform.requirements().anchor("tdx") is certificates.INTEL_SGX_ROOT
    assert "--simulated-root auto" in plain(text)
    with pytest.raises(TrustAnchorError):
        good.verify(policy=parsed)
    assert "BEGIN CERTIFICATE" not in text


def test_the_root_is_the_one_given_never_the_evidences(good: GoodRun, tmp_path: Any) -> None:
    other = workshop.machine(tmp_path / "other").root_certificate()
    parsed = policy.parse(template(good, simulated_root=other).encode())
    assert parsed.platform.simulated_root == workshop.pem(other)
    with pytest.raises(TrustAnchorError):
        good.verify(policy=parsed)


def test_a_root_that_is_none_is_an_error(good: GoodRun) -> None:
    with pytest.raises(PolicyError, match=r"policy for x: platform\.simulated_root: expected one PEM"):
        template(good, simulated_root=b"\x30\x00", what="x")


# What it says -------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Returns the comments and values of a template as running text."""
    return re.sub(r"\s*\n\s*#?\s*", " ", text)


def test_the_head_says_that_nobody_verified_it(good: GoodRun) -> None:
    head = plain(template(good, what="train.palm.json").split("version: 1")[0])
    assert "NOBODY HAS VERIFIED" in head
    assert "nothing here is trust yet" in head
    assert '"train.palm.json"' in head
    assert str(sha256_digest(good.data)) in head
    assert good.bundle.run_id in head


@pytest.mark.parametrize(
    "rule", ["mr_td", "rtmr0", "rtmr1", "rtmr2", "digests", "packages", "data", "layout", "initial"]
)
def test_every_reference_value_has_a_comment_that_says_check(good: GoodRun, rule: str) -> None:
    lines = template(good).splitlines()
    at = next(number for number, line in enumerate(lines) if re.match(rf" *{rule}:", line))
    comment = []
    while lines[at - 1].lstrip().startswith("#"):
        at -= 1
        comment.insert(0, lines[at])
    assert "CHECK" in " ".join(comment)


def test_every_active_rule_stands_under_a_comment(good: GoodRun) -> None:
    before = ""
    for line in template(good).splitlines():
        key = re.match(r" +([a-z_0-9]+):", line)
        if key and key[1] not in ("tdx", "property", "packages", "digests", "initial_taken"):
            assert before.lstrip().startswith("#"), line
        before = line


def test_code_that_reported_itself_is_only_a_hint(good: GoodRun) -> None:
    assert "a hint" not in template(good)
    begun = put(good.begin, "code.source", CodeSource.SELF_REPORTED)
    ended = put(good.end, "run.code.source", CodeSource.SELF_REPORTED)
    bundle = put(put(good.bundle, "begin.statement", begun.encode()), "end.statement", ended.encode())
    bundle = good.resealed(bundle)
    assert "the code reported itself" in plain(template(good, bundle))
    accepted(good, bundle)


def test_the_files_that_ran_are_listed_and_those_without_digest_stand_out(good: GoodRun) -> None:
    text = plain(template(good))
    assert f'"__main__": {sha256_digest(b"import palm_torch")}' in text
    files = (SourceFile(module="made\nup: 1", digest=None, reason="made at run time"),)
    text = plain(template(good, put(good.bundle, "end.statement", with_files(good, files))))
    assert r'"made\x0aup: 1": NO DIGEST, "made at run time"' in text
    mixed = (*good.end.run.code.files, SourceFile(module="z", digest=None, reason="made at run time"))
    text = plain(template(good, put(good.bundle, "end.statement", with_files(good, mixed))))
    assert text.index('"z": NO DIGEST') < text.index('"__main__": sha256')
    files = tuple(SourceFile(module=f"m{number}", digest=None, reason=None) for number in range(100))
    text = plain(template(good, put(good.bundle, "end.statement", with_files(good, files))))
    assert '"m59": NO DIGEST, "unsaid"' in text
    assert '"m60"' not in text
    assert "and 40 more, which `palm-torch inspect` shows" in text


def with_files(good: GoodRun, files: tuple[SourceFile, ...]) -> bytes:
    return put(good.end, "run.code.files", files).encode()


def test_the_commented_rules_parse_when_they_are_uncommented(good: GoodRun) -> None:
    text = template(good)
    for rule in ("min_tcb_evaluation_data_number", "max_collateral_age_days", "mr_seam", "xfam", "ppid"):
        text, count = re.subn(rf"^    # ({rule}: )", r"    \1", text, flags=re.MULTILINE)
        assert count == 1
    parsed = policy.parse(text.encode())
    assert parsed.platform.tdx.min_tcb_evaluation_data_number == 1
    assert parsed.platform.tdx.max_collateral_age_days == 30
    assert good.verify(policy=parsed).checks


def test_packages_that_are_no_list_are_left_out(good: GoodRun) -> None:
    end = put(good.end, "run.environment.value.packages", {})
    assert "packages: [" not in template(good, good.with_end(end.encode()))


def test_last_values_are_shown_and_not_demanded(good: GoodRun) -> None:
    assert '"loss": "0.5"' in template(good)
    assert "Last values" not in template(good, good.sealed_end("run.reported", {}))


# Platforms ----------------------------------------------------------------------------------------


def bent(good: GoodRun, **changes: Any) -> Bundle:
    return good.resealed(good.bundle, report=lambda report: dataclasses.replace(report, **changes))


@pytest.mark.parametrize("name", ["mr_config_id", "mr_owner", "mr_owner_config"])
def test_what_the_host_set_is_pinned_where_it_is_not_zero(good: GoodRun, name: str) -> None:
    assert f"{name}:" not in template(good)
    bundle = bent(good, **{name: bytes(range(48))})
    with pytest.raises(PlatformError):
        good.verify(bundle)
    parsed, _ = accepted(good, bundle)
    assert getattr(parsed.platform.tdx, name) == (bytes(range(48)).hex(),)


def test_an_attribute_that_a_policy_may_allow(good: GoodRun) -> None:
    assert "td_attributes" not in template(good)
    bundle = bent(good, td_attributes=bytes.fromhex("0000011000000000"))
    assert "CHECK what each bit allows" in plain(template(good, bundle))
    parsed, _ = accepted(good, bundle)
    assert parsed.platform.tdx.td_attributes == (16, 30, 31, 63)


@pytest.mark.parametrize("attributes", ["0100001000000000", "0000000000000000"], ids=["debug", "no SEPT"])
def test_an_attribute_that_no_policy_allows_is_said(good: GoodRun, attributes: str) -> None:
    bundle = bent(good, td_attributes=bytes.fromhex(attributes))
    text = template(good, bundle)
    assert f"CHECK: the attributes of this trust domain are {attributes}, which no policy can" in plain(text)
    with pytest.raises(PlatformError):
        good.verify(bundle, policy=policy.parse(text.encode()), **ANYBODY)


def test_evidence_without_collateral_has_no_number_to_show(good: GoodRun) -> None:
    assert "min_tcb" not in template(good, put(good.bundle, "collateral", None))


def test_what_is_not_appraised(good: GoodRun) -> None:
    value = Value(source=Source.MEASURED, value={})
    end = Statement(
        run=good.end.run,
        claims=Evaluate(
            model=good.end.claims.model,
            tokenizer=DECLARED,
            data={},
            metric=value,
            benchmark=DECLARED,
            configuration=value,
        ),
    )
    with pytest.raises(
        PolicyError, match=r"^evidence: evidence of 'evaluate': this version does not appraise it$"
    ):
        template(good, good.with_end(end.encode()))
    with pytest.raises(InputError):
        policy_template.starting_policy(b"{}")


# Claims -------------------------------------------------------------------------------------------

DATASET = workshop.make_statement("run").claims.data["dataset1"]
UNNAMED = dataclasses.replace(DATASET, manifest=None)
EVALUATED = dataclasses.replace(DATASET, uses={"eval": DATASET.uses["eval"]})
SECOND = dataclasses.replace(DATASET, manifest=sha256_digest(b"2"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, ["none"]),
        ({"a": UNNAMED}, ["none"]),
        ({"a": DATASET, "b": UNNAMED}, ["any"]),
        ({"a": EVALUATED}, ["any"]),
        ({"a": DATASET, "b": DATASET}, [str(at_hand.MANIFEST.digest)]),
        ({"a": DATASET, "b": SECOND}, sorted([str(at_hand.MANIFEST.digest), str(sha256_digest(b"2"))])),
        ({"a": DATASET, "b": dataclasses.replace(EVALUATED, manifest=None)}, ["any"]),
    ],
    ids=["no data", "no manifest", "one of two", "evaluation only", "twice the same", "two", "one evaluated"],
)
def test_what_is_demanded_of_the_data(good: GoodRun, data: Any, expected: list[str]) -> None:
    bundle = good.sealed_end("claims.data", data)
    parsed, _ = accepted(good, bundle)
    assert list(parsed.claims.data) == expected
    if expected in (["none"], ["any"]):
        assert "nothing says which data it was" in plain(template(good, bundle))


def test_values_that_are_declared_are_counted_and_named(good: GoodRun) -> None:
    bundle = good.sealed_end("claims.tokenizer", DECLARED)
    parsed, _ = accepted(good, bundle)
    assert parsed.claims.declared == 1
    assert parsed.claims.tokenizer == (str(DECLARED.digest),)
    assert 'CHECK each of these: "tokenizer"' in plain(template(good, bundle))
    assert "there are none" in plain(template(good))


def test_a_model_without_architecture_and_weights_taken_at_the_end(good: GoodRun) -> None:
    none = Artifact(source=Source.MEASURED, kind="none", digest=None)
    end = put(put(good.end, "claims.architecture", none), "claims.initial.taken", "end")
    parsed = policy.parse(template(good, good.with_end(end.encode())).encode())
    assert parsed.claims.architecture == ("none",)
    assert parsed.claims.initial_taken is None


@pytest.mark.parametrize(
    "configuration",
    [
        {},
        {"optimizers": []},
        {"optimizers": {}},
        {"optimizers": [{}]},
        {"optimizers": [{"groups": [{"options": []}]}]},
    ],
)
def test_a_configuration_of_another_form_demands_no_argument(good: GoodRun, configuration: Any) -> None:
    text = template(good, put(good.bundle, "end.statement", configured(good, configuration)))
    assert "arguments:" not in text


def configured(good: GoodRun, value: Any) -> bytes:
    return put(good.end, "claims.configuration.value", value).encode()


def test_only_numbers_of_every_group_become_ranges(good: GoodRun) -> None:
    def group(**options: Any) -> dict[str, Any]:
        return {"options": {name: {"least": a, "greatest": b} for name, (a, b) in options.items()}}

    value = {
        "optimizers": [
            {
                "groups": [
                    group(lr=(1e-9, 1), betas=(None, None), only=(1, 2)),
                    group(lr=(0.5, 2e20), betas=(1, 2)),
                ]
            }
        ]
    }
    parsed = policy.parse(template(good, good.with_end(configured(good, value))).encode())
    assert parsed.claims.arguments == {"lr": policy.Range(least=1e-9, greatest=2e20)}


# How records were delivered -------------------------------------------------------------------------

USE = "claims.data.dataset1.uses.train"
STREAM = dataclasses.replace(
    UNNAMED,
    records=None,
    record_bytes=None,
    uses={"train": put(DATASET.uses["train"], "counts", None)},
)


def test_how_records_were_delivered_is_pinned(good: GoodRun) -> None:
    parsed, _ = accepted(good, good.bundle)
    assert parsed.claims.multiplicity == policy.Range(least=2, greatest=2)
    assert parsed.claims.ranks == policy.Range(least=1, greatest=1)
    assert (parsed.claims.exact, parsed.claims.padded, parsed.claims.streams) == (True, 0, False)
    sampled = good.sealed_end(USE, at_hand.delivered(bytes([0, 3, 1, 1, 0, 2, 0, 1, 1, 1])))
    assert accepted(good, sampled)[0].claims.multiplicity == policy.Range(least=0, greatest=3)


def test_padding_and_counts_as_read_are_told(good: GoodRun) -> None:
    bundle = good.sealed_end(f"{USE}.padded", 2)
    assert accepted(good, bundle)[0].claims.padded == 2
    assert "a sampler repeated to make ranks equal. CHECK" in plain(template(good, bundle))
    assert accepted(good, good.sealed_end(f"{USE}.exact", False))[0].claims.exact is False


def test_ranks_are_counted_by_their_chains(good: GoodRun) -> None:
    bundle = good.sealed_end(f"{USE}.order", lambda order: order * 2)
    parsed = policy.parse(template(good, bundle).encode())
    assert parsed.claims.ranks == policy.Range(least=1, greatest=2)


def test_a_stream_has_to_be_let_through(good: GoodRun) -> None:
    bundle = good.sealed_end("claims.data", {"dataset1": STREAM})
    parsed, result = accepted(good, bundle)
    assert parsed.claims.streams is True
    assert parsed.claims.multiplicity is None
    assert any("a stream, no index" in warning for warning in result.warnings)
    assert "which of its records were delivered cannot be told" in plain(template(good, bundle))
