"""Runs of several ranks as real processes: started by torchrun, or by hand with torchrun's variables."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from palm_torch import evidence, statement
from palm_torch.properties import Train

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from palm_torch.statement import Statement

PATIENCE_S = 120
"""Seconds after which a run that should have ended is killed, so that no test hangs."""

MODEL = """
import os, sys
import torch
from torch import nn
import palm_torch

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.norm, self.dec = nn.Embedding(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 16)

    def forward(self, x):
        return self.dec(self.norm(self.enc(x).transpose(1, 2)).transpose(1, 2)).clone()

def loss_of(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

def seeded():
    torch.manual_seed(0)
    return Net()
"""
"""What every script of a run begins with; deterministic on the CPU."""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Returns variables for a process that keeps its simulated machine in a folder."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("TORCHELASTIC", "LOCAL_"))
    }
    return {**kept, "XDG_STATE_HOME": str(folder / "state"), "OMP_NUM_THREADS": "1", **more}


def free_port() -> int:
    """Returns a port that nobody listens on just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def torchrun(
    folder: Path,
    script: Path,
    *words: str,
    ranks: int = 2,
    machines: int = 1,
    machine: int = 0,
    port: int = 0,
) -> subprocess.Popen[str]:
    """Starts a script's ranks on one machine."""
    where = (
        ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
        if machines == 1
        else ["--node-rank", str(machine), "--master-addr", "127.0.0.1", "--master-port", str(port)]
    )
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run"),
            *("--nnodes", str(machines), "--nproc-per-node", str(ranks), *where),
            *(str(script), *words),
        ],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def by_hand(folder: Path, scripts: Sequence[Path], *words: str, port: int) -> list[subprocess.Popen[str]]:
    """Starts one process for each rank, without anybody who ends the others when one ends."""
    return [
        subprocess.Popen(
            [sys.executable, str(script), *words],
            cwd=folder,
            env=environment(folder, **variables(rank, len(scripts), port)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, script in enumerate(scripts)
    ]


def variables(rank: int, world_size: int, port: int) -> dict[str, str]:
    """Returns what torchrun sets for one rank of a run on one machine."""
    return {
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        **{name: str(rank) for name in ("RANK", "LOCAL_RANK")},
        **{name: str(world_size) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")},
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
    }


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Waits for processes and returns exit codes and what they said."""
    try:
        said = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def read(path: Path) -> tuple[Statement, Train]:
    """Returns the end statement of an evidence file, and its claims."""
    end = statement.decode(evidence.decode(path.read_bytes()).end.statement)
    assert isinstance(end.claims, Train)
    return end, end.claims
