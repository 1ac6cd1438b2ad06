"""Verification of an NVIDIA GPU's report: from bytes to a value that only this module can make.

`verify_gpu` establishes that a genuine GPU, with the driver and firmware that it states, answered a nonce;
`palm_torch.cvm.gpu_rules` then says whether the GPUs of a machine are those that were asked for. Neither can
say that the GPU sits in this machine: a report can be fetched from a genuine GPU elsewhere.
"""

from __future__ import annotations

import hmac
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from palm_torch.cvm import (
    certificate_bytes,
    certificates,
    gpu_certificate,
    gpu_measurements,
    gpu_names,
    gpu_opaque,
    gpu_revocation,
    hierarchies,
    rim,
    spdm,
)
from palm_torch.errors import (
    BindingError,
    EvidenceError,
    FreshnessError,
    InputError,
    PlatformError,
    SignatureError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

_MADE_HERE: Final = object()

MEASUREMENTS: Final[dict[gpu_names.Architecture, int]] = {"HOPPER": 64, "BLACKWELL": 64}
"""How many measurements a report of an architecture has."""

PUBLIC_NONCES: Final = frozenset(
    bytes.fromhex(nonce)
    for nonce in (
        "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb",
        "e97b23a1718095a0e9e35edca810768c70a6a5a389b705e753b197912bc11576",
        "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e",
        "27a328247bf7935c993341cf587be6f05986ccce4fe7ba2c54100bd616a58f66",
    )
)
"""Nonces of reports that anybody can download as samples, and of programs that use one nonce for ever."""


@dataclass(frozen=True, slots=True)
class VerifiedGpu:
    """A report of a genuine (or genuinely simulated) GPU; `verify_gpu` alone makes it.

    Attributes:
        report: The report, every field of it now authentic.
        claims: What it says of the GPU.
        device: What the certificate says of the GPU.
        anchor: The configured root that its certificates lead to.
        rims: The reference measurements that it agrees with; None if there were none to compare with.
        revocation: What was found out about the status of all certificates that it rests on.
    """

    report: spdm.SpdmReport
    claims: gpu_opaque.GpuClaims
    device: gpu_certificate.GpuDevice
    anchor: certificates.TrustAnchor
    rims: gpu_measurements.Rims | None
    revocation: gpu_revocation.Checked
    token: InitVar[object]

    def __post_init__(self, token: object) -> None:
        """Refuses to be made elsewhere."""
        if token is not _MADE_HERE:
            raise TypeError("a VerifiedGpu is made by verify_gpu alone")

    @property
    def simulated(self) -> bool:
        """Whether the root of its certificates, or of its reference measurements, is a simulator's."""
        return self.anchor.simulated or (self.rims is not None and self.rims.simulated)

    @property
    def architecture(self) -> gpu_names.Architecture:
        """The generation of GPUs that it is of."""
        return self.device.architecture

    @property
    def chip_id(self) -> str:
        """Identity of the chip, whatever firmware it runs: "NVIDIA:GH100:48B02D92494BADF4"."""
        return self.device.chip_id

    @property
    def driver_version(self) -> str:
        """Version of the driver in the guest."""
        return self.claims.driver_version

    @property
    def vbios_version(self) -> str:
        """Version of its firmware image."""
        return self.claims.vbios_version

    @property
    def mode(self) -> gpu_names.Mode:
        """How it works together with other GPUs."""
        return self.claims.mode

    @property
    def fwid_checked(self) -> bool:
        """Whether the report names the firmware that holds the signing key; reports of old drivers do not."""
        return self.claims.fwid is not None

    @property
    def state(self) -> str:
        """Versions and mode in one line, for people."""
        return f"{self.device.chip}, driver {self.driver_version}, VBIOS {self.vbios_version}, {self.mode}"

    @property
    def caveats(self) -> tuple[str, ...]:
        """What was not checked, or cannot be."""
        found = []
        if self.rims is None:
            found.append("no reference measurements were at hand: nobody vouches for what the GPU runs")
        elif self.rims.vbios.name is None:
            found.append("the VBIOS's reference measurements do not say for which board they are")
        elif self.rims.vbios.name.by == "evidence":
            found.append("for which board the VBIOS's reference measurements are: the evidence alone says it")
        if not self.revocation.complete:
            found.append("no revocation data for all certificates were at hand")
        if not self.fwid_checked:
            found.append("the report does not name the firmware that holds its key (an old driver)")
        return tuple(found)


def verify_gpu(
    evidence: bytes,
    chain: bytes,
    *,
    nonce: bytes,
    anchors: Sequence[certificates.TrustAnchor],
    now: datetime,
    rims: gpu_measurements.Rims | Sequence[rim.VerifiedRim] | None = None,
    revocation: gpu_revocation.RevocationFiles | gpu_revocation.Statements = gpu_revocation.NOTHING,
    refused_nonces: Collection[bytes] = PUBLIC_NONCES,
) -> VerifiedGpu:
    """Verifies a report against the GPU's certificates and reference measurements, at a time.

     1. Request and response parse: exact headers, lengths that use up every byte, measurements numbered
        without a gap, no opaque field twice.
     2. Five certificates: firmware ← boot ROM ← provisioner ← family ← root. The root is one of `anchors`,
        each is valid at `now`, all but the first are CAs, all keys are on P-384.
     3. The leaf names a GPU of a known kind, and boot ROM and provisioner are of that kind; the report has
        as many measurements as that kind has.
     4. The nonce is the expected one, all 32 bytes, and none that is public.
     5. The leaf's key signed request and response.
     6. The report's own words about versions, board and mode parse and do not contradict each other.
     7. Where it names the firmware that holds the key, that is the one that the leaf names.
     8. Driver and VBIOS manifests are those of the versions, the chip and, where they have a name, the board.
     9. Each measurement that they describe has a value that they give. (8, 9: `gpu_measurements.check`.)
    10. What is at hand about the status of the certificates, those of the manifests' signers among them,
        says that it is good. (`gpu_revocation.check`.)

    Which of all this is demanded, and that the GPUs are several different ones in one mode (11), is for
    `gpu_rules.appraise`.

    Args:
        evidence: The report as the driver gave it: request ‖ response.
        chain: Five certificates, DER, leaf first, one after the other.
        nonce: What this GPU was to be asked with, 32 bytes; see `binding.gpu_nonce`.
        anchors: The roots that the verifier's own configuration admits.
        now: Time of verification, aware.
        rims: The verified manifests for this GPU, or all that are at hand; None compares with none, which
            is a caveat of the result.
        revocation: What is at hand about the status of certificates.
        refused_nonces: Nonces that prove nothing, because reports with them are public.

    Raises:
        EvidenceError: If the report does not parse (EncodingError: a certificate, list or answer does not).
        TrustAnchorError: If the chain does not lead to an anchor, or is not valid at `now`.
        FreshnessError: If the nonce is a public one.
        BindingError: If the nonce is another one.
        SignatureError: If a signature, the firmware's digest or a revocation check fails.
        PlatformError: If it is no GPU, or what it runs is not what its maker published.

    Source: DMTF DSP0274, SPDM 1.1; TCG DICE Attestation Architecture; docs/spec, "NVIDIA GPUs".
    """
    if len(nonce) != spdm.NONCE_BYTES:
        raise InputError(f"GPU nonce: expected {spdm.NONCE_BYTES} bytes, got {len(nonce)}")
    report = spdm.parse_report(evidence)  # 1
    verified = certificates.verify_chain(  # 2
        gpu_certificate.split_chain(chain),
        anchors=anchors,
        now=now,
        what="GPU certificate chain",
        hierarchy=hierarchies.NVIDIA,
    )
    device = _device(report, verified)  # 3
    _check_nonce(report, nonce, refused_nonces)  # 4
    _check_signature(report, verified)  # 5
    claims = gpu_opaque.read_claims(report.opaque)  # 6
    if claims.fwid is not None and not hmac.compare_digest(claims.fwid, device.fwid):  # 7
        raise SignatureError(
            f"GPU report: firmware digest: expected {device.fwid.hex()} of the certificate, "
            f"got {claims.fwid.hex()}"
        )
    if rims is not None and not isinstance(rims, gpu_measurements.Rims):
        rims = gpu_measurements.choose(rims, claims, chip=device.chip)
    chains = {"GPU certificate chain": verified}
    if rims is not None:  # 8, 9
        chains |= {"driver RIM": rims.driver.chain, "VBIOS RIM": rims.vbios.chain}
        gpu_measurements.check(report.measurements, claims, rims, chip=device.chip)
    return VerifiedGpu(
        report=report,
        claims=claims,
        device=device,
        anchor=verified.anchor,
        rims=rims,
        revocation=gpu_revocation.check(chains, revocation, now=now),  # 10
        token=_MADE_HERE,
    )


def look_into(evidence: bytes, chain: bytes) -> dict[str, str]:
    """Returns what a report and its certificates say which GPU it is, and what it runs; nothing is verified.

    Raises:
        EvidenceError: If one does not parse (EncodingError: a certificate is not in canonical form), or they
            say what no known GPU says.
    """
    report = spdm.parse_report(evidence)
    leaf, *_ = gpu_certificate.split_chain(chain)
    certificate = certificate_bytes.load_certificate(
        leaf, what="GPU certificate", algorithms=hierarchies.NVIDIA.algorithms
    )
    try:
        device = gpu_certificate.read_device(certificate)
        claims = gpu_opaque.read_claims(report.opaque)
    except PlatformError as error:
        raise EvidenceError(str(error)) from error
    return {
        "chip": device.chip_id,
        "driver": claims.driver_version,
        "vbios": claims.vbios_version,
        "mode": claims.mode,
        "nonce": report.nonce.hex(),
    }


def _device(report: spdm.SpdmReport, chain: certificates.VerifiedChain) -> gpu_certificate.GpuDevice:
    """Step 3."""
    device = gpu_certificate.read_device(chain.leaf)
    gpu_certificate.check_issuers(chain.certificates, device.chip)
    expected = MEASUREMENTS[device.architecture]
    if len(report.measurements) != expected:
        raise PlatformError(
            f"GPU report: expected {expected} measurements of a {device.chip}, got {len(report.measurements)}"
        )
    return device


def _check_nonce(report: spdm.SpdmReport, nonce: bytes, refused: Collection[bytes]) -> None:
    """Step 4."""
    if report.nonce in refused:
        raise FreshnessError(
            f"GPU report: its nonce, {report.nonce.hex()}, is that of published samples: anybody has one"
        )
    if not hmac.compare_digest(report.nonce, nonce):
        raise BindingError(
            f"GPU report: it answers another nonce: expected {nonce.hex()}, got {report.nonce.hex()}"
        )


def _check_signature(report: spdm.SpdmReport, chain: certificates.VerifiedChain) -> None:
    """Step 5."""
    half = spdm.SIGNATURE_BYTES // 2
    r, s = (int.from_bytes(part, "big") for part in (report.signature[:half], report.signature[half:]))
    key = certificates.p384_key(chain.leaf, what="GPU certificate chain")
    try:
        key.verify(utils.encode_dss_signature(r, s), report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise SignatureError("GPU report: signature does not verify under the certificate's key") from error
