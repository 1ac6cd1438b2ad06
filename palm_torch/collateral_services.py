"""Where vendors publish collateral, and what has to be asked for the platform that made some evidence.

Intel's provisioning certification service (PCS), a cache of it (PCCS), and AMD's key distribution service
(KDS). What they answer is put into the form of a collateral file, and is believed by nobody: whoever verifies
checks every signature and date in it, offline.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cryptography import x509

from palm_torch import collateral_file, errors, evidence, fetching, receipt
from palm_torch.cvm import (
    certificate_bytes,
    certificates,
    pck,
    pcs,
    quote,
    snp_endorsements,
    snp_report,
    vcek,
)
from palm_torch.cvm.snp_endorsements import SnpEndorsements
from palm_torch.deadlines import Deadline
from palm_torch.errors import EvidenceError, InputError

if TYPE_CHECKING:
    from palm_torch.collateral_file import CollateralFile
    from palm_torch.cvm.collateral import Collateral

VENDORS: Final = {"tdx": "intel", "snp": "amd"}
"""Kind of platform → the word for its vendor's own service."""

INTEL: Final = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
AMD: Final = "https://kdsintf.amd.com"
TIMEOUT_S: Final = 20.0
MAX_TIMEOUT_S: Final = 3600.0
"""How long all requests together may take, in seconds, if nothing else is said; and at most."""

PRODUCT: Final = "Milan"
"""The one AMD product whose root this library pins."""

_MILAN_FAMILY: Final = 0x19
_MILAN_MODELS: Final = range(0x10)
_CA_KINDS: Final = {"Platform": "platform", "Processor": "processor"}
_JSON_START: Final = b"{"
_MAX_CERTIFICATE_BYTES: Final = 65_536
_CERTIFICATES_ABOVE: Final = 2


@dataclass(frozen=True, slots=True)
class TdxPlatform:
    """What Intel's service needs to know; read from a quote that nobody has verified.

    Attributes:
        fmspc: Family, model and stepping of the platform, 6 bytes.
        ca: Which CA issued its PCK certificate: "platform" or "processor".
        simulated: Whether the certificate says it is of a simulated TEE, about which nobody publishes.
    """

    fmspc: bytes
    ca: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class SnpPlatform:
    """What AMD's service needs to know; read from a report that nobody has verified.

    Attributes:
        report: The report.
        key: Kind of the key that signed it: "vcek" or "vlek".
        leaf: That key's certificate, DER, if the evidence brings it along. A VCEK is of the report's chip and
            firmware, which hosts do not always hand over; otherwise AMD has the right one.
        simulated: Whether that certificate says it is of a simulated TEE.
    """

    report: snp_report.SnpReport
    key: str
    leaf: bytes | None
    simulated: bool


def fetch(
    data: bytes, *, what: str = "evidence", source: str | None = None, timeout_s: float = TIMEOUT_S
) -> CollateralFile:
    """Fetches what a verifier needs beside some evidence.

    Args:
        data: An evidence bundle, a receipt, a raw TDX quote or a raw SEV-SNP report.
        what: Its name, for messages.
        source: Base URL of a PCCS, or of a mirror of AMD's service; None, or "intel" or "amd" after the kind
            of the evidence, for the vendor's own service.
        timeout_s: How long all requests together may take, in seconds, up to `MAX_TIMEOUT_S`.

    Raises:
        InputError: If the evidence does not parse or says too little, the source is no URL that may be asked,
            the time-out is none, or an answer does not parse.
        FetchError: If an answer is missing, late or too large.
    """
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InputError(f"time-out: expected up to {MAX_TIMEOUT_S:g} seconds, got {timeout_s:g}")
    platform = platform_of(data, what=what)
    kind: Literal["tdx", "snp"] = "tdx" if isinstance(platform, TdxPlatform) else "snp"
    base = _base(source, kind)
    if platform.simulated and base is None:
        raise EvidenceError(
            f"{what}: of a simulated TEE, about which nobody publishes anything; such evidence carries "
            f"its own collateral"
        )
    deadline = Deadline.after(timeout_s)
    fetched: Collateral | SnpEndorsements
    if isinstance(platform, TdxPlatform):
        fetched = _ask_intel(platform, base, deadline)
    else:
        fetched = _ask_amd(platform, base or AMD, deadline, what)
    texts = {field.name: getattr(fetched, field.name) for field in dataclasses.fields(fetched)}
    return collateral_file.CollateralFile(type=collateral_file.TYPE, attester=kind, collateral=texts)


def platform_of(data: bytes, *, what: str) -> TdxPlatform | SnpPlatform:
    """Reads from evidence which platform made it.

    Args:
        data: An evidence bundle, a receipt, a raw TDX quote (with or without the zeros that follow it) or a
            raw SEV-SNP report.
        what: Its name, for messages.

    Raises:
        InputError: If it is none of these, or of a platform this version knows no service for.
    """
    if data.startswith(_JSON_START):
        attester, raw, carried = _quoted(data, what)
        with errors.prefixed(what):
            return _snp_platform(raw, carried) if attester == "snp" else _tdx_platform(raw)
    with errors.prefixed(what):
        if len(data) == snp_report.REPORT_BYTES:
            return _snp_platform(data, None)
        return _tdx_platform(quote.canonical(data))


def _quoted(data: bytes, what: str) -> tuple[str, bytes, dict[str, str] | None]:
    """Returns the kind, a quote and the collateral of a bundle, or of a receipt, which has one quote."""
    if receipt.is_receipt(data):
        session = receipt.decode(data, what=what).session
        return session.attester, session.begin.quote, session.collateral
    bundle = evidence.decode(data, what=what)
    return bundle.attester, bundle.end.quote, bundle.collateral


def _tdx_platform(raw: bytes) -> TdxPlatform:
    leaf = certificate_bytes.load_certificate(quote.parse_quote(raw).certificates[0], what="PCK certificate")
    issuers = _names(leaf, "issuer", x509.NameOID.COMMON_NAME)
    for word, ca in _CA_KINDS.items():
        if any(name.endswith(f"SGX PCK {word} CA") for name in issuers):
            return TdxPlatform(pck.read_platform(leaf).fmspc, ca, _says_simulated(leaf))
    raise EvidenceError(
        f"expected a PCK certificate by Intel's Platform or Processor CA, got one by {issuers[:1]}"
    )


def _says_simulated(leaf: x509.Certificate) -> bool:
    organisations = _names(leaf, "subject", x509.NameOID.ORGANIZATION_NAME)
    return certificates.SIMULATED_ORGANISATION in organisations


def _names(
    leaf: x509.Certificate, whose: Literal["issuer", "subject"], kind: x509.ObjectIdentifier
) -> list[str]:
    try:
        name = leaf.issuer if whose == "issuer" else leaf.subject
        return [str(attribute.value) for attribute in name.get_attributes_for_oid(kind)]
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise EvidenceError(f"the {whose} of a certificate cannot be read: {error}") from error


def _snp_platform(raw: bytes, carried: dict[str, str] | None) -> SnpPlatform:
    report = snp_report.parse_report(raw)
    key = snp_report.SIGNING_KEYS.get(report.signing_key)
    if key is None:
        raise EvidenceError(f"the report is signed by no key of AMD's, say its flags {report.flags:#x}")
    if report.cpuid is not None and (
        report.cpuid[0] != _MILAN_FAMILY or report.cpuid[1] not in _MILAN_MODELS
    ):
        raise EvidenceError(
            f"of a processor of family {report.cpuid[0]:#x}, model {report.cpuid[1]:#x}; this "
            f"version knows {PRODUCT} alone (family {_MILAN_FAMILY:#x}, models up to {_MILAN_MODELS[-1]:#x})"
        )
    if carried is None:
        return SnpPlatform(report, key, leaf=None, simulated=False)
    leaf = snp_endorsements.from_json(dict(carried)).chain()[0]
    try:
        simulated, right = _says_simulated(_load_leaf(leaf)), vcek.speaks_for(leaf, report)
    except InputError:
        if key != "vcek":  # nobody else has a VLEK's
            raise
        return SnpPlatform(report, key, leaf=None, simulated=False)
    return SnpPlatform(report, key, leaf if right or key != "vcek" else None, simulated)


def _ask_intel(platform: TdxPlatform, base: str | None, deadline: Deadline) -> Collateral:
    """Asks for the four answers about a platform; a PCCS has the root's list too, as hex."""
    service = base or INTEL

    def ask(name: str, url: str) -> fetching.Answer:
        return _get(name, url, pcs.MAX_BODY_BYTES, deadline)

    info = ask("TCB info", f"{service}/tdx/certification/v4/tcb?fmspc={platform.fmspc.hex()}")
    identity = ask("QE identity", f"{service}/tdx/certification/v4/qe/identity")
    crl = ask("PCK CRL", f"{service}/sgx/certification/v4/pckcrl?ca={platform.ca}&encoding=der")
    root = ask("root CRL", INTEL_ROOT_CRL if base is None else f"{base}/sgx/certification/v4/rootcacrl")
    return pcs.collateral_of(
        tcb_info=pcs.Answer(info.body, info.header("TCB-Info-Issuer-Chain")),
        qe_identity=pcs.Answer(identity.body, identity.header("SGX-Enclave-Identity-Issuer-Chain")),
        pck_crl=pcs.Answer(crl.body, crl.header("SGX-PCK-CRL-Issuer-Chain")),
        root_ca_crl=root.body,
    )


def _ask_amd(platform: SnpPlatform, base: str, deadline: Deadline, what: str) -> SnpEndorsements:
    """Asks for the key's certificate, unless it is at hand, for those above it, and for the root's list."""
    service = f"{base}/{platform.key}/v1/{PRODUCT}"
    leaf = platform.leaf
    if leaf is None:
        leaf = _get("VCEK", f"{service}/{_vcek_query(platform, what)}", _MAX_CERTIFICATE_BYTES, deadline).body
    answer = _get("certificate chain", f"{service}/cert_chain", _MAX_CERTIFICATE_BYTES, deadline)
    pem = answer.body.replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
    above = certificate_bytes.decode_pem(
        pem, what=f"{answer.url}: certificate chain", count=_CERTIFICATES_ABOVE
    )
    crl = _get("CRL", f"{service}/crl", pcs.MAX_BODY_BYTES, deadline).body
    _load_leaf(leaf)
    certificate_bytes.load_crl(crl, what="AMD's revocation list", algorithms=certificate_bytes.AMD)
    chain = certificate_bytes.encode_pem([leaf, *above])
    return SnpEndorsements(certificate_chain=chain.decode("ascii"), crl=crl.hex())


def _load_leaf(leaf: bytes) -> x509.Certificate:
    return certificate_bytes.load_certificate(
        leaf, what="VCEK or VLEK certificate", algorithms=certificate_bytes.AMD, zero_serial=True
    )


def _vcek_query(platform: SnpPlatform, what: str) -> str:
    report, tcb = platform.report, platform.report.reported_tcb
    if platform.key != "vcek":
        raise EvidenceError(
            f"{what}: signed with a VLEK, whose certificate only the cloud provider has: give an evidence "
            f"bundle that carries it"
        )
    if not any(report.chip_id):
        raise EvidenceError(
            f"{what}: the host masks the chip's identity, by which its certificate is asked for: give an "
            f"evidence bundle that carries it"
        )
    versions = {
        "blSPL": tcb.boot_loader,
        "teeSPL": tcb.tee,
        "snpSPL": tcb.snp,
        "ucodeSPL": tcb.microcode,
    }
    return f"{report.chip_id.hex()}?" + "&".join(f"{name}={svn:02d}" for name, svn in versions.items())


def _get(name: str, url: str, max_bytes: int, deadline: Deadline) -> fetching.Answer:
    with errors.prefixed(name):
        return fetching.get(url, max_bytes=max_bytes, deadline=deadline)


def _base(source: str | None, kind: Literal["tdx", "snp"]) -> str | None:
    """Returns the base URL of a service without the slash at its end; None for the vendor's own."""
    if source is None or source == VENDORS[kind]:
        return None
    with errors.prefixed("source"):
        return fetching.check_url(source).rstrip("/")
