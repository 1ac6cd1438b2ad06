"""Random mutations of good bundles and receipts: all refused, and by nothing but our own errors.

``PALM_TORCH_THOROUGH=1`` tries 20,000 in place of 2,000; `benchmarks/mutations.py` prints a table.
"""

from __future__ import annotations

import dataclasses
import os
import random
from typing import TYPE_CHECKING, Any

import hostile
import mutations
import pytest
import workshop
from workshop import put

from palm_torch import evidence
from palm_torch.encoding import encode_json
from palm_torch.errors import EvidenceError, PalmTorchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostile import Target
    from workshop import GoodRun

THOROUGH = os.environ.get("PALM_TORCH_THOROUGH") == "1"
COUNT = 20_000 if THOROUGH else 2_000


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    return hostile.make(tmp_path_factory.mktemp("machines"))


def against(verify: Callable[[bytes], object], targets: list[Target]) -> list[Target]:
    """Returns the targets with another verifier."""
    return [dataclasses.replace(target, verify=verify) for target in targets]


def test_the_documents_are_good_and_differ(targets: list[Target]) -> None:
    for target in targets:
        assert target.verify(target.data)
        assert target.data in target.others
        assert len(set(target.others)) == len(target.others)
    assert any(evidence.decode(document).segments for document in targets[0].others)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_mutations_are_refused(targets: list[Target]) -> None:
    tally = hostile.attack(targets, COUNT)
    assert tally.accepted == []
    assert tally.foreign == []
    assert tally.refused.total() == COUNT
    assert set(tally.tried) == set(mutations.KINDS)
    assert not (THOROUGH and tally.missed)


def test_twin_a_verifier_that_only_decodes_accepts_many(targets: list[Target]) -> None:
    tally = hostile.attack(against(evidence.decode, targets[:2]), 200)
    assert len(tally.accepted) > 50
    assert tally.foreign == []


def test_twin_foreign_exceptions_are_seen(targets: list[Target]) -> None:
    def verify(data: bytes) -> None:
        raise KeyError(len(data))

    assert len(hostile.attack(against(verify, targets), 20).foreign) == 20


def test_validly_sealed_nonsense_raises_only_our_errors(good: GoodRun, tmp_path: Path) -> None:
    """A program inside a genuine trust domain may seal anything: then the verifier reads it all."""
    choices = random.Random(hostile.SEED)
    other = workshop.make_good_run(tmp_path / "keys")
    places = ["begin.statement", *["end.statement"] * 4, *(f"log.{at}" for at in range(len(good.bundle.log)))]
    refused = 0
    for _ in range(COUNT // 5):
        place = choices.choice(places)
        bent = mutations.mutate_fields(
            choices.choice([kind for kind in mutations.KINDS if kind.startswith("field")]),
            part_of(good.bundle, place),
            [part_of(other.bundle, place)],
            choices,
        )
        sealed = good.resealed(put(good.bundle, place, bent.data))
        try:
            good.verify(sealed)
        except PalmTorchError:
            refused += 1
    assert refused > COUNT // 20


def part_of(value: Any, path: str) -> bytes:
    for step in path.split("."):
        value = value[int(step)] if isinstance(value, tuple) else getattr(value, step)
    assert isinstance(value, bytes)
    return value


def test_a_document_is_taken_apart_and_written_again(targets: list[Target]) -> None:
    for target in targets:
        for document in target.others:
            tree = mutations.unpack(mutations._parse(document))
            assert mutations.spell(tree).encode() == document
    bundle, resumed, receipt, stamped, booted = (mutations.fields_of(target.data) for target in targets)
    assert {"run_id", "end.statement.$.predicate.run.code.files.*.digest"} <= bundle & resumed & stamped
    assert "segments.*.receipt.payload.$.predicate.state" in resumed
    assert "payload.$.predicate.issued.begin" in receipt
    assert {"boot_log", "register_log.*", "begin.statement.$.boot_log"} <= booted


@pytest.mark.parametrize("kind", mutations.KINDS)
def test_each_kind_changes_any_document(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "KINDS", {kind: mutations.KINDS[kind]})
    document = encode_json({"a": [1, "text", {"b": None, "c": True}], "d": "cGFsbS10b3JjaCE=", "e": 0.5})
    other = document.replace(b"text", b"else").replace(b"1", b"2")
    made = {mutations.mutate(document, [other], random.Random(seed)).data for seed in range(200)}
    assert len(made - {document}) > 5
    with pytest.raises(EvidenceError):
        evidence.decode(min(made))


def test_keys_out_of_order_are_a_mutation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "KINDS", {"field reordered": mutations.KINDS["field reordered"]})
    document = encode_json({"outer": {"a": 1, "b": 2, "c": 3}})
    made = {mutations.mutate(document, [document], random.Random(seed)).data for seed in range(50)}
    assert b'{"outer":{"c":3,"b":2,"a":1}}' in made
    assert b'{"outer":{"a":3,"b":2,"c":1}}' in made
