"""Certificates as bytes, where no chain needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from palm_torch.cvm import certificate_bytes

if TYPE_CHECKING:
    from cryptography import x509


class Strange:
    """A certificate for a key of a kind that nobody knows."""

    def public_key(self) -> None:
        raise UnsupportedAlgorithm("no such curve")


def test_a_certificate_whose_key_cannot_be_read_is_for_no_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert not certificate_bytes.is_for(cast("x509.Certificate", Strange()), key)
