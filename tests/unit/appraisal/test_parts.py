"""What parts of one run say together, and what no two of them may say differently."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import workshop
from workshop import put

from palm_torch import together
from palm_torch.appraisal import parts
from palm_torch.appraisal.parts import GivenPart
from palm_torch.data import shares
from palm_torch.digest import TAGGED_SHA256, Digest, sha256_digest
from palm_torch.errors import BindingError, ClaimError, CodeError, CoverageError
from palm_torch.properties import Evaluate
from palm_torch.roles import Artifact, Source, Value
from palm_torch.statement import CodeSource, Part, Ranks, SourceFile

if TYPE_CHECKING:
    from palm_torch.statement import Statement

GOOD = workshop.make_statement("run")
COUNT = 3
NAMED = tuple(
    Part(begin=Digest(TAGGED_SHA256, bytes([number]) * 32), first=number, count=1) for number in range(COUNT)
)


def part(own: int, *changes: tuple[str, Any]) -> GivenPart:
    """Returns one of three parts, which received nothing."""
    ranks = Ranks(world_size=COUNT, own=own, parts=NAMED, interconnect="unprotected", differing=())
    end = put(GOOD, "claims.data.dataset1.uses", {})
    for path, new in (("run.ranks", ranks), *changes):
        end = put(end, path, new)
    return GivenPart(what=f"part {own}", end=end, maps={})


def merged(*given: GivenPart) -> Statement:
    return parts.merge(given).end


def with_helper(own: int, byte: int) -> GivenPart:
    helper = SourceFile(module="zz.helper", digest=sha256_digest(bytes([byte])), reason=None)
    return part(own, ("run.code", together.union([GOOD.run.code, with_files(helper)])))


def with_files(*files: SourceFile) -> Any:
    return dataclasses.replace(GOOD.run.code, files=files)


def test_code_of_the_second_and_the_third_part_is_one() -> None:
    found = merged(part(0), with_helper(1, 1), with_helper(2, 1))
    assert [file.module for file in found.run.code.files].count("zz.helper") == 1
    with pytest.raises(CodeError, match=r"part 2: module 'zz\.helper' is another than in part 1: expected"):
        merged(part(0), with_helper(1, 1), with_helper(2, 2))
    other = next(kind for kind in CodeSource if kind is not GOOD.run.code.source)
    with pytest.raises(CodeError, match="part 1: its code was"):
        merged(part(0), part(1, ("run.code", dataclasses.replace(GOOD.run.code, source=other))), part(2))


def test_the_tokenizer_of_the_second_and_the_third_part_is_one() -> None:
    none = Artifact(source=Source.DECLARED, kind="none", digest=None)
    words = [
        Artifact(source=Source.MEASURED, kind="bytes", digest=sha256_digest(bytes([number])))
        for number in range(2)
    ]
    first, second = (("claims.tokenizer", word) for word in words)
    without = ("claims.tokenizer", none)
    claims: Any = merged(part(0, without), part(1, first), part(2, without)).claims
    assert claims.tokenizer == words[0]
    with pytest.raises(ClaimError, match=r"part 2: tokenizer: expected .* as in part 1, got"):
        merged(part(0, without), part(1, first), part(2, second))


def test_initial_weights_are_as_exact_as_in_the_least_exact_part() -> None:
    exact, later = (("claims.initial.taken", taken) for taken in ("first_delivery", "first_step"))
    for changes, expected in (
        ((exact, exact, exact), "first_delivery"),
        ((exact, exact, later), "first_step"),
        ((later, exact, exact), "first_step"),
    ):
        claims: Any = merged(*(part(own, change) for own, change in enumerate(changes))).claims
        assert claims.initial.taken == expected


def test_parts_of_two_runs_a_part_twice_and_a_whole_run() -> None:
    stranger = dataclasses.replace(NAMED[2], begin=Digest(TAGGED_SHA256, b"x" * 32))
    ranks = Ranks(
        world_size=COUNT, own=1, parts=(*NAMED[:2], stranger), interconnect="unprotected", differing=()
    )
    with pytest.raises(BindingError, match="part 0 and part 1 name different parts: they are of two runs"):
        merged(part(0), part(1, ("run.ranks", ranks)))
    with pytest.raises(BindingError, match="are both part 0 of the run"):
        merged(part(0), part(0))
    with pytest.raises(BindingError, match="part 1: a whole run, without other parts"):
        merged(part(0), part(1, ("run.ranks", None)))


def test_parts_that_did_something_else() -> None:
    trained: Any = GOOD.claims
    said = Artifact(source=Source.DECLARED, kind="none", digest=None)
    nothing = Value(source=Source.REPORTED, value={})
    other = Evaluate(
        model=trained.model,
        tokenizer=trained.tokenizer,
        data={},
        metric=nothing,
        benchmark=said,
        configuration=nothing,
    )
    with pytest.raises(ClaimError, match="part 1: expected a part of a run of 'train', got 'evaluate'"):
        merged(part(0), part(1, ("claims", other)))


def test_steps_weights_and_optimizers_are_those_of_one_run() -> None:
    with pytest.raises(ClaimError, match=r"part 1: steps: expected .* as in part 0, got"):
        merged(part(0), part(1, ("claims.steps.taken", 3)))
    with pytest.raises(ClaimError, match=r"model, part 0 and part 1: tensor .* is not the same in both"):
        merged(part(0), part(1, ("claims.model.tensors", ())))
    with pytest.raises(ClaimError, match="configuration: expected a list of optimizers"):
        merged(part(0), part(1, ("claims.configuration.value", {})))


def test_counts_that_cannot_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    def merge(_: object) -> None:
        raise CoverageError("too often to count")

    monkeypatch.setattr(shares, "merge", merge)
    with pytest.raises(ClaimError, match="data: too often to count"):
        merged(part(0), part(1))
