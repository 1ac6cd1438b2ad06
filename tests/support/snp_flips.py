"""A real report and its certificate with one bit flipped at a time: which flips are accepted, if any.

The tests try some, ``PALM_TORCH_FLIPS=all`` and the benchmarks try every one.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from palm_torch.cvm import certificate_bytes, certificates, snp, snp_endorsements
from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NOW = datetime(2025, 1, 1, tzinfo=UTC)
"""When the certificates of both real reports are valid."""

KEYS = {"vcek": ("test-report.bin", "test-vcek.der", 0), "vlek": ("test-vlek-report.bin", "test-vlek.der", 2)}
"""Kind of key → report, leaf, and the position of its issuer among AMD's certificates."""

_END = b"-----END CERTIFICATE-----\n"


def real(vectors: Callable[[str], bytes], key: str) -> tuple[bytes, tuple[bytes, bytes, bytes]]:
    """Returns a real report and its chain, DER, leaf first."""
    report, leaf, issuer = KEYS[key]
    above = amd(vectors)
    return vectors(f"snp/trustee/{report}"), (vectors(f"snp/trustee/{leaf}"), above[issuer], above[1])


def amd(vectors: Callable[[str], bytes]) -> tuple[bytes, ...]:
    """Returns AMD's ASK, ARK and ASVK, DER."""
    blocks = vectors("snp/trustee/milan_ask_ark_asvk.pem").replace(b"\r\n", b"\n").split(_END)
    pem = b"".join(block[block.index(b"-----BEGIN") :] + _END for block in blocks if b"BEGIN" in block)
    return certificate_bytes.decode_pem(pem, what="AMD's certificates", count=3)


def verify(
    raw: bytes, chain: Iterable[bytes], *, crl: bytes | None = None, now: datetime = NOW
) -> snp.VerifiedReport:
    """Verifies a report under AMD's root."""
    endorsements = snp_endorsements.make_endorsements(list(chain), crl=crl)
    return snp.verify_report(raw, endorsements, anchors=[certificates.AMD_ARK_MILAN], now=now)


def accepted(data: bytes, verify: Callable[[bytes], object], *, per_byte: int = 8) -> tuple[int, list[int]]:
    """Returns how many flips were tried and which were accepted; errors that are not ours pass through.

    Args:
        data: What is accepted as it is.
        verify: What raises one of our errors, or accepts.
        per_byte: How many bits of every byte are tried, one at a time.
    """
    verify(data)
    source = random.Random(0)
    found = []
    for at in range(len(data)):
        for bit in source.sample(range(8), per_byte):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            try:
                verify(bytes(flipped))
            except PalmTorchError:
                continue
            found.append(8 * at + bit)
    return per_byte * len(data), found


def flip_all(vectors: Callable[[str], bytes], key: str = "vcek") -> dict[str, tuple[int, list[int]]]:
    """Flips every bit of a real report and of its leaf: name → tried, accepted."""
    raw, (leaf, *above) = real(vectors, key)
    return {
        f"SNP report ({key})": accepted(raw, lambda data: verify(data, (leaf, *above))),
        f"{key.upper()} certificate": accepted(leaf, lambda data: verify(raw, (data, *above))),
    }
