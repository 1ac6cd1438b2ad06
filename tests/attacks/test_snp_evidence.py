"""Evidence of AMD SEV-SNP that must not be believed: of another chip, another key, an old key, a debugger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import snp_flips
import snp_world

from palm_torch.cvm import simulated_snp, snp_endorsements, snp_report
from palm_torch.cvm import snp_rules as rules
from palm_torch.errors import PlatformError, SignatureError, TrustAnchorError

if TYPE_CHECKING:
    from collections.abc import Callable

    Vectors = Callable[[str], bytes]

AFTER_VLEK = datetime(2025, 12, 10, 22, 14, 22, tzinfo=UTC)


@pytest.mark.parametrize("name", ["test-vcek-invalid-legacy.der", "test-vcek-invalid-new.der"])
def test_attack_51_certificate_not_issued_by_amd(vectors: Vectors, name: str) -> None:
    raw, (_, *above) = snp_flips.real(vectors, "vcek")
    with pytest.raises(SignatureError, match="certificate 0: not signed by the next certificate"):
        snp_flips.verify(raw, (vectors(f"snp/trustee/{name}"), *above))


@pytest.mark.parametrize(("report", "key"), [("vcek", "vlek"), ("vlek", "vcek")])
def test_attack_52_one_kind_of_key_for_the_other(vectors: Vectors, report: str, key: str) -> None:
    raw, _ = snp_flips.real(vectors, report)
    _, chain = snp_flips.real(vectors, key)
    with pytest.raises(SignatureError, match=f"signed by a {report.upper()}: expected the names"):
        snp_flips.verify(raw, chain)


def test_attack_52_a_providers_key_that_poses_as_a_chips() -> None:
    """The provider holds the VLEK's private key in no way, but say it did: its certificate still names it."""
    chain = snp_endorsements.make_endorsements(snp_world.vlek_chain())
    with pytest.raises(SignatureError, match="signed by a VCEK: expected the names"):
        snp_world.verify(snp_world.report(flags=0), chain)


def test_attack_53_expired_key_of_a_cloud_provider(vectors: Vectors) -> None:
    raw, chain = snp_flips.real(vectors, "vlek")
    assert snp_flips.verify(raw, chain)
    with pytest.raises(TrustAnchorError, match=r"certificate 0: expected .* time"):
        snp_flips.verify(raw, chain, now=AFTER_VLEK)


@pytest.mark.parametrize("at", [0x38, 0x50, 0x8F, 0x90, 0x180, 0x187, 0x1A0, 0x1DF, 0x1F0])
def test_attack_54_edited_report(vectors: Vectors, at: int) -> None:
    raw, chain = snp_flips.real(vectors, "vcek")
    edited = bytearray(raw)
    edited[at] ^= 1
    with pytest.raises(SignatureError, match="signature does not verify"):
        snp_flips.verify(bytes(edited), chain)


@pytest.mark.parametrize("name", ["test-vcek-invalid-legacy.der", "test-vcek-invalid-new.der"])
def test_attack_54_certificate_of_another_chip(vectors: Vectors, name: str) -> None:
    raw, (_, *above) = snp_flips.real(vectors, "vcek")
    with pytest.raises(SignatureError):
        snp_flips.verify(raw, (vectors(f"snp/trustee/{name}"), *above))


@pytest.mark.parametrize(
    "change",
    [{"hardware_id": b"\x01" * 64}, {"tcb": snp_report.TcbVersion(4, 0, 8, 115)}],
    ids=["chip", "tcb"],
)
def test_attack_54_a_genuine_certificate_of_another_chip_or_firmware(change: dict[str, Any]) -> None:
    chain = [
        snp_world.leaf(**{"hardware_id": snp_world.chip_id()} | change),
        *snp_world.authority().chain[1:],
    ]
    with pytest.raises(PlatformError, match="of the VCEK certificate"):
        snp_world.verify(given=snp_world.endorsements(chain))


@pytest.mark.parametrize(
    ("bit", "message"),
    [(rules.DEBUG_BIT, "debugging is allowed"), (rules.MIGRATION_AGENT_BIT, "a migration agent is allowed")],
)
def test_attack_55_guest_that_its_host_may_debug_or_move(bit: int, message: str) -> None:
    verified = snp_world.verify(snp_world.report(policy=simulated_snp.GUEST_POLICY | 1 << bit))
    with pytest.raises(PlatformError, match=message):
        rules.appraise(verified, snp_world.rules(allow_cxl=True))
