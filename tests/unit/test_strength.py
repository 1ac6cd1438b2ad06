"""How strong a claim is: hardware only if platform, code and claims all matched what the policy demands."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import workshop
from workshop import put

from palm_torch import statement
from palm_torch.cvm.platforms import Requirements
from palm_torch.errors import PolicyError, RejectedError

if TYPE_CHECKING:
    from snp_run import SnpRun
    from workshop import GoodRun

    from palm_torch.cvm import certificates
    from palm_torch.cvm.platforms import Kind

CODE = str(workshop.make_code().digest)
CODE_RULES: dict[str, dict[str, Any]] = {
    "digests": {"digests": [CODE], "packages": [str(statement.value_digest(workshop.PACKAGES))]},
    "digests without packages": {"digests": [CODE]},
    "covered by the image": {"covered_by_image": True},
    "unreviewed": {"unreviewed": True},
}


@pytest.mark.parametrize("hardware", [True, False], ids=["hardware", "simulated"])
@pytest.mark.parametrize("rule", CODE_RULES)
@pytest.mark.parametrize("source", statement.CodeSource)
@pytest.mark.parametrize("plain", [True, False], ids=["plain claims", "claims with a warning"])
def test_a_claim_is_hardware_only_if_platform_code_and_claims_matched(
    good: GoodRun,
    monkeypatch: pytest.MonkeyPatch,
    hardware: bool,  # noqa: FBT001 (one case of the product)
    rule: str,
    source: statement.CodeSource,
    plain: bool,  # noqa: FBT001 (one case of the product)
) -> None:
    evidence = sealed(good, source, plain=plain)
    if hardware:
        monkeypatch.setattr(Requirements, "anchor", as_if_real(Requirements.anchor))
    result = good.verify(evidence, policy=good.policy({"code": CODE_RULES[rule]}))

    code_matched = rule == "covered by the image" or (
        rule == "digests" and source is statement.CodeSource.IMPORTED
    )
    expected = "simulated" if not hardware else "hardware" if code_matched else "code"
    measured = {claim.name: claim.strength for claim in result.claims if claim.name != "reported loss"}
    assert set(measured) >= {"model", "initial", "data dataset1", "data dataset1, train", "steps", "code"}
    assert {strength for name, strength in measured.items() if name != "tokenizer"} == {expected}
    others = {claim.name: claim.strength for claim in result.claims}
    assert others["reported loss"] == "reported by code"
    assert others["tokenizer"] == "declared"
    assert result.simulated is not hardware
    assert (result.tier == "affirming") == (hardware and code_matched and plain)


def sealed(good: GoodRun, source: statement.CodeSource, *, plain: bool) -> Any:
    end = put(good.end, "run.code.source", source)
    if not plain:
        end = put(end, "claims.configuration.value.writes_outside_steps", 1)
    begin = put(good.begin, "code.source", source)
    bundle = put(good.bundle, "begin.statement", begin.encode())
    return good.resealed(put(bundle, "end.statement", end.encode()))


def as_if_real(anchor: Any) -> Any:
    """Takes the simulated root for one of hardware, as no policy can."""

    def real(requirements: Requirements, kind: Kind) -> certificates.TrustAnchor:
        found: certificates.TrustAnchor = dataclasses.replace(anchor(requirements, kind), simulated=False)
        return found

    return real


def test_a_guest_of_another_maker_is_hardware_too(guest: SnpRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Requirements, "anchor", as_if_real(Requirements.anchor))
    result = guest.verify()
    assert (result.tier, result.simulated) == ("affirming", False)
    assert {claim.strength for claim in result.claims} == {"hardware", "reported by code", "declared"}


def test_no_policy_can_take_a_simulated_root_for_hardware(good: GoodRun) -> None:
    assert good.policy().platform.requirements().anchor("tdx").simulated
    with pytest.raises(PolicyError, match="unknown key 'simulated'"):
        good.policy({"platform.simulated": False})


OTHER = "sha256:" + "00" * 32
UNMATCHED: dict[str, Any] = {
    "platform.tdx.mr_td": ["ab" * 48],
    "code.digests": [OTHER],
    "claims.data": [OTHER],
    "claims.steps": {"greatest": 1},
}


@pytest.mark.parametrize("path", UNMATCHED)
def test_where_one_part_does_not_match_there_is_no_claim_at_all(
    good: GoodRun, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(Requirements, "anchor", as_if_real(Requirements.anchor))
    assert {claim.strength for claim in good.verify().claims} >= {"hardware"}
    with pytest.raises(RejectedError):
        good.verify(policy=good.policy({path: UNMATCHED[path]}))
