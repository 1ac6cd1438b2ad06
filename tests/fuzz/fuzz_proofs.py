"""Proofs and states that others bring: each statement has exactly one proof that is accepted."""

from __future__ import annotations

import functools

from laws import REFUSED, ours

from palm_torch.commit import coverage, history, merkle, multiset

LEAVES = 21
SIZE = 32


def one_input(data: bytes) -> None:
    """Reads a selector, two small numbers, and the hashes of a proof."""
    if len(data) < 3:
        return
    kind, one, two, rest = data[0] % 5, data[1] % (LEAVES + 2), data[2] % (LEAVES + 2), data[3:]
    (opening, inclusion, consistency, state, count)[kind](one, two, rest)


def opening(one: int, two: int, proof: bytes) -> None:
    leaves, root = tree()
    opened = {at: leaves[at * SIZE : (at + 1) * SIZE] or bytes(SIZE) for at in {one, two}}
    if ours(merkle.verify, root, LEAVES, opened, proof) is not REFUSED:
        assert proof == merkle.open_positions(leaves, opened)


def inclusion(index: int, size: int, proof: bytes) -> None:
    grown, size = log(), min(size, LEAVES)
    root = grown.root(size)
    hashes = split(proof)
    if ours(history.verify_inclusion, bytes([index]), index, size, root, hashes) is not REFUSED:
        assert hashes == grown.inclusion_proof(index, size)


def consistency(old: int, new: int, proof: bytes) -> None:
    grown, old, new = log(), min(old, LEAVES), min(new, LEAVES)
    hashes = split(proof)
    accepted = ours(history.verify_consistency, old, new, grown.root(old), grown.root(new), hashes)
    if accepted is not REFUSED:
        assert hashes == grown.consistency_proof(old, new)


def state(one: int, two: int, data: bytes) -> None:
    taken = ours(multiset.MultisetHash.from_state, data, one * two)
    if taken is not REFUSED:
        assert (taken.state, taken.count) == (data, one * two)


def count(index: int, records: int, data: bytes) -> None:
    """A coverage map of at most one leaf: its proof is empty, its leaf the whole map."""
    counts = bytes(range(LEAVES))
    shown = coverage.Inclusion(index, records, data, ())
    root = coverage.coverage_root(counts, 1)
    if ours(coverage.verify_inclusion, shown, root, records=LEAVES) is not REFUSED:
        assert shown == coverage.inclusion(counts, 1, index)


def split(proof: bytes) -> tuple[bytes, ...]:
    return tuple(proof[at : at + SIZE] for at in range(0, len(proof), SIZE))


@functools.cache
def tree() -> tuple[bytes, bytes]:
    leaves = b"".join(bytes([number]) * SIZE for number in range(LEAVES))
    return leaves, merkle.root(leaves)


@functools.cache
def log() -> history.History:
    grown = history.History()
    for number in range(LEAVES):
        grown.append(bytes([number]))
    return grown
