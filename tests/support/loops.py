"""Small training runs: a corpus, a model, and their evidence checked by the production verifier."""

from __future__ import annotations

import contextlib
import gc
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from torch import nn
from torch.nn import functional
from torch.utils.data import _utils

from palm_torch import evidence, statement
from palm_torch.appraisal import verifier
from palm_torch.commit import weights_root
from palm_torch.cvm import quote, simulated
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.measure import measure
from palm_torch.policies import policy
from palm_torch.properties import Train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from palm_torch.attesting.session import Session
    from palm_torch.digest import Digest
    from palm_torch.result import AttestationResult
    from palm_torch.roles import Delivered
    from palm_torch.statement import Statement

VOCABULARY = 16
LENGTH = 9
RECORDS = 24

PATIENCE_S = 0.5
"""How long torch waits for the worker of a loader that was given up halfway; 5 s unless it is told."""


class Net(nn.Module):
    """A language model of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Embedding(VOCABULARY, 8)
        self.dec = nn.Linear(8, VOCABULARY)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dec(self.enc(x))


class Checked(NamedTuple):
    """Evidence that was saved, read back and accepted."""

    path: Path
    end: Statement
    claims: Train
    result: AttestationResult

    def uses(self, name: str = "dataset1") -> dict[str, tuple[int, int, int, int]]:
        """Returns records delivered, distinct, least and greatest multiplicity by use."""
        return {use: _numbers(found) for use, found in self.claims.data[name].uses.items()}

    def names(self) -> list[str]:
        return [tensor.name for tensor in self.claims.model.tensors]


@contextlib.contextmanager
def fresh_process() -> Iterator[None]:
    """Hides what other tests left alive, as if the process had just begun: modules are found faster."""
    gc.collect()
    gc.freeze()  # for good: to thaw them would slow down every look of the tests that follow
    with mock.patch.object(_utils, "MP_STATUS_CHECK_INTERVAL", PATIENCE_S):
        yield
        gc.collect()


def corpus(folder: Path, *, records: int = RECORDS, shards: int = 2, seed: int = 0) -> Path:
    """Writes shards of tokens and measures them."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for number in range(shards):
        tokens = rng.integers(0, VOCABULARY, LENGTH * (records // shards), dtype=np.uint16)
        tokens.tofile(folder / f"shard{number}.bin")
    measure(folder, record_length=LENGTH)
    return folder


def opened(folder: Path) -> AttestedMmapDataset:
    return AttestedMmapDataset(folder, targets=True)


def loss_of(model: Callable[[torch.Tensor], torch.Tensor], batch: Any) -> torch.Tensor:
    x, y = batch
    return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


def train(
    model: Callable[[torch.Tensor], torch.Tensor], optimizer: torch.optim.Optimizer, batches: Iterable[Any]
) -> list[float]:
    """The ordinary loop."""
    losses = []
    for batch in batches:
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def policy_text(run: Session, **claims: Any) -> bytes:
    """Returns a policy for the simulated machine: any data, any initial weights, unless said otherwise."""
    td = quote.parse_quote(run.evidence.bundle.end.quote).td_report
    root = x509.load_der_x509_certificate(simulated.SimulatedTdx().root_certificate())
    registers = {name: [getattr(td, name).hex()] for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2")}
    required = {"property": "train", "data": ["any"], "initial": ["any"], "tokenizer": ["none"]}
    document = {
        "version": 1,
        "platform": {"tdx": registers, "simulated_root": root.public_bytes(Encoding.PEM).decode()},
        "code": {"unreviewed": True},
        "claims": {**required, **claims},
    }
    return yaml.safe_dump(document).encode()


def check(
    run: Session,
    folder: Path,
    *,
    challenge: bytes | None = None,
    files: Mapping[str, Path] | None = None,
    **claims: Any,
) -> Checked:
    """Saves a run's evidence, lets the verifier accept it, and returns what it says."""
    path = run.evidence.save(folder / f"{run.run_id}.palm.json")
    data = path.read_bytes()
    rules = policy.parse(policy_text(run, **claims))
    result = verifier.verify(data, policy=rules, at=datetime.now(UTC), challenge=challenge, files=files)
    end = statement.decode(evidence.decode(data).end.statement)
    assert isinstance(end.claims, Train)
    return Checked(path, end, end.claims, result)


def root_of(
    state: Mapping[str, torch.Tensor], aliases: Mapping[str, tuple[str, ...]] | None = None
) -> Digest:
    """Computes a weights root from NumPy's bytes, without anything that measures a live model."""
    pairs = []
    for name, tensor in state.items():
        spec = weights_root.TensorSpec(
            name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), (aliases or {}).get(name, ())
        )
        pairs.append((spec, weights_root.tensor_root(spec, tensor.detach().numpy().tobytes())))
    return weights_root.weights_root(pairs)


def copy_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Returns the state of a module, cloned."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _numbers(found: Delivered) -> tuple[int, int, int, int]:
    assert found.counts is not None
    return found.delivered, found.counts.distinct, found.counts.least, found.counts.greatest
