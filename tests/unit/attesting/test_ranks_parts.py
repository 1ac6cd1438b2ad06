"""The parts of a run on several machines: all are told the same, and it has each rank once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from palm_torch import codec
from palm_torch.attesting import ranks_parts
from palm_torch.attesting.ranks import Place
from palm_torch.digest import TAGGED_SHA256, Digest, sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import CoverageError
from palm_torch.statement import Part

PLACE = Place(
    rank=2,
    world_size=4,
    local_rank=0,
    local_world_size=2,
    machine=1,
    machines=2,
    name=bytes(32),
    run=bytes(32),
    store=None,
)
PARTS = tuple(
    Part(begin=Digest(TAGGED_SHA256, bytes([number]) * 32), first=2 * number, count=2) for number in range(2)
)


def spelled(part: Part) -> bytes:
    return encode_json(codec.to_json(part))


class Told:
    """Machines that get these answers, whatever they say."""

    def __init__(self, parts: list[bytes], seen: list[bytes] | None = None) -> None:
        same = str(sha256_digest(encode_json(codec.to_json(PARTS)))).encode()
        self.answers = [parts, [same, same] if seen is None else seen]

    def exchange(self, _point: str, _value: str) -> list[bytes]:
        return self.answers.pop(0)


def exchange(told: Any) -> tuple[Part, ...]:
    return ranks_parts.exchange(told, PLACE, PARTS[1])


def test_each_machine_learns_all_parts() -> None:
    assert exchange(Told([spelled(part) for part in PARTS])) == PARTS


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ([b"{}", spelled(PARTS[1])], "machine 0: its part"),
        ([b"x" * 5000, spelled(PARTS[1])], "machine 0: its part"),
        ([spelled(PARTS[0]), spelled(PARTS[0])], "another part than ours"),
        ([spelled(dataclasses.replace(PARTS[0], count=1)), spelled(PARTS[1])], "each rank once"),
    ],
)
def test_what_is_no_whole_run(told: list[bytes], says: str) -> None:
    with pytest.raises(CoverageError, match=says):
        exchange(Told(told))


def test_a_store_that_does_not_say_one_thing_to_all() -> None:
    with pytest.raises(CoverageError, match="machine 0 was told of other parts than this one"):
        exchange(Told([spelled(part) for part in PARTS], [b"another", b"another"]))
