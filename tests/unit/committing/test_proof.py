"""The block and what is left of it: a root, a context, openings; and every way in which there is none."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tapped
import torch
from torch import nn

import palm_torch
from palm_torch.commit import trace, trace_opening
from palm_torch.commit.trace import Site
from palm_torch.committing import entry, spill
from palm_torch.committing.capture import Capture
from palm_torch.committing.proof import Proof
from palm_torch.committing.spill import Kept
from palm_torch.digest import sha256_digest
from palm_torch.errors import CoverageError, DataError, MissingExtraError, SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Pair(nn.Module):
    """Returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.one(x), x * 2


class Model(nn.Module):
    """Three blocks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(Pair() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x, _ = layer(x)
        return x


def inputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, length, 8, generator=generator) for length in (7, 1, 1, 1)]


def plain(
    kept: Kept | None = None, *, names: Sequence[str] = ("layers.0", "layers.1"), threads: int = 1
) -> Proof:
    """A commitment by the plainest taps, with everything captured."""
    capture, model = Capture(threads=threads, kept=kept), Model()
    with Proof(tapped.PlainTaps(model, names, capture), capture, kept) as proof:
        for x in inputs():
            model(x)
    return proof


def expected(module: int, output: int) -> torch.Tensor:
    """What a module returned in all calls, by token."""
    model = Model()
    found = []
    with torch.no_grad():
        for x in inputs():
            pair = (x, x)
            for layer in model.layers[: module + 1]:
                pair = layer(pair[0])
            found.append(pair[output])
    return torch.cat(found, dim=1)


def values(proof: Proof, opening: trace_opening.TraceOpening) -> torch.Tensor:
    shown = trace_opening.verify(proof.root, proof.context, opening.question, opening)
    return torch.frombuffer(bytearray(shown.values), dtype=getattr(torch, shown.dtype)).reshape(shown.shape)


@pytest.mark.parametrize(
    "kept",
    [
        lambda _: Kept(limit_bytes=1 << 20),
        lambda folder: Kept(limit_bytes=1 << 20, folder=folder, memory_bytes=0),
        lambda folder: Kept(limit_bytes=1 << 20, folder=folder, memory_bytes=0, encrypt=True),
    ],
)
def test_what_was_kept_is_opened(tmp_path: Path, kept: Any) -> None:
    proof = plain(kept(tmp_path))
    assert torch.equal(values(proof, proof.open("layers.1", output="0")), expected(1, 0))
    some = proof.open(Site("layers.0", "1"), tokens=slice(5, 9), batch=1, channels=slice(2, -1))
    assert torch.equal(values(proof, some), expected(0, 1)[1:2, 5:9, 2:7])
    step = proof.open("layers.0", output="0", call=2)
    assert torch.equal(values(proof, step), expected(0, 0)[:, 8:9])
    with pytest.raises(DataError, match="expected one of its outputs"):
        proof.open("layers.0")


def test_the_same_with_the_real_taps() -> None:
    model = Model()
    with palm_torch.commit(model, keep="memory", layers=["layers.0", "layers.1"]) as proof:
        outputs = [model(x) for x in inputs()]
    assert torch.equal(values(proof, proof.open("layers.1", output="1")), expected(1, 1))
    assert [group.root for group in proof.trace.groups] == [group.root for group in plain().trace.groups]
    assert [one.module for one in proof.coverage] == ["layers.0", "layers.1"]
    assert {one.fired for one in proof.coverage} == {4}
    bare = Model()
    assert all(torch.equal(a, bare(x)) for a, x in zip(outputs, inputs(), strict=True))


def test_the_root_is_that_of_ten_plain_lines() -> None:
    proof = plain()
    leaves = []
    for module in (0, 1):
        for output in (0, 1):
            whole = expected(module, output)
            calls = list(whole.split([7, 1, 1, 1], dim=1))
            leaves += tapped.naive_leaves(f"layers.{module}|{output}", "float32", calls)
    (group,) = proof.trace.groups
    assert group.root.value == tapped.naive_group(leaves, "float32", 4, calls)
    assert [str(site) for site in group.sites] == [f"layers.{m} (output {o})" for m in (0, 1) for o in (0, 1)]


def test_threads_and_keeping_change_nothing(tmp_path: Path) -> None:
    roots = {
        plain(kept, threads=threads).root
        for threads in (0, 1, 2)
        for kept in (None, Kept(limit_bytes=1 << 20, folder=tmp_path, memory_bytes=100))
    }
    assert len(roots) == 1


def test_what_was_not_kept_is_opened_from_the_tensors() -> None:
    proof = plain()
    for kept in (None, {}):
        with pytest.raises(DataError, match="nothing of it was kept, and the tensor of call 0 is not among"):
            proof.open("layers.0", output="0", tensors=kept)
    calls = dict(enumerate(expected(0, 0).split([7, 1, 1, 1], dim=1)))
    assert torch.equal(values(proof, proof.open("layers.0", output="0", tensors=calls)), expected(0, 0))
    calls[0] = calls[0] + 1
    with pytest.raises(DataError, match="not those that were captured"):
        proof.open("layers.0", output="0", tensors=calls)


def test_what_is_forgotten_needs_the_tensors_again() -> None:
    proof = plain(Kept(limit_bytes=1 << 20))
    proof.open("layers.0", output="0")
    proof.forget()
    with pytest.raises(DataError, match="nothing of it was kept"):
        proof.open("layers.0", output="0")


def test_a_disk_that_was_changed_opens_nothing(tmp_path: Path) -> None:
    kept = Kept(limit_bytes=1 << 20, folder=tmp_path, memory_bytes=0)
    proof = plain(kept)
    assert kept._file is not None
    os.pwrite(kept._file._descriptor, b"\xff" * 4, 0)
    with pytest.raises(DataError, match="not those that were captured"):
        proof.open("layers.0", output="0", tokens=0)


def test_the_context_and_an_opening_as_files(tmp_path: Path) -> None:
    proof = plain(Kept(limit_bytes=1 << 20))
    proof.save(tmp_path / "a.palm-trace.json")
    proof.open("layers.0", output="0", tokens=3).save(tmp_path / "b.palm-opening.json")
    context = (tmp_path / "a.palm-trace.json").read_bytes()
    opening = trace_opening.read(tmp_path / "b.palm-opening.json")
    assert trace_opening.verify(proof.root, context, opening.question, opening).shape == (2, 1, 8)
    assert trace.decode(context, what="context") == proof.trace
    with pytest.raises(DataError, match="cannot write"):
        proof.save(tmp_path / "missing" / "c")


def test_facts_are_bound() -> None:
    model, digest, weights = Model(), sha256_digest(b"prompt"), sha256_digest(b"weights")
    capture = Capture()
    proof = Proof(tapped.PlainTaps(model, ["layers.0"], capture), capture)
    proof.add_facts({"prompt": digest})
    with proof:
        model(inputs()[0])
        proof.add_facts({"prompt": digest}, model=weights)
        proof.add_facts({}, model=weights)
        with pytest.raises(SessionError, match="the fact 'prompt' was bound before, to another digest"):
            proof.add_facts({"prompt": weights})
        with pytest.raises(SessionError, match="the model was bound before, with other weights"):
            proof.add_facts({"late": digest}, model=digest)
    assert [one.fired for one in proof.coverage] == [1]  # which asks for no root
    proof.add_facts({"answer": digest})
    assert (proof.trace.facts, proof.trace.model) == ({"answer": digest, "prompt": digest}, weights)
    with pytest.raises(SessionError, match="before the root is asked for, and it was asked for already"):
        proof.add_facts({})
    assert trace.root(proof.context) == proof.root


def test_facts_of_a_block_that_failed() -> None:
    capture = Capture()
    proof = Proof(tapped.PlainTaps(Model(), ["layers.0"], capture), capture)
    with pytest.raises(CoverageError), proof:
        pass
    with pytest.raises(SessionError, match="it will never be there"):
        proof.add_facts({"prompt": sha256_digest(b"prompt")})


def test_there_is_no_root_before_the_end_or_after_a_failure() -> None:
    model, capture = Model(), Capture()
    proof = Proof(tapped.PlainTaps(model, ["layers.0"], capture), capture)
    with pytest.raises(SessionError, match="there is no root: the block has not ended"):
        _ = proof.root
    with pytest.raises(ValueError, match="user"), proof:  # noqa: PT012 (the block is the test)
        model(inputs()[0])
        with pytest.raises(SessionError, match="the block has not ended"):
            _ = proof.context
        raise ValueError("user")
    with pytest.raises(SessionError, match="the block ended with an error"):
        _ = proof.coverage
    with pytest.raises(SessionError, match="its block was entered before"), proof:
        pass
    model(inputs()[0])  # the taps are off


def test_an_empty_block_has_no_root() -> None:
    capture = Capture()
    with (
        pytest.raises(CoverageError, match="no tensor was captured: run the model inside the block"),
        Proof(tapped.PlainTaps(Model(), ["layers.0"], capture), capture),
    ):
        pass


def test_a_gap_that_the_taps_found_leaves_no_root() -> None:
    model, capture = Model(), Capture()
    taps = tapped.PlainTaps(model, ["layers.0"], capture)
    taps.problem = CoverageError("layers.1: ran 3 times, expected 4")
    proof = Proof(taps, capture)
    with pytest.raises(CoverageError, match="expected 4"), proof:
        model(inputs()[0])
    with pytest.raises(SessionError, match="ended with an error"):
        _ = proof.root


def test_a_full_disk_ends_the_run_with_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(spill.os, "pwrite", full)
    for threads in (0, 1, 2):
        with pytest.raises(CoverageError, match="No space left on device, after 0 bytes"):
            plain(Kept(limit_bytes=1 << 20, folder=tmp_path, memory_bytes=0), threads=threads)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "pst"}, r"scheme: expected one of \('hash', 'kzg'\), got 'pst'"),
        ({"keep": "disk"}, "keep: expected 'memory', a folder as a pathlib.Path, or None, got 'disk'"),
        ({"encrypt": True}, "encrypt: only what lies on a disk is encrypted"),
        ({"encrypt": True, "keep": "memory"}, "encrypt: only"),
        ({"threads": 99}, "threads: expected 0 to 16, got 99"),
    ],
)
def test_arguments_that_mean_nothing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SessionError, match=message):
        palm_torch.commit(Model(), **options)


def test_under_polynomial_commitments() -> None:
    model = Model()
    with palm_torch.commit(model, keep="memory", layers=["layers.1"], scheme="kzg") as proof:
        model(inputs()[0])
    assert proof.trace.scheme == "kzg"
    opening = proof.open("layers.1", output="1", tokens=3, batch=1)
    assert len(opening.proof) == 48 + 48
    assert torch.equal(values(proof, opening), expected(1, 1)[1:2, 3:4])


def test_a_missing_extra_is_missed_before_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gmpy2", None)
    with pytest.raises(MissingExtraError, match=r"palm-torch\[kzg\]"):
        palm_torch.commit(Model(), scheme="kzg")
    palm_torch.commit(Model())


def test_a_folder_keeps_what_is_opened(tmp_path: Path) -> None:
    model = Model()
    with palm_torch.commit(model, layers=["layers.2"], keep=tmp_path, encrypt=True, keep_bytes=4096) as proof:
        model(inputs()[0])
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(values(proof, proof.open("layers.2", output="0")), expected(2, 0)[:, :7])
    with pytest.raises(CoverageError, match="no file can be made"):
        entry.commit(model, keep=Path("/proc/nothing"))
