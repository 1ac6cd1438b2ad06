"""Four verifiers who look at the same activations, one attack at a time.

Who runs the model again knows how he does that, and how far honest answers are from such runs: there is a
threshold for each setting.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from support import cheats, noticing, reexecuted, rerunning, tolerant, toploc
from support.audits import Audited

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.audits import Auditor, Shown
    from support.cheats import Maker
    from support.serving import Served
    from support.world import World


COUNTED_FROM: Final = 64
"""Number of the first prompt on which delta is counted; no audit is of it, and no calibration."""
COUNTED_TIMES: Final = 3
"""How many times as many traces delta is counted on as are audited: of few it is known too badly."""


@dataclass(frozen=True)
class Row:
    """What was found of one attack.

    Attributes:
        name: The attack.
        runs: How many runs of it those who run the model again saw.
        exact: How many of them the exact check found out.
        tolerant: For each tolerant method: in how many re-runs it found one out, in each setting.
        published: The same for TOPLOC with published limits, over the settings in the prover's precision.
        shown: Of each run, the probability that one drawn place is a broken one, and how many there are.
        counted: On traces of other prompts, how many broken places were noticed.
        audited: The audits.
        queries: Places in each of them.
    """

    name: str
    runs: int
    exact: int
    tolerant: tuple[tuple[int, ...], ...]
    published: int
    shown: tuple[tuple[float, int], ...]
    counted: noticing.Counted
    audited: Audited
    queries: int

    @property
    def rho(self) -> float:
        """Mean over the runs."""
        return sum(rho for rho, _ in self.shown) / self.runs

    def found(self, method: int, settings: Sequence[int]) -> int:
        """Returns how many re-runs in these settings a tolerant method found out."""
        return sum(self.tolerant[method][setting] for setting in settings)

    def predicted(self, queries: int) -> float:
        """Returns how likely an audit of so many places is to notice, mean over all that may be."""
        return float(self.known.predicted(*self._traces, queries).mean())

    def expected(self, confidence: float = 0.95) -> tuple[int, int]:
        """Returns how many audits should notice, as the first and the last number."""
        return noticing.within(self._counts, confidence)

    def inside(self, confidence: float = 0.95) -> bool:
        """Says whether as many audits noticed as should."""
        first, last = self.expected(confidence)
        return first <= self.audited.noticed <= last

    @cached_property
    def known(self) -> noticing.Noticing:
        """What is known of delta."""
        return noticing.Noticing(self.counted)

    @cached_property
    def _counts(self) -> noticing.Counts:
        chances = self.known.predicted(*self._traces, self.queries)
        return self.known.counts(chances, len(self.audited.outcomes))

    @property
    def _traces(self) -> tuple[tuple[float, ...], tuple[int, ...]]:
        return tuple(rho for rho, _ in self.shown), tuple(broken for _, broken in self.shown)


class Verifiers:
    """All four, calibrated where they need it.

    Args:
        world: The claimed model, and what provers have.
        auditor: The one who audits.
        prompts: How many honest prompts to calibrate on, 3 or more.
    """

    def __init__(self, world: World, auditor: Auditor, prompts: int) -> None:
        self._world = world
        self._auditor = auditor
        modules = [name for method in tolerant.METHODS for name in method.modules(world.depth)]
        self._verifier = rerunning.Verifier(world, list(dict.fromkeys(modules)))
        found = [self._honest(-1 - number) for number in range(prompts)]
        self._judges = [
            [
                method.calibrated([[prompt[setting][number]] for prompt in found])
                for number, method in enumerate(tolerant.METHODS)
            ]
            for setting in range(len(rerunning.SETTINGS))
        ]

    def row(
        self, name: str, make: Maker, *, runs: int, draws: int, weights: Sequence[int] | None = None
    ) -> Row:
        """Runs one attack and has everybody look at it.

        Args:
            name: The attack.
            make: What makes its claims.
            runs: How many claims; delta is counted on `COUNTED_TIMES` as many others.
            draws: How many audits, spread over them.
            weights: How often the audit draws each part; None for all equally often.
        """
        auditor = self._auditor if weights is None else self._auditor.drawing(weights)
        shown = [auditor.shown(make(self._world, run)) for run in range(runs)]
        counts, published = [[0] * len(rerunning.SETTINGS) for _ in tolerant.METHODS], 0
        for item, setting in itertools.product(shown, range(len(rerunning.SETTINGS))):
            own = self._verifier.rows(item.claim.served.tokens, rerunning.SETTINGS[setting])
            judges = self._judges[setting]
            for at, (method, judge) in enumerate(zip(tolerant.METHODS, judges, strict=True)):
                apart = self._apart(method, item.claim.served, own)
                counts[at][setting] += judge.score(apart) > judge.threshold
                if setting in rerunning.SAME and isinstance(apart, toploc.Errors):
                    published += apart.above(toploc.PUBLISHED)
        return Row(
            name=name,
            runs=runs,
            exact=sum(map(self._found_out, shown)),
            tolerant=tuple(map(tuple, counts)),
            published=published,
            shown=tuple((item.rho, item.broken) for item in shown),
            counted=auditor.counted(
                item
                for run in range(COUNTED_FROM, COUNTED_FROM + COUNTED_TIMES * runs)
                if (item := auditor.shown(make(self._world, run))).rho
            ),
            audited=auditor.audit(shown, draws),
            queries=auditor.queries,
        )

    def sizes(self) -> list[int]:
        """Returns how many bytes each tolerant method sends for one answer."""
        return [
            method.nbytes(rerunning.shown(self._world.honest(0), method.modules(self._world.depth)))
            for method in tolerant.METHODS
        ]

    def reread(self) -> None:
        """Runs the model once over an answer, as each tolerant check has to."""
        self._verifier.rows(self._world.honest(0).tokens, rerunning.SETTINGS[0])

    def _honest(self, run: int) -> list[list[tolerant.Apart]]:
        """Returns for each setting, and each method, how far an honest re-run is from the prover's."""
        served = cheats.honest(self._world, run).served
        owns = [self._verifier.rows(served.tokens, setting) for setting in rerunning.SETTINGS]
        return [[self._apart(method, served, own) for method in tolerant.METHODS] for own in owns]

    def _apart(self, method: tolerant.Method, served: Served, own: rerunning.Rows) -> tolerant.Apart:
        modules = method.modules(self._world.depth)
        return method.apart(rerunning.shown(served, modules), {name: own[name] for name in modules})

    def _found_out(self, item: Shown) -> bool:
        own = reexecuted.reference(self._world, item.claim)
        return reexecuted.differs(item.claim, item.proof.trace.activations(), own)
