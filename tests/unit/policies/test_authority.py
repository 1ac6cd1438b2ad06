"""``[authority]`` in a policy: what takes its place, and what is refused where it stands for nothing."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import snp_run
import workshop
from authority import AT, HEX, VALUES, make_key

from palm_torch.cvm import simulated_quote
from palm_torch.errors import ClaimError, PlatformError, PolicyError
from palm_torch.policies import authority, policy, reference_values
from palm_torch.policies.reference_values import ReferenceValues

if TYPE_CHECKING:
    from composite_run import CompositeRun
    from snp_run import SnpRun
    from workshop import GoodRun

KEY = make_key("ed25519")
SIGNED = reference_values.sign(VALUES, key=KEY)
SNP_SIZES = {
    "measurement": 48,
    "host_data": 32,
    "id_key_digest": 48,
    "author_key_digest": 48,
    "family_id": 16,
    "image_id": 16,
    "chip_id": 64,
}


def verify(data: bytes) -> reference_values.VerifiedValues:
    return reference_values.verify(data, key=KEY.public_key(), at=AT)


def test_a_policy_that_asks_gets_the_authoritys_list(good: GoodRun) -> None:
    text = good.policy_text({"claims.data": ["authority"], "platform.tdx.mr_td": ["authority"]})
    found = policy.parse(text, references=verify(SIGNED))
    assert found.claims.data == (str(at_hand.MANIFEST.digest),)
    assert found.platform.tdx.mr_td == (HEX, simulated_quote.MR_TD.hex())
    assert good.verify(policy=found).checks


def test_every_list_of_the_table_can_be_asked_for() -> None:
    every = ReferenceValues(
        issuer="everything",
        issued=VALUES.issued,
        expires=VALUES.expires,
        platform=reference_values.PlatformValues(
            tdx=reference_values.TdxValues(
                **{
                    field.name: (HEX[: {"xfam": 16, "ppid": 32}.get(field.name, 96)],)
                    for field in dataclasses.fields(reference_values.TdxValues)
                }
            ),
            snp=reference_values.SnpValues(**{name: ("ab" * size,) for name, size in SNP_SIZES.items()}),
        ),
        code=reference_values.CodeValues(digests=(at_hand.MODEL.digest,), packages=(at_hand.MODEL.digest,)),
        claims=reference_values.ClaimValues(
            data=(at_hand.MODEL.digest,),
            initial=(at_hand.MODEL.digest,),
            tokenizer=(at_hand.MODEL.digest,),
            architecture=(at_hand.MODEL.digest,),
        ),
    )
    verified = verify(reference_values.sign(every, key=KEY))
    asking: dict[str, Any] = {
        "version": 1,
        "platform": {
            "tdx": {field.name: ["authority"] for field in dataclasses.fields(reference_values.TdxValues)},
            "snp": {name: ["authority"] for name in SNP_SIZES},
        },
        "code": {"digests": ["authority"], "packages": ["authority"]},
        "claims": {
            "property": "train",
            **{role: ["authority"] for role in ("data", "initial", "tokenizer", "architecture")},
        },
    }
    found = policy.parse(json.dumps(asking).encode(), references=verified)
    assert found.platform.tdx.ppid == (HEX[:32],)
    assert SNP_SIZES.keys() == {field.name for field in dataclasses.fields(reference_values.SnpValues)}
    for name, size in SNP_SIZES.items():
        assert getattr(found.platform.snp, name) == ("ab" * size,)
    assert found.claims.tokenizer == (str(at_hand.MODEL.digest),)
    assert found.code.packages == (at_hand.MODEL.digest,)
    assert "authority" not in repr(found)


def test_an_authority_may_stand_for_guests(guest: SnpRun) -> None:
    text = guest.policy_text({"platform.snp.measurement": ["authority"]})
    for value, meets in ((HEX, False), (snp_run.MEASUREMENT, True)):
        values = reference_values.PlatformValues(snp=reference_values.SnpValues(measurement=(value,)))
        signed = reference_values.sign(dataclasses.replace(VALUES, platform=values), key=KEY)
        found = policy.parse(text, references=verify(signed))
        if meets:
            assert guest.verify(policy=found).checks
        else:
            with pytest.raises(PlatformError, match="measurement: expected"):
                guest.verify(policy=found)


def test_an_authority_may_stand_for_gpus(composite: CompositeRun) -> None:
    text = composite.policy_text({"platform.gpu.chip_ids": ["authority"]})
    for chips, meets in ((("NVIDIA:GH100:0000000000000000",), False), (tuple(composite.chip_ids), True)):
        values = reference_values.PlatformValues(gpu=reference_values.GpuValues(chip_ids=chips))
        signed = reference_values.sign(dataclasses.replace(VALUES, platform=values), key=KEY)
        found = policy.parse(text, references=verify(signed))
        if meets:
            assert composite.verify(policy=found).checks
        else:
            with pytest.raises(PlatformError, match="chip_id: expected"):
                composite.verify(policy=found)


def test_a_list_that_the_evidence_does_not_meet_rejects_it(good: GoodRun) -> None:
    other = dataclasses.replace(VALUES, claims=reference_values.ClaimValues(data=(at_hand.MODEL.digest,)))
    text = good.policy_text({"claims.data": ["authority"]})
    found = policy.parse(text, references=verify(reference_values.sign(other, key=KEY)))
    with pytest.raises(ClaimError, match=r"data\.dataset1: the policy demands"):
        good.verify(policy=found)


@pytest.mark.parametrize("path", sorted(VALUES.lists()))
def test_asking_without_an_authority_says_which_options_to_give(good: GoodRun, path: str) -> None:
    expected = (
        rf"^policy\.yaml: {path}: \[authority\] stands for a trusted authority's values: give its file and "
        r"its public key \(--reference-values FILE --authority-key PEM\); without them nothing of the policy "
        r"can be checked, except that it is YAML$"
    )
    changes: dict[str, Any] = {"platform.snp": {}, "platform.gpu": {"count": 1}}
    with pytest.raises(PolicyError, match=expected):
        policy.parse(good.policy_text(changes | {path: ["authority"]}), what="policy.yaml")


def test_asking_for_what_the_authority_does_not_list(good: GoodRun) -> None:
    for path in ("claims.initial", "code.digests"):
        text = good.policy_text({path: ["authority"], "claims.data": ["authority"]})
        with pytest.raises(PolicyError, match=rf"^policy: {path}: .*'Example Laboratory' names no value"):
            policy.parse(text, references=verify(SIGNED))


def test_an_authority_that_nobody_asks_is_an_error(good: GoodRun) -> None:
    with pytest.raises(PolicyError, match=r"^policy: the policy asks the authority for nothing"):
        policy.parse(good.policy_text(), references=verify(SIGNED))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("claims.data", ["authority", str(at_hand.MANIFEST.digest)]),
        ("claims.data", ["authority", "authority"]),
        ("claims.data", ["Authority"]),
        ("claims.data", "authority"),
        ("platform.tdx.mr_td", ["authority", HEX]),
        ("platform.tdx.tcb_statuses", ["authority"]),
        ("platform.tdx.td_attributes", ["authority"]),
        ("platform.simulated_root", ["authority"]),
        ("platform", ["authority"]),
        ("claims", ["authority"]),
    ],
)
def test_the_word_stands_alone_and_only_for_lists_of_values(good: GoodRun, path: str, value: Any) -> None:
    changes = {"claims.initial": ["authority"], path: value} if not path.startswith("cl") else {path: value}
    with pytest.raises(PolicyError, match=r"^policy: "):
        policy.parse(good.policy_text(changes), references=verify(SIGNED))


def test_the_document_given_is_left_as_it_was() -> None:
    document: Any = {"claims": {"data": ["authority"]}}
    authority.resolve(document, verify(SIGNED), what="policy")
    assert document == {"claims": {"data": ["authority"]}}


@pytest.mark.parametrize("document", [None, [], "text", {"claims": None}, {"platform": {"tdx": 1}}])
def test_documents_of_another_form_are_the_codecs_business(document: Any) -> None:
    assert authority.resolve(document, None, what="policy") == document


def test_the_vocabulary_is_the_policys() -> None:
    assert workshop.make_policy(None)["claims"]["tokenizer"] == [policy.NONE]
    assert authority.AUTHORITY not in (policy.ANY, policy.NONE)
