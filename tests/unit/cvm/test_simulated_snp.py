"""The simulated SNP guest: what it signs, and where its keys live."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import snp_world

from palm_torch.cvm import (
    certificates,
    private_folder,
    simulated_snp,
    simulated_snp_authority,
    snp,
    snp_rules,
)
from palm_torch.errors import AttesterError, TrustAnchorError


@pytest.fixture
def made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """New folders get the keys that are at hand, which saves a second each."""
    kept = snp_world.authority()  # made before its maker is exchanged
    monkeypatch.setattr(simulated_snp_authority, "make_authority", lambda _: kept)


@pytest.fixture
def directory(tmp_path: Path, made_once: None) -> Path:
    del made_once
    return tmp_path / "state" / "palm-torch" / "simulated-snp"


def machine(directory: Path) -> simulated_snp.SimulatedSnp:
    return simulated_snp.SimulatedSnp(directory=directory, clock=lambda: snp_world.NOW)


def test_its_reports_pass_the_production_verifier(directory: Path) -> None:
    tee = machine(directory)
    anchor = certificates.TrustAnchor.from_certificate(tee.root_certificate(), name="sim")
    begin, end = (
        snp.verify_report(tee.quote(data), tee.collateral(), anchors=[anchor], now=snp_world.NOW)
        for data in (bytes(64), b"\x01" * 64)
    )
    snp_rules.appraise(begin, snp_world.rules(require_revocation_list=True, require_alias_check=True))
    snp_rules.check_same_guest(begin, end)
    assert begin.simulated
    assert end.report_data == b"\x01" * 64
    assert (tee.name, tee.platform, tee.simulated, tee.runtime_register) == (
        "snp-simulated",
        "snp",
        True,
        "none",
    )


def test_no_real_root_accepts_them(directory: Path) -> None:
    tee = machine(directory)
    with pytest.raises(TrustAnchorError, match="not a configured trust anchor"):
        snp.verify_report(
            tee.quote(bytes(64)),
            tee.collateral(),
            anchors=[certificates.AMD_ARK_MILAN],
            now=snp_world.NOW,
        )
    with pytest.raises(TrustAnchorError, match="cannot be trusted as hardware"):
        certificates.TrustAnchor.from_certificate(tee.root_certificate(), name="mine", simulated=False)


def test_two_guests_on_one_chip_are_two(directory: Path) -> None:
    first, second = (snp_world.verify(machine(directory).quote(bytes(64))) for _ in range(2))
    assert first.machine == second.machine
    assert first.report.report_id != second.report.report_id


def test_there_is_no_runtime_register(directory: Path) -> None:
    tee = machine(directory)
    tee.close()
    logs: Any = (tee.register(), tee.register_log(), tee.boot_log())
    assert logs == (None, (), None)
    with pytest.raises(AttesterError, match="no runtime register"):
        tee.extend(bytes(48))
    with pytest.raises(AttesterError, match="expected 64 bytes, got 63"):
        tee.quote(bytes(63))


def test_its_list_is_as_old_as_it_is_asked_for(directory: Path) -> None:
    later = simulated_snp.SimulatedSnp(directory=directory, clock=lambda: snp_world.NOW + timedelta(days=100))
    assert snp_world.verify(
        later.quote(bytes(64)), later.collateral(), now=snp_world.NOW + timedelta(days=100)
    )


def test_keys_are_private_and_kept(directory: Path) -> None:
    root = machine(directory).root_certificate()
    assert machine(directory).root_certificate() == root == simulated_snp.read_root(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    assert [path.name for path in directory.parent.iterdir()] == ["simulated-snp"]
    assert b"SIMULATED - NOT A TEE" in root


def test_they_lie_beside_those_of_the_other_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = snp_world.authority()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert simulated_snp.default_directory() == tmp_path / "palm-torch" / "simulated-snp"
    monkeypatch.setattr(simulated_snp_authority, "make_authority", lambda _: made)
    assert simulated_snp.SimulatedSnp().root_certificate() == made.ark.der


@pytest.mark.parametrize("name", ["", "ark.key", "vcek.der"])
def test_permissions_open_to_others_are_refused(directory: Path, name: str) -> None:
    machine(directory)
    (directory / name).chmod(0o640 if name else 0o750)
    with pytest.raises(AttesterError, match="is open to others"):
        machine(directory)


def test_keys_of_another_user_are_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(directory)
    monkeypatch.setattr(os, "geteuid", lambda: directory.stat().st_uid + 1)
    with pytest.raises(AttesterError, match="belongs to user"):
        machine(directory)


def test_what_is_no_folder_is_refused(directory: Path) -> None:
    directory.parent.mkdir(parents=True)
    directory.write_bytes(b"")
    with pytest.raises(AttesterError, match="is not what it should be"):
        machine(directory)
    with pytest.raises(AttesterError, match="no root certificate"):
        simulated_snp.read_root(directory.parent / "nowhere")


def test_a_link_is_refused(directory: Path) -> None:
    machine(directory)
    (directory / "ark.der").rename(directory / "other")
    (directory / "ark.der").symlink_to(directory / "other")
    with pytest.raises(AttesterError, match="cannot keep its keys"):
        machine(directory)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("ark.key", b"nonsense", "holds no private key"),
        ("ark.key", "vcek.key", "key of another kind"),
        ("vcek.key", "ask.key", "key of another kind"),
        ("ask.der", b"nonsense", "ask.der"),
        ("ask.der", "ark.der", "does not belong to the key beside it"),
    ],
)
def test_damaged_folders(directory: Path, name: str, content: bytes | str, reason: str) -> None:
    machine(directory)
    data = content if isinstance(content, bytes) else (directory / content).read_bytes()
    (directory / name).write_bytes(data)
    with pytest.raises(AttesterError, match=reason):
        machine(directory)


def test_a_place_that_cannot_be_written(tmp_path: Path, made_once: None) -> None:
    del made_once
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AttesterError, match="set XDG_STATE_HOME"):
        machine(tmp_path / "file" / "keys")


def test_the_first_of_two_processes_wins(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_while_another_does(_: object) -> simulated_snp_authority.Authority:
        private_folder.make(directory, lambda: simulated_snp._files(snp_world.authority()))
        return snp_world.authority()

    monkeypatch.setattr(simulated_snp_authority, "make_authority", make_while_another_does)
    assert machine(directory).root_certificate() == snp_world.authority().ark.der
    assert [path.name for path in directory.parent.iterdir()] == ["simulated-snp"]


def test_a_rename_that_fails_for_good(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(1, "not today")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(AttesterError, match="not today"):
        machine(directory)
    assert list(directory.parent.iterdir()) == []
