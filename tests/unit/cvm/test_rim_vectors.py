"""NVIDIA's reference measurements of the third-party vectors, and what must become of them, when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from palm_torch.cvm import certificates, rim
from palm_torch.errors import PalmTorchError, SignatureError, TrustAnchorError

Vectors = Callable[[str], bytes]

NVTRUST = "nvidia/nvtrust/"
SDK = "nvidia/attestation-sdk/"
SAMPLES = f"{SDK}sample_rims/"
SECOND = timedelta(seconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def verify(data: bytes, now: datetime) -> rim.VerifiedRim:
    return rim.verify_rim(data, anchors=[certificates.NVIDIA_CORIM_ROOT], now=now)


GENUINE = [
    (
        f"{NVTRUST}1010_0200_882_96005E0001_PROD.swidtag",
        ("vbios", "96.00.5E.00.01", "GH100", "GPU"),
        [*range(7), *range(8, 13)],
        ("2023-06-23T09:30:33", "2024-06-01T00:00:00", "2025-06-22T09:30:33"),
    ),
    (
        f"{NVTRUST}Driver_RIM_test_no_gpu.swidtag",
        ("driver", "545.00", "GH100", "GPU"),
        21,
        ("2023-06-27T06:10:12", "2024-06-01T00:00:00", "2025-06-26T06:10:12"),
    ),
    (
        f"{SDK}NV_GPU_DRIVER_GH100_550.144.03.xml",
        ("driver", "550.144.03", "GH100", "GPU"),
        21,
        ("2024-12-30T16:56:50", "2025-06-01T00:00:00", "2026-12-30T16:56:50"),
    ),
    (
        f"{SAMPLES}NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml",
        ("vbios", "96.00.5E.00.01", "GH100", "GPU"),
        [*range(7), *range(8, 13)],
        ("2023-12-13T23:58:03", "2025-01-01T00:00:00", "2025-12-12T23:58:03"),
    ),
]
REFUSED = [
    (
        f"{SDK}incorrect_cert_chain_driver_rim.xml",
        TrustAnchorError,
        "root certificate .* is not a configured trust anchor",
        ("2025-02-01T04:53:44", "2026-02-01T00:00:00", "2027-02-01T04:53:44"),
    ),
    (
        f"{SAMPLES}NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml",
        SignatureError,
        "expected the digest .* of its signature",
        ("2025-05-24T06:41:05", "2026-01-01T00:00:00", "2027-04-30T23:59:59"),
    ),
    (
        f"{SAMPLES}NV_GPU_DRIVER_GH100_570.124.03_expired.xml",
        SignatureError,
        "expected the digest .* of its signature",
        ("2025-01-01T00:00:00", "2025-01-01T12:00:00", "2025-01-02T00:00:00"),
    ),
    (
        f"{SAMPLES}NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml",
        SignatureError,
        "expected the digest .* of its signature",
        ("2024-05-20T17:59:06", "2025-06-01T00:00:00", "2026-05-20T17:59:06"),
    ),
    (
        f"{SAMPLES}NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml",
        SignatureError,
        "expected the digest .* of its signature",
        ("2023-12-13T23:58:03", "2025-01-01T00:00:00", "2025-12-12T23:58:03"),
    ),
]


@pytest.mark.parametrize(("name", "says", "active", "times"), GENUINE)
def test_accepted_in_its_window(
    vectors: Vectors, name: str, says: tuple[str, ...], active: list[int] | int, times: tuple[str, ...]
) -> None:
    for time in times:
        verified = verify(vectors(name), at(time))
        found = verified.rim
        assert (found.kind, found.version, found.product, found.edition) == says
        assert (sorted(found.golden) if isinstance(active, list) else len(found.golden)) == active
        assert {len(value) for values in found.golden.values() for value in values} == {48}
        assert verified.anchor == certificates.NVIDIA_CORIM_ROOT
        assert not verified.simulated


@pytest.mark.parametrize(("name", "says", "active", "times"), GENUINE)
def test_refused_outside_it(
    vectors: Vectors, name: str, says: tuple[str, ...], active: list[int] | int, times: tuple[str, ...]
) -> None:
    del says, active
    for time in (at(times[0]) - SECOND, at(times[-1]) + SECOND):
        with pytest.raises(TrustAnchorError, match=r"certificate 0: expected .* time"):
            verify(vectors(name), time)


@pytest.mark.parametrize(("name", "error", "message", "times"), REFUSED)
def test_refused_at_any_time(
    vectors: Vectors, name: str, error: type[PalmTorchError], message: str, times: tuple[str, ...]
) -> None:
    for time in (at(times[0]) - SECOND, *map(at, times), at(times[-1]) + SECOND):
        with pytest.raises(error, match=message):
            verify(vectors(name), time)


def test_there_is_a_row_for_every_file(vectors: Vectors) -> None:
    """The number of manifests that the vectors have; each has a row above."""
    names = {name for name, *_ in (*GENUINE, *REFUSED)}
    assert len({vectors(name) for name in names}) == len(names) == 9


def test_the_same_values_have_many_alternatives(vectors: Vectors) -> None:
    found = verify(vectors(GENUINE[0][0]), at("2024-06-01T00:00:00")).golden
    assert [len(found[index]) for index in sorted(found)] == [1] * 11 + [4]
    other = verify(vectors(GENUINE[3][0]), at("2024-06-01T00:00:00")).golden
    assert [index for index in found if found[index] != other[index]]
