"""Simulated GPUs: they answer, they are the same ones the next time, and damage to their keys is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gpu_world
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from palm_torch.cvm import (
    certificates,
    gpu,
    gpu_revocation,
    key_folder,
    rim,
    simulated_gpu,
    simulated_gpu_state,
    simulated_state,
)
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from pathlib import Path

NONCES = tuple(bytes([number]) * 32 for number in range(8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpus") / "keys"
    simulated_gpu.SimulatedGpus(directory=folder)
    return folder


def gpus(folder: Path, count: int = 1) -> simulated_gpu.SimulatedGpus:
    return simulated_gpu.SimulatedGpus(count, directory=folder, clock=lambda: gpu_world.NOW)


def test_all_of_them_answer(folder: Path) -> None:
    machine = gpus(folder, 8)
    anchor = certificates.TrustAnchor.from_certificate(machine.root_certificate(), name="simulated")
    found = [
        gpu.verify_gpu(made.evidence, made.chain, nonce=nonce, anchors=[anchor], now=gpu_world.NOW)
        for made, nonce in zip(machine.collect(NONCES), NONCES, strict=True)
    ]
    assert len({verified.chip_id for verified in found}) == 8
    assert all(verified.simulated for verified in found)
    states = machine.state()
    assert len({state.uuid for state in states}) == 8
    assert all(state.confidential for state in states)
    assert (machine.name, machine.simulated) == ("gpu-simulated", True)


def test_they_are_the_same_the_next_time(folder: Path) -> None:
    first, second = (gpus(folder).collect(NONCES[:1])[0] for _ in range(2))
    assert first.chain == second.chain
    assert gpus(folder).root_certificate() == simulated_gpu_state.read_root(folder)
    assert gpus(folder).state() == gpus(folder).state()


def test_they_live_beside_the_other_simulated_machines() -> None:
    assert simulated_gpu_state.default_directory().parent == simulated_state.default_directory().parent
    root = simulated_gpu.SimulatedGpus().root_certificate()
    assert simulated_gpu_state.read_root(simulated_gpu_state.default_directory()) == root


def test_their_maker_speaks_of_them(folder: Path) -> None:
    machine = gpus(folder, 2)
    endorsements = machine.endorsements()
    roots = (machine.root_certificate(), machine.rim_root_certificate())
    assert roots == (simulated_gpu_state.read_root(folder), simulated_gpu_state.read_rim_root(folder))
    gpu_anchor, rim_anchor = (
        certificates.TrustAnchor.from_certificate(root, name="simulated") for root in roots
    )
    assert gpu_anchor != rim_anchor
    rims = [
        rim.verify_rim(
            item.xml,
            anchors=[rim_anchor],
            now=gpu_world.NOW,
            name=rim.RimName(item.id or "", "evidence"),
        )
        for item in endorsements.rims
    ]
    files = gpu_revocation.RevocationFiles(ocsp=endorsements.ocsp)
    for made, nonce in zip(machine.collect(NONCES[:2]), NONCES, strict=False):
        found = gpu.verify_gpu(
            made.evidence,
            made.chain,
            nonce=nonce,
            anchors=[gpu_anchor],
            now=gpu_world.NOW,
            rims=rims,
            revocation=files,
        )
        assert found.rims is not None
        assert found.caveats == (
            "for which board the VBIOS's reference measurements are: the evidence alone says it",
        )
        assert found.revocation.complete
        assert found.revocation.answers == set(range(5))


@pytest.mark.parametrize("count", [-1, 9])
def test_there_are_no_more(folder: Path, count: int) -> None:
    with pytest.raises(AttesterError, match=f"expected 0 to 8 GPUs, got {count}"):
        gpus(folder, count)


@pytest.mark.parametrize(
    ("nonces", "message"), [((), "expected 1 nonces, got 0"), ((b"x",), "nonces of 32 bytes")]
)
def test_nonces_that_do_not_fit(folder: Path, nonces: Any, message: str) -> None:
    with pytest.raises(AttesterError, match=message):
        gpus(folder).collect(nonces)


def test_no_root(tmp_path: Path) -> None:
    with pytest.raises(AttesterError, match="no root certificate in"):
        simulated_gpu_state.read_root(tmp_path / "none")
    with pytest.raises(AttesterError, match="no root certificate in"):
        simulated_gpu_state.read_rim_root(tmp_path / "none")


def test_no_place_for_the_keys(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AttesterError, match=r"cannot keep its keys in .*; set XDG_STATE_HOME"):
        gpus(tmp_path / "file" / "keys")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("root.key", b"x", "it holds no private key"),
        ("root.key", "P-256", "it holds a key of another kind"),
        ("chip0.key", "P-384", "it does not belong to the key beside it"),
        ("family.der", b"x", "family.der is damaged: "),
        ("rim_root.key", "P-384", "it does not belong to the key beside it"),
        ("rim_product.der", b"x", "rim_product.der is damaged: "),
        ("chip7.chain", b"x", "chip7.chain is damaged: "),
    ],
)
def test_damaged_keys(tmp_path: Path, name: str, data: Any, message: str) -> None:
    gpus(tmp_path / "keys")
    curves = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1}
    if isinstance(data, str):
        data = key_folder.key_bytes(ec.generate_private_key(curves[data]()))
    (tmp_path / "keys" / name).write_bytes(data)
    with pytest.raises(AttesterError, match=message):
        gpus(tmp_path / "keys")
