"""The multiset hash that a verifier derives from counts is the product, delivery by delivery."""

from __future__ import annotations

import hashlib
import struct
import tempfile
from pathlib import Path

import gmpy2
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_torch.commit import coverage, coverage_file, deliveries, multiset

FORMS = {1: "B", 2: "H", 4: "I"}
SIZE = 90
DIGESTS = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(SIZE))

small = st.integers(0, 3)
widths = st.sampled_from([1, 2, 4])


def counts_of(width: int) -> st.SearchStrategy[list[int]]:
    return st.lists(small | st.integers(0, 2 ** (8 * width) - 1), min_size=1, max_size=SIZE)


@settings(max_examples=60)
@given(data=st.data(), width=widths, base=small, cut=st.integers(0, SIZE))
def test_derived_is_the_product(data: st.DataObject, width: int, base: int, cut: int) -> None:
    counts = data.draw(counts_of(width))
    digests = DIGESTS[: len(counts) * 32]
    product, whole = multiset.MultisetHash(number=gmpy2.mpz), multiset.MultisetHash()
    whole.add_many(digests)
    for index, count in enumerate(counts):
        product.add(digests[index * 32 : index * 32 + 32], count)
    made = deliveries.Deliveries(base=base, whole=whole)
    for part in (slice(0, cut), slice(cut, None)):
        piece = counts[part]
        made.add(
            digests[part.start * 32 :][: len(piece) * 32],
            struct.pack(f"<{len(piece)}{FORMS[width]}", *piece),
            width,
        )
    total = made.total()
    assert (total.state, total.count) == (product.state, product.count)


@settings(max_examples=60)
@given(data=st.data(), width=widths, sizes=st.lists(st.integers(1, 1500), max_size=6), index=st.integers(0))
def test_a_map_read_in_pieces_is_the_map(
    data: st.DataObject, width: int, sizes: list[int], index: int
) -> None:
    counts = data.draw(counts_of(width)) * 20
    packed = struct.pack(f"<{len(counts)}I", *counts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map"
        coverage.write_sidecar(path, packed, 4)
        with coverage_file.opened(path) as file:
            found: list[int] = []
            for size in sizes:
                found += coverage_file.numbers(file.take(min(size, len(counts) - len(found))), file.width)
            read = file.finish()
        index %= len(counts)
        shown, root = coverage_file.inclusion(path, index)
    assert found == counts[: len(found)]
    assert read == coverage_file.Read(coverage.coverage_root(packed, 4), coverage.summary(packed, 4))
    assert root == read.root
    assert coverage.verify_inclusion(shown, root, records=len(counts)) == counts[index]
