"""The worked example of the chapter on fingerprints, by plain Python, and what the code makes of it."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palm_torch.audit import fingerprint, fingerprint_file
from palm_torch.challenge import scores_file
from palm_torch.commit.trace_groups import Site
from palm_torch.digest import tagged_hash

PAGE = (Path(__file__).parents[3] / "docs" / "spec" / "58-fingerprint.md").read_text("utf-8")
EXAMPLE = PAGE.partition("## 6 ")[2].replace("−", "-")
HEX = dict(re.findall(r"^\| ([^|]+) \| `([0-9a-f]+)` \|$", EXAMPLE, re.MULTILINE))
ROWS = [
    [float(word) for word in row.split(",")]
    for row in re.findall(r"^\| \d \| ([^|]*) \|$", EXAMPLE.partition("| value |")[0], re.MULTILINE)
]
DIRECTIONS = [
    [float(word) for word in row.split(",")]
    for row in re.findall(r"^\| \d \| ([^|]*) \|$", EXAMPLE.partition("| direction |")[2], re.MULTILINE)
]


def drawn() -> list[list[float]]:
    """Returns the directions, drawn and made orthonormal without numpy."""
    seed = tagged_hash("palm-torch/fingerprint-directions/v1", b"", b"a|", (4).to_bytes(8, "big"))
    assert seed.hex() == HEX["seed'"]
    stream = hashlib.shake_256(seed).digest(64)
    assert stream.hex() == HEX["SHAKE-256 of it, 64 bytes"]
    numbers = [(word + 0.5) / 2**31 - 1 for (word,) in struct.iter_unpack("<I", stream)]
    made: list[list[float]] = []
    for start in range(0, 16, 4):
        direction = numbers[start : start + 4]
        for other in made:
            along = dot(direction, other)
            direction = [a - along * b for a, b in zip(direction, other, strict=True)]
        length = math.sqrt(dot(direction, direction))
        made.append([a / length for a in direction])
    return made


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def test_directions() -> None:
    expected = drawn()
    assert [[round(element, 4) for element in direction] for direction in expected] == DIRECTIONS
    assert pytest.approx(np.array(expected), abs=1e-6) == fingerprint.directions(Site("a"), 4).T


def test_every_row_by_plain_python() -> None:
    assert len(ROWS) == 3
    parts: dict[str, bytes] = dict.fromkeys(("scales", "projections", "places", "values"), b"")
    for row in ROWS:
        scale = math.fsum(map(abs, row)) / 4
        compressed = [math.asinh(element / scale) for element in row]
        places = sorted(sorted(range(4), key=lambda place, row=row: -abs(row[place]))[:2])
        parts["scales"] += struct.pack("<f", scale)
        parts["projections"] += b"".join(struct.pack("<e", dot(compressed, d)) for d in drawn())
        parts["places"] += b"".join(place.to_bytes(4, "little") for place in places)
        parts["values"] += b"".join(struct.pack("<f", row[place])[2:] for place in places)
    assert {name: data.hex() for name, data in parts.items()} == {name: HEX[name] for name in parts}


def test_the_file() -> None:
    made = fingerprint.make({"a": np.array(ROWS, np.float32)}, top=2)
    (count, document) = re.findall(r"The file, (\d+) bytes:\n\n```\n(.*)\n```", EXAMPLE)[0]
    assert made.encode() == document.encode()
    assert len(made.encode()) == int(count)
    assert made.digest.value.hex() == HEX["digest"]
    assert fingerprint_file.decode(document.encode()) == made


def test_the_weights() -> None:
    values: Any = (0.5, 1, 0.25, 0.25)
    made = scores_file.Scores(
        media_type=scores_file.MEDIA_TYPE,
        measure="alpha",
        parts=tuple(scores_file.PartScore(name=str(v), score=v, cost=1) for v in values),
        verifiers=(scores_file.Verifier(budget=2, first=1, end=3),),
    )
    table = dict(re.findall(r"^\| (all parts|the verifier's) \| ([^|]*) \|$", EXAMPLE, re.MULTILINE))
    for whose, verifier in (("all parts", None), ("the verifier's", 0)):
        expected = tuple(map(int, table[whose].split(",")))
        assert scores_file.weights_of(made, uniform=0.5, verifier=verifier) == expected
