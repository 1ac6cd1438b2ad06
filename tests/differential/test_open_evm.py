"""What `palm-torch open --evm` prints, given to a restatement of Ethereum's precompile on its own library."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import ckzg
import pytest
import weights_at_hand as at_hand

from palm_torch import cli
from palm_torch.commit import proving

if TYPE_CHECKING:
    from pathlib import Path


def accepts(data: bytes) -> bool:
    """Says what ``point_evaluation_precompile`` of EIP-4844 says."""
    versioned_hash, z, y, commitment, proof = data[:32], data[32:64], data[64:96], data[96:144], data[144:]
    if len(data) != 192 or b"\x01" + hashlib.sha256(commitment).digest()[1:] != versioned_hash:
        return False
    try:
        return bool(ckzg.verify_kzg_proof(commitment, z, y, proof, proving.settings()))
    except RuntimeError:  # a number beyond the field, or no point
        return False


@pytest.fixture
def printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[bytes]:
    monkeypatch.chdir(tmp_path)
    at_hand.write(tmp_path / "m.safetensors")
    words = (
        "open",
        "m.safetensors",
        "--scheme",
        "kzg",
        "--tensor",
        "body.weight",
        "--rows",
        "64:66",
        "--evm",
    )
    assert cli.main(words) == cli.ACCEPTED
    lines = capsys.readouterr().out.splitlines()
    return [bytes.fromhex(line.split()[1]) for line in lines if line.startswith("evm ")]


def test_a_contract_accepts_every_level(printed: list[bytes]) -> None:
    assert len(printed) == 2
    assert all(map(accepts, printed))


def test_a_contract_refuses_a_changed_one(printed: list[bytes]) -> None:
    for line in printed:
        for at in (5, 63, 95):
            assert not accepts(line[:at] + bytes((line[at] ^ 1,)) + line[at + 1 :])
        assert not accepts(line[:-1])
