"""What one part of a run says of the ranks, and what that leaves open where other parts are not at hand.

A run on several machines has a sealed part for each. Every part names all of them by what their begin quotes
commit to, so that none can be exchanged or left out unnoticed (docs/spec/45-ranks.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.cvm import binding
from palm_torch.errors import BindingError, ClaimError
from palm_torch.policies.policy import ClaimRules
from palm_torch.properties import Train
from palm_torch.result import Reservation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palm_torch.evidence import Bundle
    from palm_torch.statement import Ranks, Statement

INTERCONNECT: Final = Reservation(
    about="platform",
    reason=(
        "unprotected interconnect: gradients went from machine to machine over a network that no evidence "
        "speaks "
        "of, and whoever controls it could change them"
    ),
    advice=(
        "ask who controls that network; if you accept it as it is, write `interconnect: unprotected` into "
        "the "
        "claims of the policy"
    ),
)


def check(bundle: Bundle, end: Statement) -> None:
    """Checks that a part names itself rightly, and has an order of records for each of its ranks.

    Raises:
        BindingError: If its own place among the parts is that of another session.
        ClaimError: If a use of data has another number of order chains than the part has ranks.
    """
    ranks, count = end.run.ranks, 1
    if ranks is not None:
        count = ranks.here.count
        expected = binding.begin_claims_root(bundle.begin.statement, bundle.session_key)
        if ranks.here.begin.value != expected:
            raise BindingError(
                f"parts[{ranks.own}]: the statement names {ranks.here.begin} as its own begin, which is "
                f"palm-sha256:{expected.hex()}"
            )
    if not isinstance(end.claims, Train):
        return
    for name, dataset in end.claims.data.items():
        for use, delivered in dataset.uses.items():
            if len(delivered.order) != count:
                raise ClaimError(
                    f"data.{name}.{use}: expected {count} order chains, one for each rank, got "
                    f"{len(delivered.order)}"
                )


def reservations(end: Statement, rules: object, *, at_hand: Iterable[int] = ()) -> list[Reservation]:
    """Returns why a part of a run is not affirming by itself.

    Args:
        end: The statement of the part.
        rules: What the policy says of claims.
        at_hand: Numbers of the parts that are appraised together with it.
    """
    ranks = end.run.ranks
    if ranks is None:
        return []
    found = []
    accepted = isinstance(rules, ClaimRules) and rules.interconnect == ranks.interconnect
    if ranks.interconnect == "unprotected" and not accepted:
        found.append(INTERCONNECT)
    there = {ranks.own, *at_hand}
    missing = [number for number in range(len(ranks.parts)) if number not in there]
    if missing:
        found.append(
            Reservation(
                about="claims",
                reason=(
                    f"{len(missing)} of {len(ranks.parts)} parts of the run are not at hand: the claims are "
                    f"about ranks {_spans(ranks, sorted(there))} of {ranks.world_size} alone"
                ),
                advice=(
                    "ask for the evidence of the other machines, that of ranks "
                    f"{_spans(ranks, missing)}, and give it with --part"
                ),
            )
        )
    return found


def left_open(end: Statement) -> list[str]:
    """Returns what the ranks of a run leave unchecked."""
    ranks = end.run.ranks
    if ranks is None or not ranks.differing:
        return []
    number, example = len(ranks.differing), ranks.differing[0]
    return [
        f"the buffers of other ranks than the first: {number} differ between ranks, such as {example:.160}"
    ]


def in_words(ranks: Ranks) -> str:
    """Returns the ranks of a part."""
    return f"ranks {_span(ranks, ranks.own)} of {ranks.world_size}"


def _spans(ranks: Ranks, numbers: Iterable[int]) -> str:
    return ", ".join(_span(ranks, number) for number in numbers)


def _span(ranks: Ranks, number: int) -> str:
    part = ranks.parts[number]
    return str(part.first) if part.count == 1 else f"{part.first} to {part.first + part.count - 1}"
