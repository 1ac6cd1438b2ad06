"""Vendors' services on this machine: what they would publish, as they would publish it."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING

import web

if TYPE_CHECKING:
    from palm_torch.cvm.collateral import Collateral
    from palm_torch.cvm.snp_endorsements import SnpEndorsements

Vectors = Callable[[str], bytes]

TCB_INFO = "/tdx/certification/v4/tcb"
QE_IDENTITY = "/tdx/certification/v4/qe/identity"
PCK_CRL = "/sgx/certification/v4/pckcrl"
ROOT_CRL = "/sgx/certification/v4/rootcacrl"


class Service:
    """Answers by path; `asked` are the paths with their queries, `instead` replaces answers."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers = answers
        self.instead: dict[str, bytes] = {}
        self.asked: list[str] = []

    def __call__(self, path: str, _headers: dict[str, str]) -> bytes:
        self.asked.append(path)
        bare = path.partition("?")[0]
        if bare in self.instead:
            return self.instead[bare]
        return self.answers.get(bare, web.answer(status="404 Not Found"))


def pccs(collateral: Collateral) -> Service:
    """Returns a cache that knows one platform."""

    def chain(pem: str) -> str:
        return urllib.parse.quote(pem)

    return Service(
        {
            TCB_INFO: web.answer(
                _signed("tcbInfo", collateral.tcb_info, collateral.tcb_info_signature),
                TCB_Info_Issuer_Chain=chain(collateral.tcb_info_issuer_chain),
            ),
            QE_IDENTITY: web.answer(
                _signed("enclaveIdentity", collateral.qe_identity, collateral.qe_identity_signature),
                SGX_Enclave_Identity_Issuer_Chain=chain(collateral.qe_identity_issuer_chain),
            ),
            PCK_CRL: web.answer(
                bytes.fromhex(collateral.pck_crl),
                SGX_PCK_CRL_Issuer_Chain=chain(collateral.pck_crl_issuer_chain),
            ),
            ROOT_CRL: web.answer(collateral.root_ca_crl.encode()),
        }
    )


def pccs_2023(vectors: Vectors) -> Service:
    """Returns a cache with what Intel's service answered in June 2023."""
    source = vectors("tdx/go-tdx-guest/test_cases.go.issuer-chains.txt").decode()
    info, identity, crl = (
        _chain_of(source, name)
        for name in ("tcbInfoIssuerChain", "qeIdentityIssuerChain", "pckCrlIssuerChain")
    )
    return Service(
        {
            TCB_INFO: web.answer(
                vectors("tdx/go-tdx-guest/sample_tcbInfo_response"), TCB_Info_Issuer_Chain=info
            ),
            QE_IDENTITY: web.answer(
                vectors("tdx/go-tdx-guest/sample_qeIdentity_response"),
                SGX_Enclave_Identity_Issuer_Chain=identity,
            ),
            PCK_CRL: web.answer(vectors("tdx/go-tdx-guest/pckcrl"), SGX_PCK_CRL_Issuer_Chain=crl),
            ROOT_CRL: web.answer(vectors("tdx/go-tdx-guest/rootcrl.der").hex().encode()),
        }
    )


def kds(leaf: bytes, above: bytes, crl: bytes, *, chip: bytes, key: str = "vcek") -> Service:
    """Returns a service that knows one chip: DER certificate, PEM of those above it, DER list."""
    return Service(
        {
            f"/{key}/v1/Milan/{chip.hex()}": web.answer(leaf),
            f"/{key}/v1/Milan/cert_chain": web.answer(above),
            f"/{key}/v1/Milan/crl": web.answer(crl),
        }
    )


def kds_of(endorsements: SnpEndorsements, *, chip: bytes) -> Service:
    """Returns a service that knows what a simulated guest carries."""
    pem = endorsements.certificate_chain.encode()
    above = pem[pem.index(b"-----BEGIN", 1) :]
    return kds(endorsements.chain()[0], above, endorsements.revocation_list() or b"", chip=chip)


def _signed(key: str, text: str, signature: str) -> bytes:
    return f'{{"{key}":{text},"signature":"{signature}"}}'.encode()


def _chain_of(source: str, name: str) -> str:
    found = re.search(rf'var {name} = \[\]string{{\s*"([^"]+)"', source)
    if found is None:
        raise LookupError(f"{name} is not in the vector")
    return found[1]
