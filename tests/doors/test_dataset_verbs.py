"""The verbs that attest data sets, and the examples of their document, from the command line on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch import cli, evidence, statement
from palm_torch.commit import manifest_file
from palm_torch.properties import Bind, Distribute, Preprocess
from palm_torch.roles import Source
from palm_torch.statement import CodeSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.statement import Statement

DOCUMENT = Path(__file__).parents[2] / "docs" / "properties.md"
WORK = """
def double(record, *, by=2):
    return None if int(record[0]) == 0 else record * by

def twice(record):
    yield record
    yield record

def count(records, *, step):
    return {"records": sum(1 for _ in records), "step": step}
"""


class Outcome:
    """What a command printed."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def palm(tmp_path: Path, home: Path) -> Callable[..., Outcome]:
    np.arange(24 * 8, dtype=np.uint16).tofile(tmp_path / "raw.bin")
    (tmp_path / "work.py").write_text(WORK, encoding="utf-8")

    def run(*words: str, python: bool = False) -> Outcome:
        command = [sys.executable, *([] if python else ["-m", "palm_torch"]), *words]
        return Outcome(
            subprocess.run(
                command,
                cwd=tmp_path,
                env={**os.environ, "XDG_STATE_HOME": str(home)},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        )

    return run


def end(folder: Path, name: str) -> Statement:
    data = (folder / f"{name}.simulated.palm.json").read_bytes()
    return statement.decode(evidence.decode(data).end.statement)


SIMULATED = ("--attester", "simulated")


@pytest.mark.slow
def test_from_raw_bytes_to_a_chain(palm: Callable[..., Outcome], tmp_path: Path, home: Path) -> None:
    done = palm("bind", "raw.bin", "--record-length", "8", *SIMULATED)
    assert done.code == 0, done.err
    assert "evidence: " in done.err
    bound = end(tmp_path, "raw.bind")
    assert isinstance(bound.claims, Bind)
    assert f"digest    {bound.claims.manifest.digest}" in done.out
    assert bound.run.code.source is CodeSource.IMPORTED
    done = palm(
        *("preprocess", "raw.bin", "-o", "out/tokens", "--function", "work:double"),
        *("--arguments", '{"by": 3}', "--record-length", "8", *SIMULATED),
    )
    assert done.code == 0, done.err
    made = end(tmp_path, "tokens.preprocess")
    assert isinstance(made.claims, Preprocess)
    assert made.claims.data["dataset1"].manifest == bound.claims.manifest.digest
    assert made.claims.arguments.value == {"by": 3}
    assert made.claims.produced["tokens"].records == 23
    assert "work" in {file.module for file in made.run.code.files}
    assert made.run.inputs.keys() == {"command"}  # nothing was opened by anything but palm-torch
    done = palm("distribute", "out/tokens", "--statistic", "record-length", *SIMULATED)
    assert done.code == 0, done.err
    found = end(tmp_path, "tokens.distribute")
    assert isinstance(found.claims, Distribute)
    assert json.loads(done.out) == found.claims.distribution.value
    assert found.claims.data["dataset1"].manifest == made.claims.produced["tokens"].digest
    root = x509.load_der_x509_certificate(
        (home / "palm-torch" / "simulated" / "root.der").read_bytes()
    ).public_bytes(Encoding.PEM)
    (tmp_path / "root.pem").write_bytes(root)
    policies, files = [], []
    for name in ("raw.bind", "tokens.preprocess", "tokens.distribute"):
        files.append(f"{name}.simulated.palm.json")
        done = palm("policy", "init", files[-1], "--simulated-root", "root.pem", "-o", f"{name}.yaml")
        assert done.code == 0, done.err
        policies += ["--policy", f"{name}.yaml"]
    done = palm("verify", *files, *policies)
    assert done.code == 0, done.out + done.err
    assert "chain of 3 runs; links: 2 simulated" in done.out
    assert palm("inspect", files[1]).code == 0
    done = palm("verify", files[0], *policies[:2], "--artifact", "manifest=raw.bin.palm-manifest")
    assert done.code == 0, done.out + done.err


@pytest.mark.slow
def test_functions_of_ones_own(palm: Callable[..., Outcome], tmp_path: Path) -> None:
    done = palm(
        *("preprocess", "raw.bin", "-o", "two", "--function", "work:twice", "--format", "npy"),
        *("--source-record-length", "8", "--evidence", "e.palm.json", *SIMULATED),
    )
    assert done.code == 0, done.err
    assert manifest_file.read(tmp_path / "two" / "manifest.palm-manifest").records == 48
    done = palm(
        *("distribute", "two", "--function", "work:count", "--arguments", '{"step": 5}', "-o", "d.palm.json"),
        *SIMULATED,
    )
    assert done.code == 0, done.err
    claims = end(tmp_path, "d").claims
    assert isinstance(claims, Distribute)
    assert claims.distribution.source is Source.REPORTED
    assert claims.distribution.value == {"records": 48, "step": 5}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("bind", "nothing.bin"), 2, "nothing.bin: no such file or folder"),
        (("preprocess", ".", "-o", "o", "--function", "work"), 3, "expected module:name"),
        (("preprocess", ".", "-o", "o", "--function", "a:b", "--arguments", "[1]"), 2, "a JSON object"),
        (("preprocess", ".", "-o", "o", "--function", "a:b", "--arguments", "{"), 2, "a JSON object"),
        (("distribute", "."), 3, "expected one of --statistic and --function"),
        (("distribute", ".", "--statistic", "histogram", "--function", "a:b"), 3, "expected one of"),
        (
            ("distribute", ".", "--statistic", "histogram", "--field", "a", "--arguments", '{"field": "b"}'),
            3,
            "given twice",
        ),
    ],
)
def test_what_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, says: str
) -> None:
    assert cli.main(words) == code
    assert says in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (
            ("preprocess", "raw.bin", "-o", "o", "--function", "work:none", "--source-record-length", "8"),
            2,
            "--function work:none: module 'work' has no attribute 'none'",
        ),
        (
            ("distribute", "raw.bin", "--record-length", "8", "--statistic", "histogram"),
            2,
            "record 0: expected text, an integer",
        ),
    ],
)
def test_one_clear_line_and_no_evidence(
    palm: Callable[..., Outcome], tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    done = palm(*words, *SIMULATED)
    assert done.code == code, done.err
    assert says in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.glob("*.palm.json")) == []
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_a_request_is_answered(palm: Callable[..., Outcome], tmp_path: Path) -> None:
    assert palm("request", "--operation", "bind", "-o", "request.json").code == 0
    done = palm("bind", "raw.bin", "--record-length", "8", "--request", "request.json", *SIMULATED)
    assert done.code == 0, done.err
    bundle = evidence.decode((tmp_path / "raw.bind.simulated.palm.json").read_bytes())
    assert bundle.challenge.kind == "challenged"
    done = palm(
        "distribute", "raw.bin", "--statistic", "record-length", "--request", "request.json", *SIMULATED
    )
    assert done.code == 2
    assert "asks for 'bind', the session is 'distribute'" in done.err


@pytest.mark.slow
def test_the_examples_of_the_document_run_as_printed(palm: Callable[..., Outcome], tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    said: list[Any] = []
    for number, block in enumerate(blocks):
        (tmp_path / f"example{number}.py").write_text(block, encoding="utf-8")
        done = palm(f"example{number}.py", python=True)
        assert done.code == 0, done.err
        said.append(done.out.split()[-1])
    assert said[:2] == ["24", "21"]
    assert end(tmp_path, "train.distribute").operation == "distribute"
