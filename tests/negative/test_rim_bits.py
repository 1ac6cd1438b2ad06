"""Every bit counts: reference measurements with one bit flipped are refused, by our own errors.

By default one bit of every sixteenth byte is flipped; ``PALM_TORCH_FLIPS=all`` flips every bit (163,728 of
the real manifest, about four minutes on one processor).
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rim_flips
import rim_world
from bits import surviving

from palm_torch.cvm import ocsp, simulated_ocsp

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = os.environ.get("PALM_TORCH_FLIPS") == "all"
EVERY = 16


def drawn(data: bytes, every: int) -> list[int]:
    source = random.Random(0)
    some = [8 * at + source.randrange(8) for at in range(0, len(data), every)]
    return list(range(8 * len(data))) if ALL else some


def test_bytes_of_a_real_manifest(vectors: Callable[[str], bytes]) -> None:
    data = vectors(rim_flips.REAL)
    assert len(data) == 20466
    rim_flips.verify(data)
    assert surviving(data, rim_flips.verify, drawn(data, EVERY)) == []


def test_all_of_the_signature_of_a_real_manifest(vectors: Callable[[str], bytes]) -> None:
    """What canonical XML says nothing about."""
    data = vectors(rim_flips.REAL)
    start = 8 * data.index(b"<ds:Signature ")
    bits = [start + bit for bit in drawn(data[start // 8 :], 4)]
    assert surviving(data, rim_flips.verify, bits) == []


def test_bytes_of_a_simulated_manifest() -> None:
    data = rim_world.manifest()
    rim_world.verify(data)
    assert surviving(data, rim_world.verify, drawn(data, EVERY)) == []


@pytest.mark.parametrize("delegated", [False, True])
def test_bytes_of_an_answer_about_revocation(delegated: bool) -> None:  # noqa: FBT001 (a parameter)
    """A flip in the name of the certificate makes it one about another; then it says nothing about ours."""
    authority, now = rim_world.authority(), rim_world.NOW
    responder = simulated_ocsp.make_responder(authority.product, now) if delegated else None
    data = simulated_ocsp.make_answer(
        authority.signer.certificate, authority.product, now, responder=responder, nonce=bytes(32)
    )
    chain = rim_world.verify().chain

    def verify(answer: bytes) -> None:
        assert ocsp.check_chain(chain, ocsp.parse([answer]), now=now, what="chain").good == (0,)

    verify(data)
    for bit in drawn(data, 1):
        try:
            accepted = surviving(data, verify, [bit])
        except AssertionError:
            continue
        assert accepted == []


def test_the_real_manifest_on_several_processors(vectors: Callable[[str], bytes]) -> None:
    del vectors
    tried = rim_flips.flip_all(Path(os.environ["PALM_TORCH_VECTORS"]), every=1000, jobs=1)
    assert sum(tried.values()) == 164
    assert tried[rim_flips.ACCEPTED] == 0


def test_the_count_can_fail() -> None:
    """The twin: a verifier that looks at nothing accepts every flip."""
    assert len(surviving(bytes(16), lambda _: None, drawn(bytes(16), 1))) == (128 if ALL else 16)
