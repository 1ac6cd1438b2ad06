"""Holds branch coverage to a minimum for each part of the package.

Usage: ``python tools/check_coverage.py build/coverage.json`` (as written by ``coverage json``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

MINIMUM_PERCENT: Final = {
    "palm_torch/": 95.0,
    "palm_torch/errors.py": 100.0,
    "palm_torch/encoding.py": 100.0,
    "palm_torch/digest.py": 100.0,
    "palm_torch/codec.py": 100.0,
    "palm_torch/files.py": 100.0,
    "palm_torch/roles.py": 100.0,
    "palm_torch/properties.py": 100.0,
    "palm_torch/statement.py": 100.0,
    "palm_torch/evidence.py": 100.0,
    "palm_torch/result.py": 100.0,
    "palm_torch/recorder.py": 100.0,
    "palm_torch/request.py": 100.0,
    "palm_torch/dsse.py": 100.0,
    "palm_torch/receipt.py": 100.0,
    "palm_torch/commit/": 100.0,
    "palm_torch/challenge/": 100.0,
    "palm_torch/audit/": 100.0,
    "palm_torch/cvm/": 100.0,
    "palm_torch/sessions/": 100.0,
    "palm_torch/policies/": 100.0,
    "palm_torch/appraisal/": 100.0,
    "palm_torch/verification.py": 100.0,
    "palm_torch/appraiser.py": 100.0,
    "palm_torch/data_at_hand.py": 100.0,
    "palm_torch/part_files.py": 100.0,
    "palm_torch/recomputation.py": 100.0,
    "palm_torch/commands/coverage.py": 100.0,
    "palm_torch/commands/prove_record.py": 100.0,
    "palm_torch/data/shares.py": 100.0,
    "palm_torch/chain_verification.py": 100.0,
    "palm_torch/inspection.py": 100.0,
    "palm_torch/wording.py": 100.0,
    "palm_torch/collateral_file.py": 100.0,
    "palm_torch/collateral_services.py": 100.0,
    "palm_torch/deadlines.py": 100.0,
    "palm_torch/doctor.py": 100.0,
    "palm_torch/fetching.py": 100.0,
    "palm_torch/machine/": 100.0,
}
"""Prefix of a path to the least covered share, in percent of lines and branches together."""


def main() -> int:
    """Prints one line for each prefix and returns 1 if one is below its minimum."""
    if len(sys.argv) != 2:  # noqa: PLR2004 (the program and its one argument)
        print("usage: python tools/check_coverage.py COVERAGE.json", file=sys.stderr)
        return 3
    files = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["files"]
    failures = 0
    for prefix, minimum in MINIMUM_PERCENT.items():
        percent = percent_of(files, prefix)
        ok = percent is not None and percent >= minimum
        failures += not ok
        shown = "no such files" if percent is None else f"{percent:6.2f} %"
        print(f"coverage {'ok  ' if ok else 'LOW '} {prefix:<32} {shown} (minimum {minimum:g} %)")
    return 1 if failures else 0


def percent_of(files: dict[str, Any], prefix: str) -> float | None:
    """Returns the covered share of lines and branches under a prefix, or None if nothing lies there.

    Args:
        files: The ``files`` object of coverage's report.
        prefix: Start of the paths, with forward slashes.
    """
    covered = total = 0
    matched = False
    for name, report in files.items():
        if not Path(name).as_posix().startswith(prefix):
            continue
        matched = True
        summary = report["summary"]
        covered += summary["covered_lines"] + summary.get("covered_branches", 0)
        total += summary["num_statements"] + summary.get("num_branches", 0)
    if not matched:
        return None
    return 100.0 * covered / total if total else 100.0


if __name__ == "__main__":
    sys.exit(main())
