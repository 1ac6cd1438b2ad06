"""Streams: the schedule of a site, and its bytes out of what was kept."""

from __future__ import annotations

from typing import Any

import pytest

from palm_torch.commit.trace import Calls, Site
from palm_torch.committing.given import Given
from palm_torch.committing.spill import Kept
from palm_torch.committing.streams import Stream
from palm_torch.errors import CoverageError, DataError

SITE = Site("layers.0")
NO_LANE: Any = None


def stream() -> Stream:
    return Stream(SITE, "uint8", 4, NO_LANE)


def test_equal_calls_in_a_row_are_one_run() -> None:
    one = stream()
    shapes: list[tuple[int, tuple[int, ...]]] = [
        (0, (1, 5, 4)),
        (1, (1, 1, 4)),
        (2, (1, 1, 4)),
        (3, (4,)),
        (5, (4,)),
        (6, ()),
        (7, (1, 1, 4)),
    ]
    for call, shape in shapes:
        one.note(call, shape)
    assert one.finish().schedule == (
        Calls(0, 1, (1, 5)),
        Calls(1, 2, (1, 1)),
        Calls(3, 1, ()),
        Calls(5, 1, ()),
        Calls(6, 1, None),
        Calls(7, 1, (1, 1)),
    )


def test_a_stream_that_others_came_between_goes_on_in_another_run() -> None:
    one = stream()
    one.note(0, (1, 4))
    one.next_call, one.shape = 2, None  # call 1 had a tensor of another kind
    one.note(2, (1, 4))
    one.note(3, (1, 4))
    assert one.finish().schedule == (Calls(0, 1, (1,)), Calls(2, 2, (1,)))


@pytest.mark.parametrize("call", [0, 1])
def test_a_call_that_comes_twice_is_refused(call: int) -> None:
    one = stream()
    one.note(0, (1, 4))
    one.note(1, (1, 4))
    with pytest.raises(CoverageError, match=f"call {call} was captured after call 1"):
        one.note(call, (1, 4))


def test_bytes_are_found_in_the_blocks_they_were_kept_in() -> None:
    kept, one = Kept(limit_bytes=1000), stream()
    data = bytes(range(200))
    at = 0
    for length in (50, 3, 47, 100):
        block = kept.add(memoryview(b"other" + data[at : at + length]))
        one.add(memoryview(data[at : at + length]), block, 5)
        at += length
    for start, stop in ((0, 200), (0, 1), (49, 51), (50, 53), (52, 101), (199, 200)):
        assert one.read(kept, start, stop) == data[start:stop]


def given(contents: dict[int, bytes]) -> Given:
    from palm_torch.commit.trace import Group, tiling
    from palm_torch.digest import TAGGED_SHA256, Digest

    schedule = (Calls(0, 1, (2,)), Calls(1, 1, (0,)), Calls(2, 3, ()))
    group = Group(
        sites=(SITE,),
        dtype="uint8",
        channels=4,
        tile=tiling("uint8", 4),
        schedule=schedule,
        root=Digest(TAGGED_SHA256, bytes(32)),
    )
    made = {call: lambda data=data: memoryview(data) for call, data in contents.items()}
    return Given(SITE, group, made)


def test_bytes_are_found_in_tensors_that_are_given() -> None:
    data = bytes(range(20))
    whole = given({0: data[:8], 2: data[8:12], 3: data[12:16], 4: data[16:]})
    for start in range(20):
        for stop in range(start + 1, 21):
            assert whole.read(start, stop) == data[start:stop]


def test_a_tensor_that_is_missing_or_of_another_size_is_named() -> None:
    part = given({0: bytes(8), 2: bytes(5)})
    assert part.read(3, 8) == bytes(5)
    with pytest.raises(DataError, match="the tensor of call 3 is not among those given: commit with keep="):
        part.read(12, 13)
    with pytest.raises(DataError, match="expected 4 bytes for the tensor of call 2, got 5"):
        part.read(8, 9)
