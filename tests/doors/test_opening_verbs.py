"""Rows of a trained model, shown to a stranger: from an ordinary script to `palm-torch check`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

SCRIPT = """
import sys

import safetensors.torch
import torch
from torch.nn import functional

import palm_torch

class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(512, 256)
        self.norm = torch.nn.LayerNorm(256)
        self.head = torch.nn.Linear(256, 512, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.norm(self.embedding(tokens)))

torch.manual_seed(0)
model = Tied()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
safetensors.torch.save_model(model, "initial.safetensors")
with palm_torch.attested("train", attester="simulated") as run:
    data = palm_torch.AttestedMmapDataset("corpus", record_length=9, targets=True)
    for tokens, targets in palm_torch.DataLoader(data, batch_size=4):
        functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
safetensors.torch.save_model(model, "model.safetensors")
both = {name: tensor.clone() for name, tensor in model.state_dict().items()}
safetensors.torch.save_file(both, "both.safetensors")
run.evidence.save("train.palm.json")
"""

LIGHT = """
import sys
from palm_torch import cli
code = cli.main(sys.argv[1:])
print(code, *[name for name in ("torch", "numpy", "gmpy2", "ckzg") if name in sys.modules])
"""


COMMITTED = """
import sys

import torch

import palm_torch

torch.manual_seed(0)
model = torch.nn.Sequential(*[torch.nn.Linear(256, 256) for _ in range(4)])
with palm_torch.commit(model, layers=["2"], scheme=sys.argv[1], keep="memory") as proof, torch.no_grad():
    hidden = [model(torch.randn(2, 5, 256)), model(torch.randn(2, 1, 256))]
proof.open("2", tokens=5, batch=1, channels=slice(0, 8)).save("t.palm-opening.json")
proof.save("t.palm-trace.json")
print(proof.root)
"""


class Shell:
    """Runs commands in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def palm(self, *words: str, code: int = 0) -> str:
        return self("-m", "palm_torch", *words, code=code)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A folder in which somebody trained a model with a tied head, with the policy of whoever asks."""
    made = Shell(tmp_path_factory.mktemp("opened"))
    corpus = made.folder / "corpus"
    corpus.mkdir()
    np.random.default_rng(0).integers(0, 512, 9 * 16, dtype=np.uint16).tofile(corpus / "a.bin")
    made.palm("measure", "corpus", "--record-length", "9")
    (made.folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    made("script.py")
    (made.folder / "train.simulated.palm.json").rename(made.folder / "train.palm.json")
    root = Path(os.environ["XDG_STATE_HOME"]) / "palm-torch" / "simulated" / "root.der"
    made("-c", PEM, str(root))
    made.palm("policy", "init", "train.palm.json", "--simulated-root", "root.pem", "-o", "policy.yaml")
    return made


PEM = """
import ssl, sys, pathlib
pathlib.Path("root.pem").write_text(ssl.DER_cert_to_PEM_cert(pathlib.Path(sys.argv[1]).read_bytes()))
"""


def last(said: str) -> str:
    return said.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_row_of_a_tied_head_is_of_the_model_that_was_trained(shell: Shell) -> None:
    said = shell.palm("commit", "model.safetensors", "--like", "train.palm.json")
    assert "it is the model of train.palm.json" in said
    opening = (
        "--tensor",
        "head.weight",
        "--rows",
        "3:5",
        "--like",
        "train.palm.json",
        "-o",
        "o.palm-opening.json",
    )
    for stored in ("model.safetensors", "both.safetensors"):
        said = shell.palm("open", stored, *opening)
        assert "'embedding.weight' (also 'head.weight'), float32 [512, 256]" in said
    evidence = ("--evidence", "train.palm.json", "--policy", "policy.yaml")
    expected = ("--tensor", "head.weight", "--rows", "3:5", "--cols", "0:256")
    said = shell.palm("check", "o.palm-opening.json", *evidence, *expected, "--values", "rows.safetensors")
    assert last(said).startswith(
        "PROVEN: these are rows 3:5, columns 0:256 of 'embedding.weight' in the model that"
    )
    shown = safetensors.torch.load_file(shell.folder / "rows.safetensors")["embedding.weight"]
    trained = safetensors.torch.load_file(shell.folder / "both.safetensors")["head.weight"]
    assert torch.equal(shown, trained[3:5])
    began = safetensors.torch.load_file(shell.folder / "initial.safetensors")
    assert not torch.equal(
        trained, next(tensor for tensor in began.values() if tensor.shape == trained.shape)
    )


@pytest.mark.slow
def test_the_weights_before_training_are_the_other_role(shell: Shell) -> None:
    opening = ("--tensor", "norm.weight", "--like", "train.palm.json", "-o", "i.palm-opening.json")
    shell.palm("open", "initial.safetensors", *opening)
    check = ("check", "i.palm-opening.json", "--evidence", "train.palm.json", "--policy", "policy.yaml")
    assert "--role initial" in last(shell.palm(*check, code=1))
    assert "in the model it began with" in last(shell.palm(*check, "--role", "initial"))


@pytest.mark.slow
def test_without_the_evidence_the_names_in_the_file_count(shell: Shell) -> None:
    said = shell.palm("commit", "model.safetensors")
    known = shell.palm("commit", "model.safetensors", "--like", "train.palm.json")
    root, other = (text.split("root      ")[1].split(",")[0] for text in (said, known))
    assert root != other
    shell.palm("open", "model.safetensors", "--tensor", "norm.weight", "-o", "n.palm-opening.json")
    assert "PROVEN" in last(shell.palm("check", "n.palm-opening.json", "--root", root))
    said = shell.palm("check", "n.palm-opening.json", "--root", other, code=1)
    assert last(said).startswith(
        "REJECTED BindingError: opening of 'norm.weight': expected it under the root"
    )
    evidence = ("--evidence", "train.palm.json", "--policy", "policy.yaml")
    said = shell.palm("check", "n.palm-opening.json", *evidence, code=1)
    assert "expected it under the root of model, palm-sha256:" in last(said)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_checking_needs_neither_torch_nor_numpy(shell: Shell, scheme: str) -> None:
    words = ("model.safetensors", "--scheme", scheme)
    shell.palm("commit", *words, "-o", "list.json")
    shell.palm("open", *words, "--tensor", "norm.weight", "--like", "list.json", "-o", "l.palm-opening.json")
    said = shell.palm("commit", *words)
    root = said.split("root      ")[1].split(",")[0]
    said = shell("-c", LIGHT, "check", "l.palm-opening.json", "--root", root)
    assert last(said).split() == ["0"]


@pytest.mark.slow
def test_checking_against_evidence_needs_neither_torch_nor_numpy(shell: Shell) -> None:
    opening = ("--tensor", "norm.weight", "--like", "train.palm.json", "-o", "e.palm-opening.json")
    shell.palm("open", "model.safetensors", *opening)
    evidence = ("--evidence", "train.palm.json", "--policy", "policy.yaml")
    assert last(shell("-c", LIGHT, "check", "e.palm-opening.json", *evidence)).split() == ["0"]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_checking_a_trace_needs_neither_torch_nor_numpy(shell: Shell, scheme: str) -> None:
    root = last(shell("-c", COMMITTED, scheme))
    words = ("check", "t.palm-opening.json", "--context", "t.palm-trace.json", "--root", root)
    expected = ("--site", "2", "--tokens", "5", "--batch", "1", "--channels", "0:8")
    said = shell.palm(*words, *expected, "--values", "t.safetensors")
    assert last(said) == (
        "PROVEN: these are batch 1:2, tokens 5:6, channels 0:8 of 2 in the run with this root"
    )
    assert safetensors.torch.load_file(shell.folder / "t.safetensors")["2"].shape == (1, 1, 8)
    assert last(shell("-c", LIGHT, *words, *expected)).split() == ["0"]
    assert last(shell("-c", LIGHT, "inspect", "t.palm-trace.json")).split() == ["0"]
    shell.palm(*words, "--tokens", "4", code=1)
    shell.palm("inspect", "t.palm-opening.json")


@pytest.mark.slow
def test_twin_what_is_heavy_would_be_seen(shell: Shell) -> None:
    heavy = "import numpy\n" + LIGHT
    assert "numpy" in last(shell("-c", heavy, "check", "none", "--root", "00" * 32)).split()
