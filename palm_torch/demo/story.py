"""What the demo does, in order: text, manifests, a challenge, training, seal, verdict, six tamperings."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import safetensors.torch
import torch
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch import request, terminal, verification
from palm_torch.attesting.attested import attested
from palm_torch.commit import manifest_file
from palm_torch.cvm import simulated
from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader
from palm_torch.demo import corpus, loop, policies, tampering
from palm_torch.demo.model import TinyGPT
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from palm_torch.commit.manifest import Manifest
    from palm_torch.evidence import Evidence

SEED: Final = 0
_MARK: Final = ".palm-torch-demo"
"""Marks a folder as ours, so that running the demo again may replace it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big the demo is: one epoch of `steps` batches.

    Attributes:
        steps: Training steps.
        batch: Records per batch.
        validation_records: Records to evaluate on.
        shards: Files of training data.
        workers: Worker processes of the training loader.
    """

    steps: int = 625
    batch: int = 32
    validation_records: int = 128
    shards: int = 4
    workers: int = 2

    @property
    def greatest_loss(self) -> float:
        """What the policy demands of the last loss, in nats per byte; ln 256 ≈ 5.55 is knowing nothing."""
        return 2.8 if self.steps >= _LONG_STEPS else 5.6


FULL: Final = Size()
_LONG_STEPS: Final = 300


def tell(output: Path, *, size: Size = FULL) -> bool:
    """Plays the whole demo.

    Args:
        output: Folder for everything it makes; an earlier demo there is replaced.
        size: How big it is.

    Returns:
        Whether the honest evidence was accepted and every tampering rejected with exactly its error.

    Raises:
        PalmTorchError: If the honest part of the story fails.
    """
    out = terminal.console()
    began = time.monotonic()
    _clear(output)

    _heading(out, 1, "Text that every machine has becomes shards of tokens, and each record gets a digest")
    train, validation = corpus.write(
        output / "corpus",
        train_records=size.steps * size.batch,
        validation_records=size.validation_records,
        shards=size.shards,
    )
    measured = [_measure(out, folder) for folder in (train, validation)]

    _heading(out, 2, "A verifier asks: this is the request that the evidence has to answer")
    asked = request.Request(
        type=request.TYPE,
        nonce=secrets.token_hex(request.NONCE_BYTES),
        operation="train",
        roles=("data", "model"),
        expires=(datetime.now(UTC) + timedelta(days=7)).strftime(request.TIME_FORMAT),
    )
    question = output / "request.json"
    question.write_bytes(asked.encode())
    out.print(f"  {question}  nonce {asked.nonce[:16]}…, to be answered by {asked.expires}")

    _heading(out, 3, 'A small GPT is trained by an ordinary loop inside palm_torch.attested("train")')
    model, evidence = _train(out, train, validation, question, size)
    weights = output / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), weights)
    sealed = evidence.save(output / "train.palm.json")
    out.print(f"  sealed in {sealed} ({sealed.stat().st_size:,} bytes), weights in {weights}")

    _heading(out, 4, "The verifier checks the evidence: offline, without torch, under a policy of its own")
    root = x509.load_der_x509_certificate(simulated.SimulatedTdx().root_certificate())
    pem = root.public_bytes(Encoding.PEM).decode("ascii")
    scene = tampering.Scene(
        folder=output / "tampered",
        train=train,
        validation=validation,
        validation_manifest=measured[1].digest,
        evidence=sealed,
        request=question,
        policy=_policy(output / "policy.yaml", measured, pem, size),
        hardware_policy=_policy(output / "policy.hardware.yaml", measured, None, size),
        simulated_root=pem,
        weights=weights,
    )
    result = verification.verify(
        sealed,
        policy=scene.policy,
        request=question,
        artifacts={"model": weights, "data.dataset1": manifest_file.path_beside(train)},
    )
    terminal.show_result(out, result)
    out.print(f"\n{terminal.verdict(result)}", style="bold yellow")

    _heading(out, 5, "Six tamperings, each really done")
    scene.folder.mkdir()
    outcomes = [tampering.attempt(item, scene) for item in tampering.TAMPERINGS]
    terminal.show_outcomes(
        out,
        [
            (item.tampering.title, item.tampering.expected.__name__, item.error, item.as_expected)
            for item in outcomes
        ],
    )
    caught = sum(item.as_expected for item in outcomes)

    out.print(f"\nAll files are in {output}. To verify once more, or to change something first:", style="dim")
    out.print(
        f"  palm-torch verify {sealed} --policy {scene.policy} \\\n"
        f"    --request {question} --artifact model={weights}"
    )
    good = caught == len(outcomes)
    out.print(
        f"\nThe honest run was accepted; {caught} of {len(outcomes)} tamperings were rejected as they should "
        f"be ({time.monotonic() - began:.0f} s).",
        style="bold green" if good else "bold red",
    )
    return good


def _clear(output: Path) -> None:
    """Makes an empty folder, replacing an earlier demo and nothing else."""
    try:
        if output.exists():
            if not (output / _MARK).is_file() and any(output.iterdir()):
                raise DataError(f"{output}: holds something else than a demo; choose another --output")
            shutil.rmtree(output)
        output.mkdir(parents=True)
        (output / _MARK).touch()
    except OSError as error:
        raise DataError(f"{output}: cannot be used for the demo: {error.strerror}") from error


def _measure(out: Console, folder: Path) -> Manifest:
    with terminal.progress_bytes(f"measuring {folder}") as progress:
        manifest = measure.measure(folder, record_length=corpus.RECORD_TOKENS, progress=progress)
    size_bytes = sum(shard.bytes for shard in manifest.shards)
    out.print(
        f"  {folder}  {size_bytes / 1e6:.1f} MB in {len(manifest.shards)} shards, {manifest.records} "
        f"records, manifest {str(manifest.digest)[:23]}…"
    )
    return manifest


def _train(
    out: Console, train: Path, validation: Path, question: Path, size: Size
) -> tuple[TinyGPT, Evidence]:
    torch.manual_seed(SEED)
    model = TinyGPT(context=corpus.RECORD_TOKENS - 1)
    batches: DataLoader[Any] = DataLoader(
        AttestedMmapDataset(train, targets=True),
        batch_size=size.batch,
        shuffle=True,
        num_workers=size.workers,
    )
    evaluation: DataLoader[Any] = DataLoader(
        AttestedMmapDataset(validation, targets=True), batch_size=size.batch
    )
    losses: list[float] = []
    began = time.monotonic()
    with (
        _threads(1),  # the workers want a core too, and OpenMP threads that wait for one spin
        terminal.progress_steps("training", size.steps) as advance,
        attested("train", request=question, attester="simulated") as run,
    ):

        def progress(done: int, loss: float) -> None:
            losses.append(loss)
            advance(done, f"loss {loss:.3f}")

        loop.train(model, batches, evaluation, steps=size.steps, log=run.log, progress=progress)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    out.print(
        f"  {parameters:,} parameters, {len(losses)} steps with {size.workers} workers in "
        f"{time.monotonic() - began:.0f} s, loss {losses[0]:.2f} → {losses[-1]:.2f}"
    )
    return model, run.evidence


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    """Lets torch compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _policy(path: Path, measured: list[Manifest], simulated_root: str | None, size: Size) -> Path:
    path.write_text(
        policies.text(
            data=[manifest.digest for manifest in measured],
            simulated_root=simulated_root,
            records=measured[0].records,
            greatest_learning_rate=loop.PEAK_LEARNING_RATE,
            greatest_loss=size.greatest_loss,
        ),
        encoding="utf-8",
    )
    return path


def _heading(out: Console, number: int, text: str) -> None:
    out.print(f"\n{number}  {text}", style="bold cyan")
