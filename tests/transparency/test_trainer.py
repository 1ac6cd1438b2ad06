"""The Trainer of transformers inside a session: what it trained on, and that the session changed nothing."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.utils.data

import palm_torch
from palm_torch import statement
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.measure import measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.properties import Train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SCRIPT = Path(__file__).parents[1] / "scripts" / "hf_trainer.py"

LENGTH, TRAIN, EVAL, BATCH = 16, 50, 11, 4


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("hf_trainer", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    folders = []
    for name, records in (("train", TRAIN), ("eval", EVAL)):
        folder = tmp_path_factory.mktemp(name)
        rng.integers(0, 32, LENGTH * records, dtype=np.uint16).tofile(folder / "tokens.bin")
        measure(folder, record_length=LENGTH)
        folders.append(folder)
    return folders[0], folders[1]


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    yield
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class Plain(torch.utils.data.Dataset[torch.Tensor]):
    """The records of a folder, read without palm-torch."""

    def __init__(self, folder: Path) -> None:
        self.rows = np.fromfile(folder / "tokens.bin", dtype=np.uint16).reshape(-1, LENGTH)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.rows[index].astype(np.int64))


class Ran(NamedTuple):
    losses: list[float]
    weights: dict[str, torch.Tensor]
    generator: torch.Tensor


def run(script: Any, data: tuple[Any, Any], output: Path, options: dict[str, Any], resume: Any = None) -> Ran:
    trainer = script.build(*data, {"output_dir": str(output), **options})
    trainer.train(resume_from_checkpoint=resume)
    losses = [row.get("loss", row.get("eval_loss")) for row in trainer.state.log_history]
    return Ran(losses, trainer.model.state_dict(), torch.get_rng_state())


def uses(claims: Train, name: str) -> dict[str, tuple[int, int, int]]:
    found = claims.data[name].uses.items()
    return {use: (one.delivered, one.counts.least, one.counts.greatest) for use, one in found if one.counts}


def claims_of(run: Any) -> Train:
    claims = statement.decode(run.evidence.bundle.end.statement).claims
    assert isinstance(claims, palm_torch.properties.Train)
    return claims


WHOLE_EPOCHS: dict[str, Any] = {"num_train_epochs": 2, "eval_strategy": "epoch", "save_strategy": "no"}
STEPS: dict[str, Any] = {
    "max_steps": 5,
    "gradient_accumulation_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_steps": 2,
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [WHOLE_EPOCHS, STEPS], ids=["epochs", "steps"])
def test_trainer_is_counted_and_unchanged(
    script: Any, corpora: tuple[Path, Path], tmp_path: Path, options: dict[str, Any], workers: int
) -> None:
    options = {**options, "dataloader_num_workers": workers}
    plain = run(script, tuple(map(Plain, corpora)), tmp_path / "plain", options)
    train, evaluation = map(AttestedMmapDataset, corpora)
    with palm_torch.attested("train") as attested:
        measured = run(script, (train, evaluation), tmp_path / "attested", options)
    assert measured.losses == plain.losses
    assert torch.equal(measured.generator, plain.generator)
    for name, tensor in plain.weights.items():
        assert torch.equal(measured.weights[name], tensor)
    claims = claims_of(attested)
    if "num_train_epochs" in options:
        assert claims.steps.taken == 2 * math.ceil(TRAIN / BATCH)
        assert uses(claims, "dataset1") == {"train": (2 * TRAIN, 2, 2)}
        assert uses(claims, "dataset2") == {"eval": (2 * EVAL, 2, 2)}
    else:
        assert claims.steps.taken == 5
        assert uses(claims, "dataset1") == {"train": (5 * 2 * BATCH, 0, 1)}
        assert uses(claims, "dataset2") == {"eval": (3 * EVAL, 3, 3)}  # the last step is evaluated, too


def test_trainer_resumes_where_its_checkpoint_was(
    script: Any, corpora: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its own resuming, in a session of its own: the batches before the checkpoint are not read again."""
    options = {"max_steps": 8, "save_steps": 5, "eval_strategy": "no"}
    train, evaluation = map(AttestedMmapDataset, corpora)
    whole = run(script, (train, evaluation), tmp_path / "out", options)
    with palm_torch.attested("train") as attested:
        rest = run(script, (train, evaluation), tmp_path / "out", options, str(tmp_path / "out/checkpoint-5"))
    claims = claims_of(attested)
    assert rest.losses[-1] == whole.losses[-1]
    assert claims.steps.taken == 3
    assert uses(claims, "dataset1") == {"train": (3 * BATCH, 0, 1)}
    for name, tensor in whole.weights.items():
        assert torch.equal(rest.weights[name], tensor)


def test_evaluation_before_the_first_step(script: Any, corpora: tuple[Path, Path], tmp_path: Path) -> None:
    options = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True}
    train, evaluation = map(AttestedMmapDataset, corpora)
    with palm_torch.attested("train") as attested:
        run(script, (train, evaluation), tmp_path, {**options, "save_strategy": "no"})
    claims = claims_of(attested)
    assert uses(claims, "dataset1") == {"eval": (3 * EVAL, 3, 3)}
    assert uses(claims, "dataset2") == {"train": (2 * BATCH, 0, 1)}
