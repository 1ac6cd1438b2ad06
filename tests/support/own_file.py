"""Each file of tests as if the process had begun with it: without what other files brought along.

pytest imports every file of tests before it runs the first. A session that is measured in such a process
lists hundreds of files that have nothing to do with it, reads all of them at its begin and at its end, and
looks for models among everything that they made.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    import pytest

_begun: list[str] = []
"""Names of the files whose tests have begun to run, in order."""

_hidden: dict[str, ModuleType] = {}


def begin(item: pytest.Item) -> None:
    """Makes a test's own file the only one that the process seems to have loaded.

    What is alive already is put out of the collector's sight, for good.

    Args:
        item: The test that is about to run; does nothing if the test before it was in the same file.
    """
    own = getattr(item, "module", None)
    name = getattr(own, "__name__", "")
    if _begun[-1:] == [name]:
        return
    _begun.append(name)
    sys.modules.update(_hidden)
    _hidden.clear()
    _hidden.update({other: module for other, module in sys.modules.items() if _is_of_tests(other)})
    _hidden.pop(name, None)
    for other in _hidden:
        del sys.modules[other]
    gc.collect()
    gc.freeze()


def _is_of_tests(name: str) -> bool:
    return name.startswith("tests.") and name.rpartition(".")[2].startswith("test_")
