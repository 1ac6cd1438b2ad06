"""What a run ran on."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

import pytest
import torch

from palm_torch import codec, encoding
from palm_torch.appraisal import reservations
from palm_torch.digest import sha256_digest
from palm_torch.errors import InputError
from palm_torch.hooks import environment, installed


@pytest.fixture(autouse=True)
def _nothing_vouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what other tests let a RECORD excuse."""
    monkeypatch.setattr(installed, "_vouched", {})


def test_environment_travels() -> None:
    found = environment.environment()
    document = encoding.encode_json(codec.to_json(found))
    again = codec.from_json(
        environment.Environment,
        encoding.decode_json(document, what="environment", max_bytes=1 << 20),
        what="environment",
        error=InputError,
    )
    assert again == found


def test_reading_twice_gives_the_same() -> None:
    assert environment.environment() == environment.environment()


def test_a_package_that_excused_a_file_stays_though_it_is_gone() -> None:
    gone = installed.Distribution("palm-test-gone", "1", "/nowhere", b"gone")
    installed.vouch(gone)
    installed.vouch(gone)
    listed = [item for item in environment.packages() if item.name == gone.name]
    assert [(item.version, item.reason) for item in listed] == [("1", None)]
    assert [item.name for item in environment.packages()] == sorted(
        item.name for item in environment.packages()
    )


def test_packages_are_those_importlib_finds() -> None:
    found = {item.name: item for item in environment.packages()}
    expected = importlib.metadata.distribution("torch")
    assert found["torch"].version == expected.version
    record = Path(str(expected.locate_file(f"torch-{expected.version}.dist-info/RECORD"))).read_bytes()
    assert found["torch"].record is not None
    assert found["torch"].record.value == hashlib.sha256(record).digest()
    everything = importlib.metadata.distributions()
    names = {str(item.name).lower().replace("_", "-").replace(".", "-") for item in everything}
    assert found.keys() == names


def test_package_without_record_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        installed, "distributions", lambda: [installed.Distribution("old", "1", "/nowhere", None)]
    )
    assert environment.packages() == (environment.Package("old", "1", None, "installed without a RECORD"),)


@pytest.mark.parametrize(
    ("flag", "switch", "restore"),
    [
        (
            "are_deterministic_algorithms_enabled",
            lambda: torch.use_deterministic_algorithms(mode=True),
            lambda: torch.use_deterministic_algorithms(mode=False),
        ),
        (
            "get_float32_matmul_precision",
            lambda: torch.set_float32_matmul_precision("high"),
            lambda: torch.set_float32_matmul_precision("highest"),
        ),
        (
            "default_dtype",
            lambda: torch.set_default_dtype(torch.float64),
            lambda: torch.set_default_dtype(torch.float32),
        ),
        ("flush_denormal", lambda: torch.set_flush_denormal(True), lambda: torch.set_flush_denormal(False)),
    ],
)
def test_switches_are_seen(flag: str, switch: object, restore: object) -> None:
    before = environment.environment().flags
    switch()
    try:
        after = environment.environment().flags
    finally:
        restore()
    assert before[flag] != after[flag]


def test_no_switch_of_the_tested_version_is_absent() -> None:
    assert environment.ABSENT not in environment.environment().flags.values()
    assert environment._read_flag("backends.nothing.like_it") == environment.ABSENT


def test_autocast_is_seen() -> None:
    assert environment.environment().autocast["cpu"] is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert environment.environment().autocast["cpu"] == "bfloat16"


def test_only_variables_that_matter_and_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "x" * 1000)
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "caf\udce9")
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    found = environment.environment().variables
    assert found["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert found["PYTORCH_CUDA_ALLOC_CONF"].startswith("sha256:")
    assert found["TORCHDYNAMO_DISABLE"].startswith("sha256:")
    assert "SECRET_TOKEN" not in found
    assert "PYTHONHASHSEED" not in found


def test_variables_that_change_which_code_is_loaded_are_told_by_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "_GIVEN", {"PYTHONPATH": "/home/somebody"})
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/cache/torch")  # as torch does, for itself
    found = environment.environment().variables
    assert found["PYTHONPATH"] == str(sha256_digest(b"/home/somebody"))
    assert "TORCHINDUCTOR_CACHE_DIR" not in found


def test_the_verifier_knows_the_same_variables() -> None:
    assert reservations.LOADING == environment.LOADING


def test_devices_are_listed_once() -> None:
    tensors = [torch.zeros(1), torch.zeros(2), torch.zeros(1, device="meta")]
    assert environment.devices(tensors) == (
        environment.Device("cpu", None, None),
        environment.Device("meta", None, None),
    )
