"""Laws of trees, logs and grids."""

from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.commit import history, merkle
from palm_torch.commit.grid import Grid
from palm_torch.errors import BindingError


def leaves_of(count: int) -> bytes:
    return b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(count))


openings = st.integers(1, 300).flatmap(
    lambda count: st.tuples(
        st.just(count), st.sets(st.integers(0, count - 1), min_size=1, max_size=20), st.integers(0)
    )
)


@given(openings)
def test_whatever_opens_verifies_and_nothing_else_does(case: tuple[int, set[int], int]) -> None:
    count, positions, choice = case
    leaves = leaves_of(count)
    root, proof = merkle.root(leaves), merkle.open_positions(leaves, positions)
    opened = {p: leaves[32 * p : 32 * p + 32] for p in positions}
    merkle.verify(root, count, opened, proof)
    bits = 8 * (len(proof) + 32 * len(opened))
    flipped = bytearray(proof + b"".join(opened[p] for p in sorted(opened)))
    flipped[choice % bits // 8] ^= 1 << choice % 8
    values = bytes(flipped[len(proof) :])
    changed = {p: values[32 * at : 32 * at + 32] for at, p in enumerate(sorted(opened))}
    with pytest.raises(BindingError):
        merkle.verify(root, count, changed, bytes(flipped[: len(proof)]))


@given(st.lists(st.binary(max_size=8), max_size=60), st.data())
def test_a_log_proves_every_entry_and_every_past(entries: list[bytes], data: st.DataObject) -> None:
    log = history.History()
    roots = [log.root()]
    for entry in entries:
        log.append(entry)
        roots.append(log.root())
    new = data.draw(st.integers(0, len(entries)))
    old = data.draw(st.integers(0, new))
    assert log.root(new) == roots[new] == history.root_of(entries[:new])
    history.verify_consistency(old, new, roots[old], roots[new], log.consistency_proof(old, new))
    if new:
        index = data.draw(st.integers(0, new - 1))
        history.verify_inclusion(entries[index], index, new, roots[new], log.inclusion_proof(index, new))


grids = st.integers(1, 4).flatmap(
    lambda axes: st.builds(
        Grid,
        st.tuples(*[st.integers(0, 7)] * axes),
        st.tuples(*[st.integers(1, 9)] * axes),
    )
)


@given(grids)
def test_tiles_cover_every_element_once(grid: Grid) -> None:
    covered = [
        math.prod(part.stop - part.start for part in grid.tile_at(position)) for position in range(grid.tiles)
    ]
    assert all(covered)
    assert sum(covered) == math.prod(grid.shape)


@given(grids, st.data())
def test_cover_finds_exactly_the_tiles_that_a_region_touches(grid: Grid, data: st.DataObject) -> None:
    if 0 in grid.shape:
        return
    starts = [data.draw(st.integers(0, extent - 1)) for extent in grid.shape]
    stops = [data.draw(st.integers(s + 1, extent)) for s, extent in zip(starts, grid.shape, strict=True)]
    region = tuple(map(slice, starts, stops))
    touched = tuple(
        position
        for position in range(grid.tiles)
        if all(
            part.start < want.stop and want.start < part.stop
            for part, want in zip(grid.tile_at(position), region, strict=True)
        )
    )
    assert grid.cover(region) == touched
