"""Proofs from nodes that are at hand are those of hashing anew, and few nodes are."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from palm_torch.commit import merkle, merkle_blocks, merkle_nodes

if TYPE_CHECKING:
    from collections.abc import Callable

COUNTS = [1, 2, 3, 7, 1000, 1023, 1024, 1025, 2500, 4096]


def leaves_of(count: int) -> bytes:
    return random.Random(count).randbytes(32 * count)


def built(leaves: bytes) -> merkle.TreeBuilder:
    builder = merkle.TreeBuilder()
    builder.extend(leaves)
    return builder


@pytest.mark.parametrize("count", COUNTS)
def test_every_node_of_a_block_is_hashed_from_its_leaves(count: int) -> None:
    blocks, leaves = merkle_blocks.Blocks(), bytearray(leaves_of(count))
    for level in range(1 + min(merkle_nodes.BLOCK_LEVELS, merkle_nodes.height(count))):
        for index in {0, 1, (count - 1) >> level, (count // 2) >> level}:
            if index << level < count:
                found = blocks.node(leaves, level, index)
                assert found == merkle_nodes.node_of_leaves(leaves, level, index)


@pytest.mark.parametrize("count", COUNTS)
def test_a_second_proof_is_the_first(count: int) -> None:
    leaves, chance = leaves_of(count), random.Random(-count)
    builder = built(leaves)
    for size in (1, 2, 40):
        positions = chance.sample(range(count), min(size, count))
        expected = merkle.open_positions(leaves, positions)
        assert builder.open(positions) == builder.open(positions) == expected


def test_a_second_proof_hashes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = built(leaves_of(3000))
    first = builder.open([5, 1500, 2999])

    def hashed(*_: object) -> bytes:
        raise AssertionError

    for name in ("node_hash", "node_of_leaves", "levels_of_block"):
        monkeypatch.setattr(merkle_nodes, name, hashed)
    assert builder.open([5, 1500, 2999]) == first
    builder.append(bytes(32))
    with pytest.raises(AssertionError):
        builder.open([5, 1500, 2999])


@pytest.mark.parametrize(
    "change",
    [
        lambda builder: builder.append(bytes(32)),
        lambda builder: builder.extend(bytes(64)),
        lambda builder: builder.truncate(2499),
        lambda builder: builder.replace(2490, bytes(32)),
        lambda builder: builder.replace(3, bytes(32)),
    ],
)
def test_changed_leaves_change_proofs(change: Callable[[merkle.TreeBuilder], object]) -> None:
    builder = built(leaves_of(2500))
    positions = [2, 2047, 2491]
    before = builder.open(positions)
    change(builder)
    assert builder.open(positions) == merkle.open_positions(builder.leaves(), positions) != before


def test_few_blocks_are_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merkle_blocks, "MOST_BLOCKS", 2)
    made: list[int] = []
    hashed = merkle_nodes.levels_of_block

    def counted(leaves: bytes | bytearray, block: int) -> list[bytes]:
        made.append(block)
        return hashed(leaves, block)

    monkeypatch.setattr(merkle_nodes, "levels_of_block", counted)
    blocks, leaves = merkle_blocks.Blocks(), bytearray(leaves_of(4096))
    for block in (0, 1, 0, 2, 0, 1):  # 0 was used later than 1 when 2 comes
        blocks.node(leaves, 3, block << 7)
        assert len(blocks) <= 2
    assert made == [0, 1, 2, 1]
    blocks.forget()
    assert not len(blocks)


def test_a_proof_from_many_blocks_comes_to_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merkle_blocks, "MOST_BLOCKS", 1)
    leaves = leaves_of(6 * 1024 + 9)
    builder = built(leaves)
    made: list[int] = []
    hashed = merkle_nodes.levels_of_block
    monkeypatch.setattr(
        merkle_nodes, "levels_of_block", lambda leaves, block: made.append(block) or hashed(leaves, block)
    )
    positions = [17 + 1024 * block for block in range(6)] + [6 * 1024 + 3]
    assert builder.open(positions) == merkle.open_positions(leaves, positions)
    assert made == list(range(7))


def test_what_is_at_hand_is_some_mebibytes() -> None:
    levels = merkle_nodes.levels_of_block(leaves_of(1024), 0)
    assert merkle_blocks.MOST_BLOCKS * sum(map(len, levels)) <= 4 << 20
