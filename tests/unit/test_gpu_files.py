"""Files in which the makers of GPUs speak of them, and the doors that take them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from workshop import put

from palm_torch import chain_verification, cli, gpu_files, verification
from palm_torch.errors import EvidenceError, PlatformError
from palm_torch.evidence import GpuEndorsements

if TYPE_CHECKING:
    from pathlib import Path

    from composite_run import CompositeRun

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
    for kind, items in (("rim", found.rims), ("ocsp", found.ocsp)):
        for number, data in enumerate(items):
            (made / f"{kind}{number}").write_bytes(data)
    return made


def rims(folder: Path) -> list[Path]:
    return sorted(folder.glob("rim*"))


def test_files_are_read_by_kind(folder: Path, composite: CompositeRun) -> None:
    ocsp = sorted(folder.glob("ocsp*"))
    assert gpu_files.read(rims=rims(folder), ocsp=ocsp, crls=()) == composite.bundle.gpu_endorsements
    assert gpu_files.read(rims=(), ocsp=(), crls=()) is None
    only = gpu_files.read(rims=(), ocsp=(), crls=[str(ocsp[0])])
    assert only == GpuEndorsements(rims=(), ocsp=(), crls=(ocsp[0].read_bytes(),))


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
        "at": verification.datetime.fromisoformat(AT),
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
    assert cli.main([*words, *given, "--ocsp", "rim0"]) == cli.MALFORMED
    assert "MALFORMED EvidenceError: the OCSP answer" in capsys.readouterr().out.replace("rim0: ", "")
    assert cli.main([*words, *given, "--gpu-crl", "ocsp0"]) == cli.MALFORMED
    assert "revocation list 0" in capsys.readouterr().out


def test_several_files_at_once_share_them(folder: Path, composite: CompositeRun) -> None:
    options: dict[str, Any] = {
        "policies": [folder / "policy.yaml"],
        "requests": [folder / "request.json"],
        "at": verification.datetime.fromisoformat(AT),
    }
    with pytest.raises(PlatformError, match="--rim FILE"):
        chain_verification.verify_chain([folder / "bare.palm.json"], **options)
    found = chain_verification.verify_chain([folder / "bare.palm.json"], rims=rims(folder), **options)
    assert [result.run_id for result in found.results.values()] == [composite.bundle.run_id]
