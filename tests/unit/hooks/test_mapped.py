"""Tensors in mapped files are found, whatever mapped them; those in memory of any kind pass."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from palm_torch.attesting import owned_model
from palm_torch.errors import CoverageError
from palm_torch.hooks import mapped
from palm_torch.hooks.discovery import Owners

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NUMBERS = 5000  # more than a page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.save({"w": torch.ones(NUMBERS)}, tmp_path / "w.pt")
    (tmp_path / "w.bin").write_bytes(bytes(4 * NUMBERS))
    return tmp_path


def opened(path: Path, **options: Any) -> torch.Tensor:
    return torch.from_numpy(np.memmap(path, np.float32, **options))


MAPPED: dict[str, Callable[[Path], torch.Tensor]] = {
    "torch.load": lambda folder: torch.load(folder / "w.pt", mmap=True)["w"],
    "from_file, private": lambda folder: torch.from_file(str(folder / "w.bin"), size=NUMBERS),
    "from_file, shared": lambda folder: torch.from_file(str(folder / "w.bin"), shared=True, size=NUMBERS),
    "numpy": lambda folder: opened(folder / "w.bin", mode="c"),
    "a view": lambda folder: opened(folder / "w.bin", mode="r+")[NUMBERS // 2 :],
}

IN_MEMORY: dict[str, Callable[[Path], torch.Tensor]] = {
    "plain": lambda _: torch.ones(NUMBERS),
    "shared": lambda _: torch.ones(NUMBERS).share_memory_(),
    "anonymous mapping": lambda _: torch.frombuffer(mmap.mmap(-1, 4 * NUMBERS), dtype=torch.float32),
    "cloned": lambda folder: opened(folder / "w.bin", mode="r+").clone(),
    "empty": lambda folder: opened(folder / "w.bin", mode="r+")[:0],
    "meta": lambda _: torch.ones(NUMBERS, device="meta"),
    "sparse": lambda _: torch.ones(NUMBERS).to_sparse(),
}


@pytest.mark.parametrize("kind", MAPPED)
def test_a_tensor_in_a_mapped_file_is_refused(folder: Path, kind: str) -> None:
    named = [("a", torch.ones(3)), ("b.w", MAPPED[kind](folder)), ("c", torch.ones(3))]
    with pytest.raises(CoverageError, match=r"^tensor b\.w lies in the mapped file .*/w\.(pt|bin): "):
        mapped.require_own_memory(named)


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_twin_a_tensor_in_memory_passes(folder: Path, kind: str) -> None:
    mapped.require_own_memory([("w", IN_MEMORY[kind](folder))])


def test_every_parameter_and_buffer_of_a_model_is_looked_at(folder: Path) -> None:
    for put in (
        lambda net, tensor: setattr(net[1], "bias", nn.Parameter(tensor, requires_grad=False)),
        lambda net, tensor: net[1].register_buffer("bias", tensor),
        lambda net, tensor: net[1].register_buffer("bias", tensor, persistent=False),
    ):
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
        owners = Owners((net,), ("Sequential",))
        if "bias" in net[1]._parameters:
            del net[1]._parameters["bias"]
        owned_model.require_own_memory([owners])
        put(net, opened(folder / "w.bin", mode="c"))
        with pytest.raises(CoverageError, match=r"^tensor 1\.bias lies"):
            owned_model.require_own_memory([owners])
    loose = Owners((), (), {"w": opened(folder / "w.bin", mode="c")})
    with pytest.raises(CoverageError, match=r"^tensor w lies"):
        owned_model.require_own_memory([loose])


@pytest.mark.parametrize("text", [None, "not a list of mappings", "1-2 rw-p 0"])
def test_a_kernel_that_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    path = tmp_path / "maps"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(mapped, "MAPS", path)
    with pytest.raises(CoverageError, match="expected Linux with /proc"):
        mapped.require_own_memory([])


def test_paths_with_blanks_and_none_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "maps").write_text(
        "1000-2000 rw-p 00000000 fe:01 7    /a b/c  d (deleted)\n"
        "2000-3000 rw-p 00000000 00:00 0\n"
        "3000-4000 r--s 00000000 fe:01 8\n"
        "4000-5000 r--s 00000000 00:99 9    /dev/shm/x\n"
    )
    (tmp_path / "mounts").write_text(f"30 25 0:{0x99} / /dev/shm rw,relatime shared:1 - tmpfs tmpfs rw\n")
    monkeypatch.setattr(mapped, "MAPS", tmp_path / "maps")
    monkeypatch.setattr(mapped, "MOUNTS", tmp_path / "mounts")
    first, second = mapped.file_mappings()
    assert first == (0x1000, 0x2000, "/a b/c  d (deleted)")
    assert second[:2] == (0x3000, 0x4000)
    (tmp_path / "mounts").write_text(f"30 25 0:{0x99} / /mnt rw - ext4 tmpfs rw\n")
    assert len(mapped.file_mappings()) == 3
