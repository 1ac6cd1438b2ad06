"""Fuzzes one group of decoders until libFuzzer has had enough: ``run.py GROUP [libFuzzer's words]``.

Atheris counts which branches of palm_torch an input reaches and keeps what reaches new ones. Groups of JSON
documents are also mutated as documents, so that more than their spelling is tried. `tools/fuzz.py` runs all
groups; a group's file, ``fuzz_GROUP.py``, needs no atheris and is run by the test suite, too.
"""

from __future__ import annotations

import contextlib
import importlib
import random
import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

with atheris.instrument_imports(include=["palm_torch"]):
    import mutations

    from palm_torch.errors import EncodingError

    group = importlib.import_module(f"fuzz_{sys.argv[1]}")


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Mutates a document as one, every other time; as bytes otherwise, and where it is none."""
    choices = random.Random(seed)
    if data and choices.random() < 0.5:
        with contextlib.suppress(EncodingError):
            changed = mutations.mutate(data, [data], choices).data
            if len(changed) <= max_size:
                return changed
    return bytes(atheris.Mutate(data, max_size))


if __name__ == "__main__":
    options = {"custom_mutator": mutated} if getattr(group, "JSON", False) else {}
    atheris.Setup([sys.argv[0], *sys.argv[2:]], group.one_input, **options)
    atheris.Fuzz()  # libFuzzer ends the process
