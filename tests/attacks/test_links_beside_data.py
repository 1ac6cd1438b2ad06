"""Whoever can write to the data's folder puts links, and files that are not ours, where measuring writes.

Nothing that measuring writes beside data goes through them: what they lead to stays as it is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.measuring import products
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

KEYS = b"ssh-ed25519 AAAA me@home\n" * 40
"""Longer than one entry: a reader that cuts off what is no entry would cut it."""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.bin").write_bytes(bytes(range(256)))
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "authorized_keys"
    path.write_bytes(KEYS)
    return path


def again(path: Path, **words: Any) -> Any:
    return measure.measure(path, record_length=16, incremental=True, **words)


@pytest.mark.parametrize("way", ["symlink_to", "hardlink_to"])
def test_products_are_written_through_no_link(corpus: Path, victim: Path, way: str) -> None:
    place = corpus / "manifest.palm-products"
    getattr(place, way)(victim)
    with pytest.raises(DataError, match=r"manifest\.palm-products: "):
        again(corpus)
    assert victim.read_bytes() == KEYS
    assert not (corpus / "manifest.palm-manifest").exists()
    place.unlink()
    place.symlink_to(corpus / "nowhere")
    with pytest.raises(DataError, match="cannot be kept: "):
        again(corpus)
    assert not (corpus / "nowhere").exists()


@pytest.mark.parametrize("content", [KEYS, b"x", products.MAGIC[:-1], bytes(448)])
def test_a_file_of_that_name_that_is_not_ours_stays(corpus: Path, content: bytes) -> None:
    place = corpus / "manifest.palm-products"
    place.write_bytes(content)
    with pytest.raises(DataError, match=r"expected a file that measuring made for you.*move it away"):
        again(corpus)
    assert place.read_bytes() == content


def test_a_file_of_another_user_is_refused(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again(corpus)
    before = (corpus / "manifest.palm-products").read_bytes()
    real = os.geteuid()
    monkeypatch.setattr(products.os, "geteuid", lambda: real + 1)
    with pytest.raises(DataError, match=f"of user {real}, 1 names"):
        products.Products(corpus / "manifest.palm-products", bytes(32)).__enter__()
    assert (corpus / "manifest.palm-products").read_bytes() == before


def test_a_pipe_in_the_place_of_products_keeps_nobody_waiting(corpus: Path) -> None:
    os.mkfifo(corpus / "manifest.palm-products")
    with pytest.raises(DataError, match="expected a file that measuring made for you"):
        again(corpus)


def test_products_are_for_their_user_alone(corpus: Path) -> None:
    place = corpus / "manifest.palm-products"
    again(corpus)
    assert place.stat().st_mode & 0o777 == 0o600
    place.chmod(0o644)
    again(corpus)
    assert place.stat().st_mode & 0o777 == 0o600


def test_manifest_and_line_index_replace_links(corpus: Path, victim: Path) -> None:
    (corpus / "manifest.palm-manifest").symlink_to(victim)
    measure.measure(corpus, record_length=16)
    assert not (corpus / "manifest.palm-manifest").is_symlink()
    lines = corpus.parent / "x.jsonl"
    lines.write_bytes(b'{"n": 1}\n')
    measure.measure(lines)
    index = lines.with_name("x.jsonl.palm-index")
    index.symlink_to(victim)
    with pytest.raises(DataError, match="is no index of lines: move it away"):
        AttestedMmapDataset(lines)
    index.unlink()
    index.symlink_to(corpus / "nowhere")
    assert AttestedMmapDataset(lines)[0] == {"n": 1}
    assert not index.is_symlink()
    assert not (corpus / "nowhere").exists()
    assert victim.read_bytes() == KEYS
