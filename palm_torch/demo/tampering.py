"""Six ways to cheat, each really done, each with the one error that must come of it."""

from __future__ import annotations

import dataclasses
import json
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import safetensors.torch
import torch.utils.data

from palm_torch import evidence, request, verification
from palm_torch.attesting.attested import attested
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader
from palm_torch.demo import loop, policies
from palm_torch.demo.model import TinyGPT
from palm_torch.digest import Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import (
    ArtifactError,
    BindingError,
    ClaimError,
    FreshnessError,
    PalmTorchError,
    RecordError,
    TrustAnchorError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Attempt: TypeAlias = Callable[["Scene"], None]

LEFT_OUT: Final = 17
"""The record that the second tampering leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The honest run that is tampered with.

    Attributes:
        folder: Where tampered files go.
        train: Training data, with its manifest.
        validation: Validation data, with its manifest.
        validation_manifest: Digest of that manifest.
        evidence: The sealed evidence.
        request: The request it answers.
        policy: The policy under which it is accepted.
        hardware_policy: The same policy without the simulated root.
        simulated_root: Root certificate of the simulated TEE, PEM.
        weights: The trained weights.
    """

    folder: Path
    train: Path
    validation: Path
    validation_manifest: Digest
    evidence: Path
    request: Path
    policy: Path
    hardware_policy: Path
    simulated_root: str
    weights: Path


class Tampering(NamedTuple):
    """One way to cheat: what is done, what must come of it, and doing it."""

    title: str
    expected: type[PalmTorchError]
    attempt: Attempt


class Outcome(NamedTuple):
    """What came of a tampering; `error` is None when nobody noticed."""

    tampering: Tampering
    error: PalmTorchError | None

    @property
    def as_expected(self) -> bool:
        """Whether exactly the expected class was raised, not a relative of it."""
        return type(self.error) is self.tampering.expected


TAMPERINGS: Final[list[Tampering]] = []


def attempt(tampering: Tampering, scene: Scene) -> Outcome:
    """Cheats, and returns what came of it."""
    try:
        tampering.attempt(scene)
    except PalmTorchError as error:
        return Outcome(tampering, error)
    return Outcome(tampering, None)


def _tampering(title: str, expected: type[PalmTorchError]) -> Callable[[Attempt], Attempt]:
    def register(function: Attempt) -> Attempt:
        TAMPERINGS.append(Tampering(title, expected, function))
        return function

    return register


@_tampering("a byte of a shard is flipped before it is read", RecordError)
def flip_a_byte(scene: Scene) -> None:
    """Copies the training data, flips one bit in the middle of a shard, and trains on the copy."""
    copy = scene.folder / "flipped-byte"
    shutil.copytree(scene.train, copy)
    with (copy / "shard-0000.bin").open("r+b") as shard:
        middle = shard.seek(0, 2) // 2
        shard.seek(middle)
        (byte,) = shard.read(1)
        shard.seek(middle)
        shard.write(bytes([byte ^ 1]))
    data = AttestedMmapDataset(copy, targets=True)
    with attested("train", attester="simulated"):
        for _ in DataLoader(data, batch_size=64):
            pass


@_tampering("a record is left out of the epoch", ClaimError)
def leave_a_record_out(scene: Scene) -> None:
    """Trains one epoch on a data set but for one record, under a policy that demands all of them."""
    data = AttestedMmapDataset(scene.validation, targets=True)
    kept = torch.utils.data.Subset(data, [index for index in range(len(data)) if index != LEFT_OUT])
    batches: DataLoader[Any] = DataLoader(kept, batch_size=32, shuffle=True)
    model = TinyGPT(channels=16, layers=1)
    with attested("train", attester="simulated") as run:
        loop.train(
            model,
            batches,
            DataLoader(data, batch_size=64),
            steps=len(batches),
            log=run.log,
            progress=lambda *_: None,
        )
    policy = scene.folder / "whole-epoch.policy.yaml"
    policy.write_text(
        policies.text(
            data=[scene.validation_manifest],
            simulated_root=scene.simulated_root,
            records=1,
            greatest_learning_rate=loop.PEAK_LEARNING_RATE,
            greatest_loss=10,
        ),
        encoding="utf-8",
    )
    verification.verify(run.evidence.save(scene.folder / "record-left-out.palm.json"), policy=policy)


@_tampering("a learning rate is edited in the statement", BindingError)
def edit_a_learning_rate(scene: Scene) -> None:
    """Rewrites the learning rate in the sealed statement and puts the bundle together again."""
    bundle = evidence.decode(scene.evidence.read_bytes())
    document = json.loads(bundle.end.statement)
    configuration = document["predicate"]["property"]["configuration"]["value"]
    rate = configuration["optimizers"][0]["groups"][0]["options"]["lr"]
    rate["greatest"] = rate["greatest"] / 2
    edited = dataclasses.replace(bundle, end=dataclasses.replace(bundle.end, statement=encode_json(document)))
    path = scene.folder / "edited-learning-rate.simulated.palm.json"
    path.write_bytes(edited.encode())
    verification.verify(path, policy=scene.policy, request=scene.request)


@_tampering("the weights are swapped after training", ArtifactError)
def swap_the_weights(scene: Scene) -> None:
    """Hands over a model file in which one weight is another."""
    tensors = safetensors.torch.load_file(scene.weights)
    tensors["head.weight"][0, 0] += 1e-3
    path = scene.folder / "swapped.safetensors"
    safetensors.torch.save_file(tensors, path)
    verification.verify(scene.evidence, policy=scene.policy, request=scene.request, artifacts={"model": path})


@_tampering("old evidence is shown for a new challenge", FreshnessError)
def replay(scene: Scene) -> None:
    """Answers a verifier's new request with the evidence made for the old one."""
    asked = request.decode(scene.request.read_bytes())
    new = dataclasses.replace(asked, nonce=secrets.token_hex(request.NONCE_BYTES))
    path = scene.folder / "new-request.json"
    path.write_bytes(new.encode())
    verification.verify(scene.evidence, policy=scene.policy, request=path)


@_tampering("simulated evidence is shown to a policy for hardware", TrustAnchorError)
def pass_simulation_off_as_hardware(scene: Scene) -> None:
    """Verifies under a policy that admits no root but Intel's."""
    verification.verify(scene.evidence, policy=scene.hardware_policy, request=scene.request)
