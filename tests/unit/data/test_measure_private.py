"""Secrets of measuring: where they are kept, and what happens where they cannot be."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from palm_torch.data.measuring import private
from palm_torch.errors import DataError


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "palm-torch"


def test_relative_folder_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert private.folder() == tmp_path / ".local" / "state" / "palm-torch"

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(DataError, match=r"nowhere to keep secrets: .*; set XDG_STATE_HOME"):
        private.folder()


def test_processes_that_start_at_once_agree(state: Path) -> None:
    keys: set[bytes] = set()
    threads = [threading.Thread(target=lambda: keys.add(private.reuse_key())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 1
    assert [item.name for item in state.iterdir()] == ["measure.key"]
    assert (state / "measure.key").stat().st_mode & 0o777 == 0o600


def test_folder_that_cannot_be_written(state: Path) -> None:
    state.parent.write_bytes(b"a file")
    with pytest.raises(DataError, match="the key cannot be kept: "):
        private.reuse_key()
    with pytest.raises(DataError, match="the salt cannot be kept: "):
        private.new_salt(Path("corpus"))


def test_link_in_the_place_of_the_key(state: Path, tmp_path: Path) -> None:
    private.reuse_key()
    (tmp_path / "mine").write_bytes(bytes(32))
    (state / "measure.key").unlink()
    (state / "measure.key").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match="the key cannot be kept: "):
        private.reuse_key()


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33)])
def test_key_of_another_length(state: Path, content: bytes) -> None:
    private.reuse_key()
    (state / "measure.key").write_bytes(content)
    with pytest.raises(DataError, match="expected a file of 32 bytes that only you can read"):
        private.reuse_key()


def test_salts_are_all_different() -> None:
    paths, salts = zip(*(private.new_salt(Path("corpus")) for _ in range(4)), strict=True)
    assert len(set(salts)) == len({os.fspath(path) for path in paths}) == 4
