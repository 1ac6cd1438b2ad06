"""The policy to start from, made of evidence of an SEV-SNP guest: it accepts it, and says what to check."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import pytest
import snp_run
import snp_world
import workshop
from cryptography.hazmat.primitives.serialization import Encoding
from workshop import put

from palm_torch.appraisal import policy_template
from palm_torch.cvm import certificates, der, simulated_snp_authority, snp_report, snp_rules, vcek
from palm_torch.errors import EncodingError, EvidenceError, PlatformError, SignatureError, TrustAnchorError
from palm_torch.policies import policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from snp_run import SnpRun

    from palm_torch.evidence import Bundle
    from palm_torch.policies.policy import Policy

ANYBODY: dict[str, Any] = {"challenge": workshop.NEVER, "freshness_rule": "not_checked"}
USUAL_POLICY = 1 << snp_rules.SMT_BIT | 1 << snp_rules.RESERVED_ONE_BIT


def template(guest: SnpRun, bundle: Bundle | None = None, **options: Any) -> str:
    options = {"simulated_root": guest.machine.root_certificate()} | options
    return policy_template.starting_policy((bundle or guest.bundle).encode(), **options)


def accepted(guest: SnpRun, bundle: Bundle | None = None) -> Policy:
    parsed = policy.parse(template(guest, bundle).encode("ascii"))
    assert guest.verify(bundle, policy=parsed, **ANYBODY).checks
    return parsed


def plain(text: str) -> str:
    """Returns the comments and values of a template as running text."""
    return re.sub(r"\s*\n\s*#?\s*", " ", text)


def uncommented(text: str, *rules: str) -> Policy:
    """Returns the policy with commented rules in force."""
    for rule in rules:
        text, count = re.subn(rf"^    # ({rule}: )", r"    \1", text, flags=re.MULTILINE)
        assert count == 1
    return policy.parse(text.encode())


# What it accepts ----------------------------------------------------------------------------------


def test_it_accepts_the_very_evidence_and_no_other_kind_of_machine(guest: SnpRun) -> None:
    parsed = accepted(guest)
    assert parsed.platform.tdx is None
    assert parsed.platform.snp == snp_rules.SnpRules(
        measurement=(snp_run.MEASUREMENT,), min_tcb=guest.report.reported_tcb
    )


def test_another_image_is_not_accepted(guest: SnpRun) -> None:
    parsed = accepted(guest)
    with pytest.raises(PlatformError, match="measurement: expected"):
        guest.verify(guest.bent(measurement=bytes(range(48))), policy=parsed)


def test_without_a_root_it_demands_amds_and_says_how_to_rehearse(guest: SnpRun) -> None:
    text = template(guest, simulated_root=None)
    parsed = policy.parse(text.encode())
    assert parsed.platform.requirements().anchor("snp") is certificates.AMD_ARK_MILAN
    assert "Quotes must lead to AMD's root." in plain(text)
    assert "--simulated-root auto" in plain(text)
    assert "Intel" not in text
    with pytest.raises(TrustAnchorError):
        guest.verify(policy=parsed)
    assert "IN PLACE OF AMD's root" in plain(template(guest))


def test_every_active_rule_stands_under_a_comment_and_every_value_under_check(guest: SnpRun) -> None:
    bundle = guest.bent(host_data=bytes(range(32)), image_id=bytes(range(16)), family_id=b"\x01" * 16)
    lines = template(guest, bundle).partition("\ncode:")[0].splitlines()
    comment = ""
    found = []
    for line in lines[lines.index("  snp:") + 1 :]:
        if line.startswith("    #"):
            comment += line
            continue
        if key := re.match(r"    ([a-z_]+):", line):
            found.append(key[1])
            assert "CHECK" in comment, line
        comment = ""
    assert found == ["measurement", "host_data", "family_id", "image_id", "min_tcb", "vmpl"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("host_data", 32),
        ("id_key_digest", 48),
        ("author_key_digest", 48),
        ("family_id", 16),
        ("image_id", 16),
    ],
)
def test_what_host_or_owner_set_is_pinned_where_it_is_not_zero(guest: SnpRun, name: str, size: int) -> None:
    assert f"{name}:" not in template(guest)
    value = bytes(range(1, size + 1))
    parsed = accepted(guest, guest.bent(**{name: value}))
    assert getattr(parsed.platform.snp, name) == (value.hex(),)


# Firmware -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["committed_tcb", "current_tcb", "launch_tcb"])
def test_the_least_tcb_is_the_least_that_the_report_names(guest: SnpRun, name: str) -> None:
    assert "signed under better ones" not in plain(template(guest))
    lower = dataclasses.replace(guest.report.reported_tcb, snp=5)
    bundle = guest.bent(**{name: lower})
    with pytest.raises(PlatformError, match=name):
        guest.verify(bundle)
    assert f"signed under better ones ({guest.report.reported_tcb})" in plain(template(guest, bundle))
    assert accepted(guest, bundle).platform.snp.min_tcb == lower


def test_a_better_firmware_that_runs_lowers_nothing(guest: SnpRun) -> None:
    better = dataclasses.replace(guest.report.reported_tcb, microcode=200)
    bundle = guest.bent(current_tcb=better)
    assert accepted(guest, bundle).platform.snp.min_tcb == guest.report.reported_tcb


# The guest ----------------------------------------------------------------------------------------


def test_the_privilege_level_that_asked_is_named(guest: SnpRun) -> None:
    bundle = guest.bent(vmpl=2)
    with pytest.raises(PlatformError, match="vmpl"):
        guest.verify(bundle)
    assert accepted(guest, bundle).platform.snp.vmpl == (2,)


def test_a_level_that_no_guest_has_is_said(guest: SnpRun) -> None:
    bundle = guest.bent(vmpl=0xFFFFFFFF)
    text = template(guest, bundle)
    assert "privilege level 4294967295 asked for this report, which no guest has" in plain(text)
    assert "vmpl: [" not in text
    with pytest.raises(PlatformError, match="vmpl"):
        guest.verify(bundle, policy=policy.parse(text.encode()), **ANYBODY)


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": USUAL_POLICY | 1 << snp_rules.DEBUG_BIT},
        {"policy": USUAL_POLICY | 1 << snp_rules.MIGRATION_AGENT_BIT},
        {"policy": USUAL_POLICY | 1 << 63},
        {"policy": 1 << snp_rules.SMT_BIT},
        {"report_id_ma": bytes(32)},
    ],
    ids=["debugging", "migration", "unknown", "reserved one", "agent"],
)
def test_what_no_policy_can_allow_is_said(guest: SnpRun, changes: dict[str, Any]) -> None:
    said = "which no policy of yours can allow"
    assert said not in plain(template(guest))
    bundle = guest.bent(**changes)
    text = template(guest, bundle)
    assert said in plain(text)
    assert f"{changes.get('policy', USUAL_POLICY):#x}" in text
    with pytest.raises(PlatformError):
        guest.verify(bundle, policy=policy.parse(text.encode()), **ANYBODY)


def test_cxl_is_allowed_only_where_the_guest_admits_it(guest: SnpRun) -> None:
    assert "allow_cxl" not in template(guest)
    bundle = guest.bent(policy=USUAL_POLICY | 1 << snp_rules.CXL_BIT)
    assert accepted(guest, bundle).platform.snp.allow_cxl


def test_what_the_guest_does_beyond_what_is_demanded_can_be_demanded(guest: SnpRun) -> None:
    bits = 1 << snp_rules.RESERVED_ONE_BIT | 1 << snp_rules.SINGLE_SOCKET_BIT
    hardened = guest.bent(policy=bits)
    rules = ("allow_smt", "require_single_socket", "require_alias_check", "require_revocation_list")
    rules += ("chip_id", "signing_keys")
    parsed = uncommented(template(guest, hardened), *rules)
    found = parsed.platform.snp
    assert not found.allow_smt
    assert found.require_single_socket
    assert found.require_alias_check
    assert found.require_revocation_list
    assert found.chip_id == (guest.report.chip_id.hex(),)
    assert found.signing_keys == ("vcek",)
    assert guest.verify(hardened, policy=parsed, **ANYBODY).checks
    with pytest.raises(PlatformError):
        guest.verify(policy=parsed)
    usual = template(guest)
    assert "allow_smt" not in usual
    assert "require_single_socket" not in usual
    assert "require_alias_check" not in template(guest, guest.bent(platform_info=0))


# Who signed ---------------------------------------------------------------------------------------


def test_a_masked_chip_cannot_be_pinned(guest: SnpRun) -> None:
    text = template(guest, guest.bent(chip_id=bytes(64)))
    assert "The host masks the chip's identity" in plain(text)
    assert "chip_id:" not in text


def test_a_key_that_a_cloud_provider_loaded_is_named_with_the_provider(guest: SnpRun) -> None:
    bundle = put(guest.bent(flags=snp_world.VLEK_FLAGS), "collateral", None)
    text = template(guest, bundle)
    assert uncommented(text, "signing_keys").platform.snp.signing_keys == ("vlek",)
    assert "csp_id" not in text
    leaf = snp_world.leaf(snp_world.asvk(), name="SEV-VLEK", csp_id='cloud"\n    csp_id: []')
    text = template(guest, guest.endorsed(bundle, snp_world.endorsements([leaf])))
    assert uncommented(text, "csp_id").platform.snp.csp_id == ('cloud"\n    csp_id: []',)
    assert "require_revocation_list" not in text
    assert uncommented(template(guest, guest.by_provider()), "csp_id").platform.snp.csp_id == (
        snp_world.CSP_ID,
    )
    accepted(guest, guest.by_provider())


def test_a_key_of_nobody_is_said(guest: SnpRun) -> None:
    bundle = guest.bent(flags=7 << snp_report.SIGNING_KEY_SHIFT)
    text = template(guest, bundle)
    assert "key number 7 signed this report, which no policy can accept" in plain(text)
    with pytest.raises(SignatureError):
        guest.verify(bundle, policy=policy.parse(text.encode()), **ANYBODY)


def test_what_does_not_parse_is_an_error(guest: SnpRun) -> None:
    with pytest.raises(EvidenceError, match="SNP report: expected 1184 bytes"):
        template(guest, put(guest.bundle, "end.quote", b""))
    with pytest.raises(EvidenceError):
        template(guest, put(guest.bundle, "collateral", {}))


def test_a_genuine_key_of_a_cloud_provider_has_no_serial_number(
    guest: SnpRun, vectors: Callable[[str], bytes]
) -> None:
    genuine = snp_world.endorsements([vectors("snp/trustee/test-vlek.der")])
    text = template(guest, guest.endorsed(guest.by_provider(), genuine))
    assert uncommented(text, "csp_id").platform.snp.csp_id == ("CN=cc-us-east-2.amazonaws.com",)


def test_a_number_that_python_does_not_spell_is_an_error(guest: SnpRun) -> None:
    extensions = simulated_snp_authority.make_extensions(csp_id="x")
    extensions[vcek.STRUCT_VERSION] = der.write_integer(1 << 16_000)
    leaf = simulated_snp_authority.make_leaf(
        "SEV-VLEK",
        snp_world.authority().vcek_key.public_key(),
        snp_world.asvk(),
        snp_world.START,
        extensions,
    ).public_bytes(Encoding.DER)
    with pytest.raises(EncodingError, match="expected a DER integer of at most 64 bytes, got 2001"):
        template(guest, guest.endorsed(guest.by_provider(), snp_world.endorsements([leaf])))
