"""Which layers an audit looks at: the most valuable that verifiers can afford, and how sure that makes one.

Verifiers with budgets take one interval of layers each, empty perhaps, none of them a layer twice; the sum
of the values of all layers taken is to be the largest possible. The published recurrence for this goes over
the verifiers in one fixed order, and loses what came before when a verifier takes nothing, so that it misses
the optimum. Here the state is which verifiers have taken their interval already: with prefix sums V and C,

    f[∅][i] = 0
    f[s][i] = max(f[s][i-1], f[s - {k}][r] + V_i - V_r)    for k in s, r ≤ i, C_i - C_r ≤ B_k

and r = i is the empty interval. As C never falls, the best r for each i is found with a queue whose keys
``f[s - {k}][r] - V_r`` fall, in constant time. Verifiers with equal budgets are alike: a state only counts
how many of each budget have taken theirs, so that many verifiers cost little as long as budgets repeat.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_CELLS: Final = 1 << 22
"""Most states × layers: about 200 MB and some seconds."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Who looks at which layers.

    Attributes:
        intervals: For each verifier, in the order of their budgets, its layers: a range, empty perhaps.
        value: Sum of the values of all layers taken.
    """

    intervals: tuple[range, ...]
    value: float

    @property
    def layers(self) -> tuple[int, ...]:
        """Every layer that somebody looks at, ascending."""
        return tuple(sorted(itertools.chain.from_iterable(self.intervals)))


def select(values: Sequence[float], costs: Sequence[float], budgets: Sequence[float]) -> Selection:
    """Returns intervals of layers whose value in sum is the largest that the budgets allow.

    Among several, layers with lower numbers are left out first. Time and memory grow with the number of
    layers times the number of states: 2^M for M different budgets, M + 1 for M equal ones.

    Args:
        values: What it is worth to look at each layer, 0 or more.
        costs: What it costs, in the unit of the budgets, 0 or more.
        budgets: What each verifier can afford in all, 0 or more.

    Raises:
        DataError: If there are not as many costs as values, a number is none of these, or there are more
            than 2^22 states × layers.
    """
    if len(values) != len(costs):
        raise DataError(f"selection: expected a cost for each of {len(values)} layers, got {len(costs)}")
    for what, numbers in (("value", values), ("cost", costs), ("budget", budgets)):
        for at, number in enumerate(numbers):
            if not (math.isfinite(number) and number >= 0):
                raise DataError(f"selection: {what} {at}: expected a number from 0 on, got {number!r}")
    kinds = Counter(budgets)
    cells = math.prod(count + 1 for count in kinds.values()) * (len(values) + 1)
    if cells > MAX_CELLS:
        raise DataError(
            f"selection: {len(budgets)} verifiers with {len(kinds)} different budgets and {len(values)} "
            f"layers make {cells} cells, more than {MAX_CELLS}: give verifiers equal budgets, or fewer"
        )
    table = _Table(values, costs, tuple(kinds.items()))
    taken: dict[float, list[range]] = {budget: [] for budget in kinds}
    for budget, interval in table.walk():
        taken[budget].append(interval)
    rest = {budget: itertools.chain(found, itertools.repeat(range(0))) for budget, found in taken.items()}
    intervals = tuple(next(rest[budget]) for budget in budgets)
    return Selection(intervals, math.fsum(values[layer] for interval in intervals for layer in interval))


class _Table:
    """``f`` for every state, and how each of its cells came about.

    Args:
        values: Of the layers.
        costs: Of the layers.
        kinds: Every budget once, with how many verifiers have it.
    """

    def __init__(
        self, values: Sequence[float], costs: Sequence[float], kinds: Sequence[tuple[float, int]]
    ) -> None:
        self._values = [0.0, *itertools.accumulate(values)]
        # exact: the sum of an interval is a difference of two sums, which rounding would make too small
        unit = max(
            (Fraction(number).denominator for number in (*costs, *(kind for kind, _ in kinds))), default=1
        )
        self._costs = [0, *itertools.accumulate(int(Fraction(cost) * unit) for cost in costs)]
        self._budgets = [int(Fraction(budget) * unit) for budget, _ in kinds]
        self._kinds = kinds
        self._rows: dict[tuple[int, ...], list[float]] = {}
        self._from: dict[tuple[int, ...], list[tuple[int, int] | None]] = {}
        # a state comes after all those with fewer verifiers
        for state in itertools.product(*(range(count + 1) for _, count in kinds)):
            self._fill(state)
        self._last = tuple(count for _, count in kinds)

    def walk(self) -> Iterator[tuple[float, range]]:
        """Yields budget and interval of each verifier that has one, from the last layer down."""
        state, end = self._last, len(self._values) - 1
        while end:
            step = self._from[state][end]
            if step is None:
                end -= 1
                continue
            kind, start = step
            if start < end:
                yield self._kinds[kind][0], range(start, end)
            state, end = _without(state, kind), start

    def _fill(self, state: tuple[int, ...]) -> None:
        values, layers = self._values, range(1, len(self._values))
        row = [0.0] * len(values)
        found: list[tuple[int, int] | None] = [None] * len(values)
        for kind in (kind for kind, count in enumerate(state) if count):
            before = self._rows[_without(state, kind)]
            for end, start in zip(layers, self._starts(before, self._budgets[kind]), strict=True):
                if (value := before[start] + values[end] - values[start]) > row[end]:
                    row[end], found[end] = value, (kind, start)
        for end in layers:
            if row[end - 1] >= row[end]:
                row[end], found[end] = row[end - 1], None
        self._rows[state], self._from[state] = row, found

    def _starts(self, before: Sequence[float], budget: int) -> Iterator[int]:
        """Yields, for each end from 1 on, the best start of an interval that the budget allows."""
        values, costs = self._values, self._costs
        queue: deque[int] = deque()
        for end in range(len(values)):
            key = before[end] - values[end]
            while queue and before[queue[-1]] - values[queue[-1]] <= key:
                queue.pop()
            queue.append(end)
            while costs[end] - costs[queue[0]] > budget:
                queue.popleft()
            if end:
                yield queue[0]


def _without(state: tuple[int, ...], kind: int) -> tuple[int, ...]:
    return (*state[:kind], state[kind] - 1, *state[kind + 1 :])


def detection(rho: float, delta: float, queries: int) -> float:
    """Returns the probability that at least one of several checks notices.

    ``1 - (1 - rho·delta)^q``, for places drawn uniformly and independently of each other.

    Args:
        rho: Fraction of all places at which something is wrong, in [0, 1].
        delta: Probability that the check of such a place notices, in [0, 1].
        queries: q, the number of places that are drawn, 0 or more.

    Raises:
        DataError: If a number is out of range.
    """
    for name, value in (("rho", rho), ("delta", delta)):
        if not 0 <= value <= 1:
            raise DataError(f"detection: {name}: expected a number in [0, 1], got {value!r}")
    if queries < 0:
        raise DataError(f"detection: expected 0 queries or more, got {queries}")
    if (noticed := rho * delta) == 1:
        return float(queries > 0)
    return -math.expm1(queries * math.log1p(-noticed))


def queries_for(rho: float, missed: float) -> int:
    """Returns how many places must be drawn so that all of them miss with a small probability at most.

    ``⌈ln missed / ln(1 - rho)⌉``, and at least 1.

    Args:
        rho: Fraction of all places at which something is wrong, in (0, 1].
        missed: Probability that none of them is drawn, in (0, 1).

    Raises:
        DataError: If a number is out of range, or the fraction so small that the number is none.
    """
    if not 0 < rho <= 1 or not 0 < missed < 1:
        raise DataError(
            f"queries: expected a fraction in (0, 1] and a probability in (0, 1), got {rho!r} and {missed!r}"
        )
    if rho == 1:
        return 1
    queries = math.log(missed) / math.log1p(-rho)
    if not math.isfinite(queries):
        raise DataError(f"queries: no number of places finds a fraction of {rho!r}")
    return max(1, math.ceil(queries))
