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
    key_folder,
    private_folder,
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


def test_its_quotes_of_version_5_do_too(directory: Path, rules: appraisal.TdxRules) -> None:
    tee: attester.Attester = simulated.SimulatedTdx(directory=directory, clock=lambda: NOW, version=5)
    anchor = certificates.TrustAnchor.from_certificate(machine(directory).root_certificate(), name="sim")
    digest = hashlib.sha384(b"event").digest()
    tee.extend(digest)
    verified = tdx.verify_quote(
        tee.quote(bytes(range(64))), machine(directory).collateral(), anchors=[anchor], now=NOW
    )
    appraisal.appraise(verified, rules)
    assert verified.quote.version == 5
    assert verified.quote.td_report.tee_tcb_svn2 == verified.quote.td_report.tee_tcb_svn
    assert verified.opinion.current == verified.opinion.platform
    assert verified.runtime_register == hashlib.sha384(bytes(48) + digest).digest()
    assert (verified.report_data, verified.machine) == (bytes(range(64)), verified.ppid)


def test_it_never_booted_and_holds_nothing(directory: Path) -> None:
    tee = machine(directory)
    assert (tee.register_log(), tee.boot_log()) == ((), None)
    tee.close()
    tee.close()


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

    (directory / "root.key").write_bytes(key_folder.key_bytes(ed25519.Ed25519PrivateKey.generate()))
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


def test_the_loser_of_a_race_takes_the_winners_root(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, winner = simulated_authority.make_authority, simulated_authority.make_authority(NOW)

    def make_while_another_does(now: datetime) -> simulated_authority.Authority:
        private_folder.make(directory, lambda: simulated_state._files(winner))
        return make(now)

    monkeypatch.setattr(simulated_authority, "make_authority", make_while_another_does)
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


def test_two_machines_are_two_platforms(tmp_path: Path) -> None:
    first, second = (machine(tmp_path / name) for name in ("a", "b"))
    assert first.root_certificate() != second.root_certificate()
    authorities = [dataclasses.astuple(tee._authority.pck)[1].serial_number for tee in (first, second)]
    assert authorities[0] != authorities[1]
