"""The multiset hash: known answers, refusals, and the road taken when a draw is zero."""

from __future__ import annotations

import hashlib

import gmpy2
import pytest

from palm_torch.commit import multiset
from palm_torch.commit.multiset import MSET_MU_3072, MUHASH3072, MultisetHash, ParameterSet, product_of
from palm_torch.errors import DataError

A, B, C = (hashlib.sha256(bytes((n,))).digest() for n in range(3))
TOY = ParameterSet("toy", 7, MSET_MU_3072.streams, "big")
"""With seven residues one draw in seven is zero, so every road is taken."""


def hash_of(
    *digests: bytes, number: type[int] = int, parameters: ParameterSet = MSET_MU_3072
) -> MultisetHash:
    made = MultisetHash(parameters, number=number)
    for digest in digests:
        made.add(digest)
    return made


def arctan_of_inverse(x: int, unity: int) -> int:
    total, term, n = 0, unity // x, 1
    while term:
        total += term // n if n % 4 == 1 else -(term // n)
        term //= x * x
        n += 2
    return total


def test_modulus_is_the_prime_rfc_3526_defines_for_group_15() -> None:
    # 2^3072 − 2^3008 − 1 + 2^64 · (⌊2^2942 π⌋ + 1690314), RFC 3526 section 4; π by Machin's formula.
    unity = 1 << (2942 + 64)
    pi = 4 * (4 * arctan_of_inverse(5, unity) - arctan_of_inverse(239, unity)) >> 64
    assert MSET_MU_3072.modulus == 2**3072 - 2**3008 - 1 + 2**64 * (pi + 1690314)


@pytest.mark.parametrize("parameters", [MSET_MU_3072, MUHASH3072], ids=lambda p: p.name)
def test_modulus_is_a_safe_prime(parameters: ParameterSet) -> None:
    assert gmpy2.is_prime(parameters.modulus, 5)
    assert gmpy2.is_prime(parameters.modulus // 2, 5)


def bitcoin_serialisation(state: bytes) -> bytes:
    return state[::-1]  # Bitcoin Core writes numbers little endian


def test_muhash3072_reproduces_bitcoin_core() -> None:
    # bitcoin/bitcoin: test/functional/test_framework/crypto/muhash.py and src/test/crypto_tests.cpp
    # (muhash_tests): insert 0, insert 1, remove 2; the digest is shown in reversed byte order.
    made = hash_of(bytes(32), b"\x01" + bytes(31), parameters=MUHASH3072)
    made.remove(b"\x02" + bytes(31))
    finalised = hashlib.sha256(bitcoin_serialisation(made.state)).digest()
    assert finalised[::-1].hex() == "10d312b100cbd32ada024a6646e40d3482fcff103668d2625f10002a607d5863"


def test_muhash3072_reproduces_bitcoin_core_serialisation() -> None:
    # bitcoin/bitcoin: src/test/crypto_tests.cpp (muhash_tests), the serialised product of {1} and {2}.
    made = hash_of(b"\x01" + bytes(31), b"\x02" + bytes(31), parameters=MUHASH3072)
    assert (
        bitcoin_serialisation(made.state)
        .hex()
        .startswith("1fa093295ea30a6a3acdc7b3f770fa538eff537528e990e2910e40bb")
    )


def test_state_beyond_the_modulus_is_refused_where_bitcoin_core_would_reduce_it() -> None:
    # src/test/crypto_tests.cpp hashes an all-ones state modulo the prime; one value has one spelling here.
    reduced = (2**3072 - 1) % MUHASH3072.modulus
    finalised = hashlib.sha256(reduced.to_bytes(384, "little")).hexdigest()
    assert finalised == "3a31e6903aff0de9f62f9a9f7f8b861de76ce2cda09822b90014319ae5dc2271"
    with pytest.raises(DataError, match="expected a number in"):
        MultisetHash.from_state(b"\xff" * 384, 1, parameters=MUHASH3072)


def test_only_the_general_prime_is_fit_for_policies() -> None:
    assert frozenset({"mset-mu-3072"}) == multiset.POLICY_SCHEMES


def test_element_is_the_keyed_xof_of_the_record_digest() -> None:
    from blake3 import blake3

    key = hashlib.sha256(b"palm-torch/mset-mu-3072/v1").digest()
    stream = blake3(A, key=key).digest(length=400)
    assert MSET_MU_3072.element(A) == int.from_bytes(stream, "big") % MSET_MU_3072.modulus


def test_known_answer_of_this_library() -> None:
    assert str(hash_of(A, B, B).digest()) == (
        "palm-sha256:9c5cb4c9fc48a034dc13d66516792cbb8efe234eb24256406b4812827a8f50dc"
    )


def test_empty_multiset_is_the_number_one() -> None:
    empty = MultisetHash()
    assert empty.state == (1).to_bytes(384, "big")
    assert empty.count == 0
    assert product_of(b"") == empty.state


def test_repetition_shows() -> None:
    made = MultisetHash()
    made.add(A, times=2**16)
    assert made != MultisetHash()
    assert made != hash_of(A)
    assert made.digest() != MultisetHash().digest()


def test_count_is_part_of_the_digest() -> None:
    one = hash_of(A)
    forged = MultisetHash.from_state(one.state, 2)
    assert forged.state == one.state
    assert forged.digest() != one.digest()
    assert forged != one


def test_scheme_is_part_of_the_digest() -> None:
    other = MultisetHash(MUHASH3072)
    assert other.state == MultisetHash().state
    assert other.digest() != MultisetHash().digest()


@pytest.mark.parametrize("number", [int, gmpy2.mpz], ids=["int", "mpz"])
def test_zero_draws_are_drawn_again(number: type[int]) -> None:
    digests = [hashlib.sha256(bytes((n,))).digest() for n in range(100)]
    expected = 1
    for digest in digests:
        draws = (next(iter(TOY.streams(digest, draw))) for draw in range(64))
        element = next(v for v in (int.from_bytes(draw, "big") % 7 for draw in draws) if v)
        assert TOY.element(digest) == element
        expected = expected * element % 7
    assert any(int.from_bytes(next(iter(TOY.streams(d, 0))), "big") % 7 == 0 for d in digests)
    product = product_of(b"".join(digests), parameters=TOY, number=number)
    assert int.from_bytes(product, "big") == expected


def test_second_draw_continues_the_stream() -> None:
    from blake3 import blake3

    key = hashlib.sha256(b"palm-torch/mset-mu-3072/v1").digest()
    assert next(iter(MSET_MU_3072.streams(A, 1))) == blake3(A, key=key).digest(length=800)[400:]


def test_modulus_without_nonzero_residues_is_an_error() -> None:
    with pytest.raises(DataError, match="draws were all zero"):
        ParameterSet("one", 1, MSET_MU_3072.streams, "big").element(A)


def test_removing_more_than_there_is() -> None:
    with pytest.raises(DataError, match="cannot remove 2 of 1 records"):
        hash_of(A).remove(A, times=2)


def test_removing_a_negative_number() -> None:
    with pytest.raises(DataError, match="cannot remove -1"):
        hash_of(A).remove(A, times=-1)


def test_count_does_not_overflow() -> None:
    made = MultisetHash()
    made.add(A, times=2**63 - 1)
    assert made.count == 2**63 - 1
    with pytest.raises(DataError, match="the limit is"):
        made.add(A)
    with pytest.raises(DataError, match="cannot add -1"):
        made.add(A, times=-1)
    with pytest.raises(DataError, match="out of range"):
        made.power(2)
    assert made.count == 2**63 - 1


def test_negative_power() -> None:
    with pytest.raises(DataError, match="to the power of -1"):
        hash_of(A).power(-1)


@pytest.mark.parametrize("call", ["add", "remove"])
def test_digest_of_another_length(call: str) -> None:
    made = hash_of(A)
    with pytest.raises(DataError, match="expected 32 bytes, got 31"):
        getattr(made, call)(bytes(31))
    assert made == hash_of(A)


def test_digests_of_a_ragged_length() -> None:
    with pytest.raises(DataError, match="got 33"):
        product_of(bytes(33))
    with pytest.raises(DataError, match="got 33"):
        MultisetHash().add_many(bytes(33))


@pytest.mark.parametrize(
    ("state", "count", "message"),
    [
        (bytes(383), 1, "expected 384 bytes, got 383"),
        (bytes(384), 1, "expected a number in"),
        (MSET_MU_3072.modulus.to_bytes(384, "big"), 1, "expected a number in"),
        ((2).to_bytes(384, "big"), -1, "cannot add -1"),
        ((2).to_bytes(384, "big"), 2**63, "cannot add"),
        ((2).to_bytes(384, "big"), 0, "expected the empty product"),
    ],
)
def test_malformed_state(state: bytes, count: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        MultisetHash.from_state(state, count)


def test_union_of_two_schemes() -> None:
    with pytest.raises(DataError, match="union of mset-mu-3072 with muhash3072"):
        MultisetHash().union(MultisetHash(MUHASH3072))


def test_copy_is_independent() -> None:
    made = hash_of(A, B)
    copied = made.copy()
    copied.add(C)
    assert made == hash_of(B, A)
    assert copied == hash_of(A, B, C)


def test_a_hash_is_not_a_key() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(MultisetHash())
    assert MultisetHash() != "something else"


def test_repr_names_scheme_and_count() -> None:
    assert repr(hash_of(A)).startswith("MultisetHash(mset-mu-3072, count=1, digest=")


def test_muhash3072_takes_many_at_once() -> None:
    made = MultisetHash(MUHASH3072)
    made.add_many(A + B)
    assert made == hash_of(B, A, parameters=MUHASH3072)


def test_difference_takes_a_multiset_out_again() -> None:
    part, rest = MultisetHash(), MultisetHash()
    part.add_many(bytes(32) + bytes([1]) * 32)
    rest.add_many(bytes([2]) * 32)
    both = rest.copy()
    both.union(part)
    both.difference(part)
    assert both == rest
    with pytest.raises(DataError, match="cannot remove 2 of 1 records"):
        rest.difference(part)
    with pytest.raises(DataError, match="difference of mset-mu-3072 and muhash3072"):
        rest.difference(MultisetHash(multiset.MUHASH3072))
