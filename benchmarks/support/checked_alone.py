"""A verifier's check of an audit in a process of its own, on one core, timed step by step.

python -m support.checked_alone FOLDER REPEATS
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from palm_torch.audit import checking
from palm_torch.challenge import answer, request, used


def main(folder: Path, repeats: int) -> int:
    """Prints the processor time of each step, of the fastest of several checks, as JSON."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    best: dict[str, float] = {}
    for number in range(repeats):
        steps = _steps(folder, number)
        if not best or sum(steps.values()) < sum(best.values()):
            best = steps
    print(json.dumps({**best, "answer bytes": (folder / "answer.json").stat().st_size}))
    return 0


def _steps(folder: Path, number: int) -> dict[str, float]:
    path = folder / f"request-{number}.json"  # a request is used once
    path.write_bytes((folder / "request.json").read_bytes())
    laps = [time.process_time()]
    asked, context = request.read(path), (folder / "context.json").read_bytes()
    shown, digest = answer.read_known(folder / "answer.json")
    laps.append(time.process_time())
    used.use(path, digest)
    laps.append(time.process_time())
    weights = checking.weights_at_hand(asked, context, [folder])
    laps.append(time.process_time())
    result = checking.check(asked, context, shown, weights=weights)
    laps.append(time.process_time())
    if not result.consistent:
        raise SystemExit(f"an honest run is accused: {result.inconsistent[:2]}")
    names = ("answer read", "use noted", "weights read and hashed", "openings and operations")
    return {name: after - before for name, before, after in zip(names, laps, laps[1:], strict=False)}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
