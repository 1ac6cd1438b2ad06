"""The embedded simulated SEV-SNP guest: real formats, a root of its own, no trust.

Its reports go through the production verifier, which learns that they are simulated from the root that its
own configuration admitted, and from nothing else.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from palm_torch.cvm import (
    certificate_bytes,
    simulated_snp_authority,
    simulated_state,
    snp_endorsements,
    snp_report,
    snp_rules,
    vcek,
)
from palm_torch.cvm.key_folder import KeyFolder, key_bytes
from palm_torch.cvm.simulated_snp_authority import TCB, Authority, Issuer
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
    return KeyFolder(directory, simulated_state.WHAT).read_root("ark.der")


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
    folder = KeyFolder(directory, simulated_state.WHAT)
    return folder.load_or_create(
        lambda: _files(simulated_snp_authority.make_authority(clock())), lambda: _load(folder)
    )


def _files(authority: Authority) -> dict[str, bytes]:
    return {
        "ark.key": key_bytes(authority.ark.key),
        "ark.der": authority.ark.der,
        "ask.key": key_bytes(authority.ask.key),
        "ask.der": authority.ask.der,
        "vcek.key": key_bytes(authority.vcek_key),
        "vcek.der": authority.chain[0],
    }


def _load(folder: KeyFolder) -> Authority:
    vcek_key = folder.elliptic_key("vcek.key")
    return Authority(
        ark=_load_issuer(folder, "ark"),
        ask=_load_issuer(folder, "ask"),
        vcek_key=vcek_key,
        vcek=folder.certificate("vcek.der", vcek_key, algorithms=certificate_bytes.AMD, zero_serial=True),
    )


def _load_issuer(folder: KeyFolder, name: str) -> Issuer:
    key = folder.rsa_key(f"{name}.key")
    return Issuer(key, folder.certificate(f"{name}.der", key, algorithms=certificate_bytes.AMD))
