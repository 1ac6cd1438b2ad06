"""Laws of the multiset hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gmpy2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.commit.multiset import MSET_MU_3072, MultisetHash, ParameterSet, product_of

if TYPE_CHECKING:
    from random import Random

TOY = ParameterSet("toy", 1019, MSET_MU_3072.streams, "big")
"""A safe prime so small that accidents would show."""

digests = st.binary(min_size=32, max_size=32)
few_digests = st.lists(st.sampled_from([bytes((n,)) * 32 for n in range(6)]) | digests, max_size=8)
parameter_sets = st.sampled_from([MSET_MU_3072, TOY])
numbers = st.sampled_from([int, gmpy2.mpz])


def hash_of(records: list[bytes], parameters: ParameterSet, number: type[int] = gmpy2.mpz) -> MultisetHash:
    made = MultisetHash(parameters, number=number)
    made.add_many(b"".join(records))
    return made


@given(few_digests, st.randoms(use_true_random=False), parameter_sets)
def test_order_does_not_matter(records: list[bytes], random: Random, parameters: ParameterSet) -> None:
    shuffled = records.copy()
    random.shuffle(shuffled)
    assert hash_of(records, parameters) == hash_of(shuffled, parameters)


@given(few_digests, parameter_sets)
def test_both_integer_types_agree(records: list[bytes], parameters: ParameterSet) -> None:
    with_int, with_mpz = (hash_of(records, parameters, number) for number in (int, gmpy2.mpz))
    assert with_int == with_mpz
    assert with_int.digest() == with_mpz.digest()
    joined = b"".join(records)
    assert product_of(joined, parameters=parameters) == product_of(
        joined, parameters=parameters, number=gmpy2.mpz
    )


@given(few_digests, few_digests, parameter_sets, numbers)
def test_remove_undoes_add(
    kept: list[bytes], removed: list[bytes], parameters: ParameterSet, number: type[int]
) -> None:
    made = hash_of(kept, parameters, number)
    for record in removed:
        made.add(record)
    for record in removed:
        made.remove(record)
    assert made == hash_of(kept, parameters)


@given(few_digests, few_digests, parameter_sets)
def test_union_is_adding_both(first: list[bytes], second: list[bytes], parameters: ParameterSet) -> None:
    united = hash_of(first, parameters)
    united.union(hash_of(second, parameters))
    assert united == hash_of(first + second, parameters)


@given(few_digests, st.integers(0, 5), parameter_sets)
def test_power_is_repeated_union(records: list[bytes], exponent: int, parameters: ParameterSet) -> None:
    made = hash_of(records, parameters)
    made.power(exponent)
    assert made == hash_of(records * exponent, parameters)


@given(few_digests, digests, parameter_sets)
def test_power_also_of_what_was_removed(records: list[bytes], extra: bytes, parameters: ParameterSet) -> None:
    made = hash_of([*records, extra], parameters)
    made.remove(extra)
    made.power(3)
    assert made == hash_of(records * 3, parameters)


@given(digests, st.integers(0, 9), parameter_sets)
def test_times_is_repetition(record: bytes, times: int, parameters: ParameterSet) -> None:
    made = MultisetHash(parameters)
    made.add(record, times=times)
    assert made == hash_of([record] * times, parameters)
    made.remove(record, times=times)
    assert made == MultisetHash(parameters)


@given(few_digests, few_digests, parameter_sets)
def test_a_worker_s_product_counts_as_its_records(
    first: list[bytes], second: list[bytes], parameters: ParameterSet
) -> None:
    made = hash_of(first, parameters)
    made.multiply(product_of(b"".join(second), parameters=parameters), len(second))
    assert made == hash_of(first + second, parameters)


@given(few_digests, parameter_sets)
def test_state_and_count_are_the_whole_hash(records: list[bytes], parameters: ParameterSet) -> None:
    made = hash_of(records, parameters)
    taken = MultisetHash.from_state(made.state, made.count, parameters=parameters)
    assert taken == made
    assert taken.digest() == made.digest()


@given(few_digests, few_digests)
def test_different_multisets_differ(first: list[bytes], second: list[bytes]) -> None:
    same = sorted(first) == sorted(second)
    assert (hash_of(first, MSET_MU_3072) == hash_of(second, MSET_MU_3072)) is same


@pytest.mark.parametrize("times", [2, 2**16, 2**32, 2**62])
def test_no_number_of_repeats_vanishes(times: int) -> None:
    made = MultisetHash()
    made.add(bytes(32), times=times)
    assert made.state != MultisetHash().state
