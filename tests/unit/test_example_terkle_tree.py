"""The example of a tree runs as printed, without torch and numpy."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "terkle_tree.py"

LIGHT = """
import runpy, sys
sys.modules.update(dict.fromkeys(("torch", "numpy")))
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_it_shows_a_token_under_both_schemes() -> None:
    words = [sys.executable, "-c", LIGHT, str(EXAMPLE)]
    outcome = subprocess.run(words, capture_output=True, text=True, check=False, timeout=250)
    assert outcome.returncode == 0, outcome.stderr
    said = outcome.stdout.splitlines()
    array = random.Random(0).randbytes(140 * 3 * 128)
    shown = f"token 7 (1, 3, 64) is {array[7 * 3 * 128 :][:4].hex()}…, by"
    assert said[0] == f"hash: {shown} 256 bytes of proof"
    assert said[2] == f"kzg: {shown} 144 bytes of proof"
    for scheme, line in zip(("hash", "kzg"), said[1::2], strict=True):
        assert line.startswith(f"{scheme}: under the root of 140 tokens: ")
