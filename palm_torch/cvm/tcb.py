"""TCB appraisal: what Intel's data say about the quoting enclave, the TDX module and the platform of a quote.

Everything compared here is authentic already: the report on the enclave and that on the trust domain, the
security versions in the PCK certificate, TCB info and QE identity. What comes out is an opinion; whether it
is good enough is for a policy to say, except that nothing revoked is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import enclave_report, tcb_documents
from palm_torch.cvm.tcb_documents import Opinion
from palm_torch.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palm_torch.cvm.pck import SecurityVersions
    from palm_torch.cvm.quote import Quote, TdReport
    from palm_torch.cvm.tcb_documents import PlatformLevel, QeIdentity, SoftwareLevel, TcbInfo, TdxModule

RELAUNCH: Final = "TDRelaunchAdvised"
RELAUNCH_CONFIGURATION: Final = "TDRelaunchAdvisedConfigurationNeeded"
"""The platform was out of date when the trust domain was launched, and is no longer."""

STATUSES: Final = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    RELAUNCH,
    RELAUNCH_CONFIGURATION,
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)
"""Every status an appraisal comes to, best first."""

_REVOKED: Final = "Revoked"
_OUT_OF_DATE: Final = "OutOfDate"
_OUT_OF_DATE_CONFIGURATION: Final = "OutOfDateConfigurationNeeded"
_ALL_OUT_OF_DATE: Final = frozenset({_OUT_OF_DATE, _OUT_OF_DATE_CONFIGURATION})
_CONFIGURATION: Final = frozenset({"ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"})

_MODULE_COMPONENTS: Final = 2
"""The first components of TDX are version and major version of the module; they count as a level of the
platform only where the module has no identity of its own."""


@dataclass(frozen=True, slots=True)
class Appraisal:
    """Intel's opinion, whole and in its parts.

    Attributes:
        status: One of `STATUSES`.
        advisory_ids: Advisories that apply, each once, in alphabetical order.
        quoting_enclave: Opinion of the quoting enclave.
        module: Opinion of the TDX module at launch; None where it has no major version.
        platform: Opinion of the platform at launch.
        current: Opinion of all three with the TDX module that runs now; None for TD 1.0, which does not say.
    """

    status: str
    advisory_ids: tuple[str, ...]
    quoting_enclave: Opinion
    module: Opinion | None
    platform: Opinion
    current: Opinion | None


def appraise(
    parsed: Quote, versions: SecurityVersions, *, tcb_info: TcbInfo, qe_identity: QeIdentity
) -> Appraisal:
    """Appraises the parts a quote rests on; the numbers are those of `tdx.verify_quote`.

    12. The quoting enclave is the one of the QE identity, with its debug bit clear; the first level that its
        security version reaches counts.
    13. The TDX module is the one its major version names, or the one without; signer and attributes agree,
        and the first level that its security version reaches counts.
    14. The platform: of the levels, greatest first, the first of which every component is reached.
    15. TD 1.5 names the module's versions twice, at launch and now: 13 and 14 for both.
    16. The worst status counts, and all advisories. OutOfDate and one of Configuration… together are
        OutOfDateConfigurationNeeded. What was out of date at launch and is no longer is one of
        TDRelaunchAdvised…; what has become worse counts as it is now. Nothing is revoked.

    Args:
        parsed: The quote.
        versions: Security versions of the platform, from the PCK certificate.
        tcb_info: Intel's data about the platform.
        qe_identity: Intel's data about the quoting enclave.

    Raises:
        PlatformError: If Intel's data say nothing about a part, or that it is revoked.

    Source: Intel TDX DCAP Quote Verification Library; Intel SGX and TDX Provisioning Certification Service
    API, version 4, "TCB info" and "QE identity".
    """
    quoting_enclave = _quoting_enclave(parsed.qe_report, qe_identity)  # 12
    report = parsed.td_report
    module = _module(report, report.tee_tcb_svn, tcb_info)  # 13
    platform = _platform(versions, report.tee_tcb_svn, tcb_info.levels)  # 14
    launch = _merged(quoting_enclave, module, platform)
    current = None
    if report.tee_tcb_svn2 is not None:  # 15
        current = _merged(
            quoting_enclave,
            _module(report, report.tee_tcb_svn2, tcb_info),
            _platform(versions, report.tee_tcb_svn2, tcb_info.levels),
        )
    whole = launch if current is None else _then_and_now(launch, current)  # 16
    return Appraisal(
        status=whole.status,
        advisory_ids=whole.advisory_ids,
        quoting_enclave=quoting_enclave,
        module=module,
        platform=platform,
        current=current,
    )


def _quoting_enclave(raw: bytes, identity: QeIdentity) -> Opinion:
    """Step 12."""
    found = enclave_report.parse(raw)
    if found.debug:
        raise PlatformError("quoting enclave: its debug bit is set")
    for name, got, expected in (
        ("mr_signer", found.mr_signer.hex(), identity.mr_signer.hex()),
        ("isv_prod_id", found.isv_prod_id, identity.isv_prod_id),
        (
            "misc_select",
            _masked(found.misc_select, identity.misc_select_mask).hex(),
            _masked(identity.misc_select, identity.misc_select_mask).hex(),
        ),
        (
            "attributes",
            _masked(found.attributes, identity.attributes_mask).hex(),
            _masked(identity.attributes, identity.attributes_mask).hex(),
        ),
    ):
        if got != expected:
            raise PlatformError(f"quoting enclave: {name}: expected {expected}, got {got}")
    return _reached(found.isv_svn, identity.levels, "quoting enclave")


def _module(report: TdReport, svns: bytes, info: TcbInfo) -> Opinion | None:
    """Step 13 for one set of the module's versions."""
    isv_svn, major = svns[:_MODULE_COMPONENTS]
    name = f"TDX_{major:02X}" if major else "tdxModule"
    module = info.modules.get(name) if major else info.module
    if module is None:
        raise PlatformError(f"TDX module: TCB info has no identity {name}")
    _check_module(report, module, name)
    return _reached(isv_svn, module.levels, f"TDX module {name}") if major else None


def _check_module(report: TdReport, module: TdxModule, name: str) -> None:
    if report.mr_signer_seam != module.mr_signer:
        raise PlatformError(
            f"TDX module {name}: expected signer {module.mr_signer.hex()}, got {report.mr_signer_seam.hex()}"
        )
    expected = _masked(module.attributes, module.attributes_mask)
    if report.seam_attributes != expected:  # bits outside the mask included: they have to be zero
        raise PlatformError(
            f"TDX module {name}: expected attributes {expected.hex()}, got {report.seam_attributes.hex()}"
        )


def _platform(versions: SecurityVersions, svns: bytes, levels: Iterable[PlatformLevel]) -> Opinion:
    """Step 14 for one set of the module's versions."""
    start = _MODULE_COMPONENTS if svns[1] else 0
    for level in sorted(levels, key=_height, reverse=True):
        if (
            _reaches(versions.components, level.sgx_svns)
            and versions.pce >= level.pce_svn
            and _reaches(svns[start:], level.tdx_svns[start:])
        ):
            return level.opinion
    raise PlatformError(
        f"platform: no matching TCB level for components {', '.join(map(str, versions.components))}, "
        f"PCE {versions.pce} and TDX {svns.hex()}"
    )


def _height(level: PlatformLevel) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    return level.sgx_svns, level.pce_svn, level.tdx_svns


def _reaches(found: Iterable[int], least: Iterable[int]) -> bool:
    return all(svn >= bound for svn, bound in zip(found, least, strict=True))


def _reached(isv_svn: int, levels: Iterable[SoftwareLevel], what: str) -> Opinion:
    for level in levels:
        if isv_svn >= level.isv_svn:
            return level.opinion
    raise PlatformError(f"{what}: security version {isv_svn} reaches no level")


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(byte & bits for byte, bits in zip(value, mask, strict=True))


def _merged(*parts: Opinion | None) -> Opinion:
    """Step 16 for one set of the module's versions."""
    known = [part for part in parts if part is not None]
    statuses = {opinion.status for opinion in known}
    worst = max(statuses, key=tcb_documents.STATUSES.index)
    if worst == _REVOKED:
        raise PlatformError("TCB status: revoked")
    if worst == _OUT_OF_DATE and statuses & _CONFIGURATION:
        worst = _OUT_OF_DATE_CONFIGURATION
    return Opinion(worst, tuple(sorted({name for opinion in known for name in opinion.advisory_ids})))


def _then_and_now(launch: Opinion, current: Opinion) -> Opinion:
    """Step 16 for both: a domain launched on an old platform has the advisories it was launched with."""
    if launch.status in _ALL_OUT_OF_DATE and current.status not in _ALL_OUT_OF_DATE:
        configure = launch.status == _OUT_OF_DATE_CONFIGURATION or current.status in _CONFIGURATION
        return Opinion(RELAUNCH_CONFIGURATION if configure else RELAUNCH, launch.advisory_ids)
    return max(launch, current, key=lambda opinion: tcb_documents.STATUSES.index(opinion.status))
