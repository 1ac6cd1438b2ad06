"""Real reports of GPUs with their certificates, and what must become of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import datetime

import gpu_flips
import gpu_world
import pytest

from palm_torch.cvm import certificate_bytes, certificates, gpu, gpu_certificate, gpu_rules, spdm
from palm_torch.errors import (
    EvidenceError,
    FreshnessError,
    PalmTorchError,
    PlatformError,
    RejectedError,
    SignatureError,
    TrustAnchorError,
)

Vectors = Callable[[str], bytes]

EXPECTED = {
    "550": (4117, "GH100, driver 550.90.07, VBIOS 96.00.9F.00.01, spt", "48B02D92494BADF4", "1010_0200_882"),
    "535": (
        4052,
        "GH100, driver 535.86.09, VBIOS 96.00.5E.00.01, unstated",
        "48B02D7A7CD27FC3",
        "1010_0200_882",
    ),
    "570": (
        4118,
        "GH100, driver 570.124.03, VBIOS 96.00.5E.00.04, spt",
        "48B02D51C9C1070B",
        "1010_0205_862",
    ),
    "590": (4274, "GH100, driver 590.12, VBIOS 96.00.A5.00.01, ppcie", "48B02DF44660DA06", "G520_0200_885"),
    "blackwell": (
        4121,
        "GB100, driver 575.32, VBIOS 97.00.88.00.0F, unstated",
        "48B02DD4C0CB1539",
        "G525_0220_886",
    ),
}
FIRST = {"blackwell": "2023-06-20T00:00:00Z"}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("name", "anchor"),
    [
        ("verifier_device_root.pem", certificates.NVIDIA_DEVICE_ROOT),
        ("verifier_RIM_root.pem", certificates.NVIDIA_CORIM_ROOT),
    ],
)
def test_the_pinned_roots_are_nvidias(vectors: Vectors, name: str, anchor: certificates.TrustAnchor) -> None:
    pem = vectors(f"nvidia/nvtrust/{name}").replace(b"\r\n", b"\n")
    start = pem.index(b"-----BEGIN")
    (root,) = certificate_bytes.decode_pem(pem[start:].rstrip(b"\n") + b"\n", what=name, count=1)
    pinned = certificates.TrustAnchor.from_certificate(root, name=anchor.name, simulated=False)
    assert pinned == anchor


@pytest.mark.parametrize("name", gpu_flips.NAMES)
def test_reports_are_written_as_they_are_read(vectors: Vectors, name: str) -> None:
    raw = gpu_flips.real(vectors, name).evidence
    report = spdm.parse_report(raw)
    assert spdm.encode_report(report) == raw
    assert len(report.measurements) == (31 if name == "switch" else 64)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("now", ["first", "2026-11-21T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_genuine(vectors: Vectors, name: str, now: str) -> None:
    sample = gpu_flips.real(vectors, name)
    moment = at(FIRST.get(name, "2022-03-01T00:00:00Z") if now == "first" else now)
    found = gpu_flips.verify(sample, now=moment)
    size, state, chip, board = EXPECTED[name]
    assert (len(sample.evidence), found.state) == (size, state)
    assert found.chip_id == f"NVIDIA:{found.device.chip}:{chip}"
    version = found.vbios_version.replace(".", "")
    assert found.claims.vbios_rim_id == f"NV_GPU_VBIOS_{board}_{version}"
    assert found.architecture == ("BLACKWELL" if name == "blackwell" else "HOPPER")
    assert found.fwid_checked is (name != "535")
    assert found.claims.fwid in (None, found.device.fwid)
    assert found.claims.nvdec0_on is False
    assert not found.simulated
    assert found.caveats[0].startswith("no reference measurements")
    assert len(found.caveats) == (3 if name == "535" else 2)


def test_the_serial_number_is_the_one_in_nvidias_own_tokens(vectors: Vectors) -> None:
    found = gpu_flips.verify(gpu_flips.real(vectors, "550"))
    assert f"{found.device.serial:X}" == "53C22BA15E5D68088282DA074ED9FB37AA585771"
    assert str(found.device.serial) in vectors(f"{gpu_flips.SDK}/hopperClaimsv3_decoded.json").decode()


@pytest.mark.parametrize("name", EXPECTED)
def test_before_the_certificates(vectors: Vectors, name: str) -> None:
    before = at("2023-06-19T23:59:59Z" if name == "blackwell" else "2022-02-28T23:59:59Z")
    with pytest.raises(TrustAnchorError, match=r"expected .* time"):
        gpu_flips.verify(gpu_flips.real(vectors, name), now=before)


@pytest.mark.parametrize("name", EXPECTED)
def test_samples_are_no_answer_to_anybody(vectors: Vectors, name: str) -> None:
    sample = gpu_flips.real(vectors, name)
    assert sample.nonce in gpu.PUBLIC_NONCES
    with pytest.raises(FreshnessError, match="that of published samples"):
        gpu_flips.verify(sample, refused_nonces=gpu.PUBLIC_NONCES)


@pytest.mark.parametrize("name", EXPECTED)
def test_without_reference_measurements_nobody_is_satisfied(vectors: Vectors, name: str) -> None:
    found = gpu_flips.verify(gpu_flips.real(vectors, name))
    rules = gpu_world.rules(
        architectures=("HOPPER", "BLACKWELL"),
        min_driver_version="535.0",
        min_vbios_version="96.00.00.00.00",
        modes=("spt", "ppcie", "unstated"),
        require_fwid=False,
    )
    with pytest.raises(PlatformError, match="requires reference measurements"):
        gpu_rules.appraise([found], rules, now=gpu_flips.NOW)


def test_a_protected_bus_is_not_what_single_gpus_are_on(vectors: Vectors) -> None:
    found = gpu_flips.verify(gpu_flips.real(vectors, "590"))
    with pytest.raises(PlatformError, match="GPU 0: mode: expected spt, got ppcie"):
        gpu_rules.appraise([found], gpu_world.rules(require_rims=False), now=gpu_flips.NOW)


def test_old_drivers_do_not_name_the_firmware(vectors: Vectors) -> None:
    found = gpu_flips.verify(gpu_flips.real(vectors, "535"))
    rules = gpu_world.rules(
        min_driver_version="535.86.09", min_vbios_version="96.00.5E.00.01", require_rims=False
    )
    with pytest.raises(PlatformError, match=r"the driver, 535\.86\.09, is too old"):
        gpu_rules.appraise([found], rules, now=gpu_flips.NOW)


def test_blackwell_where_only_hopper_is_accepted(vectors: Vectors) -> None:
    found = gpu_flips.verify(gpu_flips.real(vectors, "blackwell"))
    with pytest.raises(PlatformError, match="architecture: expected HOPPER, got BLACKWELL"):
        gpu_rules.appraise([found], gpu_world.rules(), now=gpu_flips.NOW)


def test_a_switch_is_no_gpu(vectors: Vectors) -> None:
    sample = gpu_flips.real(vectors, "switch")
    assert len(sample.evidence) == 2168
    with pytest.raises(PlatformError, match="got a device of the kind LS_10"):
        gpu_flips.verify(sample)


@pytest.mark.parametrize("name", [name for name in gpu_flips.NAMES if name != "switch"])
def test_a_report_whose_own_chain_is_unknown(vectors: Vectors, name: str) -> None:
    raw = gpu_flips.real(vectors, "560").evidence
    sample = gpu_flips.Sample(raw, gpu_flips.real(vectors, name).chain)
    with pytest.raises(RejectedError):
        gpu_flips.verify(sample)


@pytest.mark.parametrize(("report", "chain"), list(itertools.permutations(gpu_flips.HOPPER, 2)))
def test_the_chain_of_another_gpu(vectors: Vectors, report: str, chain: str) -> None:
    sample = gpu_flips.Sample(gpu_flips.real(vectors, report).evidence, gpu_flips.real(vectors, chain).chain)
    with pytest.raises(SignatureError, match="signature does not verify"):
        gpu_flips.verify(sample)


@pytest.mark.parametrize("part", ["evidence", "chain"])
def test_flipped_bits_are_refused(vectors: Vectors, part: str) -> None:
    sample = gpu_flips.real(vectors, "550")
    gpu_flips.verify(sample)
    bits = random.Random(part).sample(range(8 * len(getattr(sample, part))), 400)
    assert [bit for bit in bits if gpu_flips.flip(sample, part, bit) is None] == []


def test_no_prefix_of_a_report_is_one(vectors: Vectors) -> None:
    raw = gpu_flips.real(vectors, "550").evidence
    for size in range(0, len(raw), 7):
        with pytest.raises(EvidenceError):
            spdm.parse_report(raw[:size])


def test_no_prefix_of_a_chain_is_one(vectors: Vectors) -> None:
    chain = gpu_flips.real(vectors, "550").chain
    for size in range(0, len(chain), 7):
        with pytest.raises(PalmTorchError):
            gpu_certificate.split_chain(chain[:size])
