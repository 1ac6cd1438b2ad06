"""Another process rewrites what a run writes to disk: produced shards, checkpoints, coverage maps.

What is on disk is the host's from the first byte on. Produced shards are hashed before they are written, a
checkpoint is verified when it comes back, and a map is known by its sealed root.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import every_format
import loops
import pytest
import resumable
import torch
from host import Host, watching

from palm_torch.attesting.attested import attested
from palm_torch.commit import coverage
from palm_torch.data import written_records
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader
from palm_torch.data.shard_writer import ShardWriter
from palm_torch.errors import DataError, PalmTorchError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from palm_torch.commit.manifest import Manifest

PRODUCED: Final[dict[str, list[Any]]] = {
    "bin": [every_format.tokens(number, 0, 5, "<u2") for number in range(12)],
    "npy": [every_format.tokens(number, 0, 5, "<i4") for number in range(12)],
    "jsonl": [{"n": number, "text": every_format.text(number, 0)} for number in range(12)],
}
"""Format that can be written → records."""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as process:
        yield process


# ---------------------------------------------------------------------------------------------------------
# produced shards


class Striking:
    """Rewrites what lies in the folder that is being written, at the n-th moment that there is a file."""

    def __init__(self, host: Host, folder: Path, number: int) -> None:
        self.host, self.folder, self.left = host, folder, number
        self.busy = False

    def __call__(self) -> None:
        if not self.busy:  # looking at files is watched, too
            self.busy = True
            self.strike()
            self.busy = False

    def strike(self) -> None:
        found = [
            path
            for path in [*self.folder.glob(".out.*/*"), *self.folder.glob("out/*")]
            if path.is_file() and path.stat().st_size
        ]
        if found:
            if self.left == 0:
                self.host.write({path: scrambled(path.read_bytes()) for path in found})
            self.left -= 1


def scrambled(content: bytes) -> bytes:
    return bytes(byte ^ (at % 7 == 3) for at, byte in enumerate(content))


def produce(folder: Path, name: str, between: Callable[[], None]) -> Manifest:
    with watching(between):
        with ShardWriter(folder / "out", format=name, shard_bytes=40) as writer:
            for record in PRODUCED[name]:
                writer.write(record)
                between()
        between()
    assert writer.manifest is not None
    return writer.manifest


def test_the_table_names_every_format_that_is_written() -> None:
    assert set(PRODUCED) == set(written_records._MAKERS)


@pytest.mark.parametrize("name", PRODUCED)
def test_produced_shards(tmp_path: Path, host: Host, name: str) -> None:
    """At any moment: the evidence names what was written, and what lies there instead is refused."""
    (tmp_path / "honest").mkdir()
    honest = produce(tmp_path / "honest", name, lambda: None)
    refused = 0
    for number in range(300):
        folder = tmp_path / str(number)
        folder.mkdir()
        strike = Striking(host, folder, number)
        assert produce(folder, name, strike) == honest
        try:
            data = AttestedMmapDataset(folder / "out", dtype=None)
            assert data.info.manifest == honest
            for number_of_record in range(len(data)):
                data[number_of_record]
        except (DataError, RecordError):
            refused += 1
        if strike.left >= 0:  # there are not so many moments
            break
    else:
        pytest.fail("expected fewer than 300 moments")
    assert refused == number > 10  # at all moments but the one that never came


# ---------------------------------------------------------------------------------------------------------
# checkpoints


@pytest.fixture(scope="module")
def checkpoint(data: Path) -> bytes:
    return resumable.saved(data)


def flipped(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor with one bit of its middle byte changed."""
    content = bytearray(tensor.detach().contiguous().numpy().tobytes())
    content[len(content) // 2] ^= 1
    return torch.frombuffer(content, dtype=tensor.dtype).reshape(tensor.shape)


def in_palm(which: str) -> Callable[[dict[str, Any]], None]:
    def edit(found: dict[str, Any]) -> None:
        name = next(name for name in found["palm"] if name.startswith(which))
        found["palm"][name] = flipped(found["palm"][name])

    return edit


def in_model(found: dict[str, Any]) -> None:
    found["model"]["dec.weight"] = flipped(found["model"]["dec.weight"])


def in_optimizer(found: dict[str, Any]) -> None:
    state = found["optimizer"]["state"][0]
    state["exp_avg"] = flipped(state["exp_avg"])


def without_counts(found: dict[str, Any]) -> None:
    del found["palm"][next(name for name in found["palm"] if name.startswith("counts."))]


CHECKPOINT: Final = {
    "receipt": in_palm("receipt"),
    "state": in_palm("state"),
    "multiplicities": in_palm("counts."),
    "no multiplicities": without_counts,
    "weights": in_model,
    "optimizer": in_optimizer,
}


@pytest.mark.usefixtures("fresh_process")
@pytest.mark.parametrize("edit", CHECKPOINT.values(), ids=CHECKPOINT.keys())
def test_checkpoints(
    tmp_path: Path, host: Host, data: Path, checkpoint: bytes, edit: Callable[[dict[str, Any]], None]
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(checkpoint)
    found = resumable.opened(checkpoint)
    edit(found)
    file = io.BytesIO()
    torch.save(found, file)
    host.write({path: file.getvalue()})
    with pytest.raises(PalmTorchError):
        resumable.finished(data, path.read_bytes())


@pytest.mark.usefixtures("fresh_process")
def test_twin_a_checkpoint_that_nobody_rewrote(tmp_path: Path, data: Path, checkpoint: bytes) -> None:
    run = resumable.finished(data, checkpoint)
    assert loops.check(run, tmp_path).uses()["train"] == (24, 24, 1, 1)


# ---------------------------------------------------------------------------------------------------------
# coverage maps


@pytest.mark.usefixtures("fresh_process")
def test_coverage_maps(tmp_path: Path, host: Host, data: Path) -> None:
    """Every byte of the map beside the evidence: none can change without being noticed."""
    torch.manual_seed(1)
    net = loops.Net()
    optimizer = torch.optim.AdamW(net.parameters())
    with attested("train") as run:
        loops.train(net, optimizer, DataLoader(loops.opened(data), batch_size=4))
    checked = loops.check(run, tmp_path)
    counts = checked.claims.data["dataset1"].uses["train"].counts
    assert counts is not None
    (path,) = tmp_path.glob("*.coverage")
    honest = path.read_bytes()
    assert coverage.read_sidecar(path, counts.coverage) == (bytes([1]) * loops.RECORDS, 1)
    bent = [
        honest[:at] + bytes([honest[at] ^ bit]) + honest[at + 1 :]
        for at in range(len(honest))
        for bit in (1, 128)
    ]
    for content in [*bent, honest[:-1], honest + b"\1", honest[: coverage.HEAD_BYTES], b""]:
        host.write({path: content})
        with pytest.raises(PalmTorchError, match=str(path)):
            coverage.read_sidecar(path, counts.coverage)
    host.write({path: honest})
    coverage.read_sidecar(path, counts.coverage)
