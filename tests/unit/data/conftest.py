from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from recording import write_tokens

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    write_tokens(tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.fixture
def rows(tmp_path: Path, tokens: Path) -> np.ndarray:
    return write_tokens(tmp_path / f"{tokens.name}-again")
