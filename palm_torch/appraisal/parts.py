"""The parts of a run on several machines, appraised together.

1. Every part names the same parts, and each one that is at hand names itself in another place.
2. They agree on what is the same in all ranks: code, architecture, optimizers, steps, weights.
3. Each is appraised by itself, against the whole policy, but for its claims.
4. What was delivered is put together, and the claims of all of them are what the policy demands.
5. What is missing, and the network between the machines, are reservations (`palm_torch.appraisal.own_part`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_torch import together
from palm_torch.appraisal import claims, own_part
from palm_torch.appraisal.at_hand import Whole
from palm_torch.data import shares
from palm_torch.data.shares import CountMap
from palm_torch.errors import BindingError, ClaimError, CodeError, CoverageError, EvidenceError
from palm_torch.properties import Train
from palm_torch.result import AttestationResult, Check, Tier, strength_of
from palm_torch.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch.roles import Weights
    from palm_torch.statement import Ranks, Run

_STATE = "begun_with"
"""What each rank may have a part of: the only thing in an optimizer's account that is not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPart:
    """One part, decoded; nothing of it is believed yet.

    Attributes:
        what: Its name, for messages.
        end: Its end statement.
        maps: How often each record was delivered, by dataset and use, from the files beside it.
    """

    what: str
    end: Statement
    maps: Mapping[tuple[str, str], CountMap]


def merge(given: Sequence[GivenPart]) -> Whole:
    """Returns what parts say together; steps 1, 2 and the first half of 4.

    Args:
        given: The parts at hand, in any order.

    Raises:
        BindingError: If they are not parts of one run.
        CodeError: If one module is another in two of them.
        ClaimError: If they do not agree.
        EvidenceError: If a coverage map is missing, or is that of something else.
    """
    placed = sorted(((_ranks(part), part) for part in given), key=lambda item: item[0].own)
    ranks = [item for item, _ in placed]
    first = placed[0][1]
    for (expected, one), (got, other) in itertools.pairwise(placed):  # 1
        if got.parts != expected.parts:
            raise BindingError(f"{one.what} and {other.what} name different parts: they are of two runs")
        if got.own == expected.own:
            raise BindingError(f"{one.what} and {other.what} are both part {got.own} of the run")
    differing = {name for item in ranks for name in item.differing}
    parts = [part for _, part in placed]
    _check_code(parts)  # 2
    for part in parts[1:]:
        _check_agreement(first, part, differing)
    _check_tokenizer(parts)
    trained = [_train(part) for _, part in placed]
    try:
        merged = shares.merge(
            [
                shares.Share(data=_train(part).data, maps=part.maps, ranks=found.here.count)
                for found, part in placed
            ]
        )
    except CoverageError as error:
        raise ClaimError(f"data: {error}") from error
    if merged.unmapped:
        name, use = merged.unmapped[0]
        raise EvidenceError(
            f"coverage of {name}, {use}: several parts received records of it, and how often each record was "
            "delivered in all of them shows in their coverage files alone: put the .coverage files that were "
            "saved with the evidence beside each part"
        )
    claim = dataclasses.replace(
        trained[0],
        data=merged.data,
        tokenizer=together.tokenizer([item.tokenizer for item in trained]),
        initial=together.initial([item.initial for item in trained]),
    )
    return Whole(
        end=Statement(run=_run([part.end.run for _, part in placed], ranks), claims=claim),
        at_hand=tuple(item.own for item in ranks),
    )


def combine(results: Sequence[tuple[Statement, AttestationResult]], whole: Whole) -> AttestationResult:
    """Returns one result for parts that were each accepted.

    Args:
        results: The statement and the result of each part.
        whole: What they say together.
    """
    first = results[0][1]
    reservations = tuple(dict.fromkeys(item for _, result in results for item in result.reservations))
    simulated = any(result.simulated for _, result in results)
    found = whole.end.run.ranks
    total = 1 if found is None else len(found.parts)
    checks = [
        Check(name=f"part {_own(end)}: {item.name}", detail=item.detail)
        for end, result in results
        for item in result.checks
    ]
    checks.append(
        Check(
            name="parts",
            detail=(
                f"{len(results)} of {total} parts name each other, and agree on code, architecture, "
                "optimizers, "
                "steps and weights"
            ),
        )
    )
    states = {result.freshness for _, result in results}
    freshness = next(state for state in ("not_checked", "unchallenged", "challenged") if state in states)
    return AttestationResult(
        tier=Tier.WARNING if reservations else Tier.AFFIRMING,
        simulated=simulated,
        operation=first.operation,
        run_id=" ".join(result.run_id for _, result in results),
        freshness=freshness,
        session=first.session,
        time=first.time,
        co_location=first.co_location,
        checks=tuple(checks),
        reservations=reservations,
        not_checked=tuple(dict.fromkeys(item for _, result in results for item in result.not_checked)),
        claims=claims.claims_of(whole.end, strength_of(simulated=simulated, reservations=reservations)),
    )


def _own(end: Statement) -> str:
    ranks = end.run.ranks
    return "?" if ranks is None else f"{ranks.own} ({own_part.in_words(ranks)})"


def _ranks(part: GivenPart) -> Ranks:
    if part.end.run.ranks is None or len(part.end.run.ranks.parts) == 1:
        raise BindingError(f"{part.what}: a whole run, without other parts; give it alone, without --part")
    return part.end.run.ranks


def _train(part: GivenPart) -> Train:
    if not isinstance(part.end.claims, Train):
        raise ClaimError(f"{part.what}: expected a part of a run of 'train', got {part.end.operation!r}")
    return part.end.claims


def _check_code(parts: Sequence[GivenPart]) -> None:
    for part in parts:
        if part.end.run.code.source is not parts[0].end.run.code.source:
            raise CodeError(
                f"{part.what}: its code was {part.end.run.code.source.value}, that of {parts[0].what} "
                f"{parts[0].end.run.code.source.value}"
            )
    found = together.clash(together.by_module(part.end.run.code) for part in parts)
    if found is not None:
        raise CodeError(
            f"{parts[found.place].what}: module {found.name!r} is another than in {parts[found.first].what}: "
            f"expected {found.expected}, got {found.got}"
        )


def _check_tokenizer(parts: Sequence[GivenPart]) -> None:
    found = together.clash(together.named(_train(part).tokenizer) for part in parts)
    if found is not None:
        raise ClaimError(
            f"{parts[found.place].what}: tokenizer: expected {found.expected.digest}, as in "
            f"{parts[found.first].what}, got {found.got.digest}"
        )


def _check_agreement(first: GivenPart, part: GivenPart, differing: set[str]) -> None:
    one, other = _train(first), _train(part)
    for what, pick in _SAME.items():
        if pick(one) != pick(other):
            raise ClaimError(
                f"{part.what}: {what}: expected {str(pick(one))[:200]}, as in {first.what}, got "
                f"{str(pick(other))[:200]}"
            )
    for role in ("initial", "model"):
        where = f"{role}, {first.what} and {part.what}"
        _check_weights(where, getattr(one, role), getattr(other, role), differing)


def _check_weights(where: str, one: Weights, other: Weights, differing: set[str]) -> None:
    expected = {tensor.name: tensor for tensor in one.tensors if tensor.name not in differing}
    got = {tensor.name: tensor for tensor in other.tensors if tensor.name not in differing}
    if expected != got:
        name = min(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
        raise ClaimError(f"{where}: tensor {name:.160} is not the same in both")


def _optimizers(claim: Train) -> object:
    listed = claim.configuration.value.get("optimizers")
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise ClaimError("configuration: expected a list of optimizers")
    return [{name: value for name, value in item.items() if name != _STATE} for item in listed]


_SAME: dict[str, Callable[[Train], object]] = {
    "architecture": lambda claim: claim.architecture,
    "steps": lambda claim: claim.steps,
    "optimizers": _optimizers,
    "scalers": lambda claim: claim.configuration.value.get("scalers"),
}
"""What all parts say alike."""


def _run(runs: Sequence[Run], ranks: Sequence[Ranks]) -> Run:
    firsts = [item.here.first for item in ranks]
    return dataclasses.replace(
        runs[0],
        code=together.union([run.code for run in runs]),
        devices=tuple(dict.fromkeys(device for run in runs for device in run.devices)),
        inputs=together.beside(zip(firsts, (run.inputs for run in runs), strict=True)),
        outputs=together.beside(zip(firsts, (run.outputs for run in runs), strict=True)),
        reported=together.beside(zip(firsts, (run.reported for run in runs), strict=True)),
        gpu=tuple(item for run in runs for item in run.gpu),
    )
