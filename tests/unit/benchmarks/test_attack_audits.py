"""The audits of `benchmarks/attacks.py`: what they should notice follows from the attack, and they do."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("ml_dtypes")
sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

from support import (
    audits,
    cheats,
    layer_scores,
    noticing,
    odds,
    rerunning,
    tolerant,
    toploc,
    verifiers,
    world,
)
from support.trained import Size

NEW = 9
MANY = ("other weights", "one block steered", "context truncated", "sessions mixed")


@pytest.fixture(scope="module")
def at_hand() -> world.World:
    size = Size("tiny", 128, 2, 192, steps=0, tuned_steps=0)
    claimed, other = (size.empty(seed).bfloat16() for seed in (0, 1))
    texts = torch.randint(0, 256, (24, 257), generator=torch.Generator().manual_seed(5))
    return world.World(claimed, other, other, texts, weakest=(1,), new=NEW)


@pytest.fixture(scope="module")
def auditor(at_hand: world.World, tmp_path_factory: pytest.TempPathFactory) -> audits.Auditor:
    path = layer_scores.stored(at_hand.model, tmp_path_factory.mktemp("weights"))
    return audits.Auditor(at_hand, path, queries=24)


def test_honest_claims_are_consistent(at_hand: world.World, auditor: audits.Auditor) -> None:
    shown = [auditor.shown(cheats.honest(at_hand, run)) for run in range(2)]
    found = auditor.audit(shown, 4)
    assert found.outcomes == ("consistent",) * 4
    assert (found.broken, found.seen, found.wronged) == (0, 0, 0)
    assert 0 < found.margin <= 1


@pytest.mark.parametrize(
    "name", ["other weights", "one block steered", "context truncated", "sessions mixed"]
)
def test_what_breaks_many_places_is_noticed(name: str, at_hand: world.World, auditor: audits.Auditor) -> None:
    item = auditor.shown(cheats.ATTACKS[name](at_hand, 0))
    assert item.rho > 0.2
    found = auditor.audit([item], 2)
    assert found.outcomes == ("inconsistent",) * 2
    assert found.seen == found.broken > 0
    assert found.wronged == 0


def test_an_old_root_is_refused(at_hand: world.World, auditor: audits.Auditor) -> None:
    item = auditor.shown(cheats.ATTACKS["an old root"](at_hand, 0))
    assert auditor.audit([item], 2).outcomes == ("refused",) * 2
    assert item.rho == 1


def test_the_share_of_broken_places_is_that_of_the_draw(
    at_hand: world.World, auditor: audits.Auditor
) -> None:
    fed = world.PROMPT + NEW - 1
    edited = cheats.ATTACKS["an activation edited, rest re-derived"](at_hand, 0)
    assert auditor.rho(edited) == (pytest.approx(1 / 4 / fed), 1)
    assert auditor.drawing((1, 5, 5, 1)).rho(edited) == (pytest.approx(5 / 12 / fed), 1)
    of_heads = replace(edited, broken=lambda kind, _, at: kind == "head" and at == world.PROMPT)
    assert auditor.rho(of_heads) == (pytest.approx(1 / 4 / NEW), 1)


def test_delta_is_counted_on_broken_places(at_hand: world.World, auditor: audits.Auditor) -> None:
    makers = [cheats.ATTACKS[name] for name in ("one block steered", "context truncated")]
    shown = [auditor.shown(make(at_hand, 3)) for make in makers]
    counted = auditor.counted(shown)
    assert counted.wronged == 0
    for item, checked, noticed in zip(shown, counted.checked, counted.noticed, strict=True):
        assert 0 < checked <= min(audits.PLACES, item.broken)
        assert noticed == checked
    assert counted.delta == 1


def test_the_one_broken_place_of_a_trace_is_looked_at(at_hand: world.World, auditor: audits.Auditor) -> None:
    item = auditor.shown(cheats.ATTACKS["an activation edited, rest re-derived"](at_hand, 3))
    assert item.broken == 1
    assert auditor.counted([item]) == noticing.Counted((1,), (1,), 0)


def test_what_is_refused_is_noticed_everywhere(at_hand: world.World, auditor: audits.Auditor) -> None:
    counted = auditor.counted([auditor.shown(cheats.ATTACKS["an old root"](at_hand, 3))])
    assert counted.noticed == counted.checked != (0,)
    assert counted.wronged == 0


def test_a_row_says_what_everybody_found(at_hand: world.World, auditor: audits.Auditor) -> None:
    everybody = verifiers.Verifiers(at_hand, auditor, 3)
    honest = everybody.row("honest", cheats.honest, runs=1, draws=1)
    assert (honest.exact, honest.published, honest.audited.noticed) == (0, 0, 0)
    assert honest.expected() == (0, 0)
    assert honest.counted == noticing.Counted()
    assert honest.inside()
    row = everybody.row("other weights", cheats.ATTACKS["other weights"], runs=2, draws=3)
    settings = len(rerunning.SETTINGS)
    assert (row.exact, row.tolerant) == (2, ((2,) * settings,) * 2)
    assert (row.published, row.found(0, rerunning.WIDER)) == (2 * len(rerunning.SAME), 4)
    assert row.rho == 1
    assert row.shown == ((1, 3 * (world.PROMPT + NEW - 1) + NEW),) * 2
    assert row.counted.delta == 1
    assert row.predicted(1) > 0.98
    assert row.expected() == (3, 3)
    assert row.inside()
    assert everybody.sizes()[1] == toploc.PROOF_BYTES * 2
    assert len(tolerant.METHODS) == len(row.tolerant)


def test_a_count_outside_of_what_is_expected_is_told() -> None:
    audited = audits.Audited(("consistent",) * 20, 0, 0, 0, 0.0, 0.0, 0)
    counted = noticing.Counted((500,) * 8, (500,) * 8)
    row = verifiers.Row("x", 1, 0, ((0,), (0,)), 0, ((0.5, 100),), counted, audited, 1)
    assert row.expected() == odds.expected([0.5] * 20)
    assert not row.inside()
    assert row.expected(0.9999)[0] < row.expected()[0]
