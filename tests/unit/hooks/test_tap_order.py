"""Whether a module got the very tensor that the one before it returned."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palm_torch.hooks import tap_order


def marked(output: object) -> tap_order.Mark:
    found = tap_order.mark(output)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("hand_on", "same"),
    [
        (lambda x: ((x,), {}), True),
        (lambda x: ((x.view_as(x),), {}), True),  # as hooks for gradients do
        (lambda x: ((), {"hidden": x}), True),
        (lambda x: ((None, "eager", (x, None)), {}), True),
        (lambda x: ((x.t(),), {}), False),
        (lambda x: ((x[1:],), {}), False),
        (lambda x: ((x.view(torch.int32),), {}), False),
        (lambda x: ((x.clone(), x), {}), False),
        (lambda x: ((x.add_(1),), {}), False),
        (lambda x: ((x.to_sparse(),), {}), False),
        (lambda _: ((), {}), False),
        (lambda _: ((None, 3), {"hidden": "none"}), False),
    ],
)
@pytest.mark.parametrize("inside", [lambda x: x, lambda x: (x, None), lambda x: [(x,), 2]])
def test_what_is_the_same_tensor(hand_on: Any, same: bool, inside: Any) -> None:  # noqa: FBT001 (what is expected)
    x = torch.randn(3, 3)
    mark = marked(inside(x))
    assert tap_order.is_same(mark, *hand_on(x)) is same


def test_another_tensor_in_the_same_place_is_another() -> None:
    """What was marked is not given back before the next module has its input, so nobody gets its place."""
    place = (mark := marked(torch.randn(1000)))[0].data_ptr()
    others = [torch.zeros(1000) for _ in range(20)]
    assert all(one.data_ptr() != place for one in others)
    assert not any(tap_order.is_same(mark, (one,), {}) for one in others)


def test_a_tensor_without_one_place_is_the_same_only_as_itself() -> None:
    sparse = torch.eye(3).to_sparse()
    assert tap_order.is_same(marked(sparse), (sparse,), {})
    assert not tap_order.is_same(marked(sparse), (torch.eye(3).to_sparse(),), {})


def test_tensors_of_inference_mode_count_no_writes() -> None:
    with torch.inference_mode():
        x = torch.ones(3)
        assert tap_order.is_same(marked(x), (x,), {})
        assert tap_order.is_same(marked(x), (x.view_as(x),), {})


def test_no_tensor_no_mark() -> None:
    assert tap_order.mark(None) is None
    assert tap_order.mark(()) is None
    assert tap_order.mark({"a": torch.ones(3)}) is None
