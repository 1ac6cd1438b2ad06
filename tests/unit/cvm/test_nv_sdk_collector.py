"""Evidence of GPUs from NVIDIA's SDK: in a process and a directory of its own, no verdict asked for."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import fake_nvml
import gpu_tools
import pytest

from palm_torch.cvm import nv_sdk_collector, nv_sdk_process, nvml_collector
from palm_torch.errors import AttesterError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

Vectors = Callable[[str], bytes]

NONCES = (bytes(range(32)), bytes(range(1, 33)))


@pytest.fixture
def collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Any]], nv_sdk_collector.NvSdkCollector]:
    def make(answers: dict[str, Any], **changes: Any) -> nv_sdk_collector.NvSdkCollector:
        monkeypatch.setenv("PYTHONPATH", str(gpu_tools.sdk(tmp_path, answers)))
        state = nvml_collector.NvmlCollector(load=lambda: fake_nvml.FakeNvml(**changes)).state
        return nv_sdk_collector.NvSdkCollector(read_state=state)

    monkeypatch.chdir(tmp_path)
    return make


def test_each_gpu_answers_its_own_nonce_and_nothing_is_left(
    collector: Callable[[dict[str, Any]], nv_sdk_collector.NvSdkCollector], tmp_path: Path
) -> None:
    made = collector({nonce.hex(): {"evidences": gpu_tools.two_gpus(nonce)} for nonce in NONCES})
    before = sorted(tmp_path.iterdir())
    found = made.collect(NONCES)
    assert [gpu.evidence for gpu in found] == [fake_nvml.report(nonce) for nonce in NONCES]
    assert [gpu.chain[2] for gpu in found] == [7, 8]
    assert (made.name, len(made.state())) == ("nv-sdk", 2)
    assert sorted(tmp_path.iterdir()) == before
    assert "nv_attestation_sdk" not in sys.modules


def test_real_evidence(
    vectors: Vectors, collector: Callable[[dict[str, Any]], nv_sdk_collector.NvSdkCollector]
) -> None:
    (item,) = json.loads(vectors("nvidia/attestation-sdk/hopper_evidence.json"))
    nonce = bytes.fromhex(item.pop("nonce"))
    (found,) = collector({"any": {"evidences": [item]}}).collect([nonce])
    assert found.evidence[4:36] == nonce


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"exit": 3}, "failed with status 3"),
        ({"exit": None}, "cannot read evidence"),
        ({"evidences": []}, "expected 1 GPUs, one for each nonce, got 0"),
        ({"evidences": None}, "expected a list"),
        ({}, "failed with status 1"),
    ],
)
def test_answers_that_are_refused(
    collector: Callable[[dict[str, Any]], nv_sdk_collector.NvSdkCollector], answer: dict[str, Any], said: str
) -> None:
    with pytest.raises(AttesterError) as caught:
        collector({"any": answer}).collect(NONCES[:1])
    assert said in str(caught.value)


def test_no_folder_for_temporary_files(
    collector: Callable[[dict[str, Any]], nv_sdk_collector.NvSdkCollector],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = collector({})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(
        AttesterError, match=r"no temporary directory can be made: No such file .* set TMPDIR"
    ):
        made.collect(NONCES[:1])


def test_an_sdk_that_is_not_there(
    collector: Callable[[dict[str, Any]], nv_sdk_collector.NvSdkCollector],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = collector({})
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(MissingExtraError, match=r"pip install 'palm-torch\[nv-sdk\]'"):
        made.collect(NONCES[:1])


def test_gpus_in_no_state_to_attest(
    collector: Callable[..., nv_sdk_collector.NvSdkCollector],
) -> None:
    with pytest.raises(AttesterError, match="confidential computing is off"):
        collector({}, feature=0).collect(NONCES)
    assert nv_sdk_collector.NvSdkCollector().name == "nv-sdk"


def test_what_the_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nonce = NONCES[0].hex()
    path = tmp_path / "evidence.json"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    nv_sdk_process.main(nonce, os.fspath(path))
    assert "palm-torch[nv-sdk]" in json.loads(path.read_text(encoding="utf-8"))["missing"]
    monkeypatch.syspath_prepend(gpu_tools.sdk(tmp_path, {nonce: {"evidences": [1]}}))
    nv_sdk_process.main(nonce, os.fspath(path))
    assert json.loads(path.read_text(encoding="utf-8")) == {"evidences": [1]}
    for name in ("nv_attestation_sdk", "nv_attestation_sdk.attestation"):
        del sys.modules[name]
