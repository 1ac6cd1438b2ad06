"""A simulated GPU through the production verifier, bent in one place at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import gpu_world
import pytest

from palm_torch.cvm import (
    certificates,
    gpu,
    gpu_measurements,
    gpu_opaque,
    gpu_revocation,
    gpu_rules,
    rim,
    simulated_gpu,
    simulated_gpu_authority,
)
from palm_torch.errors import (
    BindingError,
    EncodingError,
    EvidenceError,
    InputError,
    PlatformError,
    SignatureError,
    TrustAnchorError,
)

ID = "NV_GPU_VBIOS_SIM0_0200_882_96009F0001"
OTHER_BOARD = "NV_GPU_VBIOS_1010_0200_882_96009F0001"


def test_the_whole_way() -> None:
    crls = gpu_world.crls()
    found = gpu_world.verify(
        rims=[gpu_world.manifest("driver"), gpu_world.manifest("vbios", name=ID)],
        revocation=gpu_revocation.RevocationFiles(crls=crls),
    )
    assert found.state == "GH100, driver 550.90.07, VBIOS 96.00.9F.00.01, spt"
    assert (found.caveats, found.simulated, found.fwid_checked) == ((), True, True)
    assert (found.architecture, found.mode) == ("HOPPER", "spt")
    assert found.claims.vbios_rim_id == ID
    assert found.revocation.complete
    assert found.revocation.issued == gpu_world.NOW - timedelta(hours=1)
    gpu_rules.appraise(
        [found],
        gpu_world.rules(chip_ids=(found.chip_id,), require_revocation=True, max_revocation_age_days=1),
        now=gpu_world.NOW,
    )


@pytest.mark.parametrize("architecture", ["HOPPER", "BLACKWELL"])
def test_both_generations(architecture: Any) -> None:
    chip = gpu_world.authority(architecture).chips[0]
    found = gpu_world.verify(gpu_world.evidence(chip=chip), chip.chain)
    assert found.architecture == architecture
    assert len(found.caveats) == 2


def test_manifests_are_chosen_out_of_several() -> None:
    driver, vbios = gpu_world.manifests()
    others = [gpu_world.manifest("driver", version="550.90.08"), gpu_world.manifest(product="GB100")]
    found = gpu_world.verify(rims=[*others, vbios, driver, driver])
    assert found.rims == gpu_measurements.Rims(driver, vbios)
    assert found.caveats[0] == "the VBIOS's reference measurements do not say for which board they are"


def test_two_manifests_for_one_version() -> None:
    other = gpu_world.manifest(golden={13: (bytes(48),)})
    with pytest.raises(
        PlatformError,
        match=r"one manifest for driver GH100 550.90.07, NV_GPU_DRIVER_.*, got 2; at hand: driver",
    ):
        gpu_world.verify(rims=[*gpu_world.manifests(), other])


def test_no_manifest_at_all() -> None:
    with pytest.raises(PlatformError, match=r"got 0; at hand: none"):
        gpu_world.verify(rims=[])


def test_manifest_of_another_board() -> None:
    driver, other = gpu_world.manifest("driver"), gpu_world.manifest("vbios", name=OTHER_BOARD)
    with pytest.raises(PlatformError, match=f"expected {ID}, got {OTHER_BOARD}: the manifest is of another"):
        gpu_world.verify(rims=gpu_measurements.Rims(driver, other))
    with pytest.raises(
        PlatformError,
        match=rf"expected one manifest for vbios GH100 96\.00\.9F\.00\.01, {ID}, got 0; "
        rf"at hand: driver GH100 550\.90\.07, vbios GH100 96\.00\.9F\.00\.01 under the name {OTHER_BOARD}$",
    ):
        gpu_world.verify(rims=[driver, other])


def test_manifests_of_one_version_are_chosen_by_their_boards() -> None:
    driver, mine = gpu_world.manifest("driver"), gpu_world.manifest("vbios", name=ID)
    other = gpu_world.manifest("vbios", golden={0: (bytes(48),)}, name=OTHER_BOARD)
    unnamed = gpu_world.manifest("vbios", golden={1: (bytes(48),)})
    for rims in ([driver, mine, other], [other, driver, mine], [unnamed, other, mine, driver]):
        found = gpu_world.verify(rims=rims)
        assert found.rims == gpu_measurements.Rims(driver, mine)
        assert not any("board" in caveat for caveat in found.caveats)
    for rims in ([driver, other, unnamed], [driver, unnamed]):  # the one without a name may be of this board
        with pytest.raises(PlatformError, match="GPU measurement 1: expected "):
            gpu_world.verify(rims=rims)
    with pytest.raises(PlatformError, match="got 2; at hand"):
        gpu_world.verify(rims=[driver, unnamed, gpu_world.manifest("vbios")])
    with pytest.raises(PlatformError, match="got 2; at hand"):
        gpu_world.verify(rims=[driver, mine, gpu_world.manifest("vbios", golden={1: (bytes(48),)}, name=ID)])


def test_who_names_the_board_is_said() -> None:
    driver = gpu_world.manifest("driver")
    vbios = gpu_world.manifest("vbios", name=rim.RimName(ID, "evidence"))
    found = gpu_world.verify(rims=[driver, vbios])
    assert found.caveats[0] == (
        "for which board the VBIOS's reference measurements are: the evidence alone says it"
    )


@pytest.mark.parametrize(
    "changes",
    [{"product": "GB100"}, {"version": "550.90.08"}, {"version": gpu_world.VBIOS}],
    ids=["chip", "version", "kind"],
)
def test_manifests_that_are_not_for_this_gpu(changes: dict[str, str]) -> None:
    rims = gpu_measurements.Rims(gpu_world.manifest(**changes), gpu_world.manifests()[1])
    with pytest.raises(PlatformError, match=r"expected driver GH100 550\.90\.07, got a manifest of"):
        gpu_world.verify(rims=rims)


def test_measurement_that_both_manifests_describe() -> None:
    driver = gpu_world.manifest(golden=simulated_gpu.golden((12, 13)))
    with pytest.raises(PlatformError, match=r"GPU measurement 12: the manifests .* both describe it"):
        gpu_world.verify(rims=gpu_measurements.Rims(driver, gpu_world.manifests()[1]))


def test_comparing() -> None:
    values = (b"a", b"b")
    assert gpu_measurements.compare(values, {0: (b"x", b"a"), 1: (b"b",)}, nvdec0_on=None) == 2
    with pytest.raises(PlatformError, match="GPU measurement 2: expected it in the report, which has 2"):
        gpu_measurements.compare(values, {2: (b"a",)}, nvdec0_on=None)
    with pytest.raises(PlatformError, match="GPU measurement 1: expected 61 or 63, got 62"):
        gpu_measurements.compare(values, {1: (b"a", b"c")}, nvdec0_on=None)
    for golden in ({}, {gpu_measurements.NVDEC0_INDEX: (b"a",)}):
        with pytest.raises(PlatformError, match="leave nothing to compare"):
            gpu_measurements.compare(values, golden, nvdec0_on=False)


def test_nobody_else_makes_a_verified_gpu() -> None:
    found = gpu_world.verify()
    parts = (found.report, found.claims, found.device, found.anchor, None, found.revocation)
    with pytest.raises(TypeError, match="made by verify_gpu alone"):
        gpu.VerifiedGpu(*parts, token=object())


def test_a_nonce_of_another_length() -> None:
    with pytest.raises(InputError, match="GPU nonce: expected 32 bytes, got 31"):
        gpu_world.verify(nonce=bytes(31))


def test_another_nonce() -> None:
    with pytest.raises(BindingError, match=r"answers another nonce: expected 0{64}, got 000102"):
        gpu_world.verify(nonce=bytes(32))


@pytest.mark.parametrize("count", [1, 31, 63, 65])
def test_another_number_of_measurements(count: int) -> None:
    raw = gpu_world.evidence(measurements=(bytes(48),) * count)
    with pytest.raises(PlatformError, match=f"expected 64 measurements of a GH100, got {count}"):
        gpu_world.verify(raw)


def test_a_key_that_is_not_in_the_certificate() -> None:
    with pytest.raises(SignatureError, match="signature does not verify"):
        gpu_world.verify(gpu_world.evidence(chip=gpu_world.authority().chips[1]))


@pytest.mark.parametrize("key", [bytes(96), b"\xff" * 96])
def test_numbers_that_are_no_signature(key: bytes) -> None:
    with pytest.raises(SignatureError, match="signature does not verify"):
        gpu_world.verify(gpu_world.evidence()[:-96] + key)


def test_after_the_certificates() -> None:
    with pytest.raises(TrustAnchorError, match=r"expected .* time"):
        gpu_world.verify(now=gpu_world.NOW + timedelta(days=365 * 31))


def test_a_simulated_manifest_makes_a_real_gpu_simulated() -> None:
    root = gpu_world.authority().root.der
    real = certificates.TrustAnchor.from_certificate(root, name="x")
    object.__setattr__(real, "simulated", False)
    assert not gpu_world.verify(anchors=[real]).simulated
    assert gpu_world.verify(anchors=[real], rims=gpu_world.manifests()).simulated


@pytest.mark.parametrize(
    ("opaque", "message"),
    [
        ({gpu_opaque.DRIVER_VERSION: None}, "driver version .opaque field 3. is missing"),
        ({gpu_opaque.DRIVER_VERSION: b"550.90.07"}, "driver version: expected text that ends in NULs"),
        ({gpu_opaque.DRIVER_VERSION: b"\0"}, "driver version: expected text that ends in NULs"),
        ({gpu_opaque.DRIVER_VERSION: b"550.90.07\0\n"}, "driver version: expected text that ends in NULs"),
        ({gpu_opaque.DRIVER_VERSION: b"r550\0"}, "driver version: expected numbers and dots"),
        ({gpu_opaque.VBIOS_VERSION: bytes(7)}, "VBIOS version: expected 8 bytes, got 7"),
        ({gpu_opaque.VBIOS_VERSION: b"12345\0\0\1"}, "VBIOS version: expected zeros after 5 bytes"),
        ({gpu_opaque.PROJECT: None}, "project .* is missing"),
        ({gpu_opaque.FWID: bytes(47)}, "firmware digest: expected 48 bytes, got 47"),
        ({gpu_opaque.PROTECTED_PCIE_STATUS: b"\1"}, "protected PCIe status: expected 0x55 or 0xaa, got 0x1"),
        ({gpu_opaque.OPAQUE_DATA_VERSION: b"\1"}, "version of the opaque data: expected 2 bytes, got 1"),
        ({gpu_opaque.FEATURE_FLAG: b"\3\0"}, "feature flag: expected 0, 1 or 2, got 3"),
        ({gpu_opaque.FEATURE_FLAG: None}, "feature flag .* is missing"),
    ],
)
def test_words_in_another_form(opaque: dict[int, bytes | None], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        gpu_world.verify(gpu_world.evidence(opaque))


@pytest.mark.parametrize(
    ("version", "flag", "bus", "mode"),
    [
        (b"\1\0", b"\0\0", None, "spt"),
        (b"\1\0", b"\1\0", 0x55, "mpt"),
        (b"\1\0", b"\2\0", 0xAA, "ppcie"),
        (b"\0\0", b"\2\0", None, "ppcie"),
        (b"\0\0", None, 0x55, "spt"),
        (None, None, 0xAA, "ppcie"),
        (None, None, None, "unstated"),
    ],
)
def test_modes(version: bytes | None, flag: bytes | None, bus: int | None, mode: str) -> None:
    opaque = {
        gpu_opaque.OPAQUE_DATA_VERSION: version,
        gpu_opaque.FEATURE_FLAG: flag,
        gpu_opaque.PROTECTED_PCIE_STATUS: None if bus is None else bytes((bus,)),
    }
    assert gpu_world.verify(gpu_world.evidence(opaque)).mode == mode


def test_unknown_fields_are_kept() -> None:
    found = gpu_world.verify(gpu_world.evidence({4242: b"new"}))
    assert found.report.opaque[4242] == b"new"


def lists(*crls: bytes) -> gpu_revocation.RevocationFiles:
    return gpu_revocation.RevocationFiles(crls=crls)


def test_lists_of_others_say_nothing() -> None:
    crl = simulated_gpu_authority.make_crl(gpu_world.authority("BLACKWELL").family, gpu_world.NOW)
    found = gpu_world.verify(revocation=lists(crl))
    assert found.revocation == gpu_revocation.Checked(
        complete=False, issued=None, answers=frozenset(), lists=frozenset()
    )


def test_one_list_out_of_two() -> None:
    crl = simulated_gpu_authority.make_crl(gpu_world.authority().family, gpu_world.NOW)
    found = gpu_world.verify(revocation=lists(crl))
    assert not found.revocation.complete
    assert found.caveats[-1].startswith("no revocation data for all")


def test_lists_that_are_not_to_be_believed() -> None:
    family, root = gpu_world.authority().family, gpu_world.authority().root
    forged = simulated_gpu_authority.Identity(root.key, family.certificate)
    with pytest.raises(SignatureError, match="revocation list 0: not signed by"):
        gpu_world.verify(revocation=lists(simulated_gpu_authority.make_crl(forged, gpu_world.NOW)))
    old = simulated_gpu_authority.make_crl(family, gpu_world.NOW - timedelta(days=40))
    with pytest.raises(SignatureError, match=r"expected .* time"):
        gpu_world.verify(revocation=lists(old))
    with pytest.raises(EncodingError, match="revocation list 0"):
        gpu_world.verify(revocation=lists(b"\x30\x00"))
    at = old.index(b"\x0c\x18Simulated GH100 Identity")
    with pytest.raises(EncodingError, match="revocation list 0: its issuer cannot be read"):
        gpu_world.verify(revocation=lists(old[:at] + b"\x8c" + old[at + 1 :]))
    with pytest.raises(EvidenceError, match="at most 1048576 bytes"):
        gpu_world.verify(revocation=lists(bytes(1048577)))
    with pytest.raises(EvidenceError, match="expected at most 16 revocation lists, got 17"):
        gpu_world.verify(revocation=lists(*[old] * 17))


def test_a_signer_of_manifests_that_was_revoked() -> None:
    made = gpu_world.rim_authority()
    crl = simulated_gpu_authority.make_crl(made.product, gpu_world.NOW, [made.signer.certificate])
    assert gpu_world.verify(revocation=lists(crl))
    with pytest.raises(SignatureError, match=r"driver RIM, certificate 0: serial number .* has been revoked"):
        gpu_world.verify(rims=gpu_world.manifests(), revocation=lists(crl))


def test_what_a_report_says_can_be_looked_into() -> None:
    chain = gpu_world.authority().chips[0].chain
    device = gpu_world.verify().device
    assert gpu.look_into(gpu_world.evidence(), chain) == {
        "chip": device.chip_id,
        "driver": gpu_world.DRIVER,
        "vbios": gpu_world.VBIOS,
        "mode": "spt",
        "nonce": gpu_world.NONCE.hex(),
    }
    contradictory = gpu_world.evidence({gpu_opaque.PROTECTED_PCIE_STATUS: bytes((gpu_opaque.ON,))})
    with pytest.raises(EvidenceError, match="feature flag says spt"):
        gpu.look_into(contradictory, chain)


def test_lists_about_a_gpu_are_counted() -> None:
    crls = gpu_world.crls()
    found = gpu_world.verify(revocation=lists(*crls), rims=None)
    assert found.revocation.lists == {0, 1}
    assert gpu_world.verify(revocation=lists(*crls[2:])).revocation.lists == set()
