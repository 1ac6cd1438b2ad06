"""Whether a GPU measured what its maker published: which manifests are for it, and whether they agree.

NVIDIA publishes two reference manifests (RIMs) for a GPU: one for the driver, one for the image that its
firmware was started from (VBIOS). Together they say which measurements have which values; all others may
have any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import gpu_names, rim
from palm_torch.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.cvm.gpu_opaque import GpuClaims

NVDEC0_INDEX: Final = 35
"""Measurement of the first video decoder: it has no fixed value while the decoder is off."""


@dataclass(frozen=True, slots=True)
class Rims:
    """The two verified manifests that a GPU is compared with.

    Attributes:
        driver: The driver's.
        vbios: The firmware image's. For which board it is, its `name` says, if it has one.
    """

    driver: rim.VerifiedRim
    vbios: rim.VerifiedRim

    @property
    def simulated(self) -> bool:
        """Whether one of them is signed under a simulated root."""
        return self.driver.simulated or self.vbios.simulated


def choose(rims: Sequence[rim.VerifiedRim], claims: GpuClaims, *, chip: str) -> Rims:
    """Returns the manifests, out of several, that are for a GPU.

    One that was kept under another name than the GPU's own is for another board, and is passed over. One
    without a name is taken where none has the right one.

    Args:
        rims: Those at hand; the same one may be there twice.
        claims: What the GPU says of itself.
        chip: Its chip, "GH100".

    Raises:
        PlatformError: If there is none, or more than one, for the driver or the firmware image.
    """
    driver_id = gpu_names.driver_rim_id(chip, claims.driver_version)
    return Rims(
        _only(rims, ("driver", chip, claims.driver_version), driver_id),
        _only(rims, ("vbios", chip, claims.vbios_version), claims.vbios_rim_id),
    )


def check(measurements: Sequence[bytes], claims: GpuClaims, rims: Rims, *, chip: str) -> int:
    """Checks that a GPU runs the driver and the firmware that two manifests describe.

    1. One is of a driver, one of a firmware image; both are of the chip, and of the versions that the GPU
       states. Where it is known under which name the second was kept, that is the one of the GPU's board.
    2. No measurement is described by both.
    3. Each described measurement is in the report and has one of the values given for it. That of the first
       video decoder may have any, if and only if the report says that the decoder is off. (`compare`.)

    Args:
        measurements: `spdm.SpdmReport.measurements` of a verified report.
        claims: What the same report says of the GPU.
        rims: The manifests.
        chip: The GPU's chip, "GH100".

    Returns:
        How many measurements were compared; never zero.

    Raises:
        PlatformError: If one of these does not hold.

    Source: TCG Reference Integrity Manifest Information Model, section 4; docs/spec, "NVIDIA GPUs".
    """
    for kind, found, version in (  # 1
        ("driver", rims.driver, claims.driver_version),
        ("vbios", rims.vbios, claims.vbios_version),
    ):
        if (found.kind, found.product, found.version) != (kind, chip, version):
            raise PlatformError(
                f"GPU reference measurements: expected {kind} {chip} {version}, got a manifest of "
                f"{found.kind} {found.product} {found.version}"
            )
    if rims.vbios.name is not None and rims.vbios.name.id != claims.vbios_rim_id:
        raise PlatformError(
            f"GPU reference measurements: expected {claims.vbios_rim_id}, got {rims.vbios.name.id}: the "
            f"manifest is of another board or version"
        )
    both = sorted(rims.driver.golden.keys() & rims.vbios.golden.keys())
    if both:  # 2
        raise PlatformError(f"GPU measurement {both[0]}: the manifests of driver and VBIOS both describe it")
    golden = {**rims.driver.golden, **rims.vbios.golden}
    return compare(measurements, golden, nvdec0_on=claims.nvdec0_on)


def compare(
    measurements: Sequence[bytes], golden: Mapping[int, tuple[bytes, ...]], *, nvdec0_on: bool | None
) -> int:
    """Takes step 3 of `check`.

    Args:
        measurements: What was measured, from index 0 on.
        golden: Index → the values that it may have.
        nvdec0_on: Whether the first video decoder is on; None if the report does not say.

    Returns:
        How many measurements were compared; never zero.

    Raises:
        PlatformError: If one is missing or has another value, or there is nothing to compare.
    """
    compared = {
        index: values
        for index, values in golden.items()
        if index != NVDEC0_INDEX or nvdec0_on is not False  # an unknown state exempts nothing
    }
    if not compared:
        raise PlatformError("GPU measurements: the manifests leave nothing to compare")
    for index, values in sorted(compared.items()):
        if not 0 <= index < len(measurements):
            raise PlatformError(
                f"GPU measurement {index}: expected it in the report, which has {len(measurements)}"
            )
        if measurements[index] not in values:
            raise PlatformError(
                f"GPU measurement {index}: expected {' or '.join(value.hex() for value in values)}, "
                f"got {measurements[index].hex()}"
            )
    return len(compared)


def _only(
    rims: Sequence[rim.VerifiedRim], wanted: tuple[gpu_names.RimKind, str, str], rim_id: str
) -> rim.VerifiedRim:
    about = [found for found in rims if (found.kind, found.product, found.version) == wanted]
    named = {found.sha256: found for found in about if found.name is not None and found.name.id == rim_id}
    fitting = named or {found.sha256: found for found in about if found.name is None}
    if len(fitting) != 1:
        raise PlatformError(
            f"GPU reference measurements: expected one manifest for {' '.join(wanted)}, {rim_id}, got "
            f"{len(fitting)}; at hand: {', '.join(sorted(map(_shown, rims))) or 'none'}"
        )
    return next(iter(fitting.values()))


def _shown(found: rim.VerifiedRim) -> str:
    name = "" if found.name is None else f" under the name {found.name.id}"
    return f"{found.kind} {found.product} {found.version}{name}"
