"""The root of leaves that are not kept is the root of the tree that keeps them."""

from __future__ import annotations

import hashlib

import pytest

from palm_torch.commit import merkle, merkle_stream
from palm_torch.errors import DataError


def leaf(n: int) -> bytes:
    return hashlib.sha256(b"leaf %d" % n).digest()


def test_every_root_on_the_way_is_that_of_the_tree() -> None:
    stream, builder = merkle_stream.StreamingRoot(), merkle.TreeBuilder()
    assert stream.root() == merkle.root(b"")
    for n in range(5 * 1024 + 2):
        assert stream.append(leaf(n)) == builder.append(leaf(n)) == n
        if n < 40 or n % 97 == 0 or n % 1024 in {0, 1, 1022, 1023}:
            assert stream.root() == builder.root() == merkle.root(builder.leaves())
    assert len(stream) == len(builder) == 5 * 1024 + 2


def test_little_is_kept() -> None:
    stream = merkle_stream.StreamingRoot()
    for _ in range(7 * 1024 + 5):
        stream.append(bytes(32))
    assert [level for level, _ in stream._peaks] == [12, 11, 10]
    assert len(stream._block) == 5 * 32


def test_refused_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merkle_stream, "_MAX_BLOCKS", 2)
    stream = merkle_stream.StreamingRoot()
    with pytest.raises(DataError, match="expected 32 bytes, got 31"):
        stream.append(bytes(31))
    for n in range(2048):
        assert stream.append(bytes(32)) == n
    root = stream.root()
    with pytest.raises(DataError, match=f"expected at most {merkle.MAX_LEAVES}, got one more"):
        stream.append(bytes(32))
    assert len(stream) == 2048
    assert stream.root() == root == merkle.root(bytes(2048 * 32))
