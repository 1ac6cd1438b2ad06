"""The multiset hash of the records a run was given: order-free, incremental, one 384-byte state.

The state is the product, modulo a 3072-bit prime, of one pseudo-random element per record (MSet-Mu-Hash
of Clarke, Devadas, van Dijk, Gassend and Suh, Asiacrypt 2003). The element follows from the 32-byte
record digest alone, so a record is hashed once. Two hashes are equal when the same records were added
equally often, in any order, by any number of workers; the count is sealed beside the product.

The arithmetic is that of plain `int`. Whoever makes hashes passes ``number=gmpy2.mpz``: same results,
five times faster. This module never imports gmpy2, so that checking needs nothing but Python.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from palm_torch.digest import Digest, tagged_digest
from palm_torch.errors import DataError

STATE_BYTES: Final = 384
"""Length of a product, big endian, in bytes."""

RECORD_DIGEST_BYTES: Final = 32
MAX_COUNT: Final = 2**63 - 1
"""Largest number of records one hash may hold."""

_DIGEST_TAG: Final = "palm-torch/multiset/v1"
_ELEMENT_TAG: Final = "palm-torch/mset-mu-3072/v1"
_ELEMENT_BYTES: Final = 400
_REDRAWS: Final = 64

_RFC3526_GROUP_15: Final = int(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd"
    "ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed"
    "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f"
    "83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b"
    "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510"
    "15728e5a8aaac42dad33170d04507a33a85521abdf1cba64ecfb850458dbef0a8aea71575d060c7db3970f85a6e1e4c7"
    "abf5ae8cdb0933d71e8c94e04a25619dcee3d2261ad2ee6bf12ffa06d98a0864d87602733ec86a64521f2b18177b200c"
    "bbe117577a615d6c770988c0bad946e208e24fa074e5ab3143db5bfce0fd108e4b82d120a93ad2caffffffffffffffff",
    16,
)


def _blake3_streams(digests: bytes, draw: int = 0) -> Iterator[bytes]:
    """Yields, for each 32-byte digest, bytes [400·draw, 400·draw + 400) of its keyed BLAKE3 stream."""
    seek = draw * _ELEMENT_BYTES
    hasher = _BLAKE3_KEYED.copy()  # of this stream alone; reset, it costs less than a copy per element
    reset, update, digest = hasher.reset, hasher.update, hasher.digest
    for start in range(0, len(digests), RECORD_DIGEST_BYTES):
        reset()
        update(digests[start : start + RECORD_DIGEST_BYTES])
        yield digest(_ELEMENT_BYTES, seek=seek)


def _chacha20_streams(digests: bytes, draw: int = 0) -> Iterator[bytes]:
    """Yields, for each digest, 384 bytes of ChaCha20 keystream under the key SHA-256(digest)."""
    for start in range(0, len(digests), RECORD_DIGEST_BYTES):
        key = hashlib.sha256(digests[start : start + RECORD_DIGEST_BYTES]).digest()
        stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
        yield stream.update(bytes(STATE_BYTES * (draw + 1)))[-STATE_BYTES:]


_BLAKE3_KEYED: Final = blake3(key=hashlib.sha256(_ELEMENT_TAG.encode("ascii")).digest())


@dataclass(frozen=True, slots=True)
class ParameterSet:
    """A prime and the way from a record digest to a number modulo that prime.

    Security: finding two different multisets with one product is as hard as discrete logarithms modulo
    the prime, with the elements modelled as random; no key is needed, and how often a record repeats
    gives no help. Additive forms fall to lattice reduction as soon as records may repeat, which is why
    there is none. A quantum computer would break every multiplicative form.

    Attributes:
        name: Name that is sealed with the state.
        modulus: A safe prime of at most 3072 bits.
        streams: Function (concatenated digests, draw) → an iterator with one byte string per digest.
        byteorder: How a byte string is read as an integer.
    """

    name: str
    modulus: int
    streams: Callable[[bytes, int], Iterator[bytes]]
    byteorder: Literal["big", "little"]

    def element(self, record_digest: bytes) -> int:
        """Returns the number in [1, modulus) that stands for one record.

        A draw that is zero modulo the prime (once in 2^3072) is skipped and the stream read on.

        Raises:
            DataError: If the digest is not 32 bytes.
        """
        _check_digests(record_digest, exactly_one=True)
        for draw in range(_REDRAWS):
            for stream in self.streams(record_digest, draw):
                if value := int.from_bytes(stream, self.byteorder) % self.modulus:
                    return value
        raise DataError(f"{self.name}: {_REDRAWS} draws were all zero: the modulus is not a large prime")


MSET_MU_3072: Final = ParameterSet("mset-mu-3072", _RFC3526_GROUP_15, _blake3_streams, "big")
"""The scheme of this library: the 3072-bit safe prime of RFC 3526 section 4 (group 15), general form,
about 128 bits; elements are 3,200 bits of keyed BLAKE3, so their bias is below 2^-128."""

MUHASH3072: Final = ParameterSet("muhash3072", 2**3072 - 1103717, _chacha20_streams, "little")
"""Bitcoin Core's MuHash3072, kept for its published known answers. Its prime has the special form that
the number field sieve favours (about 110 bits), so no policy accepts it."""

POLICY_SCHEMES: Final = frozenset({MSET_MU_3072.name})
"""Names of the parameter sets that a policy may accept."""


class MultisetHash:
    """A running multiset hash: one owner, changed in place.

    Args:
        parameters: The parameter set.
        number: Integer type of the arithmetic: `int`, or ``gmpy2.mpz`` where speed matters.

    Attributes:
        parameters: The parameter set.
        count: Records in the multiset, with repetition; from 0 to `MAX_COUNT`.
    """

    __slots__ = ("_denominator", "_modulus", "_number", "_numerator", "count", "parameters")

    def __init__(self, parameters: ParameterSet = MSET_MU_3072, *, number: type[int] = int) -> None:
        self.parameters = parameters
        self.count = 0
        self._number = number
        self._modulus = number(parameters.modulus)
        self._numerator = number(1)
        self._denominator = number(1)  # removals collect here: one inversion at the end instead of many

    @classmethod
    def from_state(
        cls, state: bytes, count: int, *, parameters: ParameterSet = MSET_MU_3072, number: type[int] = int
    ) -> MultisetHash:
        """Takes up a hash where `state` and `count` left it.

        Raises:
            DataError: If the state is not 384 bytes, not in (0, modulus), or the count is out of range.
        """
        taken = cls(parameters, number=number)
        taken.multiply(state, count)
        if count == 0 and taken._numerator != 1:
            raise DataError("multiset state: expected the empty product beside a count of 0")
        return taken

    def add(self, record_digest: bytes, times: int = 1) -> None:
        """Adds one record `times` times.

        Raises:
            DataError: If the digest is not 32 bytes, `times` negative, or the count would overflow.
        """
        count = self._counted(times)
        self._numerator = self._numerator * self._raised(record_digest, times) % self._modulus
        self.count = count

    def remove(self, record_digest: bytes, times: int = 1) -> None:
        """Removes one record `times` times; whether it was there shows in the digest, not here.

        Raises:
            DataError: If the digest is not 32 bytes, `times` negative, or more than `count`.
        """
        if not 0 <= times <= self.count:
            raise DataError(f"multiset: cannot remove {times} of {self.count} records")
        self._denominator = self._denominator * self._raised(record_digest, times) % self._modulus
        self.count -= times

    def add_many(self, digests: bytes) -> None:
        """Adds every record of the concatenated 32-byte digests, once each.

        Raises:
            DataError: If the length is not a multiple of 32 or the count would overflow.
        """
        count = self._counted(len(digests) // RECORD_DIGEST_BYTES)
        product = _product(digests, self.parameters, self._number)
        self._numerator = self._numerator * product % self._modulus
        self.count = count

    def multiply(self, product: bytes, count: int) -> None:
        """Adds the `count` records whose product, made elsewhere, is given as 384 bytes big endian.

        Raises:
            DataError: If the product is not 384 bytes or not in (0, modulus), or the count out of range.
        """
        total = self._counted(count)
        if len(product) != STATE_BYTES:
            raise DataError(f"multiset state: expected {STATE_BYTES} bytes, got {len(product)}")
        value = self._number.from_bytes(product, "big")
        if not 0 < value < self._modulus:
            raise DataError(f"multiset state: expected a number in (0, {self.parameters.name} modulus)")
        self._numerator = self._numerator * value % self._modulus
        self.count = total

    def union(self, other: MultisetHash) -> None:
        """Adds every record of the other multiset, in place.

        Raises:
            DataError: If the other has another parameter set or the count would overflow.
        """
        if other.parameters != self.parameters:
            raise DataError(f"multiset: union of {self.parameters.name} with {other.parameters.name}")
        self.multiply(other.state, other.count)

    def difference(self, other: MultisetHash) -> None:
        """Removes every record of the other multiset, in place; whether they were there shows in the digest.

        Raises:
            DataError: If the other has another parameter set, or more records.
        """
        if other.parameters != self.parameters:
            raise DataError(f"multiset: difference of {self.parameters.name} and {other.parameters.name}")
        if other.count > self.count:
            raise DataError(f"multiset: cannot remove {other.count} of {self.count} records")
        value = self._number.from_bytes(other.state, "big")
        self._denominator = self._denominator * value % self._modulus
        self.count -= other.count

    def power(self, exponent: int) -> None:
        """Makes every record occur `exponent` times as often, in place (0 empties the multiset).

        Raises:
            DataError: If the exponent is negative or the count would overflow.
        """
        if exponent < 0 or self.count * exponent > MAX_COUNT:
            raise DataError(f"multiset: {self.count} records to the power of {exponent} is out of range")
        self._numerator = pow(self._numerator, exponent, self._modulus)
        self._denominator = pow(self._denominator, exponent, self._modulus)
        self.count *= exponent

    @property
    def state(self) -> bytes:
        """The product, 384 bytes big endian."""
        if self._denominator != 1:
            inverse = pow(self._denominator, -1, self._modulus)
            self._numerator = self._numerator * inverse % self._modulus
            self._denominator = self._number(1)
        return self._numerator.to_bytes(STATE_BYTES, "big")

    def digest(self) -> Digest:
        """Returns the tagged digest of scheme name, state and count (u64 big endian)."""
        return tagged_digest(
            _DIGEST_TAG, self.parameters.name.encode("ascii"), self.state, self.count.to_bytes(8, "big")
        )

    def copy(self) -> MultisetHash:
        """Returns an independent hash of the same multiset."""
        return self.from_state(self.state, self.count, parameters=self.parameters, number=self._number)

    def __eq__(self, other: object) -> bool:
        """Tells whether scheme, state and count are equal; the integer type does not matter."""
        if not isinstance(other, MultisetHash):
            return NotImplemented
        return (self.parameters, self.count, self.state) == (other.parameters, other.count, other.state)

    __hash__ = None  # type: ignore[assignment]  # mutable: not a dictionary key

    def __repr__(self) -> str:
        """Shows scheme, count and the first bytes of the digest."""
        digest = self.digest().value[:4].hex()
        return f"MultisetHash({self.parameters.name}, count={self.count}, digest={digest}…)"

    def _counted(self, more: int) -> int:
        if more < 0 or self.count + more > MAX_COUNT:
            raise DataError(f"multiset: cannot add {more} records to {self.count}, the limit is {MAX_COUNT}")
        return self.count + more

    def _raised(self, record_digest: bytes, times: int) -> int:
        element = self._number(self.parameters.element(record_digest))
        return element if times == 1 else pow(element, times, self._modulus)


def product_of(digests: bytes, *, parameters: ParameterSet = MSET_MU_3072, number: type[int] = int) -> bytes:
    """Returns the product of the elements of concatenated 32-byte record digests: what a worker sends.

    Args:
        digests: n × 32 bytes.
        parameters: The parameter set.
        number: `int`, or ``gmpy2.mpz`` for speed.

    Returns:
        384 bytes, big endian; the number 1 for no digests.

    Raises:
        DataError: If the length is not a multiple of 32.
    """
    return _product(digests, parameters, number).to_bytes(STATE_BYTES, "big")


def _product(digests: bytes, parameters: ParameterSet, number: type[int]) -> int:
    _check_digests(digests)
    modulus, order, from_bytes = number(parameters.modulus), parameters.byteorder, number.from_bytes
    product = number(1)
    for stream in parameters.streams(digests, 0):
        product = product * from_bytes(stream, order) % modulus
    if product:
        return product
    product = number(1)  # some draw was zero: take the road that draws again
    for start in range(0, len(digests), RECORD_DIGEST_BYTES):
        product = product * parameters.element(digests[start : start + RECORD_DIGEST_BYTES]) % modulus
    return product


def _check_digests(digests: bytes, *, exactly_one: bool = False) -> None:
    if exactly_one and len(digests) != RECORD_DIGEST_BYTES:
        raise DataError(f"record digest: expected {RECORD_DIGEST_BYTES} bytes, got {len(digests)}")
    if len(digests) % RECORD_DIGEST_BYTES:
        raise DataError(f"record digests: expected n × {RECORD_DIGEST_BYTES} bytes, got {len(digests)}")
