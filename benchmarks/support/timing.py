"""How long one call takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """Returns the wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def processor_seconds(work: Callable[[], object]) -> float:
    """Returns the processor time of one call, in all threads of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def processor_ms(work: Callable[[], object]) -> float:
    """Returns `processor_seconds` in milliseconds."""
    return 1e3 * processor_seconds(work)
