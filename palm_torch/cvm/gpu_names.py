"""Names that NVIDIA gives: generations of GPUs, chips, modes, and those that manifests are kept under.

Policies name these before there is evidence of any GPU, so nothing here loads what reads such evidence.
"""

from __future__ import annotations

import re
from typing import Final, Literal, get_args

Architecture = Literal["HOPPER", "BLACKWELL"]
ARCHITECTURES: Final[tuple[Architecture, ...]] = get_args(Architecture)
CHIPS: Final[dict[str, Architecture]] = {"GH100": "HOPPER", "GB100": "BLACKWELL"}
"""Name of a chip, as certificates and reference measurements spell it → its architecture."""

Mode = Literal["spt", "mpt", "ppcie", "unstated"]
"""How GPUs work together: each for itself, several under encryption of their links, several on a protected
PCIe bus; or the report, of an older driver, does not say."""

MODES: Final[tuple[Mode, ...]] = get_args(Mode)

RimKind = Literal["driver", "vbios"]
"""What a reference manifest is of: a driver, or the firmware image of a board."""

_DRIVER_RIMS: Final[dict[Architecture, str]] = {
    "HOPPER": "NV_GPU_DRIVER",
    "BLACKWELL": "NV_GPU_CC_DRIVER",
}
"""How the names of the manifests of a generation's drivers begin."""

_VBIOS_RIMS: Final = "NV_GPU_VBIOS"
_RIM_ID: Final = re.compile(
    rf"({'|'.join(_DRIVER_RIMS.values())})_[A-Z0-9]{{1,16}}_[0-9]{{1,5}}(\.[0-9]{{1,5}}){{1,3}}"
    rf"|{_VBIOS_RIMS}(_[0-9A-Za-z.-]{{1,64}}){{3}}_[0-9A-F]{{10}}",
    re.ASCII,
)


def driver_rim_id(chip: str, version: str) -> str:
    """Returns the name under which NVIDIA keeps the manifest of a driver.

    Args:
        chip: One of `CHIPS`.
        version: The driver's, "550.90.07".
    """
    return f"{_DRIVER_RIMS[CHIPS[chip]]}_{chip}_{version}"


def vbios_rim_id(*, project: str, project_sku: str, chip_sku: str, version: str) -> str:
    """Returns the name under which NVIDIA keeps the manifest of a firmware image on a board.

    Args:
        project: With the next two, which board it is, "1010".
        project_sku: "0200".
        chip_sku: "882".
        version: The image's, "96.00.9F.00.01".
    """
    return f"{_VBIOS_RIMS}_{project}_{project_sku}_{chip_sku}_{version.replace('.', '')}"


def is_rim_id(text: str) -> bool:
    """Returns whether a text has the form of a name under which NVIDIA keeps a manifest of GPUs."""
    return _RIM_ID.fullmatch(text) is not None


def rim_id_fits(rim_id: str, *, kind: RimKind, chip: str, version: str) -> bool:
    """Returns whether a name can be that of a manifest.

    A driver's name says all that the manifest says. Which board a firmware image is for stands in its name
    alone, and can be compared with nothing here.

    Args:
        rim_id: The name.
        kind: What the manifest is of.
        chip: The chip that it is for, be it one of `CHIPS` or not.
        version: Its version.
    """
    if kind == "driver":
        return chip in CHIPS and rim_id == driver_rim_id(chip, version)
    return is_rim_id(rim_id) and rim_id.startswith(_VBIOS_RIMS) and rim_id.endswith(version.replace(".", ""))
