"""Provers who serve something else than they claim, and who finds them out.

A small Llama is trained on the standard library's sources (`support/trained.py`). Honest provers, and those
of `support/cheats.py`, answer prompts with it or with something else, and commit to a trace. Four verifiers
look at the same activations:

exact        runs the claimed model over the claimed tokens on this machine and compares commitments. Bars:
             every attack found out in every run, no honest run accused.
audit        draws a nonce and recomputes the operations at the places that follow from it, from what is
             opened. How often it should notice follows from rho, the share of places that an attack breaks,
             which the attack says by itself, and from delta, the share of these that is noticed, which is
             counted on traces of other prompts. Bars: no honest run accused; for each attack, as many audits
             that notice as predicted. Of 95 % intervals one in twenty is missed by chance, so the bar and the
             exit code are those of intervals which all hold together with 95 %; both stand in the table.
fingerprint  our tolerant fingerprint against a run of the verifier's own, in another setting. No bar.
TOPLOC       restated from its paper, no program of its authors, against the same run, its threshold made
             in the same way from the same honest runs; and with the limits of published examples of its use.
             No bar.

    python benchmarks/attacks.py [--size 10|120] [--cache FOLDER] [--runs N] [--draws N] [--queries N]
    python benchmarks/attacks.py --quick
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from support import cheats, layer_scores, odds, rerunning, tolerant
from support.audits import Auditor
from support.timing import processor_ms
from support.trained import SIZES, Trained
from support.verifiers import Row, Verifiers
from support.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

HONEST: Final = "honest"
OURS, THEIRS = range(len(tolerant.METHODS))
JOINTLY: Final = odds.together(len(cheats.ATTACKS))
"""Confidence of the interval of each attack, so that all of them hold with 95 %."""
COST_AUDITS: Final = 5
HONEST_TIMES: Final = 4
"""How many times as many honest runs there are as of each attack: false alarms are rare."""


def main() -> int:
    """Prints the table; returns 1 if a bar was missed."""
    words = _words()
    began = time.perf_counter()
    torch.set_num_threads(words.threads)
    trained = Trained(SIZES["quick" if words.quick else words.size], words.cache, print)
    world = World.of(trained)
    with tempfile.TemporaryDirectory() as folder:
        path = layer_scores.stored(world.model, Path(folder))
        scores = layer_scores.of_file(path)
        world.weakest = layer_scores.weakest(scores)
        auditor = Auditor(world, path, queries=words.queries)
        verifiers = Verifiers(world, auditor, words.prompts)
        equal = _costs(world, auditor, verifiers)
        print(_head(words, equal))
        rows = [verifiers.row(HONEST, cheats.honest, runs=HONEST_TIMES * words.runs, draws=words.draws)]
        _print(rows[0], equal)
        preferred = layer_scores.weights(scores)
        for name, make in cheats.ATTACKS.items():
            weights = preferred if name == cheats.LOWEST else None
            rows.append(verifiers.row(name, make, runs=words.runs, draws=words.draws, weights=weights))
            _print(rows[-1], equal)
    missed = _verdict(rows)
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes in all")
    return int(missed)


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=("10", "120"), default="10")
    parser.add_argument("--cache", type=Path, help="keeps trained weights")
    parser.add_argument("--runs", type=int, default=12, help="claims of each attack")
    parser.add_argument("--draws", type=int, default=200, help="audits of each attack")
    parser.add_argument("--queries", type=int, default=16, help="places of each audit")
    parser.add_argument("--prompts", type=int, default=24, help="honest prompts to calibrate on")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of training")
    parser.add_argument("--quick", action="store_true", help="barely trained, few runs: a few minutes")
    words = parser.parse_args()
    if words.quick:
        words.runs, words.draws, words.prompts = 2, 12, 6
    return words


def _costs(world: World, auditor: Auditor, verifiers: Verifiers) -> int:
    """Prints what checks cost; returns how many places an audit has for the price of running the model."""
    shown = [auditor.shown(cheats.honest(world, 0))]
    audited = auditor.audit(shown, COST_AUDITS)
    auditing = audited.seconds * 1e3 / COST_AUDITS
    reading = min(processor_ms(verifiers.reread) for _ in range(COST_AUDITS))
    sizes = zip(verifiers.sizes(), tolerant.METHODS, strict=True)
    equal = max(1, round(auditor.queries * reading / auditing))
    print(
        f"\nprocessor time of checking an answer of {world.honest(0).fed} tokens: an audit of "
        f"{auditor.queries} places {auditing:.0f} ms, its answer {audited.nbytes} bytes;\nrunning the model "
        f"once over the tokens, which both tolerant checks have to, {reading:.0f} ms, as an audit of {equal} "
        f"places; {', '.join(f'{method.name} {size} bytes' for size, method in sizes)}"
    )
    return equal


def _head(words: argparse.Namespace, equal: int) -> str:
    return (
        f"\n{words.runs} runs and {words.draws} audits of {words.queries} places for each attack; tolerant "
        f"thresholds from {words.prompts} honest prompts\n"
        "rho: share of places that are broken; delta: of the broken places of other traces, the share that\n"
        "is noticed (95 % for the mean over traces); p: predicted share of audits that notice, and with "
        f"{equal};\nnoticed: audits that did; 95 %: the number expected; joint: with intervals that "
        "hold for all attacks together;\nshown: what audits say of p (95 %); TOPLOC*: with published limits\n"
        f"ours, TOPLOC: every run against {len(rerunning.SAME)} re-runs in the prover's precision; wide: "
        f"against {len(rerunning.WIDER)} in float32\n"
        f"{'':38} {'exact':>7} {'ours':>7} {'TOPLOC':>7} {'TOPLOC*':>7} {'wide':>7} {'TOPLOC':>7} {'rho':>8} "
        f"{'delta':>19} {'p':>6} {'p equal':>7} {'noticed':>9} {'95 %':>9} {'joint':>9}  shown"
    )


def _print(row: Row, equal: int) -> None:
    audited = row.audited
    draws = len(audited.outcomes)
    low, high = odds.interval(audited.noticed, draws)
    same, wider = row.runs * len(rerunning.SAME), row.runs * len(rerunning.WIDER)
    counted = (
        (row.exact, row.runs),
        *((row.found(method, rerunning.SAME), same) for method in (OURS, THEIRS)),
        (row.published, same),
        *((row.found(method, rerunning.WIDER), wider) for method in (OURS, THEIRS)),
    )
    counts = " ".join(f"{f'{count}/{of}':>7}" for count, of in counted)
    if math.isnan(row.counted.delta):
        delta = "-"
    else:
        first, last = row.known.mean()
        delta = f"{row.counted.delta:.3f} {first:.3f}-{last:.3f}"
    expected = " ".join(
        f"{'-'.join(map(str, row.expected(confidence))):>9}" for confidence in (0.95, JOINTLY)
    )
    print(
        f"{row.name:38} {counts} {row.rho:8.5f} {delta:>19} {row.predicted(row.queries):6.4f} "
        f"{row.predicted(equal):7.4f} {f'{audited.noticed}/{draws}':>9} {expected}  {low:.3f}-{high:.3f}"
        f"{'' if row.inside() else ' outside'}{'' if row.inside(JOINTLY) else ' OUTSIDE'}",
        flush=True,
    )


def _verdict(rows: list[Row]) -> bool:
    """Prints each bar beside its figure, and where ours is worse; returns whether a bar was missed."""
    honest, *attacks = rows
    exact = sum(row.exact for row in attacks), sum(row.runs for row in attacks)
    inside = sum(row.inside() for row in attacks)
    outside = [row.name for row in attacks if not row.inside(JOINTLY)]
    wronged = sum(row.audited.wronged + row.counted.wronged for row in rows)
    by_chance = odds.expected([0.05] * len(attacks))[1]
    print(
        f"\nexact: {exact[0]} of {exact[1]} runs of attacks found out (bar: all); "
        f"{honest.exact} of {honest.runs} honest runs accused (bar: 0)\n"
        f"audit: {honest.audited.noticed} of {len(honest.audited.outcomes)} audits of honest runs accuse "
        f"(bar: 0), {wronged} places accused that nobody broke (bar: 0), largest margin "
        f"{honest.audited.margin:.4f};\n{len(attacks) - len(outside)} of {len(attacks)} attacks within the "
        f"intervals of {100 * JOINTLY:.2f} % that hold together (bar: all){', not: ' if outside else ''}"
        f"{', '.join(outside)}; {inside} within their own 95 %: chance leaves {0.05 * len(attacks):.1f} "
        f"outside on average, and up to {by_chance}"
    )
    for ways, settings in (("the prover's precision", rerunning.SAME), ("float32", rerunning.WIDER)):
        print(f"verifiers in {ways}:")
        _compare(honest, attacks, settings)
    return exact[0] < exact[1] or bool(honest.exact or honest.audited.noticed or wronged or outside)


def _compare(honest: Row, attacks: list[Row], settings: Sequence[int]) -> None:
    """Prints what both tolerant methods found in some settings, and where which of them found more."""
    for number, method in enumerate(tolerant.METHODS):
        alarms, quiet = honest.found(number, settings), honest.runs * len(settings)
        found = sum(row.found(number, settings) for row in attacks)
        of = sum(row.runs for row in attacks) * len(settings)
        print(
            f"  {method.name}: {found} of {of} re-runs of attacks; {alarms} of {quiet} of honest runs accused"
        )
    pairs = [(row, row.found(OURS, settings), row.found(THEIRS, settings)) for row in attacks]
    missed = [(row, ours, theirs) for row, ours, theirs in pairs if theirs < row.runs * len(settings)]
    more = [row.name for row, ours, theirs in missed if ours > theirs]
    same = [row.name for row, ours, theirs in missed if ours == theirs]
    less = [row.name for row, ours, theirs in pairs if ours < theirs]
    print(
        f"  of {len(missed)} attacks of which TOPLOC does not find all, the fingerprint finds more of "
        f"{len(more)}, as many of: {', '.join(same) or 'none'}; less of: {', '.join(less) or 'none'}"
    )


if __name__ == "__main__":
    sys.exit(main())
