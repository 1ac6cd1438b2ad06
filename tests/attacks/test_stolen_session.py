"""The attacker puts his own session key under somebody's run, to sign receipts in its name later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from workshop import put

from palm_torch.errors import BindingError

if TYPE_CHECKING:
    from workshop import GoodRun


def own_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_another_key_breaks_both_seals(good: GoodRun) -> None:
    stolen = put(good.bundle, "session_key", own_key())
    with pytest.raises(BindingError, match="begin quote: report data"):
        good.verify(stolen)


@pytest.mark.parametrize("phase", ["begin", "end"])
def test_one_phase_under_another_key_is_another_session(good: GoodRun, phase: str) -> None:
    stolen = good.resealed(put(good.bundle, "session_key", own_key()), phases=(phase,))
    with pytest.raises(BindingError, match="report data"):
        good.verify(stolen)


def test_a_key_with_bytes_behind_it_is_another_key(good: GoodRun) -> None:
    with pytest.raises(BindingError):
        good.verify(put(good.bundle, "session_key", good.bundle.session_key + b"\0"))
