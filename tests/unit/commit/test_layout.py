"""Which node and which place: the shapes that are promised, and runs against places."""

from __future__ import annotations

import math

import pytest

from palm_torch.commit import layout
from palm_torch.errors import DataError


def digits(*counts: int) -> list[tuple[int, ...]]:
    return [level.digits for level in layout.levels(counts)]


def test_shapes_of_nodes() -> None:
    assert digits(4096, 4096) == [(6, 6), (6, 6)]
    assert digits(256, 256, 256) == [(4, 4, 4), (4, 4, 4)]
    assert digits(1 << 24) == [(12,), (12,)]
    assert digits(64, 64, 64, 64) == [(3, 3, 3, 3), (3, 3, 3, 3)]


def test_short_axes_waste_no_place() -> None:
    assert digits(2, 4096) == [(1, 11), (0, 1)]
    assert digits(1, 3, 2000) == [(0, 2, 10), (0, 0, 1)]
    assert digits(100, 1) == [(7, 0)]


def test_the_turn_begins_anew_at_every_level() -> None:
    assert digits(1 << 11, 1 << 12, 1 << 12) == [(4, 4, 4), (4, 4, 4), (3, 4, 4)]
    assert digits(1 << 9, 1 << 5, 1 << 9) == [(4, 4, 4), (5, 1, 5)]


def test_at_least_one_level() -> None:
    (level,) = layout.levels((1, 1))
    assert (level.digits, level.nodes, list(level.runs(0))) == ((0, 0), 1, [(0, 0, 1)])


def test_no_tiles_no_nodes() -> None:
    (level,) = layout.levels((0, 70))
    assert level.nodes == 0


def test_the_largest_grid_has_four_levels() -> None:
    assert len(layout.levels((1 << 10,) * 4)) == 4


@pytest.mark.parametrize(
    "counts",
    [(1,), (5,), (4097,), (3, 5), (100, 1), (65, 3), (1, 70, 70), (9, 9, 9, 2), (2, 2, 1100, 1), (66, 64)],
)
def test_runs_and_places_are_each_others_inverse(counts: tuple[int, ...]) -> None:
    children = math.prod(counts)
    for level in layout.levels(counts):
        found = {}
        for node in range(level.nodes):
            before = -1
            for child, place, count in level.runs(node):
                assert before < place
                before = place + count - 1
                found.update({child + step: (node, place + step) for step in range(count)})
        assert found == {child: level.place(child) for child in range(children)}
        assert len(set(found.values())) == children
        assert all(place < layout.WIDTH for _, place in found.values())
        children = level.nodes
    assert children == 1


def test_a_place_is_row_major_over_the_digits() -> None:
    first, second = layout.levels((4096, 4096))
    assert first.place(4096 * 70 + 130) == (1 * 64 + 2, 6 * 64 + 2)
    assert second.place(1 * 64 + 2) == (0, 1 * 64 + 2)


def test_whole_nodes_are_one_run() -> None:
    assert list(layout.levels((64, 64))[0].runs(0)) == [(0, 0, 4096)]
    assert list(layout.levels((4096, 4096))[0].runs(1))[:2] == [(64, 0, 64), (4160, 64, 64)]


@pytest.mark.parametrize("child", [-1, 12])
def test_a_place_that_pads_is_refused(child: int) -> None:
    with pytest.raises(DataError, match=r"expected a child in \[0, 12\)"):
        layout.levels((3, 4))[0].place(child)


def test_opened_nodes_come_from_the_top_then_by_index() -> None:
    nodes = layout.opened(layout.levels((65, 65)), [0, 1, 64, 4224])
    assert [(node.level, node.index, node.places, node.children) for node in nodes] == [
        (2, 0, (0, 1, 3), (0, 1, 3)),
        (1, 0, (0, 1), (0, 1)),
        (1, 1, (0,), (64,)),
        (1, 3, (0,), (4224,)),
    ]


def test_nothing_opened() -> None:
    with pytest.raises(DataError, match="at least one position"):
        layout.opened(layout.levels((3, 4)), [])
