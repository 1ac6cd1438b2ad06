"""Every bit counts: an SNP report or its certificate with one bit flipped is refused, by our own errors.

By default one bit of every byte is flipped; ``PALM_TORCH_FLIPS=all`` flips every bit.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import snp_flips
import snp_world

if TYPE_CHECKING:
    from collections.abc import Callable

PER_BYTE = 8 if os.environ.get("PALM_TORCH_FLIPS") == "all" else 1


@pytest.mark.parametrize("key", snp_flips.KEYS)
def test_bytes_of_a_real_report(vectors: Callable[[str], bytes], key: str) -> None:
    raw, chain = snp_flips.real(vectors, key)
    assert snp_flips.accepted(raw, lambda data: snp_flips.verify(data, chain), per_byte=PER_BYTE) == (
        PER_BYTE * 1184,
        [],
    )


@pytest.mark.parametrize("key", snp_flips.KEYS)
@pytest.mark.parametrize("position", [0, 1, 2], ids=["leaf", "issuer", "root"])
def test_bytes_of_real_certificates(vectors: Callable[[str], bytes], key: str, position: int) -> None:
    raw, chain = snp_flips.real(vectors, key)

    def verify(data: bytes) -> None:
        snp_flips.verify(raw, [*chain[:position], data, *chain[position + 1 :]])

    _, accepted = snp_flips.accepted(chain[position], verify, per_byte=PER_BYTE)
    assert accepted == []


def test_bytes_of_a_simulated_report_and_a_revocation_list() -> None:
    endorsements = snp_world.endorsements()
    _, accepted = snp_flips.accepted(
        snp_world.report(), lambda data: snp_world.verify(data, endorsements), per_byte=PER_BYTE
    )
    assert accepted == []
    raw, crl = snp_world.report(), snp_world.crl()
    _, accepted = snp_flips.accepted(
        crl, lambda data: snp_world.verify(raw, snp_world.endorsements(crl=data)), per_byte=PER_BYTE
    )
    assert accepted == []


def test_the_count_can_fail() -> None:
    """The twin: a verifier that looks at nothing accepts every flip."""
    tried, accepted = snp_flips.accepted(bytes(16), lambda _: None, per_byte=2)
    assert tried == len(accepted) == 32
