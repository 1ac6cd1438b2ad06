"""Real TDX quotes and collateral, by the names of the third-party vectors, each as a verifier takes it."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from palm_torch.cvm import certificates, collateral, pcs, quote, tdx

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.cvm.collateral import Collateral

    Vectors = Callable[[str], bytes]

V4_QUOTE = "tdx/dcap-qvl/tdx_quote"
V5_QUOTE = "tdx/go-tdx-guest/quote_v5_sample.dat"
DEBUG_QUOTE = "tdx/trustee/tdx_quote_4.dat"
OLD_QUOTE = "tdx/go-tdx-guest/tdx_prod_quote_SPR_E4.dat"
PRE_PRODUCTION_QUOTE = "tdx/cc-trusted-api/quote.bin"
CLOUD_QUOTE = "tdx/go-tdx-guest/ccel/cos-113-tdx-quote.dat"
HEX_QUOTE = "tdx/dcap-qvl/tdx-quote.hex"
LOW_QUOTE = "tdx/dcap-qvl/tdx_quote_outdated"
SGX_QUOTE = "tdx/dcap-qvl/sgx_quote"

JUNE_2025 = datetime.fromtimestamp(1750332747, UTC)
FEBRUARY_2026 = datetime.fromtimestamp(1771459200, UTC)
JULY_2023 = datetime.fromtimestamp(1688169600, UTC)
SGX_TIME = datetime.fromtimestamp(1750334171, UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def raw_quote(vectors: Vectors, name: str) -> bytes:
    """Returns a quote's bytes; the one that is kept as text is decoded."""
    data = vectors(name)
    return bytes.fromhex(data.decode().strip().removeprefix("0x")) if name == HEX_QUOTE else data


def truncated(raw: bytes) -> bytes:
    """Returns a quote without its tail, whatever that is."""
    start = {4: 632, 5: 702}[raw[0]]
    return raw[: start + 4 + int.from_bytes(raw[start : start + 4], "little")]


def read(vectors: Vectors, name: str) -> Collateral:
    """Returns collateral by name: "june" (2025), "outdated", "sgx", "2023", "mixed" or "no-window"."""
    if name == "2023":
        return answers(vectors, "sample_tcbInfo_response")
    if name == "no-window":
        return answers(vectors, "sample_tcbinfo_response_v5")
    file = {"june": "tdx_quote", "outdated": "tdx_quote_outdated", "mixed": "tdx_quote_outdated"}
    found = collateral.from_json(
        json.loads(vectors(f"tdx/dcap-qvl/{file.get(name, 'sgx_quote')}_collateral.json"))
    )
    if name != "mixed":
        return found
    text, signature = pcs.cut(vectors("tdx/go-tdx-guest/sample_tcbinfo_response_v5"), pcs.TCB_INFO_KEY)
    return dataclasses.replace(found, tcb_info=text, tcb_info_signature=signature)


def answers(vectors: Vectors, tcb_info: str) -> Collateral:
    """Puts together what the service answered: bodies, and the chains of the headers of 2023."""
    folder = "tdx/go-tdx-guest"
    return pcs.collateral_of(
        tcb_info=pcs.Answer(vectors(f"{folder}/{tcb_info}"), header(vectors, "tcbInfoIssuerChain")),
        qe_identity=pcs.Answer(
            vectors(f"{folder}/sample_qeIdentity_response"), header(vectors, "qeIdentityIssuerChain")
        ),
        pck_crl=pcs.Answer(vectors(f"{folder}/pckcrl"), header(vectors, "pckCrlIssuerChain")),
        root_ca_crl=vectors(f"{folder}/rootcrl.der"),
    )


def header(vectors: Vectors, name: str) -> str:
    source = vectors("tdx/go-tdx-guest/test_cases.go.issuer-chains.txt").decode()
    found = re.search(rf'var {name} = \[\]string\{{\s*"([^"]+)"', source)
    if found is None:
        raise AssertionError(f"{name} is not in the vector")
    return found.group(1)


def verify(raw: bytes, endorsements: Collateral, now: datetime) -> tdx.VerifiedQuote:
    """Verifies a quote as a machine returned it, under Intel's root."""
    return tdx.verify_quote(
        quote.canonical(raw), endorsements, anchors=[certificates.INTEL_SGX_ROOT], now=now
    )
