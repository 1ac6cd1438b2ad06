"""Evidence of GPUs from NVIDIA's command line tool, and everything the tool can get wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import fake_nvml
import gpu_tools
import pytest

from palm_torch.cvm import collected_gpu, gpu_state, nvattest_collector, nvml_collector
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from pathlib import Path

Vectors = Callable[[str], bytes]

NONCES = (bytes(range(32)), bytes(range(1, 33)))


def states(**changes: Any) -> Callable[[], tuple[gpu_state.GpuState, ...]]:
    return nvml_collector.NvmlCollector(load=lambda: fake_nvml.FakeNvml(**changes)).state


def collector(
    folder: Path, answers: dict[str, Any], *, timeout_s: float = 60.0
) -> nvattest_collector.NvattestCollector:
    program = gpu_tools.nvattest(folder, answers)
    return nvattest_collector.NvattestCollector(program=program, read_state=states(), timeout_s=timeout_s)


def test_each_gpu_answers_its_own_nonce(tmp_path: Path) -> None:
    answers = {nonce.hex(): gpu_tools.printed(gpu_tools.two_gpus(nonce)) for nonce in NONCES}
    made = collector(tmp_path, answers)
    found = made.collect(NONCES)
    assert [gpu.evidence for gpu in found] == [fake_nvml.report(nonce) for nonce in NONCES]
    assert [gpu.chain[2] for gpu in found] == [7, 8]
    assert (made.name, len(made.state())) == ("nvattest", 2)


def test_real_evidence(vectors: Vectors, tmp_path: Path) -> None:
    (item,) = json.loads(vectors("nvidia/attestation-sdk/hopper_evidence.json"))
    nonce = bytes.fromhex(item["nonce"])
    (found,) = collector(tmp_path, {item["nonce"]: gpu_tools.printed([item])}).collect([nonce])
    assert found.evidence == base64.b64decode(item["evidence"])
    with pytest.raises(AttesterError, match="expected nonce 0001"):
        collector(tmp_path, {"any": gpu_tools.printed([item])}).collect(NONCES[:1])
    del item["nonce"]
    with pytest.raises(AttesterError, match="expected a report over nonce 0001"):
        collector(tmp_path, {"any": gpu_tools.printed([item])}).collect(NONCES[:1])


def one(**changes: Any) -> dict[str, Any]:
    return gpu_tools.printed([gpu_tools.serialised(NONCES[0], **changes)])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 3, "complaint": "no GPU here"}, "nvattest: failed with status 3: no GPU here"),
        (gpu_tools.printed(None, result_code=5, result_message="NVML"), "nvattest: failed with 5: 'NVML'"),
        (gpu_tools.printed([], result_code="0"), "nvattest: failed with '0'"),
        ({"text": "[info] starting"}, "nvattest: expected JSON, got b'[info] starting'"),
        ({"text": '{"evidences": NaN}'}, "nvattest: expected JSON"),
        ({"text": '{"evidences": 1, "evidences": 2}'}, "nvattest: expected JSON"),
        ({"text": "[" * 100_000}, "nvattest: expected JSON"),
        ({"text": "[]"}, "nvattest: expected a JSON object"),
        ({"text": "{}"}, "nvattest: unusable answer: nvattest: evidences: expected a list"),
        (gpu_tools.printed([]), "nvattest: expected 1 GPUs, one for each nonce, got 0"),
        (gpu_tools.printed(gpu_tools.two_gpus(NONCES[0])), "expected 1 GPUs, one for each nonce, got 2"),
        (gpu_tools.printed(["GPU"]), "expected an object"),
        (one(evidence="?"), "not base64"),
        (one(evidence=""), "report: expected 1 to 8192 bytes, got 0"),
        (one(evidence=7), "expected text"),
        (one(certificate="AAAA"), "expected 5 PEM certificates, got 0"),
        (one(nonce="00" * 32), "expected nonce 0001"),
        (one(report=fake_nvml.report(bytes(32))), "expected a report over nonce 0001"),
    ],
)
def test_answers_that_are_refused(tmp_path: Path, answer: dict[str, Any], said: str) -> None:
    with pytest.raises(AttesterError) as caught:
        collector(tmp_path, {"any": answer}).collect(NONCES[:1])
    assert said in str(caught.value)


def test_a_nonce_may_have_its_prefix(tmp_path: Path) -> None:
    assert collector(tmp_path, {"any": one(nonce=f"0x{NONCES[0].hex().upper()}")}).collect(NONCES[:1])


def test_gpus_that_change_places(tmp_path: Path) -> None:
    first, second = (gpu_tools.two_gpus(nonce) for nonce in NONCES)
    answers = {
        NONCES[0].hex(): gpu_tools.printed(first),
        NONCES[1].hex(): gpu_tools.printed(second[::-1]),
    }
    with pytest.raises(AttesterError, match="the GPUs came in another order"):
        collector(tmp_path, answers).collect(NONCES)


def test_a_tool_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    with pytest.raises(AttesterError, match=r"nvattest: not done after 0\.5 seconds"):
        collector(tmp_path, {"any": {"hang": True}}, timeout_s=0.5).collect(NONCES[:1])


def test_a_tool_that_talks_without_end(tmp_path: Path) -> None:
    flood = {"flood": collected_gpu.MAX_JSON_BYTES + 1}
    with pytest.raises(AttesterError, match="expected at most 4194304 bytes of output, got more"):
        collector(tmp_path, {"any": flood}).collect(NONCES[:1])


def test_gpus_in_no_state_to_attest(tmp_path: Path) -> None:
    program = gpu_tools.nvattest(tmp_path, {"any": {"status": 1}})
    made = nvattest_collector.NvattestCollector(program=program, read_state=states(feature=0))
    with pytest.raises(AttesterError, match="confidential computing is off"):
        made.collect(NONCES)
    with pytest.raises(AttesterError, match="got none"):
        collector(tmp_path, {}).collect([])


def test_no_such_tool(tmp_path: Path) -> None:
    with pytest.raises(AttesterError, match="no such program: install the package nvattest"):
        nvattest_collector.NvattestCollector(program=str(tmp_path / "nvattest"))
