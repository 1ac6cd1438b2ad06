"""What an audit says: verdicts that fit their numbers, and a summary that does not round anything up."""

from __future__ import annotations

import math
from typing import Any

import pytest

from palm_torch import encoding
from palm_torch.audit import findings
from palm_torch.audit.findings import AuditResult, Finding
from palm_torch.challenge.places import Place
from palm_torch.digest import Digest
from palm_torch.errors import DataError

PLACE = Place(1, 0, 3)


def one(verdict: Any = "consistent", margin: float | None = 0.5, **other: Any) -> Finding:
    fields = {"part": "model.layers.0", "operation": "query", "place": PLACE, "words": ""}
    return Finding(**{**fields, **other}, verdict=verdict, margin=margin)


def result(*found: Finding) -> AuditResult:
    root = Digest("palm-sha256", bytes(32))
    return AuditResult(
        media_type=findings.MEDIA_TYPE,
        request=root,
        trace=root,
        sealed=False,
        places=(PLACE,),
        whole=(),
        findings=found,
        detection=findings.detection(1),
        not_checked=("something",),
    )


@pytest.mark.parametrize(
    ("verdict", "margin"),
    [
        ("consistent", None),
        ("consistent", 1.01),
        ("inconsistent", 1.0),
        ("not checked", 0.5),
        ("consistent", math.inf),
        ("inconsistent", math.nan),
        ("consistent", -0.1),
    ],
)
def test_a_verdict_that_its_number_contradicts(verdict: str, margin: float | None) -> None:
    with pytest.raises(DataError, match="margin"):
        one(verdict, margin)


def test_what_came_out() -> None:
    good = result(one(), one(margin=0.75), one("not checked", None, words="padding"))
    assert good.consistent
    assert good.margin == 0.75
    worst, infinite = one("inconsistent", 3.0), one("inconsistent", None)
    bad = result(one(), worst, infinite)
    assert not bad.consistent
    assert bad.inconsistent == (infinite, worst)
    blind = result(one(), one("not checked", None, blind=True))
    assert not blind.consistent
    assert not blind.inconsistent
    assert not result(one("not checked", None)).consistent
    assert result(one("not checked", None)).margin is None


def test_its_json() -> None:
    value = encoding.decode_json(result(one()).encode(), what="result", max_bytes=1 << 20)
    assert isinstance(value, dict)
    assert value["findings"] == [
        {
            "blind": False,
            "margin": 0.5,
            "operation": "query",
            "part": "model.layers.0",
            "place": {"part": 1, "sequence": 0, "token": 3},
            "verdict": "consistent",
            "words": "",
        }
    ]


def test_how_sure_a_draw_is() -> None:
    chances = {one.fraction: one.probability for one in findings.detection(16)}
    assert list(chances) == list(findings.FRACTIONS)
    assert chances[0.1] == pytest.approx(1 - 0.9**16)
