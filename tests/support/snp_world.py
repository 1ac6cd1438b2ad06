"""A simulated AMD, one of its chips and a guest on it: a test bends what they say before it is signed."""

from __future__ import annotations

import dataclasses
import functools
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch.cvm import (
    certificates,
    der,
    simulated_snp,
    simulated_snp_authority,
    snp,
    snp_endorsements,
    snp_rules,
    vcek,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from palm_torch.cvm.snp_endorsements import SnpEndorsements

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
START = NOW - timedelta(days=1)
REPORT_DATA = bytes(range(64))
REPORT_ID = bytes(range(100, 132))
CSP_ID = "CN=cloud.invalid"
VLEK_FLAGS = 1 << 2


def authority() -> simulated_snp_authority.Authority:
    """Returns the vendor and the chip, made once for the whole run of the tests."""
    return _authority_in(_folder())


def _folder() -> Path:
    return Path(os.environ["XDG_STATE_HOME"]) / "snp-world"


@functools.cache
def _authority_in(folder: Path) -> simulated_snp_authority.Authority:
    return simulated_snp.SimulatedSnp(directory=folder, clock=lambda: NOW)._authority


def anchor() -> certificates.TrustAnchor:
    """Returns the vendor's root as a verifier configures it."""
    return certificates.TrustAnchor.from_certificate(authority().ark.der, name="simulated AMD")


def report(key: ec.EllipticCurvePrivateKey | None = None, **changes: Any) -> bytes:
    """Returns a signed report; keywords replace fields of it before it is signed."""
    made = simulated_snp.make_report(authority(), REPORT_DATA, report_id=REPORT_ID)
    return simulated_snp.sign_report(key or authority().vcek_key, dataclasses.replace(made, **changes))


def endorsements(chain: Sequence[bytes] | None = None, *, crl: bytes | None = None) -> SnpEndorsements:
    """Returns endorsements with the chip's chain, unless another is given."""
    return snp_endorsements.make_endorsements(authority().chain if chain is None else chain, crl=crl)


def crl(*revoked: x509.Certificate, age: timedelta = timedelta()) -> bytes:
    """Returns the root's revocation list."""
    return simulated_snp_authority.make_crl(authority().ark, NOW - age, revoked)


def verify(
    raw: bytes | None = None, given: SnpEndorsements | None = None, *, now: datetime = NOW
) -> snp.VerifiedReport:
    """Verifies a report, the guest's own unless another is given."""
    return snp.verify_report(
        report() if raw is None else raw,
        given or endorsements(),
        anchors=[certificates.AMD_ARK_MILAN, anchor()],
        now=now,
    )


def leaf(
    issuer: simulated_snp_authority.Issuer | None = None,
    *,
    name: str = "SEV-VCEK",
    key: ec.EllipticCurvePublicKey | None = None,
    start: datetime = START,
    **extensions: Any,
) -> bytes:
    """Returns a certificate, DER; by default a VCEK of the chip's key, with the extensions given."""
    made = simulated_snp_authority.make_leaf(
        name,
        key or authority().vcek_key.public_key(),
        issuer or authority().ask,
        start,
        simulated_snp_authority.make_extensions(**extensions),
    )
    return made.public_bytes(Encoding.DER)


def chip_id() -> bytes:
    """Returns the identity of the chip."""
    return vcek.read_endorsed(authority().vcek, what="VCEK").hardware_id or b""


def asvk(name: str = "SEV-VLEK-Simulated") -> simulated_snp_authority.Issuer:
    """Returns the issuer of cloud providers' certificates; it shares the ASK's key, which saves a second."""
    return _asvk_in(_folder(), name)


@functools.cache
def _asvk_in(folder: Path, name: str) -> simulated_snp_authority.Issuer:
    found = _authority_in(folder)
    return simulated_snp_authority.make_issuer(name, found.ark, START, key=found.ask.key)


def vlek_chain() -> list[bytes]:
    """Returns the chain of a VLEK that is on the chip's key."""
    return [leaf(asvk(), name="SEV-VLEK", csp_id=CSP_ID), asvk().der, authority().ark.der]


def rules(**changes: Any) -> snp_rules.SnpRules:
    """Returns rules that the guest meets; keywords replace some."""
    made = snp_rules.SnpRules(
        measurement=(simulated_snp.MEASUREMENT.hex(),), min_tcb=simulated_snp_authority.TCB
    )
    return dataclasses.replace(made, **changes)


def with_serial(
    certificate: bytes, serial: bytes, *, issuer: simulated_snp_authority.Issuer | None = None
) -> bytes:
    """Returns a certificate with another serial number, signed again: by the ASK unless another is given."""
    signed, algorithm, _ = der.children(der.read(certificate, what="x"), what="x")
    version, _, *rest = (field.encoded for field in der.children(signed, what="x"))
    fields = der.write(der.SEQUENCE, version, der.write(der.INTEGER, serial), *rest)
    signature = (issuer or authority().ask).key.sign(
        fields, simulated_snp_authority._PSS, simulated_snp_authority.hashes.SHA384()
    )
    return der.write(der.SEQUENCE, fields, algorithm.encoded, der.write(der.BIT_STRING, b"\x00" + signature))
