"""The embedded simulated SEV-SNP guest: real formats, a root of its own, no trust.

Its reports go through the production verifier, which learns that they are simulated from the root that its
own configuration admitted, and from nothing else.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from palm_torch.cvm import (
    certificate_bytes,
    hierarchies,
    private_folder,
    simulated_snp_authority,
    simulated_state,
    snp_endorsements,
    snp_report,
    snp_rules,
    vcek,
)
from palm_torch.cvm.simulated_snp_authority import TCB, Authority, Issuer
from palm_torch.errors import AttesterError, EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography import x509

NAME: Final = "snp-simulated"
FOLDER: Final = "simulated-snp"
"""Name of the folder with its keys, beside the one of the simulated TDX machine."""

MEASUREMENT: Final = hashlib.sha384(b"palm-torch simulated SNP guest: measurement").digest()
VERSION: Final = 3
GUEST_POLICY: Final = 1 << snp_rules.SMT_BIT | 1 << snp_rules.RESERVED_ONE_BIT
PLATFORM_INFO: Final = 1 | 1 << snp_rules.ALIAS_CHECK_BIT
FIRMWARE: Final = bytes((4, 55, 1))
"""Build, minor and major version of the simulated firmware."""

CPUID: Final = bytes((0x19, 0x01, 0x01))
_ZERO_DIGEST: Final = bytes(48)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SimulatedSnp:
    """An attester that needs no hardware and convinces no one who did not ask for it.

    Args:
        directory: Where its keys live; by default beside those of the simulated TDX machine. Making
            them takes a second or two, once.
        clock: The current time, aware; the revocation list is dated by it.

    Raises:
        AttesterError: If the directory cannot be used.
    """

    name: Final = NAME
    platform: Literal["tdx", "snp"] = "snp"
    simulated: Final = True
    runtime_register: Literal["rtmr3", "none"] = "none"

    def __init__(self, *, directory: Path | None = None, clock: Callable[[], datetime] = _utc_now) -> None:
        self._clock = clock
        self._authority = _load_or_create(directory or default_directory(), clock)
        self._report_id = secrets.token_bytes(32)

    def quote(self, report_data: bytes) -> bytes:
        """Returns an attestation report, 1184 bytes, over 64 bytes of report data.

        Raises:
            AttesterError: If the report data has another length.
        """
        if len(report_data) != snp_report.REPORT_DATA_BYTES:
            raise AttesterError(
                f"report data: expected {snp_report.REPORT_DATA_BYTES} bytes, got {len(report_data)}"
            )
        report = make_report(self._authority, report_data, report_id=self._report_id)
        return sign_report(self._authority.vcek_key, report)

    def collateral(self) -> snp_endorsements.SnpEndorsements:
        """Returns the certificates, with a revocation list made at this moment and valid for 30 days."""
        crl = simulated_snp_authority.make_crl(self._authority.ark, self._clock())
        return snp_endorsements.make_endorsements(self._authority.chain, crl=crl)

    def extend(self, digest: bytes) -> None:
        """Raises AttesterError: SEV-SNP has no register that a running guest can extend."""
        raise AttesterError(f"{NAME}: there is no runtime register to extend with {digest.hex()}")

    def register(self) -> None:
        """Returns None: there is no runtime register."""
        return

    def register_log(self) -> tuple[bytes, ...]:
        """Returns nothing: there is no runtime register."""
        return ()

    def boot_log(self) -> None:
        """Returns None: SEV-SNP measures what a guest is launched with, and keeps no log of its boot."""
        return

    def close(self) -> None:
        """Does nothing: nothing is held."""

    def root_certificate(self) -> bytes:
        """Returns the root certificate, DER: what a verifier must be configured with to accept this."""
        return self._authority.ark.der


def default_directory() -> Path:
    """Returns ``$XDG_STATE_HOME/palm-torch/simulated-snp``, or the same under ``~/.local/state``.

    Raises:
        AttesterError: If neither that variable nor a home directory is set.
    """
    return simulated_state.default_directory().with_name(FOLDER)


def read_root(directory: Path) -> bytes:
    """Returns the root certificate in a directory, DER, for a verifier on the same machine.

    Raises:
        AttesterError: If there is none, or the directory is not private to this user.
    """
    try:
        private_folder.check(directory)
        return private_folder.read(directory / "ark.der")
    except OSError as error:
        raise AttesterError(
            f"simulated TEE: no root certificate in {directory}: {error.strerror or error}"
        ) from error


def make_report(authority: Authority, report_data: bytes, *, report_id: bytes) -> snp_report.SnpReport:
    """Returns the report of the simulated guest on the authority's chip over report data, not yet signed."""
    chip_id = vcek.read_endorsed(authority.vcek, what="simulated VCEK").hardware_id
    return report_on(chip_id or bytes(snp_report.CHIP_ID_BYTES), report_data, report_id=report_id)


def report_on(chip_id: bytes, report_data: bytes, *, report_id: bytes) -> snp_report.SnpReport:
    """Returns the report of the simulated guest on a chip over report data, not yet signed."""
    return snp_report.SnpReport(
        version=VERSION,
        guest_svn=0,
        policy=GUEST_POLICY,
        family_id=bytes(snp_report.ID_BYTES),
        image_id=bytes(snp_report.ID_BYTES),
        vmpl=0,
        current_tcb=TCB,
        platform_info=PLATFORM_INFO,
        flags=0,
        report_data=report_data,
        measurement=MEASUREMENT,
        host_data=bytes(snp_report.HOST_DATA_BYTES),
        id_key_digest=_ZERO_DIGEST,
        author_key_digest=_ZERO_DIGEST,
        report_id=report_id,
        report_id_ma=snp_rules.NO_MIGRATION_AGENT,
        reported_tcb=TCB,
        cpuid=CPUID,
        chip_id=chip_id,
        committed_tcb=TCB,
        current_firmware=FIRMWARE,
        committed_firmware=FIRMWARE,
        launch_tcb=TCB,
        signature_r=_ZERO_DIGEST,
        signature_s=_ZERO_DIGEST,
    )


def sign_report(key: ec.EllipticCurvePrivateKey, report: snp_report.SnpReport) -> bytes:
    """Returns the report's bytes with a signature by the key: what a secure processor does."""
    signed = snp_report.encode_report(report)[: snp_report.SIGNED_BYTES]
    size = snp_report.SIGNATURE_NUMBER_BYTES
    numbers = utils.decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA384())))
    r, s = (number.to_bytes(size, "little").ljust(size + 24, b"\x00") for number in numbers)
    return (signed + r + s).ljust(snp_report.REPORT_BYTES, b"\x00")


def _load_or_create(directory: Path, clock: Callable[[], datetime]) -> Authority:
    try:
        private_folder.make(directory, lambda: _files(simulated_snp_authority.make_authority(clock())))
        return _load(directory)
    except OSError as error:
        raise AttesterError(
            f"simulated TEE: cannot keep its keys in {directory}: {error.strerror or error}; "
            f"set XDG_STATE_HOME to a folder that can be written"
        ) from error


def _files(authority: Authority) -> dict[str, bytes]:
    return {
        "ark.key": _key_bytes(authority.ark.key),
        "ark.der": authority.ark.der,
        "ask.key": _key_bytes(authority.ask.key),
        "ask.der": authority.ask.der,
        "vcek.key": _key_bytes(authority.vcek_key),
        "vcek.der": authority.chain[0],
    }


def _load(directory: Path) -> Authority:
    private_folder.check(directory)
    vcek_key = _load_key(directory / "vcek.key")
    if not isinstance(vcek_key, ec.EllipticCurvePrivateKey):
        raise _damaged(directory / "vcek.key", "it holds a key of another kind")
    return Authority(
        ark=_load_issuer(directory, "ark"),
        ask=_load_issuer(directory, "ask"),
        vcek_key=vcek_key,
        vcek=_load_certificate(directory / "vcek.der", vcek_key.public_key()),
    )


def _load_issuer(directory: Path, name: str) -> Issuer:
    key = _load_key(directory / f"{name}.key")
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _damaged(directory / f"{name}.key", "it holds a key of another kind")
    return Issuer(key, _load_certificate(directory / f"{name}.der", key.public_key()))


def _load_certificate(path: Path, key: hierarchies.PublicKey) -> x509.Certificate:
    try:
        certificate = certificate_bytes.load_certificate(
            private_folder.read(path),
            what=str(path),
            algorithms=certificate_bytes.AMD,
            zero_serial=not isinstance(key, rsa.RSAPublicKey),
        )
    except EncodingError as error:
        raise _damaged(path, str(error)) from error
    if certificate.public_key() != key:
        raise _damaged(path, "it does not belong to the key beside it")
    return certificate


def _load_key(path: Path) -> object:
    data = private_folder.read(path)
    try:  # whether the numbers are prime takes long to see, and the certificate has the public half
        return load_der_private_key(data, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(path, "it holds no private key") from error


def _key_bytes(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _damaged(path: Path, reason: str) -> AttesterError:
    return AttesterError(
        f"simulated TEE: {path} is damaged: {reason}; delete the folder, and a new root will be made"
    )
