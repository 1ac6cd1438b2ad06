"""What tests share that look at everything alive in the process."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="module")
def few_live_objects() -> None:
    """Puts what other tests and imports left behind out of the collector's sight: looking gets quick."""
    gc.collect()
    gc.freeze()  # for good, as `loops.fresh_process` does


@pytest.fixture
def nothing_left_behind(few_live_objects: None) -> None:  # noqa: ARG001 (only asked for)
    """Collects what the test before this one dropped."""
    gc.collect()
