"""What the specification's chapter on GPUs shows in full is what the code makes."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

import pytest

from palm_torch.cvm import (
    binding,
    certificates,
    gpu_rules,
    gpu_state,
    nras_claims,
    simulated_gpu,
    spdm,
)

CHAPTERS = Path(__file__).parents[3] / "docs" / "spec"
PAGE = (CHAPTERS / "35-gpu.md").read_text(encoding="utf-8")
CONTEXT = bytes.fromhex("8b50e3aec9d9c65fc6b40c278a3e7061d5165603af6db41c2f914d5af98fe36d")


def test_the_worked_example_goes_on_from_the_other_chapters() -> None:
    assert f"| `ctx`, challenged | `{CONTEXT.hex()}` |" in (CHAPTERS / "30-hardware.md").read_text("utf-8")
    seal = binding.gpu_hash([(b"EVIDENCE", b"CHAIN")])
    for shown in (
        f"| `gpu_nonce_0` | `{binding.gpu_nonce(CONTEXT, 0).hex()}` |",
        f"| `gpu_nonce_1` | `{binding.gpu_nonce(CONTEXT, 1).hex()}` |",
        f"chain the 5 bytes `CHAIN` | `{seal.hex()}` |",
        f"| `report_data` with it | `{binding.report_data(CONTEXT, seal).hex()}` |",
    ):
        assert shown in PAGE


def test_the_report_shown_is_a_simulated_gpus() -> None:
    signed = spdm.encode_signed(
        nonce=binding.gpu_nonce(CONTEXT, 0),
        responder_nonce=b"\x22" * 32,
        measurements=simulated_gpu.MEASUREMENTS,
        opaque=simulated_gpu.OPAQUE,
    )
    assert f"{len(signed)} bytes before the signature" in PAGE
    assert f"`{hashlib.sha384(signed).hexdigest()}`" in PAGE
    first, last = (
        bytes.fromhex(block) for block in re.findall(r"```text\n((?:[0-9a-f]{2}[ \n]+)+)```", PAGE)
    )
    opaque = 45 + 55 * 64 + 32
    assert (first, last) == (signed[: len(first)], signed[opaque:])
    listed = ", ".join(map(str, [*simulated_gpu.OPAQUE][:-1]))
    assert f"its ten fields, {listed} and 36" in PAGE
    assert len(simulated_gpu.OPAQUE) == 10


@pytest.mark.parametrize("anchor", [certificates.NVIDIA_DEVICE_ROOT, certificates.NVIDIA_CORIM_ROOT])
def test_the_anchors_shown_are_the_pinned_ones(anchor: certificates.TrustAnchor) -> None:
    digests = f"`{anchor.certificate_sha256.hex()}` | `{anchor.spki_sha256.hex()}` |"
    assert re.search(f"{re.escape(anchor.name)}.*{digests}", PAGE)


@pytest.mark.parametrize("shown", [gpu_rules.GpuRules, gpu_state.GpuState])
def test_every_rule_and_every_state_is_in_a_table(shown: type) -> None:
    first_columns = re.findall(r"(?m)^\| (`[a-z_`, ]+) \|", PAGE)
    columns = set(re.findall(r"`([a-z_]+)`", " ".join(first_columns)))
    assert [field.name for field in dataclasses.fields(shown) if field.name not in columns] == []


def test_the_service_makes_as_many_checks_as_are_asked_for() -> None:
    assert len(nras_claims.REQUIRED) == 16
    assert "the sixteen checks" in PAGE
