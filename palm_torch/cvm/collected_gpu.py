"""What every collector of GPU evidence hands on: checked for what it was asked, certificates in DER.

NVIDIA's tools serialise evidence as a JSON list with one object for each GPU; they put one nonce to all GPUs,
where a session needs another for each, so that they are run once for each nonce.
"""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any, Final

from palm_torch import nesting
from palm_torch.cvm import certificate_bytes, signed_json, spdm
from palm_torch.encoding import decode_base64
from palm_torch.errors import AttesterError, InputError
from palm_torch.evidence import GpuEvidence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_PEM_BYTES: Final = 5120
"""Size of the driver's buffer for a certificate chain, in bytes."""
CERTIFICATES: Final = 5
"""How many certificates a chain has, the root among them."""
MAX_JSON_BYTES: Final = 4 << 20


def check_nonces(nonces: Sequence[bytes]) -> None:
    """Refuses nonces that no GPU takes, and those that two GPUs would share.

    Raises:
        AttesterError: If there is none, one has another length, or one is there twice.
    """
    if not nonces:
        raise AttesterError("GPU evidence: expected a nonce for each GPU, got none")
    for number, nonce in enumerate(nonces):
        if len(nonce) != spdm.NONCE_BYTES:
            raise AttesterError(f"GPU {number}: nonce: expected {spdm.NONCE_BYTES} bytes, got {len(nonce)}")
    if len(set(nonces)) != len(nonces):
        raise AttesterError("GPU evidence: expected another nonce for each GPU, got one twice")


def check_count(found: int, nonces: Sequence[bytes], *, what: str) -> None:
    """Refuses GPUs that are more or fewer than the nonces.

    Raises:
        AttesterError: If they are.
    """
    if found != len(nonces):
        raise AttesterError(f"{what}: expected {len(nonces)} GPUs, one for each nonce, got {found}")


def make_evidence(report: bytes, pem: bytes, *, nonce: bytes, what: str) -> GpuEvidence:
    """Returns one GPU's evidence as bundles carry it, once it is seen to answer the nonce.

    Args:
        report: The SPDM request and its answer.
        pem: The certificates, PEM, leaf first; NUL bytes after them are dropped, and a missing line feed at
            the end is added.
        nonce: What the GPU was asked over, 32 bytes.
        what: Name of the GPU, for messages.

    Raises:
        AttesterError: If the report does not parse or answers another nonce, or the chain is not five
            certificates in PEM.
    """
    if not 0 < len(report) <= spdm.MAX_EVIDENCE_BYTES:
        raise AttesterError(
            f"{what}: report: expected 1 to {spdm.MAX_EVIDENCE_BYTES} bytes, got {len(report)}"
        )
    if not 0 < len(pem) <= MAX_PEM_BYTES:
        raise AttesterError(f"{what}: certificates: expected 1 to {MAX_PEM_BYTES} bytes, got {len(pem)}")
    try:
        answered = spdm.parse_report(report).nonce
        chain = certificate_bytes.decode_pem(
            pem.rstrip(b"\0\n") + b"\n", what=f"{what}: certificates", count=CERTIFICATES
        )
    except InputError as error:
        raise AttesterError(f"{what}: unusable evidence: {error}") from error
    if not hmac.compare_digest(answered, nonce):
        raise AttesterError(f"{what}: expected a report over nonce {nonce.hex()}, got {answered.hex()}")
    return GpuEvidence(evidence=report, chain=b"".join(chain))


def read_list(document: object, *, nonce: bytes, what: str) -> tuple[GpuEvidence, ...]:
    """Reads evidence as NVIDIA's tools serialise it: {evidence, certificate, nonce …} for each GPU.

    Args:
        document: The list, as `json` gives it; both values are base64, of a report and of a PEM chain.
        nonce: What all GPUs were asked over, 32 bytes.
        what: Name of the tool, for messages.

    Raises:
        AttesterError: If it is something else, or evidence that answers something else.
    """
    try:
        items = signed_json.Node(what, {"evidences": document}).items("evidences")
        found = []
        for number, item in enumerate(items):
            report, pem = (
                decode_base64(item.key(name).text(), what=f"{what}: GPU {number}: {name}")
                for name in ("evidence", "certificate")
            )
            said = item.key("nonce").text() if "nonce" in item.value else nonce.hex()
            if said.lower().removeprefix("0x") != nonce.hex():
                raise AttesterError(f"{what}: GPU {number}: expected nonce {nonce.hex()}, got {said[:80]!r}")
            found.append(make_evidence(report, pem, nonce=nonce, what=f"{what}: GPU {number}"))
    except InputError as error:
        raise AttesterError(f"{what}: unusable answer: {error}") from error
    return tuple(found)


def read_json(text: bytes, *, what: str) -> dict[str, Any]:
    """Reads the JSON object that a tool answers with.

    Raises:
        AttesterError: If it is something else.
    """
    nesting.check(text, what=f"{what}: expected JSON", error=AttesterError)
    try:
        document = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=signed_json.unique,
            parse_constant=signed_json.refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise AttesterError(f"{what}: expected JSON, got {text[:80]!r}: {error}") from error
    if not isinstance(document, dict):
        raise AttesterError(f"{what}: expected a JSON object, got {text[:80]!r}")
    return document


def one_each(
    ask: Callable[[bytes], tuple[GpuEvidence, ...]], nonces: Sequence[bytes], *, what: str
) -> tuple[GpuEvidence, ...]:
    """Puts each nonce to all GPUs, and keeps of each answer the GPU that the nonce is for.

    Args:
        ask: Returns evidence of every GPU over one nonce, in the same order every time.
        nonces: One for each GPU, in that order.
        what: Name of the tool, for messages.

    Raises:
        AttesterError: If an answer has more or fewer GPUs than there are nonces, or another order.
    """
    check_nonces(nonces)
    found: list[GpuEvidence] = []
    chains: list[bytes] = []
    for number, nonce in enumerate(nonces):
        answer = ask(nonce)
        check_count(len(answer), nonces, what=what)
        if chains and [gpu.chain for gpu in answer] != chains:
            raise AttesterError(
                f"{what}: the GPUs came in another order, or were others, than the time before"
            )
        chains = [gpu.chain for gpu in answer]
        found.append(answer[number])
    return tuple(found)
