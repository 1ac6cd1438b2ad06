"""The powers of a number that nobody knows: the outcome of the EIP-4844 ceremony of 2023.

141,416 contributors each multiplied in a number of their own; one who forgot it makes the setup safe. The
file lies in the package, is pinned by its SHA-256, and every part of it that is used is cut out of bytes
that were hashed. Nothing in this library makes such powers: whoever knew the number could open a
commitment to anything.

| lines | what | bytes each |
|---|---|---|
| 2 | ``4096``, ``65`` | |
| 4096 | ``[L_k(tau)]_1``, k = 0 … 4095 in natural order: L_k is 1 at w^k and 0 at the other roots | 48 |
| 65 | ``[tau^k]_2``, k = 0 … 64 | 96 |
| 4096 | ``[tau^k]_1``, k = 0 … 4095 | 48 |

Points are compressed, in lower-case hex, one to a line.

Source: https://github.com/ethereum/consensus-specs, presets/mainnet/trusted_setups; EIP-4844; EIP-7594.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Final

from palm_torch.commit import field
from palm_torch.errors import DataError

SRS_ID: Final = bytes.fromhex("d39b9f2d047cc9dca2de58f264b6a09448ccd34db967881a6713eacacf0f26b7")
"""SHA-256 of the ceremony's file, 32 bytes: names the setup wherever one is bound."""

FILE: Final = Path(__file__).with_name("kzg_ceremony.txt")
G2_POWERS: Final = 65

_HEAD: Final = len(b"4096\n65\n")
_G1_LINE: Final = 2 * 48 + 1
_G2_LINE: Final = 2 * 96 + 1
_G2_START: Final = _HEAD + field.WIDTH * _G1_LINE
_POWERS_START: Final = _G2_START + G2_POWERS * _G2_LINE


def lagrange(place: int) -> bytes:
    """Returns ``[L_p(tau)]_1`` of the polynomial that is 1 at place p of a blob and 0 elsewhere, 48 bytes."""
    return _line(_HEAD + field.EXPONENTS[place] * _G1_LINE, _G1_LINE)


def g1_power(exponent: int) -> bytes:
    """Returns ``[tau^k]_1``, k in 0 … 4095, 48 bytes; for k = 0 that is the generator of G1."""
    return _line(_POWERS_START + exponent * _G1_LINE, _G1_LINE)


def g2_power(exponent: int) -> bytes:
    """Returns ``[tau^k]_2``, k in 0 … 64, 96 bytes; for k = 0 that is the generator of G2."""
    return _line(_G2_START + exponent * _G2_LINE, _G2_LINE)


@functools.cache
def text() -> bytes:
    """Returns the bytes of the file, 807,177 of them, read and hashed once.

    Raises:
        DataError: If the package's file is missing or altered.
    """
    try:
        data = FILE.read_bytes()
    except OSError as error:
        raise DataError(f"KZG setup {FILE}: {error.strerror}; install palm-torch again") from error
    digest = hashlib.sha256(data).digest()
    if digest != SRS_ID:
        raise DataError(
            f"KZG setup {FILE}: expected SHA-256 {SRS_ID.hex()}, got {digest.hex()}; install palm-torch again"
        )
    return data


def _line(start: int, length: int) -> bytes:
    return bytes.fromhex(text()[start : start + length].decode("ascii"))
