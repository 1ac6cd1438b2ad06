"""A run is broken off in the middle: half a training must not come out as evidence of a whole one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from palm_torch.attesting.sealing import Sealer
from palm_torch.errors import SealError, SessionError

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_in_the_block_leaves_no_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    session = pytest.importorskip("palm_torch.attesting.attested")
    monkeypatch.chdir(tmp_path)
    run = session.attested("train", attester="simulated")
    with pytest.raises(kind), run:
        raise kind
    with pytest.raises(SessionError, match=f"the block raised {kind.__name__}"):
        _ = run.evidence
    with pytest.raises(SessionError, match="nothing to seal"):
        run.seal()
    assert list(tmp_path.iterdir()) == []


def test_a_begin_phase_alone_is_no_evidence(good: GoodRun) -> None:
    """What the aborted run did leave, its begin quote, can't be completed without the end of the run."""
    sealer = Sealer(good.machine, nonce=None)
    with pytest.raises(SessionError, match="has not begun"):
        sealer.end(good.bundle.end.statement)
    sealer.begin(good.bundle.begin.statement)
    with pytest.raises(SealError):
        sealer.end(b"{}")
