"""Files in which the makers of GPUs speak of them, and the doors that take them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from workshop import put

from palm_torch import chain_verification, cli, gpu_files, verification
from palm_torch.errors import EvidenceError, PlatformError
from palm_torch.evidence import GpuEndorsements, ReferenceManifest

if TYPE_CHECKING:
    from composite_run import CompositeRun

BOARD = "NV_GPU_VBIOS_1010_0200_882_96009F0001"
DRIVER = "NV_GPU_DRIVER_GH100_550.90.07"
AT = "2026-11-21T12:00:00Z"


@pytest.fixture(scope="module")
def folder(composite: CompositeRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a composite's evidence, bare of endorsements, and the endorsements as files."""
    made = tmp_path_factory.mktemp("files")
    (made / "bare.palm.json").write_bytes(put(composite.bundle, "gpu_endorsements", None).encode())
    (made / "good.palm.json").write_bytes(composite.data)
    (made / "policy.yaml").write_bytes(composite.policy_text())
    (made / "request.json").write_bytes(composite.request)
    found = composite.bundle.gpu_endorsements
    assert found is not None
    for item in found.rims:
        (made / f"{item.id}.xml").write_bytes(item.xml)
    for number, data in enumerate(found.ocsp):
        (made / f"ocsp{number}").write_bytes(data)
    return made


def rims(folder: Path) -> list[Path]:
    return sorted(folder.glob("NV_*"))


def test_files_are_read_by_kind(folder: Path, composite: CompositeRun) -> None:
    ocsp = sorted(folder.glob("ocsp*"))
    assert gpu_files.read(rims=rims(folder), ocsp=ocsp, crls=()) == composite.bundle.gpu_endorsements
    assert gpu_files.read(rims=(), ocsp=(), crls=()) is None
    only = gpu_files.read(rims=(), ocsp=(), crls=[str(ocsp[0])])
    assert only == GpuEndorsements(rims=(), ocsp=(), crls=(ocsp[0].read_bytes(),))


@pytest.mark.parametrize(
    ("given", "name", "path"),
    [
        (f"{BOARD}=a/b.xml", BOARD, "a/b.xml"),
        (f"{BOARD}={DRIVER}.xml", BOARD, f"{DRIVER}.xml"),
        (f"{BOARD}=a=b", BOARD, "a=b"),
        (f"a/{DRIVER}.xml", DRIVER, f"a/{DRIVER}.xml"),
        (f"{DRIVER}.swidtag", DRIVER, f"{DRIVER}.swidtag"),
        (DRIVER, DRIVER, DRIVER),
        (f"{BOARD}.xml.bak", None, f"{BOARD}.xml.bak"),
        (f"{BOARD}/vbios.xml", None, f"{BOARD}/vbios.xml"),
        ("driver.xml", None, "driver.xml"),
        ("a=b.xml", None, "a=b.xml"),
    ],
)
def test_a_manifest_is_named_by_its_file_or_before_it(given: str, name: str | None, path: str) -> None:
    assert gpu_files.split_rim(given) == (name, Path(path))
    if "=" not in given:
        assert gpu_files.split_rim(Path(given)) == (name, Path(path))
    again = gpu_files.split_rim(gpu_files.absolute_rim(given))
    assert again == (name, Path.cwd() / path)


@pytest.mark.parametrize("name", ["NV_GPU_VBOIS_1010_0200_882_96009F0001", "NV_", f"{BOARD}0"])
def test_what_looks_like_a_name_and_is_none(name: str) -> None:
    with pytest.raises(EvidenceError, match=f"expected before '=' the name .*, as {BOARD}, got '{name}'"):
        gpu_files.split_rim(f"{name}=a.xml")


def test_what_travels_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "driver.xml").write_bytes(b"<a/>")
    nothing: dict[str, Any] = {"ocsp": (), "crls": ()}
    found = gpu_files.read(rims=[tmp_path / "driver.xml"], **nothing)
    assert found is not None
    assert found.rims == (ReferenceManifest(id=None, xml=b"<a/>"),)
    with pytest.raises(EvidenceError, match=rf"such as {BOARD}=driver\.xml"):
        gpu_files.read(rims=[tmp_path / "driver.xml"], travel=True, **nothing)
    named = gpu_files.read(rims=[f"{DRIVER}={tmp_path / 'driver.xml'}"], travel=True, **nothing)
    assert named is not None
    assert named.rims == (ReferenceManifest(id=DRIVER, xml=b"<a/>"),)


@pytest.mark.parametrize(
    ("kind", "most", "what"),
    [
        ("rims", 256 << 10, "the reference manifest"),
        ("ocsp", 16 << 10, "the OCSP answer"),
        ("crls", 1 << 20, "the revocation list"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, kind: str, most: int, what: str) -> None:
    options: dict[str, Any] = {"rims": (), "ocsp": (), "crls": ()}
    (tmp_path / "large").write_bytes(bytes(most + 1))
    (tmp_path / "small").write_bytes(b"x")
    for name in ("large", "missing"):
        with pytest.raises(EvidenceError, match=what):
            gpu_files.read(**options | {kind: [tmp_path / name]})
    with pytest.raises(EvidenceError, match=f"^files about GPUs: {kind}: one file is there twice"):
        gpu_files.read(**options | {kind: [tmp_path / "small"] * 2})


def test_the_library_takes_them(folder: Path) -> None:
    options: dict[str, Any] = {
        "policy": folder / "policy.yaml",
        "request": folder / "request.json",
        "at": datetime.fromisoformat(AT),
    }
    with pytest.raises(PlatformError, match="--rim FILE"):
        verification.verify(folder / "bare.palm.json", **options)
    assert verification.verify(folder / "bare.palm.json", rims=rims(folder), **options).simulated


def test_the_command_line_takes_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    words = ["verify", "bare.palm.json", "--policy", "policy.yaml", "--request", "request.json", "--at", AT]
    assert cli.main(words) == cli.REJECTED
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("REJECTED PlatformError: GPU 0: the policy requires reference")
    given = [word for path in rims(folder) for word in ("--rim", path.name)]
    assert cli.main([*words, *given, "--ocsp", "ocsp0", "--json"]) == cli.ACCEPTED
    assert json.loads(capsys.readouterr().out)["co_location"] == "unproven"
    driver, vbios = (path.name for path in rims(folder))
    (folder / "vbios").write_bytes((folder / vbios).read_bytes())
    for word, board, code in (
        (f"{BOARD.replace('1010', 'SIM0')}=vbios", True, cli.ACCEPTED),
        (f"{BOARD}=vbios", False, cli.REJECTED),
        (f"NV_{BOARD}=vbios", False, cli.MALFORMED),
        ("vbios", False, cli.ACCEPTED),
    ):
        assert cli.main([*words, "--rim", driver, "--rim", word]) == code
        out = capsys.readouterr().out
        assert (f"({BOARD.replace('1010', 'SIM0')}) describe" in out) is board
        if code == cli.REJECTED:
            assert (
                f"expected one manifest for vbios GH100 96.00.9F.00.01, {BOARD.replace('1010', 'SIM0')}"
                in out
            )
    assert cli.main([*words, *given, "--ocsp", rims(folder)[0].name]) == cli.MALFORMED
    assert "MALFORMED EvidenceError: " in capsys.readouterr().out
    assert cli.main([*words, *given, "--gpu-crl", "ocsp0"]) == cli.MALFORMED
    assert "revocation list 0" in capsys.readouterr().out


def test_several_files_at_once_share_them(folder: Path, composite: CompositeRun) -> None:
    options: dict[str, Any] = {
        "policies": [folder / "policy.yaml"],
        "requests": [folder / "request.json"],
        "at": datetime.fromisoformat(AT),
    }
    with pytest.raises(PlatformError, match="--rim FILE"):
        chain_verification.verify_chain([folder / "bare.palm.json"], **options)
    found = chain_verification.verify_chain([folder / "bare.palm.json"], rims=rims(folder), **options)
    assert [result.run_id for result in found.results.values()] == [composite.bundle.run_id]
