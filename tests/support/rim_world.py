"""A simulated maker of GPUs and its reference measurements: a test bends them before they are signed."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from palm_torch.cvm import certificates, rim, rim_signature, simulated_rim

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
DRIVER = "550.144.03"
VBIOS = "96.00.5E.00.01"
GOLDEN = {0: (b"\x01" * 48,), 9: (b"\x02" * 48, b"\x03" * 48)}


@functools.cache
def authority() -> simulated_rim.RimAuthority:
    """Returns who signs, made once for the whole run of the tests."""
    return simulated_rim.make_authority(NOW)


@functools.cache
def anchor() -> certificates.TrustAnchor:
    """Returns the root as a verifier configures it."""
    return certificates.TrustAnchor.from_certificate(authority().root.der, name="simulated CoRIM")


def document(
    *, version: str = VBIOS, golden: Mapping[int, Sequence[bytes]] = GOLDEN, **changes: Any
) -> bytes:
    """Returns a manifest without a signature."""
    return simulated_rim.make_document(version=version, golden=golden, **changes)


def sign(unsigned: bytes) -> bytes:
    """Signs a manifest, whatever it says."""
    return rim_signature.sign(unsigned, key=authority().signer.key, chain=authority().chain)


def manifest(
    *, version: str = VBIOS, golden: Mapping[int, Sequence[bytes]] = GOLDEN, **changes: Any
) -> bytes:
    """Returns a signed manifest."""
    return sign(document(version=version, golden=golden, **changes))


def verify(
    data: bytes | None = None, *, now: datetime = NOW, name: rim.RimName | None = None
) -> rim.VerifiedRim:
    """Verifies a manifest, a good one unless another is given."""
    anchors = [certificates.NVIDIA_CORIM_ROOT, anchor()]
    return rim.verify_rim(manifest() if data is None else data, anchors=anchors, now=now, name=name)


def edited(data: bytes, old: str, new: str, *, count: int = 1) -> bytes:
    """Returns data with some text replaced, which must be there."""
    assert old.encode() in data
    return data.replace(old.encode(), new.encode(), count)
