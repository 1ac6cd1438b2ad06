"""Fuzzes every group of decoders for a while and prints what became of it.

    python tools/fuzz.py [--seconds N] [--jobs N] [--fresh] [GROUP …]

Corpora, logs and the inputs that broke something lie under ``build/fuzz/GROUP/``; such an input
belongs into ``tests/fuzz/crashes/GROUP/``, where the test suite tries it for ever after. Where there is no
atheris for this Python, that is said, and nothing is fuzzed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
FUZZ: Final = ROOT / "tests" / "fuzz"
BUILD: Final = ROOT / "build" / "fuzz"
LIBFUZZER: Final = (
    "-print_final_stats=1",
    "-timeout=20",
    "-rss_limit_mb=4096",
    "-max_len=65536",
    "-reduce_inputs=1",
)
_FIGURE: Final = re.compile(r"stat::(\w+):\s+(\d+)")
_COVERAGE: Final = re.compile(r"\bcov: (\d+) ft: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """What fuzzing one group came to.

    Attributes:
        group: The group.
        executions: Inputs tried.
        per_second: Inputs tried per second.
        edges: Branches of palm_torch reached.
        features: Branches, told apart by how often they were taken.
        broken: Inputs that broke something.
        code: Exit code of the fuzzer.
    """

    group: str
    executions: int
    per_second: int
    edges: int
    features: int
    broken: tuple[Path, ...]
    code: int


def main() -> int:
    """Prints a line for each group; returns 1 if something broke, 3 if atheris should be there and is not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=600, help="for each group")
    parser.add_argument("--jobs", type=int, default=1, help="groups at a time")
    parser.add_argument("--fresh", action="store_true", help="begin from the good inputs alone")
    parser.add_argument("groups", nargs="*", default=groups())
    arguments = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        return without_atheris()
    write_seeds(arguments.groups)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = pool.map(
            lambda group: fuzz(group, arguments.seconds, fresh=arguments.fresh), arguments.groups
        )
        print(f"{'group':<12} {'executions':>10} {'per s':>7} {'edges':>6} {'features':>8} {'broken':>6}")
        failed = [outcome for outcome in outcomes if report(outcome)]
    return 1 if failed else 0


def groups() -> list[str]:
    """Returns the groups there are: one for each file ``fuzz_GROUP.py``."""
    return sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.py"))


def without_atheris() -> int:
    """Says why nothing is fuzzed: 0 where no atheris can be had, 3 where it is only not installed."""
    here = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    if (platform.system(), platform.machine()) == ("Linux", "x86_64") and sys.version_info < (3, 15):
        print(f"fuzz: atheris is not installed ({here}): pip install -e '.[dev]'", file=sys.stderr)
        return 3
    print(f"fuzz: NOTHING WAS FUZZED: there is no atheris for this platform ({here})", file=sys.stderr)
    return 0


def write_seeds(wanted: list[str]) -> None:
    """Writes the good inputs of each group, its dictionary, and the inputs that once broke something."""
    sys.path[:0] = [str(FUZZ), str(FUZZ.parent / "support")]
    seeds = importlib.import_module("seeds")
    with tempfile.TemporaryDirectory() as folder:
        made: dict[str, dict[str, bytes]] = seeds.make(Path(folder))
    for group in wanted:
        for name in ("seeds", "broken"):
            (BUILD / group / name).mkdir(parents=True, exist_ok=True)
        kept = (FUZZ / "crashes" / group).glob("*")
        for name, data in {**made[group], **{path.name: path.read_bytes() for path in kept}}.items():
            (BUILD / group / "seeds" / name).write_bytes(data)
        words = ("".join(f"\\x{byte:02x}" for byte in word) for word in seeds.words(made[group]))
        (BUILD / group / "words").write_text("".join(f'"{word}"\n' for word in words), encoding="ascii")


def fuzz(group: str, seconds: int, *, fresh: bool) -> Outcome:
    """Fuzzes one group in a process of its own."""
    folder = BUILD / group
    corpus = folder / ("fresh" if fresh else "corpus")
    if fresh:
        shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(exist_ok=True)
    before = set((folder / "broken").iterdir())
    command = [
        sys.executable,
        str(FUZZ / "run.py"),
        group,
        *LIBFUZZER,
        f"-max_total_time={seconds}",
        f"-artifact_prefix={folder}/broken/",
        f"-dict={folder}/words",
        str(corpus),
        str(folder / "seeds"),
    ]
    with (folder / "log").open("w", encoding="utf-8") as log:
        code = subprocess.run(  # noqa: S603 (our own fuzzer)
            command, stdout=log, stderr=subprocess.STDOUT, check=False, cwd=folder, env=environment()
        ).returncode
    said = (folder / "log").read_text(encoding="utf-8", errors="replace")
    figures = {name: int(value) for name, value in _FIGURE.findall(said)}
    edges, features = (_COVERAGE.findall(said) or [("0", "0")])[-1]
    return Outcome(
        group=group,
        executions=figures.get("number_of_executed_units", 0),
        per_second=figures.get("average_exec_per_sec", 0),
        edges=int(edges),
        features=int(features),
        broken=tuple(sorted(set((folder / "broken").iterdir()) - before)),
        code=code,
    )


def environment() -> dict[str, str]:
    """Returns the environment of a fuzzer: one thread, and the library of this checkout."""
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join(filter(None, (str(ROOT), inherited)))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def report(outcome: Outcome) -> bool:
    """Prints the line of a group; returns whether something broke."""
    print(
        f"{outcome.group:<12} {outcome.executions:>10} {outcome.per_second:>7} {outcome.edges:>6} "
        f"{outcome.features:>8} {len(outcome.broken):>6}",
        flush=True,
    )
    for path in outcome.broken:
        print(f"  broken by {path}", flush=True)
    if outcome.code:
        print(f"  the fuzzer ended with {outcome.code}: see {BUILD / outcome.group / 'log'}", flush=True)
    return bool(outcome.broken or outcome.code)


if __name__ == "__main__":
    sys.exit(main())
