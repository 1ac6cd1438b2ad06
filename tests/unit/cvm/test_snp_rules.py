"""Rules for SNP guests: what they refuse, and what they leave open."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import snp_world
from cryptography.hazmat.primitives.asymmetric import ec

from palm_torch import codec
from palm_torch.cvm import simulated_snp, simulated_snp_authority, snp, snp_report, snp_rules
from palm_torch.errors import BindingError, PlatformError, PolicyError

POLICY = simulated_snp.GUEST_POLICY
ONES = "ff" * 32


def verified(**changes: Any) -> snp.VerifiedReport:
    return snp_world.verify(snp_world.report(**changes))


def by_provider(**changes: Any) -> snp.VerifiedReport:
    raw = snp_world.report(flags=snp_world.VLEK_FLAGS, **changes)
    return snp_world.verify(raw, snp_world.endorsements(snp_world.vlek_chain()))


def test_the_guest_that_is_asked_for() -> None:
    snp_rules.appraise(verified(), snp_world.rules())
    snp_rules.appraise(verified(policy=POLICY | 0x1F), snp_world.rules())


def test_unset_means_reject() -> None:
    with pytest.raises(PlatformError, match="measurement: the policy names no accepted value"):
        snp_rules.appraise(verified(), snp_rules.SnpRules())
    with pytest.raises(PlatformError, match="names no min_tcb"):
        snp_rules.appraise(verified(), snp_world.rules(min_tcb=None))


REFUSED = {
    "version": ({}, {"versions": (2, 5)}, "report version: expected 2 or 5, got 3"),
    "signing key": ({}, {"signing_keys": ("vlek",)}, "signing key: expected vlek, got vcek"),
    "no list": ({}, {"require_revocation_list": True}, "AMD revocation list"),
    "debug": ({"policy": POLICY | 1 << 19}, {}, "debugging is allowed"),
    "migration": ({"policy": POLICY | 1 << 18}, {}, "a migration agent is allowed"),
    "agent": ({"report_id_ma": bytes(32)}, {}, "report_id_ma: expected no migration agent"),
    "reserved zero": ({"policy": 1 << 16}, {}, "expected bit 17 to be set"),
    "unknown bit": ({"policy": POLICY | 1 << 63}, {}, "bit 63 is set and not allowed"),
    "SMT": ({}, {"allow_smt": False}, "bit 16 is set and not allowed"),
    "CXL": ({"policy": POLICY | 1 << 21}, {}, "bit 21 is set and not allowed"),
    "sockets": ({}, {"require_single_socket": True}, "expected bit 20 to be set"),
    "vmpl": ({"vmpl": 1}, {}, "vmpl: expected 0, got 1"),
    "host's own request": ({"vmpl": 0xFFFFFFFF}, {"vmpl": (0, 1, 2, 3)}, "vmpl: expected 0 or 1"),
    "measurement": ({"measurement": bytes(48)}, {}, "measurement: expected [0-9a-f]{96}, got 0{96}$"),
    "aliases": ({"platform_info": 1}, {"require_alias_check": True}, "memory aliases"),
    "host data": ({"host_data": b"\xff" * 32}, {}, f"host_data: expected {'00' * 32}, got {ONES}"),
    "id key": ({}, {"id_key_digest": ("ab" * 48,)}, "id_key_digest: expected"),
    "author key": ({}, {"author_key_digest": ("ab" * 48,)}, "author_key_digest: expected"),
    "family": ({}, {"family_id": ("ab" * 16,)}, "family_id: expected"),
    "image": ({}, {"image_id": ("ab" * 16,)}, "image_id: expected"),
    "chip": ({}, {"chip_id": ("ab" * 64,)}, "chip_id: expected"),
    "no chip": ({}, {"chip_id": ()}, "chip_id: the policy names no accepted value"),
}


@pytest.mark.parametrize(("changes", "rules", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(changes: dict[str, Any], rules: dict[str, Any], message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        snp_rules.appraise(verified(**changes), snp_world.rules(**rules))


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"policy": POLICY | 1 << 20}, {"require_single_socket": True}),
        ({"policy": POLICY | 1 << 21}, {"allow_cxl": True}),
        ({"policy": 1 << 17}, {"allow_smt": False}),
        ({"policy": POLICY | 0xF << 22}, {}),
        ({"host_data": b"\xff" * 32}, {"host_data": (ONES,)}),
        ({"vmpl": 2}, {"vmpl": (1, 2)}),
        ({"id_key_digest": b"\xab" * 48}, {}),
        ({}, {"require_alias_check": True}),
        ({}, {"csp_id": ()}),
    ],
)
def test_what_may_be_allowed(changes: dict[str, Any], rules: dict[str, Any]) -> None:
    snp_rules.appraise(verified(**changes), snp_world.rules(**rules))


@pytest.mark.parametrize("field", ["committed_tcb", "current_tcb", "launch_tcb"])
@pytest.mark.parametrize("component", ["boot_loader", "snp", "microcode"])
def test_every_tcb_version_has_a_minimum(field: str, component: str) -> None:
    least = simulated_snp_authority.TCB
    older = dataclasses.replace(least, **{component: getattr(least, component) - 1})
    with pytest.raises(PlatformError, match=f"{field}: expected at least boot loader 3"):
        snp_rules.appraise(verified(**{field: older}), snp_world.rules())
    snp_rules.appraise(verified(**{field: older}), snp_world.rules(min_tcb=older))


def test_the_signed_tcb_version_has_a_minimum() -> None:
    higher = dataclasses.replace(simulated_snp_authority.TCB, tee=1)
    with pytest.raises(PlatformError, match="reported_tcb: expected at least"):
        snp_rules.appraise(verified(), snp_world.rules(min_tcb=higher))


def test_cloud_providers_may_be_restricted() -> None:
    snp_rules.appraise(by_provider(), snp_world.rules())
    snp_rules.appraise(by_provider(), snp_world.rules(csp_id=(snp_world.CSP_ID,)))
    with pytest.raises(PlatformError, match="csp_id: expected CN=other, got CN=cloud"):
        snp_rules.appraise(by_provider(), snp_world.rules(csp_id=("CN=other",)))
    with pytest.raises(PlatformError, match="signing key"):
        snp_rules.appraise(by_provider(), snp_world.rules(signing_keys=("vcek",)))


def test_a_list_at_hand_satisfies_the_rule() -> None:
    checked = snp_world.verify(given=snp_world.endorsements(crl=snp_world.crl()))
    snp_rules.appraise(checked, snp_world.rules(require_revocation_list=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measurement": ("AB" * 48,)}, r"measurement\[0\]"),
        ({"measurement": ("ab" * 47,)}, r"measurement\[0\]: expected 48 bytes"),
        ({"chip_id": ("ab" * 32,)}, r"chip_id\[0\]: expected 64 bytes"),
        ({"host_data": ("",)}, r"host_data\[0\]"),
        ({"vmpl": (4,)}, "vmpl: expected numbers from 0 to 3, got 4"),
        ({"versions": (4,)}, "versions: expected some of 2, 3, 5, got 4"),
        ({"min_tcb": snp_report.TcbVersion(0, 0, 256, 0)}, "min_tcb.snp: expected a number from 0 to 255"),
    ],
)
def test_rules_of_another_form(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        snp_rules.SnpRules(**change)


def test_rules_are_read_from_a_document() -> None:
    document: Any = {
        "measurement": ["ab" * 48],
        "min_tcb": {"boot_loader": 4, "tee": 0, "snp": 24, "microcode": 217},
        "vmpl": [0, 1],
    }
    read = codec.from_json(snp_rules.SnpRules, document, what="rules", error=PolicyError, defaults=True)
    assert read.min_tcb == snp_report.TcbVersion(4, 0, 24, 217)
    assert read.host_data == ("00" * 32,)
    assert codec.from_json(snp_rules.SnpRules, codec.to_json(read), what="x", error=PolicyError) == read
    document["min_tcb"].pop("tee")
    with pytest.raises(PolicyError, match="min_tcb: missing key 'tee'"):
        codec.from_json(snp_rules.SnpRules, document, what="rules", error=PolicyError, defaults=True)


def test_rules_of_a_report_accept_it_and_its_like() -> None:
    changes = {"host_data": b"\x01" * 32, "vmpl": 1, "policy": POLICY | 1 << 21}
    report = verified(**changes)
    rules = snp_rules.rules_of(report.report)
    snp_rules.appraise(report, rules)
    with pytest.raises(PlatformError, match="host_data"):
        snp_rules.appraise(verified(**changes | {"host_data": bytes(32)}), rules)
    with pytest.raises(PlatformError, match="vmpl"):
        snp_rules.appraise(verified(vmpl=0xFFFFFFFF), snp_rules.rules_of(verified(vmpl=0xFFFFFFFF).report))


def test_one_guest_from_beginning_to_end() -> None:
    begin = verified()
    later = dataclasses.replace(simulated_snp_authority.TCB, microcode=200)
    end = verified(
        report_data=bytes(64), current_tcb=later, version=5, launch_mitigations=0, current_mitigations=0
    )
    snp_rules.check_same_guest(begin, end)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guest_svn", 1),
        ("policy", POLICY | 1 << 20),
        ("family_id", b"\x01" * 16),
        ("image_id", b"\x01" * 16),
        ("vmpl", 1),
        ("measurement", bytes(48)),
        ("host_data", b"\x01" * 32),
        ("id_key_digest", b"\x01" * 48),
        ("author_key_digest", b"\x01" * 48),
        ("report_id", bytes(32)),
        ("report_id_ma", bytes(32)),
        ("launch_tcb", snp_report.TcbVersion(3, 0, 9, 115)),
        ("cpuid", bytes(3)),
    ],
)
def test_two_guests(name: str, value: Any) -> None:
    with pytest.raises(BindingError, match=f"{name} differs"):
        snp_rules.check_same_guest(verified(), verified(**{name: value}))


def test_two_kinds_of_keys_and_two_providers() -> None:
    with pytest.raises(BindingError, match="kind of signing key differs: vcek and vlek"):
        snp_rules.check_same_guest(verified(), by_provider())
    asvk, root = snp_world.asvk(), snp_world.authority().ark.der
    chain = [snp_world.leaf(asvk, name="SEV-VLEK", csp_id="CN=other"), asvk.der, root]
    other = snp_world.verify(snp_world.report(flags=4), snp_world.endorsements(chain))
    with pytest.raises(BindingError, match="cloud provider differs"):
        snp_rules.check_same_guest(by_provider(), other)


def test_two_chips() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    chip = b"\x07" * 64
    leaf = snp_world.leaf(key=key.public_key(), hardware_id=chip)
    chain = [leaf, *snp_world.authority().chain[1:]]
    other = snp_world.verify(snp_world.report(key, chip_id=chip), snp_world.endorsements(chain))
    with pytest.raises(BindingError, match="chip_id differs"):
        snp_rules.check_same_guest(verified(), other)
    moved = dataclasses.replace(snp_world.anchor(), name="other")
    elsewhere = snp.verify_report(
        snp_world.report(), snp_world.endorsements(), anchors=[moved], now=snp_world.NOW
    )
    with pytest.raises(BindingError, match="root differs"):
        snp_rules.check_same_guest(verified(), elsewhere)


def test_a_report_of_version_2_names_no_model_of_processor() -> None:
    earlier, model = verified(version=2, cpuid=None), verified()
    snp_rules.check_same_guest(earlier, model)
    snp_rules.check_same_guest(model, earlier)
    with pytest.raises(BindingError, match="cpuid differs"):
        snp_rules.check_same_guest(model, verified(cpuid=bytes((0x19, 0x11, 0))))
