"""Evidence of GPUs that must not be believed: edited, replayed, of another chip, other firmware, a switch."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import gpu_flips
import gpu_world
import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from gpu_flips import Sample
from workshop import put

from palm_torch.cvm import (
    certificate_bytes,
    certificates,
    gpu,
    gpu_measurements,
    gpu_opaque,
    gpu_revocation,
    gpu_rules,
    simulated_gpu,
    simulated_gpu_authority,
    simulated_ocsp,
    spdm,
)
from palm_torch.errors import (
    BindingError,
    EncodingError,
    EvidenceError,
    FreshnessError,
    PlatformError,
    SignatureError,
    TrustAnchorError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from composite_run import CompositeRun

    Vectors = Callable[[str], bytes]

GENUINE = (*gpu_flips.HOPPER, "blackwell")
SIZES = {"550": 4117, "535": 4052, "570": 4118, "590": 4274, "blackwell": 4121}


@pytest.mark.parametrize("name", GENUINE)
def test_attack_20_flipped_bits(vectors: Vectors, name: str) -> None:
    sample = gpu_flips.real(vectors, name)
    gpu_flips.verify(sample)
    for bit in random.Random(name).sample(range(8 * SIZES[name]), 60):
        assert gpu_flips.flip(sample, "evidence", bit), f"bit {bit % 8} of byte {bit // 8}"


@pytest.mark.parametrize("name", GENUINE)
def test_attack_21_report_for_another_nonce(vectors: Vectors, name: str) -> None:
    with pytest.raises(BindingError, match="answers another nonce"):
        gpu_flips.verify(gpu_flips.real(vectors, name), nonce=bytes(32))


@pytest.mark.parametrize("name", GENUINE)
def test_attack_21_report_from_the_samples(vectors: Vectors, name: str) -> None:
    """Whoever can have the verifier ask with such a nonce can answer without a GPU."""
    sample = gpu_flips.real(vectors, name)
    with pytest.raises(FreshnessError, match="anybody has one"):
        gpu_flips.verify(sample, nonce=sample.nonce, refused_nonces=gpu.PUBLIC_NONCES)


@pytest.mark.parametrize("nonce", sorted(gpu.PUBLIC_NONCES))
def test_attack_21_public_nonce_on_a_fresh_report(nonce: bytes) -> None:
    with pytest.raises(FreshnessError, match="anybody has one"):
        gpu_world.verify(gpu_world.evidence(nonce=nonce), nonce=nonce)


@pytest.mark.parametrize(("report", "chain"), list(itertools.permutations(gpu_flips.HOPPER, 2)))
def test_attack_22_chain_of_another_gpu(vectors: Vectors, report: str, chain: str) -> None:
    evidence = gpu_flips.real(vectors, report).evidence
    with pytest.raises(SignatureError, match="GPU report: signature does not verify"):
        gpu_flips.verify(Sample(evidence, gpu_flips.real(vectors, chain).chain))


def test_attack_23_root_that_the_gpu_brought_along(vectors: Vectors) -> None:
    """The evidence has a root of its own, well signed down to the leaf: nobody asked for it."""
    with pytest.raises(TrustAnchorError, match="is not a configured trust anchor"):
        gpu_world.verify(anchors=[certificates.NVIDIA_DEVICE_ROOT])
    sample = gpu_flips.real(vectors, "550")
    swapped = b"".join((*sample.certificates[:4], gpu_world.authority().root.der))
    with pytest.raises(TrustAnchorError, match="is not a configured trust anchor"):
        gpu_flips.verify(Sample(sample.evidence, swapped))


def test_attack_23_root_of_the_same_name_and_another_key(vectors: Vectors) -> None:
    sample = gpu_flips.real(vectors, "550")
    family = simulated_gpu_authority.make_issuer("NVIDIA Device Identity CA", None, gpu_world.START)
    with pytest.raises(TrustAnchorError, match="is not a configured trust anchor"):
        gpu_flips.verify(Sample(sample.evidence, b"".join((*sample.certificates[:4], family.der))))


@pytest.mark.parametrize(
    "positions", [(0, 1, 2, 3), (0, 1, 2, 3, 4, 4), (0, 1, 1, 2, 3, 4), ()], ids=lambda found: f"{found}"
)
def test_attack_23_missing_root_or_extra_certificate(vectors: Vectors, positions: tuple[int, ...]) -> None:
    sample = gpu_flips.real(vectors, "550")
    chain = b"".join(sample.certificates[position] for position in positions)
    with pytest.raises(EncodingError, match="expected 5 DER elements"):
        gpu_flips.verify(Sample(sample.evidence, chain))


def test_attack_23_bytes_after_the_chain(vectors: Vectors) -> None:
    sample = gpu_flips.real(vectors, "550")
    with pytest.raises(EncodingError):
        gpu_flips.verify(Sample(sample.evidence, sample.chain + b"\x00"))


def test_attack_23_leaf_that_plays_an_authority(vectors: Vectors) -> None:
    """A chip's own key signs a certificate for somebody else's: it is no CA."""
    sample = gpu_flips.real(vectors, "550")
    leaf, boot_rom, _, family, root = sample.certificates
    for order in ((leaf, leaf, boot_rom, family, root), (leaf, boot_rom, family, family, root)):
        with pytest.raises((TrustAnchorError, SignatureError)):
            gpu_flips.verify(Sample(sample.evidence, b"".join(order)))


def test_attack_23_key_of_a_chip_that_plays_a_boot_rom() -> None:
    """What a chip signs with can sign a certificate for anybody; it is no CA all the same."""
    chip = simulated_gpu_authority.make_chip(gpu_world.above(), gpu_world.START)
    leaf, _, *above = Sample(b"", chip.chain).certificates
    certificate = certificate_bytes.load_certificate(leaf, what="leaf", algorithms=certificate_bytes.NVIDIA)
    key = gpu_world.authority().chips[0].key
    forged = simulated_gpu_authority.make_leaf(
        key,
        simulated_gpu_authority.Identity(chip.key, certificate),
        gpu_world.START,
        common_name="GH100 A01 GSP FMC LF",
        device_name="NVIDIA:GH100:0123456789ABCDEF",
        extensions=simulated_gpu_authority.make_fwid(key),
    )
    with pytest.raises((TrustAnchorError, SignatureError)):
        gpu_world.verify(chain=b"".join((forged, leaf, *above)))


def test_attack_24_report_of_other_firmware_than_the_certificate(vectors: Vectors) -> None:
    evidence = gpu_flips.real(vectors, "560").evidence
    named = gpu_opaque.read_claims(spdm.parse_report(evidence).opaque).fwid
    for name in GENUINE:
        sample = gpu_flips.real(vectors, name)
        assert named != gpu_flips.verify(sample).device.fwid
        with pytest.raises(SignatureError):
            gpu_flips.verify(Sample(evidence, sample.chain))


def test_attack_24_well_signed_report_that_names_other_firmware() -> None:
    with pytest.raises(SignatureError, match=r"firmware digest: expected .* of the certificate"):
        gpu_world.verify(gpu_world.evidence({gpu_opaque.FWID: bytes(48)}))


def test_attack_24_firmware_left_out() -> None:
    found = gpu_world.verify(gpu_world.evidence({gpu_opaque.FWID: None}), rims=gpu_world.manifests())
    assert found.caveats[-1].startswith("the report does not name the firmware")
    with pytest.raises(PlatformError, match="does not name the firmware that holds its key"):
        gpu_rules.appraise([found], gpu_world.rules(), now=gpu_world.NOW)


@pytest.mark.parametrize(
    ("opaque", "message"),
    [
        ({gpu_opaque.DRIVER_VERSION: b"550.90.08\0"}, "NV_GPU_DRIVER_GH100_550.90.08, got 0"),
        (
            {gpu_opaque.VBIOS_VERSION: gpu_opaque.encode_vbios_version("96.00.9F.00.02")},
            "NV_GPU_VBIOS_SIM0_0200_882_96009F0002, got 0",
        ),
    ],
)
def test_attack_25_manifests_of_other_versions(opaque: dict[int, bytes], message: str) -> None:
    raw = gpu_world.evidence(opaque)
    with pytest.raises(PlatformError, match=message):
        gpu_world.verify(raw, rims=gpu_world.manifests())
    with pytest.raises(PlatformError, match="got a manifest of"):
        gpu_world.verify(raw, rims=gpu_measurements.Rims(*gpu_world.manifests()))


def test_attack_25_manifest_of_another_board(composite: CompositeRun) -> None:
    """A genuine manifest of the same version for another board: its name tells them apart."""
    came = composite.bundle.gpu_endorsements
    assert came is not None
    driver, vbios = came.rims
    other = put(vbios, "id", "NV_GPU_VBIOS_1010_0200_882_96009F0001")
    files = put(came, "rims", (driver, other))
    for bundle, options in (
        (None, {"gpu_files": files}),
        (put(composite.bundle, "gpu_endorsements", files), {}),
    ):
        with pytest.raises(PlatformError, match=f"GPU 0: .* {vbios.id}, got 0; at hand: .* name {other.id}"):
            composite.verify(bundle, **options)
    said = composite.verify().not_checked  # whoever sends a manifest can write any name on it
    assert "for which board the VBIOS's reference measurements are: the evidence alone says it" in said


@pytest.mark.parametrize("index", [0, 13, 29])
def test_attack_25_measurement_that_no_manifest_describes(index: int) -> None:
    measured = list(simulated_gpu.MEASUREMENTS)
    measured[index] = bytes(48)
    raw = gpu_world.evidence(measurements=tuple(measured))
    with pytest.raises(PlatformError, match=f"GPU measurement {index}: expected"):
        gpu_world.verify(raw, rims=gpu_world.manifests())


@pytest.mark.parametrize(
    "opaque",
    [{gpu_opaque.NVDEC0_STATUS: bytes((gpu_opaque.ON,))}, {gpu_opaque.NVDEC0_STATUS: None}],
    ids=["on", "unstated"],
)
def test_attack_29_video_decoder_that_is_not_off(opaque: dict[int, bytes | None]) -> None:
    measured = list(simulated_gpu.MEASUREMENTS)
    measured[gpu_measurements.NVDEC0_INDEX] = bytes(48)
    with pytest.raises(PlatformError, match="GPU measurement 35: expected"):
        gpu_world.verify(gpu_world.evidence(opaque, measurements=tuple(measured)), rims=gpu_world.manifests())
    assert gpu_world.verify(gpu_world.evidence(measurements=tuple(measured)), rims=gpu_world.manifests())


@pytest.mark.parametrize("value", [b"\x00", b"\x54", b"\x56", b"\xab", b"\x55\x55", b""])
def test_attack_29_status_that_is_neither_on_nor_off(value: bytes) -> None:
    with pytest.raises(EvidenceError, match="NVDEC0 status: expected"):
        gpu_world.verify(gpu_world.evidence({gpu_opaque.NVDEC0_STATUS: value}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cc_mode": "off"}, "confidential computing to be on, got off"),
        ({"devtools": True}, "debuggers may look inside"),
        ({"environment": "sim"}, "expected environment prod, got sim"),
        ({"environment": "unavailable"}, "expected environment prod"),
        ({"ready": False}, "does not take work"),
        ({"multi_gpu_mode": "ppcie"}, "multi-GPU mode: expected none, got ppcie"),
        ({"driver": "550.90.06"}, "driver: expected 550.90.07 of the report"),
        ({"vbios": "96.00.00.00.00"}, "VBIOS: expected 96.00.9F.00.01 of the report"),
    ],
)
def test_attack_30_state_in_which_a_gpu_keeps_no_secrets(change: dict[str, Any], message: str) -> None:
    gpus = [gpu_world.verify(rims=gpu_world.manifests())]
    gpu_rules.appraise_states([gpu_world.state()], gpus, gpu_world.rules())
    with pytest.raises(PlatformError, match=message):
        gpu_rules.appraise_states([gpu_world.state(**change)], gpus, gpu_world.rules())


def test_attack_30_protected_bus_where_single_gpus_are_asked_for(vectors: Vectors) -> None:
    found = gpu_flips.verify(gpu_flips.real(vectors, "590"))
    assert found.mode == "ppcie"
    with pytest.raises(PlatformError, match="mode: expected spt, got ppcie"):
        gpu_rules.appraise([found], gpu_world.rules(require_rims=False), now=gpu_flips.NOW)


def test_attack_30_gpus_in_different_modes() -> None:
    other = {gpu_opaque.FEATURE_FLAG: b"\x01\x00"}
    second = gpu_world.authority().chips[1]
    gpus = [
        gpu_world.verify(rims=gpu_world.manifests()),
        gpu_world.verify(gpu_world.evidence(other, chip=second), second.chain, rims=gpu_world.manifests()),
    ]
    with pytest.raises(PlatformError, match="expected one mode, got spt, mpt"):
        gpu_rules.appraise(gpus, gpu_world.rules(count=2, modes=("spt", "mpt")), now=gpu_world.NOW)


@pytest.mark.parametrize(
    ("flag", "bus"), [(0, gpu_opaque.ON), (1, gpu_opaque.ON), (2, gpu_opaque.OFF)], ids=str
)
def test_attack_30_report_that_contradicts_itself(flag: int, bus: int) -> None:
    opaque = {gpu_opaque.FEATURE_FLAG: bytes((flag, 0)), gpu_opaque.PROTECTED_PCIE_STATUS: bytes((bus,))}
    with pytest.raises(PlatformError, match="status of the protected PCIe bus says"):
        gpu_world.verify(gpu_world.evidence(opaque))


@pytest.mark.parametrize("name", ["550", "590", "blackwell"])
def test_attack_31_one_gpu_counted_twice(vectors: Vectors, name: str) -> None:
    found = gpu_flips.verify(gpu_flips.real(vectors, name))
    with pytest.raises(PlatformError, match="one is there twice"):
        gpu_rules.appraise([found, found], gpu_world.rules(count=2), now=gpu_flips.NOW)


def test_attack_31_one_gpu_with_new_firmware_counted_twice() -> None:
    """After an update the leaf is another one; the chip is not."""
    chain = gpu_world.leaf_chain()
    again = gpu_world.leaf_chain()
    gpus = [gpu_world.verify(chain=found, rims=gpu_world.manifests()) for found in (chain, again)]
    assert gpus[0].device.serial != gpus[1].device.serial
    with pytest.raises(PlatformError, match="one is there twice"):
        gpu_rules.appraise(gpus, gpu_world.rules(count=2), now=gpu_world.NOW)


@pytest.mark.parametrize(("count", "there"), [(0, 1), (1, 0), (2, 1), (1, 2)])
def test_attack_31_fewer_or_more_gpus(count: int, there: int) -> None:
    found = gpu_world.verify(rims=gpu_world.manifests())
    with pytest.raises(PlatformError, match=f"GPUs: expected {count}, got {there}"):
        gpu_rules.appraise([found] * there, gpu_world.rules(count=count), now=gpu_world.NOW)


def test_attack_32_switch_as_gpu(vectors: Vectors) -> None:
    with pytest.raises(PlatformError, match="got a device of the kind LS_10"):
        gpu_flips.verify(gpu_flips.real(vectors, "switch"))


def test_attack_32_blackwell_as_hopper(vectors: Vectors) -> None:
    found = gpu_flips.verify(gpu_flips.real(vectors, "blackwell"))
    with pytest.raises(PlatformError, match="architecture: expected HOPPER, got BLACKWELL"):
        gpu_rules.appraise([found], gpu_world.rules(), now=gpu_flips.NOW)


def test_attack_32_switch_whose_leaf_says_that_it_is_a_gpu() -> None:
    """A device whose boot ROM is broken can sign any leaf; what the factory signed still says what it is."""
    chain = gpu_world.leaf_chain(boot_rom="LS_10 A01 FSP BROM")
    with pytest.raises(PlatformError, match="expected the boot ROM of a GH100, got 'LS_10 A01 FSP BROM'"):
        gpu_world.verify(chain=chain)


@pytest.mark.parametrize("position", [2, 3])
def test_attack_33_certificate_on_hold(position: int) -> None:
    _, family, root = issuers = gpu_world.above()
    issuer = (None, None, family, root)[position]
    assert issuer is not None
    crl = simulated_gpu_authority.make_crl(issuer, gpu_world.NOW, [issuers[position - 2].certificate])
    with pytest.raises(SignatureError, match=f"certificate {position}: serial number .* has been revoked"):
        gpu_world.verify(revocation=gpu_revocation.RevocationFiles(crls=(crl,)))


@pytest.mark.parametrize("position", [2, 3])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (ocsp.OCSPCertStatus.REVOKED, None),
        (ocsp.OCSPCertStatus.REVOKED, x509.ReasonFlags.certificate_hold),
        (ocsp.OCSPCertStatus.UNKNOWN, None),
    ],
    ids=["revoked", "hold", "unknown"],
)
def test_attack_33_certificate_that_its_issuer_disowns(position: int, status: Any, reason: Any) -> None:
    _, family, root = issuers = gpu_world.above()
    certificate, issuer = issuers[position - 2].certificate, (family, root)[position - 2]
    good = simulated_ocsp.make_answers(
        [found.certificate for found in issuers[:2]], [family, root], gpu_world.NOW
    )
    files = gpu_revocation.RevocationFiles(ocsp=good)
    assert gpu_world.verify(revocation=files).revocation.complete
    bad = simulated_ocsp.make_answer(certificate, issuer, gpu_world.NOW, status=status, reason=reason)
    with pytest.raises(SignatureError, match=f"GPU certificate chain, certificate {position}"):
        gpu_world.verify(revocation=gpu_revocation.RevocationFiles(ocsp=(bad,)))
