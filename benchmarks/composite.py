"""How long verifying evidence of GPUs takes, in this process.

composite bundle    `palm_torch.appraisal.verifier.verify` on the evidence of a simulated trust domain with
                    one simulated GPU, both reference manifests and OCSP answers with it   bar 100 ms
report with RIMs    `palm_torch.cvm.gpu.verify_gpu` on one report of that GPU, both manifests verified from
                    their bytes                                                            bar 60 ms
more GPUs           the composite bundle again, with 8 GPUs in the machine                 no bar
"""

from __future__ import annotations

import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from palm_torch.appraisal import verifier
from palm_torch.cvm import binding, gpu, rim
from palm_torch.sessions import seals

if TYPE_CHECKING:
    from collections.abc import Callable

BUNDLE_BAR_S: Final = 0.100
REPORT_BAR_S: Final = 0.060
CALLS: Final = 50
MANY: Final = 8
SUPPORT: Final = Path(__file__).parent.parent / "tests" / "support"


def main() -> int:
    """Prints a line for each figure; returns 1 if a bar was missed."""
    sys.path.insert(0, str(SUPPORT))  # where a good run of a composite machine is made
    runs = importlib.import_module("composite_run")
    with tempfile.TemporaryDirectory() as name:
        one = runs.make_composite_run(Path(name) / "one")
        many = runs.make_composite_run(Path(name) / "many", count=MANY)
        bundle_s, report_s, many_s = (
            _median_s(work)
            for work in (_bundle(one, runs.NOW), _report(one, runs.NOW), _bundle(many, runs.NOW))
        )
    print(f"composite bundle, 1 GPU: {bundle_s * 1e3:.1f} ms (bar {BUNDLE_BAR_S * 1e3:.0f} ms)")
    print(f"GPU report with both RIMs: {report_s * 1e3:.1f} ms (bar {REPORT_BAR_S * 1e3:.0f} ms)")
    print(f"composite bundle, {MANY} GPUs: {many_s * 1e3:.1f} ms")
    return int(bundle_s > BUNDLE_BAR_S or report_s > REPORT_BAR_S)


def _bundle(run: Any, now: Any) -> Callable[[], object]:  # noqa: ANN401 (made by the tests' support)
    data, policy, challenge = run.bundle.encode(), run.policy(), run.request
    return lambda: verifier.verify(data, policy=policy, at=now, challenge=challenge)


def _report(run: Any, now: Any) -> Callable[[], object]:  # noqa: ANN401 (as above)
    (evidence,), endorsements = run.bundle.begin.gpus, run.bundle.gpu_endorsements
    requirements = run.policy().platform.requirements()
    nonce = binding.gpu_nonce(seals.begin_context(run.bundle.opening), 0)

    def work() -> object:
        rims = [
            rim.verify_rim(item.xml, anchors=(requirements.rim_anchor,), now=now)
            for item in endorsements.rims
        ]
        return gpu.verify_gpu(
            evidence.evidence,
            evidence.chain,
            nonce=nonce,
            anchors=(requirements.gpu_anchor,),
            now=now,
            rims=rims,
        )

    return work


def _median_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
