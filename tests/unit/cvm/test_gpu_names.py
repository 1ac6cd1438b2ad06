"""Names of manifests: made, recognised, and compared with what a manifest says."""

from __future__ import annotations

from typing import Any

import pytest

from palm_torch.cvm import gpu_names

BOARD = "NV_GPU_VBIOS_1010_0200_882_96009F0001"


@pytest.mark.parametrize(
    ("chip", "version", "expected"),
    [
        ("GH100", "550.90.07", "NV_GPU_DRIVER_GH100_550.90.07"),
        ("GB100", "575.32", "NV_GPU_CC_DRIVER_GB100_575.32"),
    ],
)
def test_each_generation_names_its_drivers_in_its_own_way(chip: str, version: str, expected: str) -> None:
    assert gpu_names.driver_rim_id(chip, version) == expected
    assert gpu_names.is_rim_id(expected)
    assert gpu_names.rim_id_fits(expected, kind="driver", chip=chip, version=version)


def test_every_chip_has_a_name_for_its_drivers() -> None:
    assert set(gpu_names.CHIPS.values()) == set(gpu_names.ARCHITECTURES)
    names = {gpu_names.driver_rim_id(chip, "1.0") for chip in gpu_names.CHIPS}
    assert len(names) == len(gpu_names.CHIPS)


def test_a_firmware_image_is_named_after_its_board() -> None:
    board = {"project": "1010", "project_sku": "0200", "chip_sku": "882"}
    assert gpu_names.vbios_rim_id(**board, version="96.00.9F.00.01") == BOARD


@pytest.mark.parametrize(
    "text",
    [
        "NV_GPU_DRIVER_GH100_550",
        "NV_GPU_DRIVER_gh100_550.90.07",
        "NV_GPU_DRIVER_GH100_550.90.07.xml",
        "NV_GPU_VBIOS_1010_0200_882_96009f0001",
        "NV_GPU_VBIOS_1010_0200_882_96009F0001_measurement_mismatch",
        "NV_GPU_VBIOS_1010_0200_96009F0001",
        "NV_GPU_VBIOS_10_10_0200_882_96009F0001",
        "NV_GPU_VBIOS_1010_0200_882_96.00.9F.00.01",
        "NV_SWITCH_BIOS_5612_0002_890_9610550001",
        f"{BOARD}\n",
        f" {BOARD}",
        "driver",
        "",
    ],
)
def test_what_is_no_name(text: str) -> None:
    assert not gpu_names.is_rim_id(text)


@pytest.mark.parametrize(
    ("rim_id", "said", "fits"),
    [
        (BOARD, {"kind": "vbios", "version": "96.00.9F.00.01"}, True),
        (BOARD.replace("1010", "SIM0"), {"kind": "vbios", "version": "96.00.9F.00.01"}, True),
        (BOARD, {"kind": "vbios", "version": "96.00.9F.00.02"}, False),
        (BOARD, {"kind": "driver", "version": "96.00"}, False),
        ("NV_GPU_DRIVER_GH100_550.90.07", {"kind": "driver", "version": "550.90.07"}, True),
        ("NV_GPU_DRIVER_GH100_550.90.07", {"kind": "driver", "version": "550.90.08"}, False),
        ("NV_GPU_DRIVER_GH100_550.90.07", {"kind": "driver", "version": "550.90.07", "chip": "GB100"}, False),
        ("NV_GPU_CC_DRIVER_GH100_550.90.07", {"kind": "driver", "version": "550.90.07"}, False),
        ("NV_GPU_DRIVER_GB100_575.32", {"kind": "driver", "version": "575.32", "chip": "GB100"}, False),
        ("NV_GPU_DRIVER_LS10_1.0", {"kind": "driver", "version": "1.0", "chip": "LS10"}, False),
        ("NV_GPU_DRIVER_GH100_96009F0001.1", {"kind": "vbios", "version": "96.00.9F.00.01"}, False),
        ("NV_GPU_VBIOS__9F00", {"kind": "vbios", "version": "9F.00"}, False),
    ],
)
def test_a_name_fits_what_a_manifest_says_or_not(rim_id: str, said: dict[str, Any], *, fits: bool) -> None:
    assert gpu_names.rim_id_fits(rim_id, **{"chip": "GH100", **said}) is fits
