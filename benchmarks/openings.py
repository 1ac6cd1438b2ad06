"""Openings of weights: committing to a file, and checking an opening from the shell.

commit         `weights_commitment.commit` over a safetensors file of 1 GiB, as a ratio to raw BLAKE3 over the
               same file, read in pieces of 1 MiB by the same thread (bar ≥ 0.80), and over the same bytes in
               memory, which no reading of a file can reach; in turn, median of the pairs' ratios
check          whole processes of ``python -m palm_torch check``, of one tile of 256 KiB, for both schemes,
               interleaved with bare interpreters (bar ≤ 0.5 s)
open           `read_block` and `ReadBlock.opening` with a list of roots at hand; no bar
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import torch
from blake3 import blake3
from safetensors.torch import save_file
from support.timing import seconds

from palm_torch.commit import opening_file, weights_commitment, weights_opening

if TYPE_CHECKING:
    from palm_torch.commit.weights_commitment import WeightsCommitment

PAIRS: Final = 7
PROCESSES: Final = 11
PIECE_BYTES: Final = 1 << 20
RATIO_BAR: Final = 0.80
SHELL_BAR_S: Final = 0.5
LAYERS: Final = 16
WIDTH: Final = 4096


def main() -> int:
    """Measures and prints; returns 1 if a bar was missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        tensors = {f"layer.{number}.weight": torch.randn(WIDTH, WIDTH) for number in range(LAYERS)}
        save_file(tensors, folder / "model.safetensors")
        missed = commit(folder / "model.safetensors")
        save_file(
            {name: tensors[name] for name in list(tensors)[:2]} | {"norm.weight": torch.randn(WIDTH)},
            folder / "small.safetensors",
        )
        del tensors
        for scheme in ("hash", "kzg"):
            missed |= check(folder, scheme)
    return int(missed)


def commit(path: Path) -> bool:
    """Times the pass over a file against raw BLAKE3 of the same bytes, from the file and from memory."""
    content = path.read_bytes()
    pairs = [
        (
            seconds(lambda: raw_from_file(path)),
            seconds(lambda: blake3(content).digest()),
            seconds(lambda: weights_commitment.commit(path)),
        )
        for _ in range(PAIRS)
    ]
    ratios = sorted(file / ours for file, _, ours in pairs)
    in_memory = statistics.median(memory / ours for _, memory, ours in pairs)
    file, memory, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    speed = [len(content) / taken / 1e9 for taken in (file, memory, ours)]
    print(
        f"raw BLAKE3 of {len(content) / 2**30:.2f} GiB: {speed[0]:.2f} GB/s from the file, {speed[1]:.2f} "
        f"GB/s in memory; commit: {speed[2]:.2f} GB/s"
    )
    print(f"range over {PAIRS} rounds: {ratios[0]:.2f} to {ratios[-1]:.2f}; against memory: {in_memory:.2f}")
    ratio = statistics.median(ratios)
    print(f"commit / raw BLAKE3 of the file: {ratio:.2f} (bar ≥ {RATIO_BAR:.2f})")
    return ratio < RATIO_BAR


def raw_from_file(path: Path) -> bytes:
    """Returns BLAKE3 of a file, read in pieces into one buffer."""
    hasher, buffer = blake3(), bytearray(PIECE_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while length := stream.readinto(view):
            hasher.update(view[:length])
    return hasher.digest()


def check(folder: Path, scheme: Literal["hash", "kzg"]) -> bool:
    """Times opening one tile, and checking it from the shell."""
    path = folder / "small.safetensors"
    listed = weights_commitment.commit(path, scheme=scheme)
    opening, taken = opened(path, listed)
    encoded = opening.encode()
    (folder / "o.json").write_bytes(encoded)
    words = ["-m", "palm_torch", "check", str(folder / "o.json"), "--root", str(listed.root)]
    shell, bare, processor = [], [], []
    for _ in range(PROCESSES):
        before = of_children()
        shell.append(seconds(lambda: run(words)))
        processor.append(of_children() - before)
        bare.append(seconds(lambda: run(["-c", "pass"])))
    in_process = statistics.median(
        seconds(lambda: weights_opening.verify(opening_file.decode(encoded, what="opening"), listed.root))
        for _ in range(PROCESSES)
    )
    proof = len(opening.proof) + len(opening.entry_proof)
    print(
        f"{scheme}: open {taken * 1e3:.0f} ms; {proof} bytes of proof beside {len(opening.tiles)} of tiles; "
        f"decode and verify in process {in_process * 1e3:.1f} ms"
    )
    median, plain = statistics.median(shell), statistics.median(bare)
    print(
        f"{scheme}: check from shell {median:.3f} s (bar ≤ {SHELL_BAR_S} s), "
        f"{median / plain:.1f} times a bare interpreter ({plain:.3f} s); processor time "
        f"{statistics.median(processor):.3f} s"
    )
    return median > SHELL_BAR_S


def opened(path: Path, listed: WeightsCommitment) -> tuple[opening_file.WeightsOpening, float]:
    """Opens some rows twice and returns the opening with the time of the second."""

    def once() -> opening_file.WeightsOpening:
        like = {"the list": listed}
        read = weights_opening.read_block(
            path, "layer.0.weight", rows=(100, 104), scheme=listed.scheme, like=like
        )
        return read.opening()

    made = once()  # the first loads what provers need
    return made, seconds(once)


def of_children() -> float:
    """Returns the processor time of the processes that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(words: list[str]) -> None:
    """Runs one interpreter."""
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
