"""An append-only log under one root: the Merkle tree of RFC 9162 section 2.1, SHA-256.

Leaves are hashed as ``SHA-256(0x00 ‖ entry)``, nodes as ``SHA-256(0x01 ‖ left ‖ right)``, and the tree of
n entries splits at the largest power of two below n. An inclusion proof shows that an entry stands at an
index; a consistency proof shows that a longer log extends a shorter one. Proofs are tuples of 32-byte
hashes whose number follows from the sizes alone, so there is one valid proof per statement.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_BYTES: Final = 32
MAX_SIZE: Final = 2**53 - 1
"""Most entries a log may have: the largest integer of canonical JSON."""

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Root of a log without entries."""

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """Returns ``SHA-256(0x00 ‖ entry)``."""
    return hashlib.sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Returns ``SHA-256(0x01 ‖ left ‖ right)``."""
    return hashlib.sha256(_NODE + left + right).digest()


def root_of(entries: Sequence[bytes]) -> bytes:
    """Returns the root over all entries, 32 bytes; SHA-256 of nothing for none."""
    log = History()
    for entry in entries:
        log.append(entry)
    return log.root()


class History:
    """A growing log. It keeps the hashes of all complete subtrees, at most 64 bytes per entry."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        # _levels[k] holds, one after the other, the hashes of the complete subtrees of 2^k entries.
        self._levels: list[bytearray] = [bytearray()]

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self._levels[0]) // HASH_BYTES

    def append(self, entry: bytes) -> int:
        """Appends an entry and returns its index."""
        index = self.size
        node, level = leaf_hash(entry), 0
        self._levels[0] += node
        while (index >> level) & 1:
            node = node_hash(self._complete(level, (index >> level) - 1), node)
            level += 1
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += node
        return index

    def root(self, size: int | None = None) -> bytes:
        """Returns the root of the first `size` entries (of all, if None), 32 bytes.

        Raises:
            DataError: If the log never had that size.
        """
        size = self._checked(size)
        root = b""
        for level in range(len(self._levels)):  # the complete subtrees of the entries, smallest first
            position = size >> level
            if position & 1:
                subtree = self._complete(level, position - 1)
                root = node_hash(subtree, root) if root else subtree
        return root or EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Returns the proof that the entry at `index` is in the log of the first `size` entries.

        Raises:
            DataError: If the log never had that size, or the index is not below it.
        """
        size = self._checked(size)
        if not 0 <= index < size:
            raise DataError(f"history: expected an index in [0, {size}), got {index}")
        proof: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._hash(middle, end))
                end = middle
            else:
                proof.append(self._hash(start, middle))
                start = middle
        return tuple(reversed(proof))

    def consistency_proof(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        """Returns the proof that the first `new` entries begin with the first `old` ones.

        The proof is empty for ``old == 0`` and for ``old == new``.

        Raises:
            DataError: If the log never had those sizes, or `old` is above `new`.
        """
        new = self._checked(new)
        if not 0 <= old <= new:
            raise DataError(f"history: expected an old size in [0, {new}], got {old}")
        if old in (0, new):
            return ()
        proof: list[bytes] = []
        start, end, whole = 0, new, True
        while old != end:
            middle = start + _split(end - start)
            if old <= middle:
                proof.append(self._hash(middle, end))
                end = middle
            else:
                proof.append(self._hash(start, middle))
                start, whole = middle, False
        if not whole:
            proof.append(self._hash(start, end))
        return tuple(reversed(proof))

    def _checked(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise DataError(f"history: expected a size in [0, {self.size}], got {size}")
        return size

    def _complete(self, level: int, position: int) -> bytes:
        return bytes(self._levels[level][position * HASH_BYTES : (position + 1) * HASH_BYTES])

    def _hash(self, start: int, end: int) -> bytes:
        """Hashes entries [start, end), an interval that splitting a tree can yield."""
        count = end - start
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            return self._complete(level, start >> level)
        middle = start + _split(count)
        return node_hash(self._hash(start, middle), self._hash(middle, end))


def verify_inclusion(entry: bytes, index: int, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Checks that `entry` stands at `index` of the log that has `size` entries and this root.

    Algorithm: RFC 9162 section 2.1.3.2.

    Raises:
        EvidenceError: If the index is not below the size, or the proof has another number of hashes than
            index and size ask for.
        BindingError: If the proof leads to another root.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise EvidenceError(f"inclusion proof: expected an index in [0, {size}), got {index}")
    path = _path(index, size - 1)
    _check_proof("inclusion proof", proof, len(path))
    node = leaf_hash(entry)
    for on_the_left, sibling in zip(path, proof, strict=True):
        node = node_hash(sibling, node) if on_the_left else node_hash(node, sibling)
    _check_root(f"inclusion of entry {index} in {size}", node, root)


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Checks that the log of size `new` begins with the log of size `old`.

    Algorithm: RFC 9162 section 2.1.4.2.

    Raises:
        EvidenceError: If `old` is above `new`, or the proof has another number of hashes than they ask for.
        BindingError: If the proof does not lead from the one root to the other.
    """
    if not 0 <= old <= new <= MAX_SIZE:
        raise EvidenceError(f"consistency proof: expected an old size in [0, {new}], got {old}")
    if old in (0, new):
        _check_proof("consistency proof", proof, 0)
        if old == 0:
            _check_root("log of 0 entries", old_root, EMPTY_ROOT)
        if old == new:
            _check_root(f"log of {new} entries", new_root, old_root)
        return
    # The walk begins at the largest complete subtree that ends the old log.
    level = (old & -old).bit_length() - 1
    path = _path((old - 1) >> level, (new - 1) >> level)
    begins_complete = old == 1 << level
    _check_proof("consistency proof", proof, len(path) + (not begins_complete))
    old_node = new_node = old_root if begins_complete else proof[0]
    for on_the_left, sibling in zip(path, proof if begins_complete else proof[1:], strict=True):
        if on_the_left:
            old_node = node_hash(sibling, old_node)
            new_node = node_hash(sibling, new_node)
        else:
            new_node = node_hash(new_node, sibling)
    _check_root(f"old root of {old} entries", old_node, old_root)
    _check_root(f"new root of {new} entries", new_node, new_root)


def _split(count: int) -> int:
    """Returns the largest power of two below `count` (which is at least 2)."""
    return 1 << (count - 1).bit_length() - 1


def _path(position: int, last: int) -> list[bool]:
    """Returns, from a node to the root, whether its sibling is on the left; levels without one are skipped.

    Args:
        position: Index of the node in its level.
        last: Index of the last node of that level.
    """
    path: list[bool] = []
    while last:
        if position & 1:
            path.append(True)
        elif position < last:
            path.append(False)
        position >>= 1
        last >>= 1
    return path


def _check_proof(what: str, proof: Sequence[bytes], expected: int) -> None:
    if len(proof) != expected:
        raise EvidenceError(f"{what}: expected {expected} hashes, got {len(proof)}")
    for at, item in enumerate(proof):
        if len(item) != HASH_BYTES:
            raise EvidenceError(f"{what}: hash {at}: expected {HASH_BYTES} bytes, got {len(item)}")


def _check_root(what: str, computed: bytes, expected: bytes) -> None:
    if computed != expected:
        raise BindingError(f"{what}: expected root {expected.hex()}, got {computed.hex()}")
