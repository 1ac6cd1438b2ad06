"""What forked workers meet, told to the run's own process."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from palm_torch import recorder
from palm_torch.hooks import executed, forked, importing, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _hooked() -> Iterator[None]:
    remove = importing.install()
    yield
    remove()


def test_everything_since_the_fork_is_told_every_time_and_listed_once(tmp_path: Path) -> None:
    there, here = opened.OpenedFiles(str(tmp_path)), opened.OpenedFiles(str(tmp_path))
    there.take("before", None)
    worker, run = (forked.ForkedWorkers(files, executed.ExecutedFiles()) for files in (there, here))
    worker.begin_here()
    assert worker.seen_here() == ()
    there.take("table", b"t" * 32)
    importing.note("late", str(tmp_path / "late.py"), b"x = 1")
    seen = pickle.loads(pickle.dumps(worker.seen_here()))  # noqa: S301 (own bytes)
    assert worker.seen_here() is worker.seen_here()
    importing.install()()  # forgets it, as the run's process has not seen it
    for _ in range(2):
        run.take(seen)
    assert [item.module for item in importing.loaded()] == ["late"]
    assert here.told() == (("table", b"t" * 32),)


def test_one_observer_at_a_time(tmp_path: Path) -> None:
    observer = forked.ForkedWorkers(opened.OpenedFiles(str(tmp_path)), executed.ExecutedFiles())
    assert recorder.observer() is None
    with recorder.observing(observer):
        assert recorder.observer() is observer
    assert recorder.observer() is None
