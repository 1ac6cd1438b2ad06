"""Stand-ins for NVIDIA's tools that collect GPU evidence: programs that serve what a test puts into a file.

Both look the nonce up in the file, and answer what stands there: an answer, or how to fail.
"""

from __future__ import annotations

import base64
import json
import stat
import sys
from typing import TYPE_CHECKING, Any

import fake_nvml

from palm_torch.cvm import certificate_bytes

if TYPE_CHECKING:
    from pathlib import Path

NVATTEST = """\
#!{python}
import json, pathlib, subprocess, sys, time
answers = json.loads(pathlib.Path({answers!r}).read_text())
assert sys.argv[1:5] == ["collect-evidence", "--device", "gpu", "--nonce"], sys.argv
assert sys.argv[6:] == ["--format", "json"], sys.argv
answer = answers.get(sys.argv[5], answers.get("any"))
sys.stderr.write(answer.get("complaint", ""))
if "hang" in answer:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    sys.stdout.flush()
    time.sleep(60)
if "flood" in answer:
    sys.stdout.write("x" * answer["flood"])
sys.stdout.write(answer.get("text", ""))
sys.exit(answer.get("status", 0))
"""

SDK = """\
import json, logging, os, pathlib, sys
pathlib.Path("attestation_sdk.log").write_text("started")
print("the SDK talks")

class Devices:
    GPU = 2

class Environment:
    REMOTE = 5

class Attestation:
    def set_nonce(self, nonce):
        self.nonce = nonce
    def add_verifier(self, device, environment, url, evidence):
        assert (device, environment, url, evidence) == (2, 5, "", "")
    def get_evidence(self, options):
        assert options == {{"ppcie_mode": False}}
        answers = json.loads(pathlib.Path({answers!r}).read_text())
        answer = answers.get(self.nonce, answers.get("any"))
        if "exit" in answer:
            sys.exit(answer["exit"])
        return answer["evidences"]
"""


def serialised(nonce: bytes, /, *, report: bytes | None = None, pem: bytes | None = None, **more: Any) -> Any:
    """Returns one GPU's evidence as the tools write it."""
    return {
        "arch": "HOPPER",
        "nonce": nonce.hex(),
        "evidence": base64.b64encode(report or fake_nvml.report(nonce)).decode(),
        "certificate": base64.b64encode(pem or certificate_bytes.encode_pem(fake_nvml.CHAIN)).decode(),
    } | more


def chain(number: int) -> bytes:
    """Returns the chain of GPU `number`, PEM."""
    return certificate_bytes.encode_pem([bytes([0x30, 1, number]), *fake_nvml.CHAIN[1:]])


def two_gpus(nonce: bytes) -> list[Any]:
    """Returns what the tools say of a machine with two GPUs."""
    return [serialised(nonce, pem=chain(number)) for number in (7, 8)]


def nvattest(folder: Path, answers: dict[str, Any]) -> str:
    """Writes a program that stands for ``nvattest``, and returns its path."""
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    program = folder / "nvattest"
    program.write_text(
        NVATTEST.format(python=sys.executable, answers=str(folder / "answers.json")), encoding="utf-8"
    )
    program.chmod(stat.S_IRWXU)
    return str(program)


def printed(evidences: object, **more: Any) -> dict[str, Any]:
    """Returns how the program answers with evidence."""
    return {"text": json.dumps({"evidences": evidences, "result_code": 0, "result_message": "Ok"} | more)}


def sdk(folder: Path, answers: dict[str, Any]) -> Path:
    """Writes a package that stands for ``nv_attestation_sdk``, and returns where to import it from."""
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    package = folder / "packages" / "nv_attestation_sdk"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "attestation.py").write_text(
        SDK.format(answers=str(folder / "answers.json")), encoding="utf-8"
    )
    return package.parent
