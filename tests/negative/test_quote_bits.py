"""Every bit counts: a quote or its collateral with one bit flipped is refused, and only by our own errors.

By default one bit of every byte of the quote and of 2,500 bytes of the collateral document is flipped;
``PALM_TORCH_FLIPS=all`` flips every bit of both (about six minutes).
"""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from bits import surviving

from palm_torch import codec
from palm_torch.cvm import (
    certificates,
    collateral,
    quote,
    simulated_authority,
    simulated_collateral,
    simulated_quote,
    tdx,
)
from palm_torch.encoding import decode_json, encode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
ALL = os.environ.get("PALM_TORCH_FLIPS") == "all"
COLLATERAL_FLIPS = 2500
VECTOR_FLIPS = 600


def drawn(data: bytes, count: int | None) -> Sequence[int]:
    """Returns one bit of each byte, of `count` bytes, or all bits."""
    source = random.Random(0)
    positions = range(len(data)) if count is None else source.sample(range(len(data)), count)
    return range(8 * len(data)) if ALL else [8 * at + source.randrange(8) for at in positions]


def accepted(data: bytes, verify: Callable[[bytes], object], count: int | None = None) -> list[int]:
    """Returns the flipped bits that were accepted; an exception outside our tree fails the test itself."""
    verify(data)
    return surviving(data, verify, drawn(data, count))


def read(document: bytes) -> collateral.Collateral:
    return collateral.from_json(decode_json(document, what="collateral", max_bytes=1 << 22))


@pytest.fixture(scope="module")
def authority() -> simulated_authority.Authority:
    return simulated_authority.make_authority(NOW)


@pytest.fixture(scope="module")
def anchors(authority: simulated_authority.Authority) -> list[certificates.TrustAnchor]:
    return [certificates.TrustAnchor.from_certificate(authority.root.der, name="simulated")]


def test_every_byte_of_a_simulated_quote(
    authority: simulated_authority.Authority, anchors: list[certificates.TrustAnchor]
) -> None:
    raw = simulated_quote.sign_quote(authority, simulated_quote.make_td_report(bytes(range(64))))
    endorsements = simulated_collateral.make_collateral(authority, NOW)

    def verify(data: bytes) -> None:
        tdx.verify_quote(data, endorsements, anchors=anchors, now=NOW)

    assert accepted(raw, verify) == []


def test_bytes_of_simulated_collateral(
    authority: simulated_authority.Authority, anchors: list[certificates.TrustAnchor]
) -> None:
    raw = simulated_quote.sign_quote(authority, simulated_quote.make_td_report(bytes(range(64))))
    document = encode_json(codec.to_json(simulated_collateral.make_collateral(authority, NOW)))

    def verify(data: bytes) -> None:
        tdx.verify_quote(raw, read(data), anchors=anchors, now=NOW)

    assert accepted(document, verify, COLLATERAL_FLIPS) == []


def test_bytes_of_a_real_quote(vectors: Callable[[str], bytes]) -> None:
    import json

    raw = quote.canonical(vectors("tdx/dcap-qvl/tdx_quote"))
    endorsements = collateral.from_json(json.loads(vectors("tdx/dcap-qvl/tdx_quote_collateral.json")))

    def verify(data: bytes) -> None:
        now = datetime.fromtimestamp(1750332747, UTC)
        tdx.verify_quote(data, endorsements, anchors=[certificates.INTEL_SGX_ROOT], now=now)

    assert accepted(raw, verify, VECTOR_FLIPS) == []


def test_bytes_of_real_collateral(vectors: Callable[[str], bytes]) -> None:
    import json

    raw = quote.canonical(vectors("tdx/dcap-qvl/tdx_quote"))
    document = encode_json(json.loads(vectors("tdx/dcap-qvl/tdx_quote_collateral.json")))

    def verify(data: bytes) -> None:
        now = datetime.fromtimestamp(1750332747, UTC)
        tdx.verify_quote(raw, read(data), anchors=[certificates.INTEL_SGX_ROOT], now=now)

    assert accepted(document, verify, VECTOR_FLIPS) == []


def test_the_count_can_fail(
    authority: simulated_authority.Authority, anchors: list[certificates.TrustAnchor]
) -> None:
    """The twin: a verifier that looks at nothing accepts every flip."""
    del authority, anchors
    data = bytes(16)
    assert len(accepted(data, lambda _: None)) == (128 if ALL else 16)
