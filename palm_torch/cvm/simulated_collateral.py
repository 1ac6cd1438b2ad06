"""Collateral of the simulated platform: revocation lists, TCB info and QE identity, made when asked for."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch.cvm import certificate_bytes, simulated_authority, simulated_quote
from palm_torch.cvm.collateral import Collateral

if TYPE_CHECKING:
    from collections.abc import Sequence

EVALUATION_DATA_NUMBER: Final = 1
BACKDATED: Final = timedelta(hours=1)
"""How long before it is made collateral says it was issued: clocks differ."""

VALID: Final = timedelta(days=30)
_TCB_DATE: Final = "2024-03-13T00:00:00Z"


def make_collateral(authority: simulated_authority.Authority, now: datetime) -> Collateral:
    """Returns collateral that says the simulated platform is up to date and nothing is revoked."""
    return sign_collateral(
        authority,
        tcb_info=make_tcb_info(now),
        qe_identity=make_qe_identity(now),
        root_crl=make_crl(authority.root, now),
        pck_crl=make_crl(authority.pck_ca, now),
    )


def sign_collateral(
    authority: simulated_authority.Authority,
    *,
    tcb_info: dict[str, Any],
    qe_identity: dict[str, Any],
    root_crl: bytes,
    pck_crl: bytes,
) -> Collateral:
    """Signs the two documents, as compact JSON, and puts the nine fields together."""
    signer_chain = certificate_bytes.encode_pem([authority.tcb_signer.der, authority.root.der]).decode(
        "ascii"
    )
    texts = [json.dumps(document, separators=(",", ":")) for document in (tcb_info, qe_identity)]
    signatures = [
        simulated_quote.sign_raw(authority.tcb_signer.key, text.encode("utf-8")).hex() for text in texts
    ]
    return Collateral(
        pck_crl_issuer_chain=certificate_bytes.encode_pem([authority.pck_ca.der, authority.root.der]).decode(
            "ascii"
        ),
        root_ca_crl=root_crl.hex(),
        pck_crl=pck_crl.hex(),
        tcb_info_issuer_chain=signer_chain,
        tcb_info=texts[0],
        tcb_info_signature=signatures[0],
        qe_identity_issuer_chain=signer_chain,
        qe_identity=texts[1],
        qe_identity_signature=signatures[1],
    )


def make_crl(
    issuer: simulated_authority.Identity, now: datetime, *, revoked: Sequence[x509.Certificate] = ()
) -> bytes:
    """Returns the issuer's revocation list, DER, naming the given certificates."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - BACKDATED)
        .next_update(now + VALID)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    for certificate in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(certificate.serial_number)
            .revocation_date(now - BACKDATED)
            .build()
        )
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def make_tcb_info(now: datetime) -> dict[str, Any]:
    """Returns TCB info with one level, which the simulated platform is at."""
    module = {
        "mrsigner": simulated_quote.RTMR_ZERO.hex().upper(),
        "attributes": "0000000000000000",
        "attributesMask": "FFFFFFFFFFFFFFFF",
    }
    isv_svn, module_version = simulated_quote.TEE_TCB_SVN[:2]
    return {
        "id": "TDX",
        "version": 3,
        **_dates(now),
        "fmspc": simulated_authority.FMSPC.hex().upper(),
        "pceId": simulated_authority.PCE_ID.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": EVALUATION_DATA_NUMBER,
        "tdxModule": module,
        "tdxModuleIdentities": [
            {"id": f"TDX_{module_version:02X}", **module, "tcbLevels": [_level({"isvsvn": isv_svn})]}
        ],
        "tcbLevels": [
            _level(
                {
                    "sgxtcbcomponents": [{"svn": svn} for svn in simulated_authority.SGX_COMPONENTS],
                    "pcesvn": simulated_authority.PCE_SVN,
                    "tdxtcbcomponents": [{"svn": svn} for svn in simulated_quote.TEE_TCB_SVN],
                }
            )
        ],
    }


def make_qe_identity(now: datetime) -> dict[str, Any]:
    """Returns the identity of the simulated quoting enclave."""
    return {
        "id": "TD_QE",
        "version": 2,
        **_dates(now),
        "tcbEvaluationDataNumber": EVALUATION_DATA_NUMBER,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": simulated_quote.QE_MR_SIGNER.hex().upper(),
        "isvprodid": simulated_quote.QE_ISV_PROD_ID,
        "tcbLevels": [_level({"isvsvn": simulated_quote.QE_ISV_SVN})],
    }


def _level(tcb: dict[str, Any]) -> dict[str, Any]:
    return {"tcb": tcb, "tcbDate": _TCB_DATE, "tcbStatus": "UpToDate"}


def _dates(now: datetime) -> dict[str, str]:
    return {
        "issueDate": (now - BACKDATED).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "nextUpdate": (now + VALID).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
