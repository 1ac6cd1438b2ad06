"""One node of a KZG tree: 4096 field elements under a 48-byte commitment, as in EIP-4844 and EIP-7594.

A node is the polynomial f of degree below 4096 with value i at point ``x_i`` (`palm_torch.commit.field`);
its bytes are an EIP-4844 blob, its commitment ``[f(tau)]_1`` is that blob's, and its proofs are Ethereum's:

* one place: the EIP-4844 proof ``[(f(tau) - y) / (tau - x_i)]_1``, which a contract can check;
* a row, places 64i … 64i + 63: the proof of cell i of EIP-7594, ``[(f - I)(tau) / (tau^64 - h)]_1``;
* any places of any nodes: `palm_torch.commit.shplonk`.

Security: finding two openings of one place is as hard as q-SDH in BLS12-381 with the ceremony's powers
(`palm_torch.commit.ceremony`), about 120 bits classically; a quantum computer would break it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from palm_torch.commit import ceremony, curve, field, proving, vanishing
from palm_torch.errors import BindingError, DataError, EvidenceError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from py_arkworks_bls12381 import G1Point

WIDTH: Final = field.WIDTH
FIELD_BYTES: Final = field.FIELD_BYTES
BLOB_BYTES: Final = WIDTH * FIELD_BYTES
COMMITMENT_BYTES: Final = curve.POINT_BYTES
PROOF_BYTES: Final = curve.POINT_BYTES
ROW: Final = 64
"""Places of a row: field elements of a cell of EIP-7594."""

ROWS: Final = WIDTH // ROW
"""Rows of a node; cells 64 … 127 of EIP-7594 are the redundant half and no rows."""

_VERSIONED_HASH: Final = b"\x01"
_MODULUS: Final = field.MODULUS.to_bytes(FIELD_BYTES, "big")


def hash_to_field(data: bytes) -> int:
    """Returns ``int(SHA-512(data)) mod r``, big endian: 512 bits, so the bias is below 2^-256."""
    return int.from_bytes(hashlib.sha512(data).digest(), "big") % field.MODULUS


def commit(blob: bytes) -> bytes:
    """Commits to a node.

    Args:
        blob: 4096 field elements of 32 bytes, big endian.

    Returns:
        48 bytes.

    Raises:
        DataError: If the length is another one, an element is not below r, or all are 0.
        MissingExtraError: If the extra `kzg` is not installed.
    """
    check_blob(blob)
    commitment = proving.blob_commitment(blob)
    if commitment == curve.INFINITY:
        raise DataError("KZG node: all its values are 0, and a commitment to nothing is refused")
    return commitment


def open_point(blob: bytes, position: int) -> bytes:
    """Returns the EIP-4844 proof of the value at one place, 48 bytes.

    Raises:
        DataError: If the blob is malformed or the position not in 0 … 4095.
        MissingExtraError: If the extra `kzg` is not installed.
    """
    check_blob(blob)
    _check_index("position", position, WIDTH, DataError)
    proof, _ = proving.point_proof(blob, field.point(position))
    return proof


def verify_point(commitment: bytes, position: int, value: int, proof: bytes) -> None:
    """Checks that a node has a value at a place.

    1. Position and value are in range; both points are in the group, the commitment is not infinity.
    2. ``e(C - [y]_1 + x·W, [1]_2) = e(W, [tau]_2)``, which says f(tau) - y = q(tau)·(tau - x).

    Args:
        commitment: 48 bytes.
        position: In 0 … 4095.
        value: In 0 … r - 1.
        proof: 48 bytes.

    Raises:
        EvidenceError: At step 1: malformed, nothing was compared.
        BindingError: At step 2: not the value that was committed to.
    """
    _check_index("position", position, WIDTH, EvidenceError)  # 1
    check_values((value,), EvidenceError)
    node, witness = _decoded(commitment, proof)
    scalars = [1, -value, field.point(position)]
    left = curve.combined([node, curve.generator(), witness], scalars)
    if not curve.same_pairing(left, witness, 1):  # 2
        raise BindingError(
            f"KZG opening of position {position}: not the value under commitment {commitment.hex()}"
        )


def open_row(blob: bytes, row: int) -> bytes:
    """Returns the EIP-7594 proof of cell `row`: of the 64 values at places 64·row … 64·row + 63; 48 bytes.

    One transform, one pass and one commitment, where EIP-7594 makes the proofs of all 128 cells.

    Raises:
        DataError: If the blob is malformed or the row not in 0 … 63.
        MissingExtraError: If the extra `kzg` is not installed.
    """
    check_blob(blob)
    _check_index("row", row, ROWS, DataError)
    number = proving.fast_number()
    coefficients = field.coefficients(elements(blob, number=number), number=number)
    places = tuple(range(row * ROW, (row + 1) * ROW))
    quotient = vanishing.of(places).divide(coefficients, number=number)
    return proving.blob_commitment(packed(field.evaluations(quotient + [number(0)] * ROW, number=number)))


def verify_row(commitment: bytes, row: int, values: Sequence[int], proof: bytes) -> None:
    """Checks that a node has these 64 values in a row.

    1. Row, number and range of the values; both points are in the group, the commitment is not infinity.
    2. I, of degree below 64, takes the values on the row, whose points all have the 64th power h.
    3. ``e(C - [I(tau)]_1 + h·W, [1]_2) = e(W, [tau^64]_2)``: f(tau) - I(tau) = q(tau)·(tau^64 - h).

    Args:
        commitment: 48 bytes.
        row: In 0 … 63. Cells 64 … 127 of EIP-7594 lie outside the node and are refused.
        values: 64 integers in 0 … r - 1.
        proof: 48 bytes.

    Raises:
        EvidenceError: At step 1: malformed, nothing was compared.
        BindingError: At step 3: not the values that were committed to.
    """
    _check_index("row", row, ROWS, EvidenceError)  # 1
    if len(values) != ROW:
        raise EvidenceError(f"KZG opening of row {row}: expected {ROW} values, got {len(values)}")
    check_values(values, EvidenceError)
    node, witness = _decoded(commitment, proof)
    first = field.point(row * ROW)  # 2
    unshifted = field.coefficients(values)
    shift, powers = pow(first, -1, field.MODULUS), [1]
    while len(powers) < ROW:
        powers.append(powers[-1] * shift % field.MODULUS)
    interpolant = [-coefficient * power for coefficient, power in zip(unshifted, powers, strict=True)]
    points = [node, witness, *curve.g1_powers(ROW)]
    left = curve.combined(points, [1, pow(first, ROW, field.MODULUS), *interpolant])
    if not curve.same_pairing(left, witness, ROW):  # 3
        raise BindingError(f"KZG opening of row {row}: not the values under commitment {commitment.hex()}")


def update(commitment: bytes, position: int, old: int, new: int) -> bytes:
    """Returns the commitment of a node in which one value was replaced: ``C + [new - old]·L_p(tau)``.

    Whether the old value was there is not checked: a wrong one leads to a commitment that opens to neither.

    Raises:
        DataError: If an argument is malformed, or the node becomes all 0.
        MissingExtraError: If the extra `kzg` is not installed.
    """
    _check_index("position", position, WIDTH, DataError)
    check_values((old, new), DataError)
    node = curve.decoded(commitment, what="KZG commitment", may_be_infinity=False, error=DataError)
    place = curve.decoded(
        ceremony.lagrange(position), what="KZG setup", may_be_infinity=False, error=DataError
    )
    updated = curve.combined([node, place], [1, new - old]).to_compressed_bytes()
    if updated == curve.INFINITY:
        raise DataError("KZG node: all its values are 0, and a commitment to nothing is refused")
    return updated


def point_evaluation_input(commitment: bytes, position: int, value: int, proof: bytes) -> bytes:
    """Returns what Ethereum's point-evaluation precompile (address 0x0a) takes to check the same opening.

    | bytes | what |
    |---|---|
    | 0 … 31 | ``0x01 ‖ SHA-256(commitment)[1:]``, the versioned hash |
    | 32 … 63 | ``x_i`` of the position |
    | 64 … 95 | the value |
    | 96 … 143 | the commitment |
    | 144 … 191 | the proof |

    Raises:
        EvidenceError: If an argument is malformed.
        BindingError: If the opening does not hold: a contract would refuse it.
    """
    verify_point(commitment, position, value, proof)
    versioned = _VERSIONED_HASH + hashlib.sha256(commitment).digest()[1:]
    return b"".join((versioned, _bytes(field.point(position)), _bytes(value), commitment, proof))


def elements(blob: bytes, *, number: field.Number = int) -> list[int]:
    """Returns the 4096 elements of a checked blob."""
    decode = int.from_bytes
    return [number(decode(blob[at : at + FIELD_BYTES], "big")) for at in range(0, BLOB_BYTES, FIELD_BYTES)]


def packed(values: Iterable[int]) -> bytes:
    """Returns field elements as the bytes of a blob."""
    return b"".join([value.to_bytes(FIELD_BYTES, "big") for value in values])


def check_blob(blob: bytes) -> None:
    """Refuses what is not 4096 canonical field elements.

    Raises:
        DataError: If the length is another one or an element is not below r.
    """
    if len(blob) != BLOB_BYTES:
        raise DataError(f"KZG node: expected {BLOB_BYTES} bytes, got {len(blob)}")
    chunks = [blob[at : at + FIELD_BYTES] for at in range(0, BLOB_BYTES, FIELD_BYTES)]
    if (largest := max(chunks)) >= _MODULUS:
        raise DataError(f"KZG node: value {chunks.index(largest)} is not below r: {largest.hex()}")


def check_values(values: Iterable[int], error: type[InputError]) -> None:
    """Refuses integers outside 0 … r - 1."""
    for at, value in enumerate(values):
        if not 0 <= value < field.MODULUS:
            raise error(f"KZG value {at}: expected an integer in [0, r), got {hex(value)[:80]}")


def _decoded(commitment: bytes, proof: bytes) -> tuple[G1Point, G1Point]:
    return (
        curve.decoded(commitment, what="KZG commitment", may_be_infinity=False),
        curve.decoded(proof, what="KZG proof", may_be_infinity=True),
    )


def _check_index(what: str, index: int, count: int, error: type[InputError]) -> None:
    if not 0 <= index < count:
        raise error(f"KZG opening: expected a {what} in [0, {count}), got {index}")


def _bytes(value: int) -> bytes:
    return value.to_bytes(FIELD_BYTES, "big")
