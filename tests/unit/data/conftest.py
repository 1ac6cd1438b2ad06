from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from recording import write_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    write_tokens(tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.fixture
def rows(tmp_path: Path, tokens: Path) -> np.ndarray:
    return write_tokens(tmp_path / f"{tokens.name}-again")


@pytest.fixture(autouse=True, scope="session")
def _short_farewell() -> Iterator[Any]:
    """Torch waits 5 s for a worker that had raised; a test need not."""
    from torch.utils.data import _utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
        yield
