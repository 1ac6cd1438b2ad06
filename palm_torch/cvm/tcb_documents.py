"""TCB info and QE identity: what Intel signed about platforms, TDX modules and the quoting enclave.

Read them after their signature was checked. Keys that nothing here uses are passed over, since Intel adds
some and all of it is signed; every value that is used must have one type and stay within its range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from palm_torch.cvm import signed_json
from palm_torch.errors import EvidenceError

STATUSES: Final = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
)
"""Every status Intel gives, best first."""

SOFTWARE_STATUSES: Final = ("UpToDate", "OutOfDate", "Revoked")
"""Every status Intel gives a TDX module or a quoting enclave: these have nothing to configure."""

COMPONENTS: Final = 16
"""Number of security versions of a platform, and of a TDX module."""

TCB_INFO_VERSION: Final = 3
QE_IDENTITY_VERSIONS: Final = (2, 3)

_U8: Final = 0xFF
_U16: Final = 0xFFFF
_U32: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Opinion:
    """What Intel thinks of something at one level.

    Attributes:
        status: One of `STATUSES`.
        advisory_ids: The advisories that apply to it, "INTEL-SA-…".
    """

    status: str
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlatformLevel:
    """A level of the platform's trusted computing base: least security versions, and the opinion.

    Attributes:
        sgx_svns: Least versions of the processor's 16 components.
        pce_svn: Least version of the provisioning certification enclave.
        tdx_svns: Least versions of the 16 components of TDX.
        opinion: What Intel thinks of platforms at this level.
    """

    sgx_svns: tuple[int, ...]
    pce_svn: int
    tdx_svns: tuple[int, ...]
    opinion: Opinion


@dataclass(frozen=True, slots=True)
class SoftwareLevel:
    """A level of a TDX module or of the quoting enclave.

    Attributes:
        isv_svn: Least security version.
        opinion: What Intel thinks of software at this level.
    """

    isv_svn: int
    opinion: Opinion


@dataclass(frozen=True, slots=True)
class TdxModule:
    """What a genuine TDX module reports.

    Attributes:
        mr_signer: Its signer, 48 bytes; zero for Intel.
        attributes: Its attributes, 8 bytes.
        attributes_mask: Which of their bits have to agree; the others have to be zero.
        levels: Its levels, in the order of the document; empty for the entry that is of no major version.
    """

    mr_signer: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[SoftwareLevel, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """TCB info of TDX, version 3.

    Attributes:
        issued: Time from which it holds.
        next_update: Time until which it holds, inclusive.
        evaluation_data_number: Intel's counter of TCB recoveries.
        fmspc: The platforms it is about, 6 bytes.
        pce_id: Their provisioning certification enclave, 2 bytes.
        module: The TDX module, where its security versions name no major version.
        modules: The TDX modules by name, "TDX_01" being that of major version 1.
        levels: Levels of the platform, in the order of the document.
    """

    issued: datetime
    next_update: datetime
    evaluation_data_number: int
    fmspc: bytes
    pce_id: bytes
    module: TdxModule
    modules: Mapping[str, TdxModule]
    levels: tuple[PlatformLevel, ...]


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """Identity of the TD quoting enclave, version 2 or 3.

    Attributes:
        issued: Time from which it holds.
        next_update: Time until which it holds, inclusive.
        evaluation_data_number: Intel's counter of TCB recoveries.
        misc_select: Expected feature selection, 4 bytes.
        misc_select_mask: Which of its bits have to agree.
        attributes: Expected attributes, 16 bytes.
        attributes_mask: Which of their bits have to agree.
        mr_signer: Its signer, 32 bytes.
        isv_prod_id: Its product number.
        levels: Its levels, in the order of the document.
    """

    issued: datetime
    next_update: datetime
    evaluation_data_number: int
    misc_select: bytes
    misc_select_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mr_signer: bytes
    isv_prod_id: int
    levels: tuple[SoftwareLevel, ...]


def read_tcb_info(text: bytes) -> TcbInfo:
    """Reads TCB info.

    Raises:
        EvidenceError: If it is not TCB info of TDX, version 3.
    """
    document = signed_json.read(text, "TCB info", "TDX", (TCB_INFO_VERSION,))
    document.key("tcbType").number(0)
    modules: dict[str, TdxModule] = {}
    for entry in document.items("tdxModuleIdentities", optional=True):
        name = entry.key("id").text().upper()
        if name in modules:
            raise EvidenceError(f"{entry.path}: {name[:40]!r} is there twice")
        modules[name] = _module(entry, _software_levels(entry, _U8))
    return TcbInfo(
        issued=document.key("issueDate").date(),
        next_update=document.key("nextUpdate").date(),
        evaluation_data_number=document.key("tcbEvaluationDataNumber").number(_U32),
        fmspc=document.key("fmspc").hex(6),
        pce_id=document.key("pceId").hex(2),
        module=_module(document.key("tdxModule"), ()),
        modules=modules,
        levels=tuple(_platform_level(level) for level in document.items("tcbLevels")),
    )


def read_qe_identity(text: bytes) -> QeIdentity:
    """Reads the QE identity.

    Raises:
        EvidenceError: If it is not the identity of the TD quoting enclave, version 2 or 3.
    """
    document = signed_json.read(text, "QE identity", "TD_QE", QE_IDENTITY_VERSIONS)
    return QeIdentity(
        issued=document.key("issueDate").date(),
        next_update=document.key("nextUpdate").date(),
        evaluation_data_number=document.key("tcbEvaluationDataNumber").number(_U32),
        misc_select=document.key("miscselect").hex(4),
        misc_select_mask=document.key("miscselectMask").hex(4),
        attributes=document.key("attributes").hex(16),
        attributes_mask=document.key("attributesMask").hex(16),
        mr_signer=document.key("mrsigner").hex(32),
        isv_prod_id=document.key("isvprodid").number(_U16),
        levels=_software_levels(document, _U16),
    )


def _module(entry: signed_json.Node, levels: tuple[SoftwareLevel, ...]) -> TdxModule:
    return TdxModule(
        mr_signer=entry.key("mrsigner").hex(48),
        attributes=entry.key("attributes").hex(8),
        attributes_mask=entry.key("attributesMask").hex(8),
        levels=levels,
    )


def _software_levels(entry: signed_json.Node, greatest: int) -> tuple[SoftwareLevel, ...]:
    return tuple(
        SoftwareLevel(level.key("tcb").key("isvsvn").number(greatest), _opinion(level, SOFTWARE_STATUSES))
        for level in entry.items("tcbLevels")
    )


def _platform_level(level: signed_json.Node) -> PlatformLevel:
    tcb = level.key("tcb")
    return PlatformLevel(
        sgx_svns=_svns(tcb, "sgxtcbcomponents"),
        pce_svn=tcb.key("pcesvn").number(_U16),
        tdx_svns=_svns(tcb, "tdxtcbcomponents"),
        opinion=_opinion(level, STATUSES),
    )


def _svns(tcb: signed_json.Node, name: str) -> tuple[int, ...]:
    components = tcb.items(name)
    if len(components) != COMPONENTS:
        raise EvidenceError(f"{tcb.path}: {name}: expected {COMPONENTS} components, got {len(components)}")
    return tuple(component.key("svn").number(_U8) for component in components)


def _opinion(level: signed_json.Node, known: tuple[str, ...]) -> Opinion:
    status = level.key("tcbStatus").text()
    if status not in known:
        raise EvidenceError(f"{level.path}: expected one of {', '.join(known)}, got {status[:40]!r}")
    return Opinion(status, tuple(item.text() for item in level.items("advisoryIDs", optional=True)))
