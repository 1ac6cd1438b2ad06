"""Mutation testing: changes one thing at a time in a module, and asks whether its tests notice.

Usage: ``python tools/mutate.py [MODULE …]``, such as ``python tools/mutate.py encoding cvm/binding``; without
a name all modules below. mutmut makes the mutants and runs the tests, in a copy under ``build/mutation``.

Each module is judged by its own tests alone: what only a test of something else would notice survives. That
is strict, and quick. The survivors are written to ``build/mutation/survivors.diff``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

MINIMUM_PERCENT: Final = 95.0
"""Least share of all mutants that the tests must notice."""

MODULES: Final[dict[str, tuple[str, ...]]] = {
    "encoding": (),
    "digest": (),
    "codec": (),
    "files": (),
    "roles": (),
    "statement": (),
    "dsse": (),
    "evidence": (),
    "receipt": (),
    "request": (),
    "result": (),
    "recorder": (),
    "cvm/binding": (),
    "policies/strict_yaml": (),
    "policies/authority": (),
    "policies/reference_values": (),
    "policies/policy": ("tests/unit/policies/test_authority.py",),
    "appraisal/verifier": (
        "tests/attacks/test_backdated_token.py",
        "tests/negative/test_bundle.py",
        "tests/unit/appraisal/test_freshness.py",
        "tests/unit/sessions/test_segments.py",
    ),
    "appraisal/moment": (
        "tests/attacks/test_backdated_token.py",
        "tests/attacks/test_token_of_any_time.py",
        "tests/unit/appraisal/test_verifier_time.py",
    ),
    "appraisal/artifacts": (),
    "appraisal/claims": (),
    "appraisal/code_rules": (),
    "appraisal/consistency": (),
    "appraisal/dataset_words": (),
    "appraisal/continuation": ("tests/unit/sessions/test_segments.py",),
    "appraisal/freshness": (),
    "sessions/openings": ("tests/unit/appraisal/test_receipts.py",),
    "appraisal/receipts": (),
    "appraisal/reservations": (),
    "sessions/seals": (),
    "sessions/segments": (),
}
"""Modules, and tests beside ``tests/unit/test_MODULE.py`` and ``tests/unit/test_MODULE_*.py``."""

COPIED: Final = ("palm_torch", "tests", "docs", "pyproject.toml")
WORK: Final = Path("build/mutation")

_NOTICED: Final[dict[int | None, str]] = {
    1: "killed",
    3: "killed",
    **dict.fromkeys((-24, 24, 36, 152, 255), "stuck"),
}
"""Exit codes of tests that noticed a mutant: a failure, or processor time used up."""


def main() -> int:
    """Prints one line for each module; returns 1 if too few mutants were noticed, 3 if nobody knows."""
    modules = sys.argv[1:] or list(MODULES)
    unknown = [name for name in modules if name not in MODULES]
    if unknown:
        print(f"no such module: {', '.join(unknown)}; there are {', '.join(MODULES)}", file=sys.stderr)
        return 3
    shutil.rmtree(WORK, ignore_errors=True)
    for name in COPIED:
        if Path(name).is_dir():
            shutil.copytree(name, WORK / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(name, WORK / name)
    total: Counter[str] = Counter()
    failed = False
    with (WORK / "survivors.diff").open("w", encoding="utf-8") as survivors:
        for name in modules:
            if not mutate(name):
                failed = True
                continue
            codes = verdicts(WORK / "mutants" / "palm_torch" / f"{name}.py.meta")
            counts = counted(codes)
            print(line(name, counts), flush=True)
            total.update(counts)
            for mutant, code in codes.items():
                if code not in _NOTICED:
                    survivors.write(mutmut("show", mutant).stdout)
                    survivors.flush()
    print(line("all", total))
    return 3 if failed else 1 if percent(total) < MINIMUM_PERCENT else 0


def mutate(name: str) -> bool:
    """Runs the tests of one module under each of its mutants, and says whether that could be done."""
    shutil.rmtree(WORK / "mutants", ignore_errors=True)
    (WORK / "setup.cfg").write_text(settings(name), encoding="utf-8")
    done = mutmut("run")
    if done.returncode:
        print(f"{name}: mutmut could not run\n{done.stdout[-2000:]}{done.stderr[-2000:]}", file=sys.stderr)
    return not done.returncode


def settings(name: str) -> str:
    """Returns mutmut's settings for one module."""
    folder, _, stem = name.rpartition("/")
    own = [
        *Path("tests/unit", folder).glob(f"test_{stem}.py"),
        *Path("tests/unit", folder).glob(f"test_{stem}_*.py"),
    ]
    selected = [*sorted(path.as_posix() for path in own), *MODULES[name]]
    lines = ["[mutmut]", "source_paths=palm_torch", f"only_mutate=palm_torch/{name}.py", "also_copy=docs"]
    lines += ["pytest_add_cli_args=", "    -p", "    no:randomly", "    -p", "    no:cacheprovider"]
    lines += ["pytest_add_cli_args_test_selection=", *(f"    {path}" for path in selected)]
    return "\n".join(lines) + "\n"


def mutmut(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs mutmut in the copy."""
    return subprocess.run(  # noqa: S603 (this environment's own program)
        [Path(sys.executable).with_name("mutmut"), *arguments],
        cwd=WORK,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def verdicts(path: Path) -> dict[str, int | None]:
    """Returns the exit codes that mutmut keeps of a module, by mutant."""
    codes: dict[str, int | None] = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return codes


def counted(codes: dict[str, int | None]) -> Counter[str]:
    """Returns how many mutants were killed, got stuck, or survived (no test reached them, or all passed)."""
    return Counter(_NOTICED.get(code, "survived") for code in codes.values())


def percent(counts: Counter[str]) -> float:
    """Returns the share of mutants that were noticed; all of none."""
    return 100.0 * (counts.total() - counts["survived"]) / counts.total() if counts else 100.0


def line(name: str, counts: Counter[str]) -> str:
    """Returns the line of one module."""
    return (
        f"{name:<26} {counts.total():5} mutants: {counts['killed']} killed, {counts['stuck']} stuck, "
        f"{counts['survived']} survived, {percent(counts):.1f} %"
    )


if __name__ == "__main__":
    sys.exit(main())
