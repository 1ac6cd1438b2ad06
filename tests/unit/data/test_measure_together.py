"""Several processes, on one machine or on two, make the manifest that one makes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from recording import LENGTH

from palm_torch.data import measure
from palm_torch.data import shards as shards_module
from palm_torch.data.measuring import units
from palm_torch.errors import DataError, MeasurementError

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder of three files of different size, 60,000 records of 32 bytes: more than one block."""
    folder = tmp_path / "many"
    folder.mkdir()
    for name, count in (("a", 40_000), ("b", 15_000), ("c", 5_000)):
        np.random.default_rng(count).integers(0, 60_000, count * LENGTH, dtype=np.uint16).tofile(
            folder / f"{name}.bin"
        )
    return folder


@pytest.mark.parametrize("file_digests", [True, False])
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_make_the_same_manifest(many: Path, processes: int, *, file_digests: bool) -> None:
    words: dict[str, Any] = {"record_length": LENGTH, "file_digests": file_digests}
    alone = measure.measure(many, **words)
    assert measure.measure(many, processes=processes, **words) == alone
    assert all((shard.sha256 is not None) == file_digests for shard in alone.shards)


def test_one_large_file_is_shared_too(many: Path) -> None:
    alone = measure.measure(many / "a.bin", record_length=LENGTH)
    assert measure.measure(many / "a.bin", record_length=LENGTH, processes=2) == alone


def test_rows_are_shared_too(tmp_path: Path) -> None:
    lines = [json.dumps({"n": number, "text": "x" * (number % 70)}) + "\n" for number in range(9_000)]
    (tmp_path / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    alone = measure.measure(tmp_path)
    assert (alone.records, alone.record_bytes) == (9_000, None)
    assert measure.measure(tmp_path, processes=2) == alone


def test_arrays_keep_their_header_out_of_the_records(tmp_path: Path) -> None:
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(1).random((20_000, 4), np.float32))
    assert measure.measure(tmp_path, processes=2) == measure.measure(tmp_path)


def test_units_cover_every_record_once(many: Path) -> None:
    files = shards_module.open_all(many, shards_module.table.Wanted(LENGTH))
    for file_digests in (True, False):
        for workers in (1, 2, 5):
            divided = units.divide(files, file_digests=file_digests, workers=workers)
            found = sorted(
                (one.shard, at) for one in divided for at in range(one.first, one.first + one.count)
            )
            assert found == [
                (at, number) for at, file in enumerate(files) for number in range(file.view.records)
            ]
            assert sum(one.hash_file for one in divided) == (3 if file_digests else 0)


def test_error_of_a_process_is_that_of_the_dataset(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    divide = units.divide

    def then_cut(*words: Any, **named: Any) -> Any:
        found = divide(*words, **named)
        os.truncate(many / "b.bin", 32)
        return found

    monkeypatch.setattr(units, "divide", then_cut)
    with pytest.raises((DataError, MeasurementError), match=r"b\.bin: its length changed|another dataset"):
        measure.measure(many, record_length=LENGTH, processes=2)
    assert not (many / "manifest.palm-manifest").exists()


def test_process_that_is_killed_is_named(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = measure.Pool.run

    def killed(pool: measure.Pool) -> None:
        name = next(iter(pool._workers.values())).name
        os.kill(int(name.rpartition("pid ")[2].rstrip(")")), signal.SIGKILL)
        run(pool)

    monkeypatch.setattr(measure.Pool, "run", killed)
    with pytest.raises(MeasurementError, match=r"measuring process 1 .* ended before its work was done"):
        measure.measure(many, record_length=LENGTH, processes=2)
    assert not (many / "manifest.palm-manifest").exists()


def ranks(path: Path, *words: str, size: int = 2, salts: Sequence[str] = ()) -> list[subprocess.Popen[str]]:
    """Starts the command line as torchrun on `size` machines would."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = []
    for rank in range(size):
        command = [sys.executable, "-m", "palm_torch", "measure", str(path), *words, *salts[rank : rank + 1]]
        started.append(
            subprocess.Popen(
                command,
                env={**os.environ, **place, "RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def ends(started: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    said = [one.communicate(timeout=100) for one in started]
    return [(one.returncode, *texts) for one, texts in zip(started, said, strict=True)]


@pytest.mark.slow
def test_machines_make_the_same_manifest(many: Path) -> None:
    alone = measure.measure(many, record_length=LENGTH)
    (many / "manifest.palm-manifest").unlink()
    first, second = ends(ranks(many, "--record-length", str(LENGTH)))
    assert first[0] == second[0] == 0, (first, second)
    assert f"digest    {alone.digest}" in first[1]
    assert second[1] == ""
    assert measure.check(many) == alone
    first, second = ends(ranks(many, "--check"))
    assert first[0] == second[0] == 0, (first, second)
    assert "every record is as the manifest says" in first[1]


@pytest.mark.slow
def test_machines_that_see_different_data_make_no_manifest(many: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"a secret of salt")
    other.write_bytes(b"some other salt!")
    salts = [f"--salt-file={one}", f"--salt-file={other}"]
    first, second = ends(ranks(many, "--record-length", str(LENGTH), salts=salts))
    assert (first[0], second[0]) == (1, 1)
    assert "rank 1 sees another dataset" in first[2]
    assert "the first rank ended before the work was done" in second[2]
    assert not (many / "manifest.palm-manifest").exists()


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_machine_that_dies_ends_the_others(tmp_path: Path, dies: int) -> None:
    with (tmp_path / "a.bin").open("wb") as stream:
        stream.truncate(1 << 30)  # longer than anyone waits here
    started = ranks(tmp_path / "a.bin", "--record-length", "8")
    deadline = time.monotonic() + 60
    while not any(child(started[0].pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    started[dies].kill()
    code, _, err = ends(started)[1 - dies]
    assert code == 1
    gone = ("the first rank", "rank 1")[dies]
    assert f"{gone} ended before" in err
    assert not (tmp_path / "a.bin.palm-manifest").exists()


@pytest.mark.slow
def test_first_rank_that_gives_up_tells_the_others(many: Path) -> None:
    (many / "manifest.palm-manifest").write_bytes(b"no manifest")
    first, second = ends(ranks(many, "--record-length", str(LENGTH)))
    assert (first[0], second[0]) == (2, 1)
    assert "--force replaces it" in first[2]
    assert "the first rank" in second[2]


def child(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()


def test_folder_of_files_is_one_row_of_records(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_bytes(bytes([number]) * number)
    alone = measure.measure(tmp_path, format="files")
    assert (alone.records, alone.shards[0].sha256) == (40, None)
    assert measure.measure(tmp_path, format="files", processes=2) == alone
    assert measure.check(tmp_path, processes=2) == alone
