"""How long verifying takes: one bundle of a real training run, in this process and from the shell.

verify in process    median over many calls of `palm_torch.appraisal.verifier.verify`     bar 50 ms
verify from shell    median over whole processes of ``python -m palm_torch verify``, interleaved with
                     bare interpreters                                          bar 0.5 s
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

IN_PROCESS_BAR_S = 0.050
SHELL_BAR_S = 0.5
CALLS = 50
PROCESSES = 15


def main() -> int:
    """Makes a bundle, times both ways, prints the figures; returns 1 if a bar was missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        _make_bundle(folder / "demo")
        in_process = _in_process(folder / "demo")
        shell, bare = _from_shell(folder / "demo")
    print(f"verify in process: {in_process * 1e3:.1f} ms (bar {IN_PROCESS_BAR_S * 1e3:.0f} ms)")
    print(f"verify from shell: {shell:.3f} s (bar {SHELL_BAR_S} s)")
    print(f"verify from shell, bare interpreter: {bare:.3f} s, ratio {shell / bare:.1f}")
    return int(in_process > IN_PROCESS_BAR_S or shell > SHELL_BAR_S)


def _make_bundle(output: Path) -> None:
    from palm_torch.demo import story  # noqa: PLC0415 (torch stays out of what is timed)

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        story.tell(output, size=story.Size(steps=20, batch=16, validation_records=64, workers=0))


def _in_process(demo: Path) -> float:
    from palm_torch.appraisal import verifier  # noqa: PLC0415 (as above)
    from palm_torch.policies import policy  # noqa: PLC0415 (as above)

    data = (demo / "train.simulated.palm.json").read_bytes()
    challenge = (demo / "request.json").read_bytes()
    rules = policy.load(demo / "policy.yaml")
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        verifier.verify(data, policy=rules, at=datetime.now(UTC), challenge=challenge)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _from_shell(demo: Path) -> tuple[float, float]:
    command = [
        *(sys.executable, "-m", "palm_torch", "verify", str(demo / "train.simulated.palm.json")),
        *("--policy", str(demo / "policy.yaml"), "--request", str(demo / "request.json")),
    ]
    shell, bare = [], []
    for _ in range(PROCESSES):
        shell.append(_seconds(command))
        bare.append(_seconds([sys.executable, "-c", "pass"]))
    return statistics.median(shell), statistics.median(bare)


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
