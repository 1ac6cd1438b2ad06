"""Numbers that nobody chose: drawn from a seed that claims, trace and the verifier's nonce make together.

`seed` is SHA-512; a stream of bytes is SHAKE-256 of the seed and a label. Numbers are drawn by rejection, so
that each is exactly as likely as every other. Prover and verifier draw the same.

Specification: docs/spec/57-audit.md.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from palm_torch.encoding import length_prefixed

if TYPE_CHECKING:
    from palm_torch.digest import Digest

TAG: Final = "palm-torch/audit/v1"

_NUMBER_BYTES: Final = 8
_FIRST_BYTES: Final = 1 << 10
_NUMBERS: Final = 1 << 64


def seed(claims: Digest | None, trace: Digest, nonce: bytes) -> bytes:
    """Returns what everything of an audit is drawn from, 64 bytes.

    Args:
        claims: What was sealed; None where nothing was.
        trace: The trace root.
        nonce: 32 bytes of the verifier's.
    """
    sealed = "" if claims is None else str(claims)
    parts = (sealed.encode("ascii"), str(trace).encode("ascii"), nonce)
    return hashlib.sha512(TAG.encode("ascii") + b"".join(map(length_prefixed, parts))).digest()


class Stream:
    """An endless run of bytes for one purpose; one owner.

    Args:
        drawn_from: The seed, 64 bytes.
        label: What it is for; other labels make other streams.
    """

    def __init__(self, drawn_from: bytes, label: str) -> None:
        self._hash = hashlib.shake_256(drawn_from + length_prefixed(label.encode("ascii")))
        self._data = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """Returns the next bytes.

        Args:
            count: How many.
        """
        end = self._at + count
        if end > len(self._data):
            self._data = self._hash.digest(max(2 * end, _FIRST_BYTES))
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def below(self, bound: int) -> int:
        """Returns the next number in [0, bound), each equally likely.

        Args:
            bound: From 1 to 2^64.
        """
        fair = _NUMBERS - _NUMBERS % bound
        while (number := int.from_bytes(self.take(_NUMBER_BYTES), "big")) >= fair:
            pass
        return number % bound
