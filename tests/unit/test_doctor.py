"""The whole diagnosis: findings in order, the attester that would be taken, and the command."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from fake_kernel import machine
from fake_nvml import FakeNvml

from palm_torch import cli, doctor
from palm_torch.cvm import measurements
from palm_torch.machine import software
from palm_torch.machine.finding import Finding

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [
    "python",
    "kernel",
    "processor",
    "Intel TDX device",
    "AMD SEV-SNP device",
    "reports",
    "runtime register",
    "session lock",
    "boot log",
    "register's account",
    "GPU",
    "libraries",
    "extra torch",
    "extra kzg",
    "extra audit",
    "extra data",
    "extra hf",
    "extra resume",
    "extra nvidia",
    "simulated TEE",
]


def examine(folder: Path, **model: Any) -> doctor.Diagnosis:
    with machine("stand-in", folder, **model) as made:
        return doctor.examine(root=made.root, files=made.files, installed=lambda _: True, load_nvml=FakeNvml)


@pytest.mark.parametrize(("provider", "kind"), [("tdx_guest", "tdx"), ("sev_guest", "snp")])
def test_hardware_that_can_be_used(provider: str, kind: Any, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / software.NVIDIA_DEVICE).touch()
    found = examine(tmp_path, provider=provider)
    assert [finding.name for finding in found.findings] == NAMES
    assert found.attester == kind
    assert found.usable == {kind, "gpu"}
    assert found.to_json()["usable"] == [kind, "gpu"]
    assert (
        found.gpus
        == "of each (2 × NVIDIA H100 80GB HBM3, driver 550.90.07: confidential computing is on, ready)"
    )
    assert found.to_json()["findings"][0]["name"] == "python"  # type: ignore[index, call-overload]


def test_no_hardware(tmp_path: Path) -> None:
    found = examine(tmp_path, provider=None, register=None, configfs=False)
    assert (found.attester, found.usable) == ("simulated", frozenset())
    assert "its evidence proves nothing" in found.why
    assert found.gpus == "none (no NVIDIA driver: /dev/nvidiactl is not there)"


def test_hardware_that_cannot_be_asked_is_no_simulation(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/tdx_guest").touch()
    found = examine(tmp_path, provider=None, register=None)
    assert (found.attester, found.usable) == ("none", frozenset())
    (tmp_path / software.NVIDIA_DEVICE).touch()
    found = examine(tmp_path, provider=None, register=None)
    assert found.gpus.startswith("none (no attester to seal it, but 2 × NVIDIA H100")
    assert "never falls back to simulation" in found.why


def test_what_keeps_a_tdx_guest_from_quoting(tmp_path: Path) -> None:
    found = examine(tmp_path, boot_log=b"log", failures={"open CCEL": [errno.EACCES]})
    assert found.attester == "none"
    assert found.why.startswith("this is a TDX guest, but boot log: ")
    lock = tmp_path / measurements.STATE / measurements.LOCK_NAME
    lock.parent.mkdir(parents=True)
    lock.touch()
    status = lock.stat()
    held = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/locks").write_text(f"1: FLOCK ADVISORY WRITE 4711 {held} 0 EOF\n", encoding="ascii")
    found = examine(tmp_path)
    assert (found.attester, found.usable) == ("none", frozenset())
    assert "session lock: process 4711" in found.why
    assert examine(tmp_path, register=None).attester == "tdx"  # needs no lock
    assert examine(tmp_path, provider="sev_guest").attester == "snp"


def test_a_register_that_nothing_explains_keeps_a_tdx_guest_from_quoting(tmp_path: Path) -> None:
    found = examine(tmp_path, register=b"\x01" * 48)
    assert (found.attester, found.usable) == ("none", frozenset())
    assert found.why.startswith("this is a TDX guest, but register's account: RTMR[3] holds 0101")
    assert examine(tmp_path, register=b"\x01" * 48, register_mode=0o444).attester == "none"


def test_no_hardware_and_no_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").symlink_to("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = examine(tmp_path / "root", provider=None, register=None, configfs=False)
    assert found.attester == "none"
    assert "cannot be looked at" in found.why


def test_this_machine_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == cli.ACCEPTED
    said = capsys.readouterr().out.splitlines()
    assert [line[9:29].strip() for line in said[: len(NAMES)]] == NAMES
    assert said[-2].startswith("attested() would take: ")
    assert said[-1].startswith("evidence of GPUs: ")
    assert cli.main(["doctor", "--json"]) == cli.ACCEPTED
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"attester", "why", "gpus", "usable", "findings"}
    assert [finding["name"] for finding in found["findings"]] == NAMES


def sick(**_: Any) -> doctor.Diagnosis:
    return doctor.Diagnosis(
        findings=(Finding("kernel", "problem", "line\nbreak \x1b[31m", "do\tthis"),),
        attester="simulated",
        why="because\n",
        gpus="none\t",
        usable=frozenset({"gpu"}),
    )


def test_a_requirement_decides_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "examine", sick)
    assert cli.main(["doctor", "--require", "gpu"]) == cli.ACCEPTED
    said = capsys.readouterr().out
    assert said == (
        "problem  kernel              line\\nbreak \\x1b[31m; what to do: do\\tthis\n\n"
        "attested() would take: simulated (because\\n)\n"
        "evidence of GPUs: none\\t\n"
    )
    assert cli.main(["doctor", "--require", "tdx", "--require", "gpu"]) == cli.REJECTED
    assert capsys.readouterr().err == "required and not usable here: tdx\n"
    assert cli.main(["doctor", "--require", "sgx"]) == cli.USAGE
