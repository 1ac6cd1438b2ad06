"""Any places of any nodes under one proof of 96 bytes: the second scheme of Boneh, Drake, Fisch and Gabizon.

Claim k says that the node under commitment C_k has the values Y_k at the places S_k. With Z_k the
polynomial that is zero on S_k and r_k the one of degree below |S_k| that takes the values, all claims hold
when every ``f_k - r_k`` is divisible by Z_k. Two challenges fold them into one equation at one point:

    gamma = HF("palm-torch/kzg-gamma/v1", T)
    h     = sum of gamma^k · (f_k - r_k) / Z_k                        W  = [h(tau)]_1
    z     = HF("palm-torch/kzg-z/v1", T, gamma, W)
    L     = sum of gamma^k / Z_k(z) · (f_k - r_k(z))  -  h            W2 = [L(tau) / (tau - z)]_1

T is the tagged hash of the setup, the caller's context and all claims in the caller's order; HF is
`palm_torch.commit.kzg.hash_to_field` of the tag, then each part with its length before it. The proof is
``W ‖ W2``. Every part has one form only: places ascend, no commitment comes twice.

Sources: https://eprint.iacr.org/2020/081 section 4; soundness in the algebraic group model under q-SDH,
with the hashes modelled as random.
"""

from __future__ import annotations

import itertools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.commit import ceremony, curve, field, kzg, proving, vanishing
from palm_torch.digest import tagged_hash
from palm_torch.encoding import length_prefixed
from palm_torch.errors import BindingError, DataError, EvidenceError, InputError, SealError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROOF_BYTES: Final = 2 * curve.POINT_BYTES
MAX_POSITIONS: Final = 2**20
"""Most values one proof may speak of, over all its claims: 256 whole nodes."""

_STATEMENT_TAG: Final = "palm-torch/kzg-claims/v1"
_GAMMA_TAG: Final = b"palm-torch/kzg-gamma/v1"
_Z_TAG: Final = b"palm-torch/kzg-z/v1"


@dataclass(frozen=True, slots=True)
class Claim:
    """What one node is said to hold.

    Attributes:
        commitment: 48 bytes.
        positions: Places of the node, ascending, at least one, each in 0 … 4095.
        values: The value at each of them, in 0 … r - 1.
    """

    commitment: bytes
    positions: tuple[int, ...]
    values: tuple[int, ...]


def open_sets(polynomials: Sequence[tuple[bytes, bytes, tuple[int, ...]]], context: bytes) -> bytes:
    """Returns the proof for places of several nodes, 96 bytes.

    Args:
        polynomials: For each node its commitment, its blob and the places to open, ascending. That the
            commitment is the blob's is not checked: with another one the proof does not hold.
        context: What the claims belong to; the verifier must name the same bytes.

    Raises:
        DataError: If a part is malformed, a commitment comes twice, or there are too many places.
        SealError: If the proof does not come out right: the machine computed wrongly.
        MissingExtraError: If the extra `kzg` is not installed.
    """
    number = proving.fast_number()
    _check_size([len(places) for _, _, places in polynomials], DataError)
    claims = [_claim(*polynomial) for polynomial in polynomials]
    _check(claims, DataError)
    statement = _statement(claims, context)
    gamma = _gamma(statement)
    folded = _folded_quotients(polynomials, gamma, number)
    witness = proving.blob_commitment(kzg.packed(folded))
    z = _z(statement, gamma, witness, DataError)
    terms = _terms(claims, gamma, z)
    last = [-value for value in folded]
    for (_, blob, _), term in zip(polynomials, terms, strict=True):
        _add(last, kzg.elements(blob, number=number), number(term.scale))
    constant, modulus = number(sum(term.constant for term in terms)), number(field.MODULUS)
    line = kzg.packed([(value - constant) % modulus for value in last])
    proof, value = proving.point_proof(line, z)
    if value:
        raise SealError("KZG opening: the folded polynomial is not zero at the challenge; nothing was opened")
    return witness + proof


def verify_sets(claims: Sequence[Claim], context: bytes, proof: bytes) -> None:
    """Checks that all claims hold.

    1. Lengths, ranges and order of every claim and of the proof; no commitment twice; not too many places.
    2. Every point is in the group and canonical; no commitment is infinity.
    3. gamma and z follow from setup, context, claims and W; z is none of the 4096 points.
    4. F = sum of gamma^k / Z_k(z) · (C_k - [r_k(z)]_1) - W commits to L.
    5. ``e(F + z·W2, [1]_2) = e(W2, [tau]_2)``, which says that L is zero at z.

    Args:
        claims: In the order in which they were opened; at least one.
        context: As given to `open_sets`.
        proof: 96 bytes.

    Raises:
        EvidenceError: At steps 1 to 3: malformed, nothing was compared.
        BindingError: At step 5: not the values that were committed to, or another context.
        MissingExtraError: If the extra `kzg` is not installed.
    """
    if len(proof) != PROOF_BYTES:  # 1
        raise EvidenceError(f"KZG opening: expected a proof of {PROOF_BYTES} bytes, got {len(proof)}")
    _check_size([len(claim.positions) for claim in claims], EvidenceError)
    _check(claims, EvidenceError)
    nodes = [  # 2
        curve.decoded(claim.commitment, what=f"KZG commitment of claim {at}", may_be_infinity=False)
        for at, claim in enumerate(claims)
    ]
    first, second = proof[: curve.POINT_BYTES], proof[curve.POINT_BYTES :]
    witness = curve.decoded(first, what="KZG proof, first half", may_be_infinity=True)
    last = curve.decoded(second, what="KZG proof, second half", may_be_infinity=True)
    statement = _statement(claims, context)  # 3
    gamma = _gamma(statement)
    z = _z(statement, gamma, first, EvidenceError)
    terms = _terms(claims, gamma, z)  # 4
    constant = sum(term.constant for term in terms)
    points = [*nodes, curve.generator(), witness, last]
    left = curve.combined(points, [*(term.scale for term in terms), -constant, -1, z])
    if not curve.same_pairing(left, last, 1):  # 5
        raise BindingError(f"KZG opening of {len(claims)} nodes: not the values under their commitments")


@dataclass(frozen=True, slots=True)
class _Term:
    """What one claim adds: scale = gamma^k / Z_k(z), constant = scale · r_k(z)."""

    scale: int
    constant: int


def _terms(claims: Sequence[Claim], gamma: int, z: int) -> list[_Term]:
    """Folds the claims; ``r_k(z) / Z_k(z) = sum of weight_j · y_j / (z - x_j)`` (barycentric form)."""
    sets = [vanishing.of(claim.positions) for claim in claims]
    places = sorted({place for claim in claims for place in claim.positions})
    divisors = [zeros.at(z) for zeros in sets]
    inverted = field.inverses([*divisors, *((z - field.point(place)) % field.MODULUS for place in places)])
    reciprocal = dict(zip(places, inverted[len(sets) :], strict=True))
    powers = _powers(gamma, len(claims))
    terms: list[_Term] = []
    for claim, zeros, inverse, power in zip(claims, sets, inverted[: len(sets)], powers, strict=True):
        weighted = zip(zeros.weights, claim.values, claim.positions, strict=True)
        total = sum(weight * value % field.MODULUS * reciprocal[place] for weight, value, place in weighted)
        terms.append(_Term(power * inverse % field.MODULUS, power * total % field.MODULUS))
    return terms


def _folded_quotients(
    polynomials: Sequence[tuple[bytes, bytes, tuple[int, ...]]], gamma: int, number: field.Number
) -> list[int]:
    """Returns the values of h. A node opened at one place needs no transform; the others share one back."""
    values, coefficients = [number(0)] * field.WIDTH, [number(0)] * field.WIDTH
    for (_, blob, places), power in zip(polynomials, _powers(gamma, len(polynomials)), strict=True):
        elements = kzg.elements(blob, number=number)
        if len(places) == 1:
            inverse = pow(field.point(places[0]), -1, field.MODULUS)
            quotient = vanishing.quotient_at_one(elements, places[0], number=number)
            _add(values, quotient, number(power * inverse % field.MODULUS))
        else:
            rising = field.coefficients(elements, number=number)
            _add(coefficients, vanishing.of(places).divide(rising, number=number), number(power))
    modulus = number(field.MODULUS)
    if any(coefficients):
        reduced = [coefficient % modulus for coefficient in coefficients]
        values = list(map(operator.add, values, field.evaluations(reduced, number=number)))
    return [value % modulus for value in values]


def _claim(commitment: bytes, blob: bytes, positions: tuple[int, ...]) -> Claim:
    kzg.check_blob(blob)
    _check_positions(positions, DataError)
    size = kzg.FIELD_BYTES
    values = tuple(int.from_bytes(blob[size * at : size * (at + 1)], "big") for at in positions)
    return Claim(commitment, positions, values)


def _check_size(sizes: Sequence[int], error: type[InputError]) -> None:
    if not sizes or sum(sizes) > MAX_POSITIONS:
        raise error(
            f"KZG opening: expected at least one node and at most {MAX_POSITIONS} places, "
            f"got {len(sizes)} nodes and {sum(sizes)} places"
        )


def _check(claims: Sequence[Claim], error: type[InputError]) -> None:
    for at, claim in enumerate(claims):
        if len(claim.commitment) != kzg.COMMITMENT_BYTES:
            got = len(claim.commitment)
            raise error(f"KZG commitment of claim {at}: expected {kzg.COMMITMENT_BYTES} bytes, got {got}")
        _check_positions(claim.positions, error)
        if len(claim.values) != len(claim.positions):
            places, values = len(claim.positions), len(claim.values)
            raise error(f"KZG claim {at}: expected a value for each of {places} places, got {values}")
        kzg.check_values(claim.values, error)
    if len({claim.commitment for claim in claims}) != len(claims):
        raise error("KZG opening: a commitment comes twice; its places belong in one claim")


def _check_positions(positions: tuple[int, ...], error: type[InputError]) -> None:
    ascending = all(a < b for a, b in itertools.pairwise(positions))
    if not positions or not ascending or positions[0] < 0 or positions[-1] >= kzg.WIDTH:
        shown = ", ".join(map(str, positions[:8]))
        raise error(
            f"KZG opening: expected ascending places in [0, {kzg.WIDTH}), at least one, "
            f"got {len(positions)}: {shown}"
        )


def _statement(claims: Sequence[Claim], context: bytes) -> bytes:
    """Returns T, 32 bytes."""
    parts = [ceremony.SRS_ID, context, len(claims).to_bytes(4, "big")]
    for claim in claims:
        parts.append(claim.commitment)
        parts.append(b"".join(position.to_bytes(2, "big") for position in claim.positions))
        parts.append(kzg.packed(claim.values))
    return tagged_hash(_STATEMENT_TAG, *parts)


def _gamma(statement: bytes) -> int:
    return kzg.hash_to_field(_GAMMA_TAG + length_prefixed(statement))


def _z(statement: bytes, gamma: int, witness: bytes, error: type[InputError]) -> int:
    z = kzg.hash_to_field(_Z_TAG + b"".join(map(length_prefixed, (statement, _bytes(gamma), witness))))
    if field.in_domain(z):
        raise error("KZG opening: the challenge is one of the 4096 points, where nothing can be compared")
    return z


def _powers(base: int, count: int) -> list[int]:
    powers = itertools.accumulate(range(count - 1), lambda power, _: power * base % field.MODULUS, initial=1)
    return list(powers)


def _add(total: list[int], values: list[int], scale: int) -> None:
    """Adds scale × values to the first elements of a list, unreduced."""
    total[: len(values)] = [t + scale * value for t, value in zip(total, values, strict=False)]


def _bytes(value: int) -> bytes:
    return value.to_bytes(kzg.FIELD_BYTES, "big")
