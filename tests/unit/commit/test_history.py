"""The history log against the recursion that RFC 9162 prints, and every malformed proof refused."""

from __future__ import annotations

import hashlib

import pytest

from palm_torch.commit import history
from palm_torch.commit.history import History, leaf_hash, node_hash, verify_consistency, verify_inclusion
from palm_torch.errors import BindingError, DataError, EvidenceError

LARGEST = 40
ENTRIES = [bytes((n,)) * n for n in range(LARGEST)]


@pytest.fixture(scope="module")
def log() -> History:
    made = History()
    for index, entry in enumerate(ENTRIES):
        assert made.append(entry) == index
    return made


# RFC 9162 sections 2.1.1, 2.1.3.1 and 2.1.4.1, as printed.


def split(n: int) -> int:
    return next(1 << k for k in range(64) if 1 << k < n <= 2 << k)


def tree_hash(entries: list[bytes]) -> bytes:
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = split(len(entries))
    return hashlib.sha256(b"\x01" + tree_hash(entries[:k]) + tree_hash(entries[k:])).digest()


def path(m: int, entries: list[bytes]) -> list[bytes]:
    if len(entries) == 1:
        return []
    k = split(len(entries))
    if m < k:
        return [*path(m, entries[:k]), tree_hash(entries[k:])]
    return [*path(m - k, entries[k:]), tree_hash(entries[:k])]


def subproof(m: int, entries: list[bytes], *, whole: bool = True) -> list[bytes]:
    if m == len(entries):
        return [] if whole else [tree_hash(entries)]
    k = split(len(entries))
    if m <= k:
        return [*subproof(m, entries[:k], whole=whole), tree_hash(entries[k:])]
    return [*subproof(m - k, entries[k:], whole=False), tree_hash(entries[:k])]


@pytest.mark.parametrize("size", range(LARGEST + 1))
def test_roots_and_proofs_are_those_of_the_rfc(log: History, size: int) -> None:
    root = log.root(size)
    assert root == tree_hash(ENTRIES[:size]) == history.root_of(ENTRIES[:size])
    for index in range(size):
        proof = log.inclusion_proof(index, size)
        assert list(proof) == path(index, ENTRIES[:size])
        verify_inclusion(ENTRIES[index], index, size, root, proof)
    for old in range(size + 1):
        proof = log.consistency_proof(old, size)
        assert list(proof) == (subproof(old, ENTRIES[:size]) if old else [])
        verify_consistency(old, size, log.root(old), root, proof)


def test_defaults_speak_of_the_whole_log(log: History) -> None:
    assert log.size == LARGEST
    assert log.root() == log.root(LARGEST)
    assert log.inclusion_proof(3) == log.inclusion_proof(3, LARGEST)
    assert log.consistency_proof(3) == log.consistency_proof(3, LARGEST)


def test_empty_log() -> None:
    assert History().root() == hashlib.sha256(b"").digest() == history.EMPTY_ROOT


def test_known_answers() -> None:
    # Ten lines by hand: the tree over "", "\x00" and "\x10".
    one, two, three = (leaf_hash(entry) for entry in (b"", b"\x00", b"\x10"))
    assert one.hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert history.root_of([b"", b"\x00"]) == node_hash(one, two)
    assert (
        history.root_of([b"", b"\x00"]).hex().startswith("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd")
    )
    assert history.root_of([b"", b"\x00", b"\x10"]) == node_hash(node_hash(one, two), three)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13])
def test_every_change_to_an_inclusion_statement_is_rejected(log: History, size: int) -> None:
    root = log.root(size)
    for index in range(size):
        proof = log.inclusion_proof(index, size)
        with pytest.raises(BindingError):
            verify_inclusion(b"another", index, size, root, proof)
        with pytest.raises(BindingError):
            verify_inclusion(ENTRIES[index], index, size, bytes(32), proof)
        for other in set(range(size)) - {index}:
            with pytest.raises((BindingError, EvidenceError)):
                verify_inclusion(ENTRIES[index], other, size, root, proof)
        for at in range(len(proof)):
            changed = (*proof[:at], bytes(32), *proof[at + 1 :])
            with pytest.raises(BindingError):
                verify_inclusion(ENTRIES[index], index, size, root, changed)
        for wrong in (proof[1:], (*proof, bytes(32))):
            if len(wrong) != len(proof):
                with pytest.raises(EvidenceError, match="hashes, got"):
                    verify_inclusion(ENTRIES[index], index, size, root, wrong)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 3), (3, 7), (4, 8), (6, 8), (7, 13), (8, 13), (13, 40)])
def test_every_change_to_a_consistency_statement_is_rejected(log: History, old: int, new: int) -> None:
    proof, old_root, new_root = log.consistency_proof(old, new), log.root(old), log.root(new)
    with pytest.raises(BindingError):
        verify_consistency(old, new, bytes(32), new_root, proof)
    with pytest.raises(BindingError):
        verify_consistency(old, new, old_root, bytes(32), proof)
    for at in range(len(proof)):
        with pytest.raises(BindingError):
            verify_consistency(old, new, old_root, new_root, (*proof[:at], bytes(32), *proof[at + 1 :]))
    for wrong in (proof[1:], (*proof, bytes(32))):
        with pytest.raises(EvidenceError, match="hashes, got"):
            verify_consistency(old, new, old_root, new_root, wrong)


def test_rewritten_history_is_not_consistent(log: History) -> None:
    forged = History()
    for entry in [b"forged", *ENTRIES[1:]]:
        forged.append(entry)
    for old in range(1, LARGEST):
        with pytest.raises(BindingError):
            verify_consistency(old, LARGEST, log.root(old), forged.root(), forged.consistency_proof(old))


def test_trivial_consistency_still_compares_roots(log: History) -> None:
    verify_consistency(0, 5, history.EMPTY_ROOT, log.root(5), ())
    with pytest.raises(BindingError, match="log of 0 entries"):
        verify_consistency(0, 5, log.root(1), log.root(5), ())
    with pytest.raises(BindingError, match="log of 5 entries"):
        verify_consistency(5, 5, log.root(5), log.root(4), ())
    with pytest.raises(BindingError, match="log of 0 entries"):
        verify_consistency(0, 0, log.root(1), log.root(1), ())


def test_hash_of_another_length(log: History) -> None:
    proof = log.inclusion_proof(0, 2)
    with pytest.raises(EvidenceError, match="hash 0: expected 32 bytes, got 31"):
        verify_inclusion(ENTRIES[0], 0, 2, log.root(2), (proof[0][:31],))


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (0, history.MAX_SIZE + 1)])
def test_inclusion_outside_the_log(log: History, index: int, size: int) -> None:
    with pytest.raises(EvidenceError, match="expected an index in"):
        verify_inclusion(b"", index, size, log.root(3), ())


@pytest.mark.parametrize(("old", "new"), [(-1, 3), (4, 3), (0, history.MAX_SIZE + 1)])
def test_consistency_of_impossible_sizes(log: History, old: int, new: int) -> None:
    with pytest.raises(EvidenceError, match="expected an old size in"):
        verify_consistency(old, new, log.root(3), log.root(3), ())


def test_proofs_of_what_the_log_never_was(log: History) -> None:
    for call in (
        lambda: log.root(LARGEST + 1),
        lambda: log.root(-1),
        lambda: log.inclusion_proof(5, 5),
        lambda: log.inclusion_proof(-1),
        lambda: log.consistency_proof(6, 5),
        lambda: log.consistency_proof(-1),
    ):
        with pytest.raises(DataError, match="history: expected"):
            call()
