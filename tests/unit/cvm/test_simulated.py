"""The simulated machine: what it signs, where its keys live, and when it is chosen."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from palm_torch.cvm import (
    appraisal,
    attester,
    certificates,
    simulated,
    simulated_authority,
    simulated_state,
    tdx,
)
from palm_torch.errors import AttesterError

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "palm-torch" / "simulated"


def machine(directory: Path) -> simulated.SimulatedTdx:
    return simulated.SimulatedTdx(directory=directory, clock=lambda: NOW)


def test_its_quotes_pass_the_production_verifier(directory: Path, rules: appraisal.TdxRules) -> None:
    tee: attester.Attester = machine(directory)
    anchor = certificates.TrustAnchor.from_certificate(machine(directory).root_certificate(), name="sim")
    endorsements = tee.collateral()
    assert endorsements is not None
    verified = tdx.verify_quote(tee.quote(bytes(range(64))), endorsements, anchors=[anchor], now=NOW)
    appraisal.appraise(verified, rules)
    assert verified.simulated
    assert verified.quote.td_report.report_data == bytes(range(64))
    assert (tee.name, tee.simulated, tee.runtime_register) == ("tdx-simulated", True, "rtmr3")


def test_an_older_quote_is_verified_with_newer_collateral(directory: Path) -> None:
    raw = machine(directory).quote(bytes(64))
    later = simulated.SimulatedTdx(directory=directory, clock=lambda: NOW + timedelta(days=100))
    anchor = certificates.TrustAnchor.from_certificate(later.root_certificate(), name="sim")
    tdx.verify_quote(raw, later.collateral(), anchors=[anchor], now=NOW + timedelta(days=100))


def test_the_register_is_extended_as_the_hardware_does(directory: Path) -> None:
    tee = machine(directory)
    assert tee.register() == bytes(48)
    digest = hashlib.sha384(b"event").digest()
    tee.extend(digest)
    expected = hashlib.sha384(bytes(48) + digest).digest()
    assert tee.register() == expected
    assert expected in tee.quote(bytes(64))
    assert machine(directory).register() == bytes(48)


def test_sizes_are_checked(directory: Path) -> None:
    tee = machine(directory)
    with pytest.raises(AttesterError, match="expected 64 bytes, got 63"):
        tee.quote(bytes(63))
    with pytest.raises(AttesterError, match="48 bytes, got 32"):
        tee.extend(bytes(32))


def test_keys_are_private_and_kept(directory: Path) -> None:
    root = machine(directory).root_certificate()
    assert machine(directory).root_certificate() == root == simulated_state.read_root(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    assert [path.name for path in directory.parent.iterdir()] == ["simulated"]
    assert b"SIMULATED - NOT A TEE" in root


def test_the_state_folder_follows_the_xdg_specification(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert simulated_state.default_directory() == tmp_path / "palm-torch" / "simulated"
    monkeypatch.setenv("HOME", "/home/someone")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        expected = Path("/home/someone/.local/state/palm-torch/simulated")
        assert simulated_state.default_directory() == expected

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(simulated_state.Path, "home", no_home)
    with pytest.raises(AttesterError, match="set XDG_STATE_HOME"):
        simulated_state.default_directory()


@pytest.mark.parametrize("name", ["", "root.key", "root.der"])
def test_permissions_open_to_others_are_refused(directory: Path, name: str) -> None:
    machine(directory)
    (directory / name).chmod(0o750 if not name else 0o640)
    with pytest.raises(AttesterError, match="is open to others"):
        machine(directory)


def test_keys_of_another_user_are_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(directory)
    monkeypatch.setattr(os, "geteuid", lambda: directory.stat().st_uid + 1)
    with pytest.raises(AttesterError, match="belongs to user"):
        machine(directory)
    with pytest.raises(AttesterError, match="belongs to user"):
        simulated_state.read_root(directory)


def test_links_are_not_followed(directory: Path, tmp_path: Path) -> None:
    machine(directory)
    elsewhere = tmp_path / "elsewhere.der"
    (directory / "root.der").rename(elsewhere)
    (directory / "root.der").symlink_to(elsewhere)
    with pytest.raises(AttesterError, match="cannot keep its keys"):
        machine(directory)
    (directory / "root.der").unlink()
    (directory / "root.der").mkdir(mode=0o700)
    with pytest.raises(AttesterError):
        machine(directory)
    moved = tmp_path / "moved"
    directory.rename(moved)
    directory.symlink_to(moved)
    with pytest.raises(AttesterError, match="is not what it should be"):
        machine(directory)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("root.key", b"nonsense"),
        ("root.key", b""),
        ("pck.der", b"nonsense"),
        ("attestation_key.key", b"nonsense"),
    ],
)
def test_damage_is_named(directory: Path, name: str, data: Any) -> None:
    machine(directory)
    (directory / name).write_bytes(data)
    with pytest.raises(AttesterError, match=f"{name} is damaged"):
        machine(directory)


def test_keys_of_another_kind_or_certificate_are_damage(directory: Path) -> None:
    machine(directory)
    (directory / "pck.der").write_bytes((directory / "root.der").read_bytes())
    with pytest.raises(AttesterError, match="does not belong to the key beside it"):
        machine(directory)
    from cryptography.hazmat.primitives.asymmetric import ed25519

    (directory / "root.key").write_bytes(simulated_state._key_bytes(ed25519.Ed25519PrivateKey.generate()))
    with pytest.raises(AttesterError, match="a key of another kind"):
        machine(directory)


def test_a_missing_file_is_said(directory: Path) -> None:
    machine(directory)
    (directory / "pck.key").unlink()
    with pytest.raises(AttesterError, match="No such file"):
        machine(directory)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AttesterError, match="set XDG_STATE_HOME to a folder that can be written"):
        machine(tmp_path / "file" / "simulated")
    with pytest.raises(AttesterError, match="no root certificate"):
        simulated_state.read_root(tmp_path / "nowhere")


def test_a_failed_write_leaves_nothing_behind(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AttesterError, match="No space left on device"):
        machine(directory)
    assert list(directory.parent.iterdir()) == []


def test_a_failed_rename_is_an_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(simulated_state.Path, "rename", refuse)
    with pytest.raises(AttesterError, match="Permission denied"):
        machine(directory)
    assert list(directory.parent.iterdir()) == []


def test_the_loser_of_a_race_takes_the_winners_root(directory: Path) -> None:
    winner = simulated_authority.make_authority(NOW)
    simulated_state._create(directory, winner)
    simulated_state._create(directory, simulated_authority.make_authority(NOW))
    assert machine(directory).root_certificate() == winner.root.der
    assert [path.name for path in directory.parent.iterdir()] == ["simulated"]


ONE_PROCESS = """
import hashlib, pathlib, sys
from palm_torch.cvm import simulated
tee = simulated.SimulatedTdx(directory=pathlib.Path(sys.argv[1]))
print(hashlib.sha256(tee.root_certificate()).hexdigest())
"""


def test_processes_that_start_at_once_agree(directory: Path) -> None:
    command = [sys.executable, "-c", ONE_PROCESS, str(directory)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    roots = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert roots == {hashlib.sha256(simulated_state.read_root(directory)).hexdigest()}


@pytest.fixture
def no_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    attester._announce.cache_clear()
    return tmp_path


def test_a_machine_without_hardware_simulates_and_says_so_once(
    no_hardware: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attester.select(root=no_hardware).simulated
    assert attester.select("simulated", root=no_hardware).name == "tdx-simulated"
    captured = capsys.readouterr()
    assert captured.err.count("NOT A TEE") == 1
    assert captured.out == ""


@pytest.mark.parametrize("path", attester.HARDWARE_PATHS)
@pytest.mark.parametrize("kind", ["auto", "tdx", "snp"])
def test_hardware_never_falls_back_to_simulation(
    no_hardware: Path, capsys: pytest.CaptureFixture[str], path: str, kind: Any
) -> None:
    (no_hardware / path).mkdir(parents=True)
    with pytest.raises(AttesterError, match=f"/{path}.*no driver.*never falls back"):
        attester.select(kind, root=no_hardware)
    assert capsys.readouterr().err == ""
    assert attester.select("simulated", root=no_hardware).simulated


@pytest.mark.parametrize("kind", ["tdx", "snp"])
def test_hardware_that_is_missing(no_hardware: Path, kind: Any) -> None:
    with pytest.raises(AttesterError, match=f"'{kind}' was asked for, but this machine shows none"):
        attester.select(kind, root=no_hardware)


def test_an_unknown_kind(no_hardware: Path) -> None:
    with pytest.raises(AttesterError, match="expected one of auto, simulated, tdx, snp, got 'none'"):
        attester.select("none", root=no_hardware)


def test_a_path_that_cannot_be_looked_at_is_not_missing(
    no_hardware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(attester.os, "lstat", refuse)
    with pytest.raises(AttesterError, match=r"cannot tell whether .* exists: Permission denied"):
        attester.select(root=no_hardware)


def test_two_machines_are_two_platforms(tmp_path: Path) -> None:
    first, second = (machine(tmp_path / name) for name in ("a", "b"))
    assert first.root_certificate() != second.root_certificate()
    authorities = [dataclasses.astuple(tee._authority.pck)[1].serial_number for tee in (first, second)]
    assert authorities[0] != authorities[1]
