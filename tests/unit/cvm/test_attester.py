"""Which attester a machine gets: its hardware's, or a simulated one only where there is no hardware."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, get_args

import pytest
from fake_kernel import DOORS, Machine, machine

from palm_torch.cvm import attester
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CPUINFO = "processor\t: 0\nflags\t\t: fpu vme hypervisor{flag} avx\nbugs\t\t:\n"


@pytest.fixture(autouse=True)
def not_announced() -> None:
    attester._announce.cache_clear()


@pytest.fixture(params=DOORS)
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine(request.param, tmp_path) as made:
        yield made


def select(made: Machine, kind: str = "auto") -> attester.Attester:
    return attester.select(kind, root=made.root, files=made.files)


def test_a_machine_without_hardware_simulates_and_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(CPUINFO.format(flag=""))
    assert attester.find_hardware(root=tmp_path) is None
    assert attester.select(root=tmp_path).simulated
    for kind, name in (
        ("simulated", "tdx-simulated"),
        ("simulated-snp", "snp-simulated"),
        ("simulated-gpu", "tdx-simulated"),
    ):
        chosen = attester.select(kind, root=tmp_path)
        assert (chosen.name, chosen.simulated) == (name, True)
    captured = capsys.readouterr()
    assert captured.err.count("NOT A TEE") == 1
    assert captured.out == ""


@pytest.mark.parametrize(("provider", "platform"), [("tdx_guest", "tdx"), ("sev_guest", "snp")])
@pytest.mark.parametrize("kind", ["auto", "own"])
def test_the_driver_that_answers_decides(
    guest: Machine, capsys: pytest.CaptureFixture[str], provider: str, platform: str, kind: str
) -> None:
    guest.kernel.provider = provider
    for sign in ("dev/tdx_guest", "dev/sev-guest"):  # whatever else is lying about
        (guest.root / sign).parent.mkdir(exist_ok=True)
        (guest.root / sign).touch()
    chosen = select(guest, platform if kind == "own" else kind)
    assert (chosen.name, chosen.platform, chosen.simulated) == (platform, platform, False)
    assert capsys.readouterr().err == ""
    assert len(guest.made) == 1
    chosen.close()


@pytest.mark.parametrize(("provider", "asked"), [("tdx_guest", "snp"), ("sev_guest", "tdx")])
def test_other_hardware_than_was_asked_for(guest: Machine, provider: str, asked: str) -> None:
    guest.kernel.provider = provider
    with pytest.raises(
        AttesterError, match=f"'{asked}' was asked for, but this machine is a '(tdx|snp)' guest"
    ):
        select(guest, asked)


@pytest.mark.parametrize("kind", ["simulated", "simulated-snp", "simulated-gpu"])
def test_simulation_can_be_asked_for_anywhere(guest: Machine, kind: str) -> None:
    assert select(guest, kind).simulated
    assert guest.made == []


@pytest.mark.parametrize("path", attester.HARDWARE_PATHS)
@pytest.mark.parametrize("kind", ["auto", "tdx", "snp"])
def test_hardware_never_falls_back_to_simulation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, kind: str
) -> None:
    (tmp_path / path).mkdir(parents=True)
    with pytest.raises(AttesterError, match=rf"\(/{path}\), but no driver.*Linux 6\.7.*never falls back"):
        attester.select(kind, root=tmp_path)
    assert capsys.readouterr().err == ""
    assert attester.select("simulated", root=tmp_path).simulated


@pytest.mark.parametrize("kind", ["auto", "tdx"])
def test_a_tdx_guest_without_its_driver_is_known_by_its_processor(guest: Machine, kind: str) -> None:
    guest.kernel.provider = guest.kernel.register = None
    (guest.root / "proc").mkdir()
    (guest.root / "proc" / "cpuinfo").write_text(CPUINFO.format(flag=" tdx_guest"))
    with pytest.raises(
        AttesterError, match=r"tdx_guest among the flags in /proc/cpuinfo.*modprobe tdx_guest.*never falls"
    ):
        select(guest, kind)


def test_a_driver_that_this_version_does_not_know(guest: Machine) -> None:
    guest.kernel.provider = "arm_cca_guest"
    with pytest.raises(
        AttesterError, match=r"\(a driver named 'arm_cca_guest'\), but no driver .*never falls"
    ):
        select(guest)


def test_a_kernel_with_the_interface_and_no_hardware(guest: Machine) -> None:
    guest.kernel.provider = guest.kernel.register = None
    assert attester.find_hardware(root=guest.root, files=guest.files) is None
    assert select(guest).simulated


@pytest.mark.parametrize("kind", ["auto", "tdx", "snp"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO])
def test_an_interface_that_cannot_be_asked_is_no_missing_hardware(
    guest: Machine, capsys: pytest.CaptureFixture[str], kind: str, code: int
) -> None:
    guest.kernel.failures["mkdir request"] = [code]
    with pytest.raises(AttesterError, match=f"which driver makes reports: .*{errno.errorcode[code]}"):
        select(guest, kind)
    assert capsys.readouterr().err == ""


def test_an_ordinary_folder_is_no_interface(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/config/tsm/report").mkdir(parents=True)
    with pytest.raises(AttesterError, match="which driver makes reports"):
        attester.select(root=tmp_path)


@pytest.mark.parametrize("kind", ["tdx", "snp"])
def test_hardware_that_is_missing(tmp_path: Path, kind: str) -> None:
    with pytest.raises(
        AttesterError, match=f"'{kind}' was asked for, but this machine shows none: looked for /dev"
    ):
        attester.select(kind, root=tmp_path)


@pytest.mark.parametrize("kind", ["none", "", "simulated-tdx", "TDX"])
def test_an_unknown_kind(tmp_path: Path, kind: str) -> None:
    kinds = "auto, simulated, simulated-snp, simulated-gpu, tdx, snp"
    with pytest.raises(AttesterError, match=f"expected one of {kinds}, got '{kind}'"):
        attester.select(kind, root=tmp_path)
    assert ", ".join(get_args(attester.Kind)) == kinds


def test_a_sign_that_cannot_be_looked_at_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = attester.kernel_files.os.lstat

    def refuse(path: Path) -> Any:
        if "dev" in path.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return looking(path)

    monkeypatch.setattr(attester.kernel_files.os, "lstat", refuse)
    with pytest.raises(AttesterError, match=r"cannot tell whether .*dev/tdx_guest: Permission denied"):
        attester.select(root=tmp_path)


@pytest.mark.parametrize("flags", [" sev_snp", " sme sev_snp smca"])
def test_a_guest_that_knows_sev_snp_without_its_driver_is_no_machine_without_hardware(
    guest: Machine, flags: str
) -> None:
    guest.kernel.provider = guest.kernel.register = None
    (guest.root / "proc").mkdir()
    (guest.root / "proc" / "cpuinfo").write_text(CPUINFO.format(flag=flags))
    with pytest.raises(AttesterError, match=r"hypervisor and sev_snp among the flags.*never falls back"):
        select(guest)


@pytest.mark.parametrize(
    "flags", ["hypervisor", "sev_snp", "hypervisor sev_snp_x", "sev_snp\nflags: hypervisor"]
)
def test_a_host_or_another_guest_shows_no_sign(guest: Machine, flags: str) -> None:
    guest.kernel.provider = guest.kernel.register = None
    (guest.root / "proc").mkdir()
    (guest.root / "proc" / "cpuinfo").write_text(f"flags\t\t: fpu {flags}\n")
    assert attester.find_hardware(root=guest.root, files=guest.files) is None
