"""Proofs and states that others bring: each statement has exactly one proof that is accepted."""

from __future__ import annotations

import functools

import terkle_vectors
from laws import REFUSED, accepted, ours

from palm_torch.commit import coverage, history, merkle, multiset, steps, terkle

LEAVES = 21
SIZE = 32


def one_input(data: bytes) -> None:
    """Reads a selector, two small numbers, and the hashes of a proof."""
    if len(data) < 3:
        return
    kind, one, two, rest = data[0] % len(KINDS), data[1] % (LEAVES + 2), data[2] % (LEAVES + 2), data[3:]
    KINDS[kind](one, two, rest)


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


def tree_opening(one: int, two: int, data: bytes) -> None:
    """An opening of a Terkle tree: of the golden ones, and as bytes by themselves."""
    opened = accepted(data, terkle.Opening.decode, terkle.Opening.encode)
    if opened is REFUSED:
        return
    case = golden()[(one + two) % len(golden())]
    regions = terkle_vectors.slices_of(case["regions"])
    context, root = terkle_vectors.context_of(case["context"]), bytes.fromhex(case["root"])
    if ours(terkle.verify, root, context, regions, opened) is not REFUSED:
        assert data.hex() == case["opening"]


def step(number: int, size: int, data: bytes) -> None:
    read = accepted(data, steps.Step.decode, steps.Step.encode)
    if read is REFUSED:
        return
    run = session()
    number, size = min(number, LEAVES - 1), max(min(size, LEAVES), 1)
    if number >= size:
        return
    proof = run.inclusion_proof(number, size)
    if ours(steps.verify_inclusion, read, size, run.root(size), proof) is not REFUSED:
        assert (read.number, read.context, read.root) == (number, bytes(32), bytes([number]) * 32)


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


@functools.cache
def golden() -> list[terkle_vectors.Case]:
    """Returns openings that hold, of small trees of both schemes."""
    cases = terkle_vectors.read("terkle.json")["opening"]
    return [case for case in cases if case["result"] == "valid" and len(case["opening"]) < 1000]


@functools.cache
def session() -> steps.Steps:
    made = steps.Steps()
    for number in range(LEAVES):
        made.append(bytes(32), bytes([number]) * 32)
    return made


KINDS = (opening, inclusion, consistency, state, count, tree_opening, step)
