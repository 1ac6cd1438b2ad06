"""`palm-torch run` from the shell: its words, the interpreter it starts, unmodified scripts end to end."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import loops
import numpy as np
import pytest
import torch

from palm_torch import cli, collateral_file, evidence, statement
from palm_torch.appraisal import verifier
from palm_torch.attesting.launch import Plan
from palm_torch.collateral_file import CollateralFile
from palm_torch.commands import run
from palm_torch.cvm import platforms, simulated, simulated_gpu, simulated_snp
from palm_torch.digest import sha256_digest
from palm_torch.errors import ClaimError
from palm_torch.hooks import importing
from palm_torch.policies import policy
from palm_torch.properties import Train
from palm_torch.roles import Source
from palm_torch.statement import CodeSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.statement import Statement

SCRIPTS = Path(__file__).parent.parent / "scripts"

TOUR = """
import multiprocessing, os, pickle, runpy, sys, traceback
import helper
from helper import VALUE

class Point:
    pass

def imported_late(queue):
    import late_in_worker
    queue.put((late_in_worker.X, Point.__module__))

def main():
    import torch
    assert type(pickle.loads(pickle.dumps(Point()))) is Point
    assert sys.argv == ["tour.py", "--lr", "1"], sys.argv
    assert VALUE == "honest", VALUE
    assert sys.flags.optimize == 0 and sys.warnoptions == ["error::FutureWarning"], sys.warnoptions
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        worker = context.Process(target=imported_late, args=(queue,))
        worker.start()
        said = queue.get(timeout=60)
        worker.join()
        assert worker.exitcode == 0 and said[0] == 1, said
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    try:
        helper.fail()
    except ValueError:
        print(traceback.format_exc())

if __name__ == "__main__":
    main()
"""

GUEST = """
import os, torch
os.chdir("/")
net = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
net(torch.ones(1, 2)).sum().backward()
optimizer.step()
"""

HELPER = "VALUE = 'honest'\ndef fail():\n    raise ValueError('told')\n"


class Shell:
    """Runs several commands at once in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._ended: dict[str, tuple[int, str, str]] = {}

    def start(self, name: str, *words: str) -> None:
        self._running[name] = subprocess.Popen(
            words, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ended(self, name: str) -> tuple[int, str, str]:
        """Returns exit code, standard output and standard error."""
        if name not in self._ended:
            out, err = self._running[name].communicate(timeout=600)
            self._ended[name] = (self._running[name].returncode, out, err)
        return self._ended[name]

    def end_of(self, name: str) -> Statement:
        code, _, err = self.ended(name)
        assert code == 0, err
        path = Path(err.splitlines()[-1].removeprefix("evidence: "))
        return statement.decode(evidence.decode(path.read_bytes()).end.statement)

    def tensors(self, path: str) -> dict[str, torch.Tensor]:
        loaded = torch.load(self.folder / path)
        assert isinstance(loaded, dict)
        return loaded


def palm_torch_run(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "palm_torch", "run", "train", *words)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Starts everything that costs an import of torch at once; the resumed run under torchrun."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "data").mkdir()
    tokens = np.random.default_rng(0)
    for split in ("train", "val"):
        tokens.integers(0, 64, 2000, dtype=np.uint16).tofile(folder / "data" / f"{split}.bin")
    rng = random.Random(0)
    for name, rows in (("train", 48), ("eval", 16)):
        made = [{"x": [rng.gauss(0, 1) for _ in range(4)], "label": rng.randrange(3)} for _ in range(rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    (folder / "tour.py").write_text(TOUR, encoding="utf-8")
    (folder / "helper.py").write_text(HELPER, encoding="utf-8")
    (folder / "late_in_worker.py").write_text("X = 1\n", encoding="utf-8")
    shell = Shell(folder)
    nano, trainer = str(SCRIPTS / "nano_trainer.py"), str(SCRIPTS / "trainer_style.py")
    tour = ("-o", "tour.palm.json", "--", "tour.py", "--lr", "1")
    flags = ("-W", "error::FutureWarning")
    shell.start("tour", sys.executable, *flags, *palm_torch_run(*tour)[1:])
    shell.start("nano plain", sys.executable, nano, "--out=plain")
    shell.start("nano", *palm_torch_run("--", nano, "--out=attested"))
    shell.start("trainer plain", sys.executable, trainer, "--output_dir", "trained")
    shell.start("trainer", *palm_torch_run("--", trainer, "--output_dir", "attested"))
    shell.ended("trainer plain")
    resuming = ("--resume_from_checkpoint", "trained/checkpoint-5", "--output_dir", "resumed")
    torchrun = (str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "1", "-m", "palm_torch")
    launched = palm_torch_run("-o", "resumed.palm.json", "--", trainer, *resuming)[3:]
    shell.start("resumed", *torchrun, *launched)
    (folder / "guest.py").write_text(GUEST, encoding="utf-8")
    for kind, attester in (("snp", simulated_snp.SimulatedSnp()), ("tdx", simulated.SimulatedTdx())):
        given = platforms.fields_of(attester.collateral())
        content = CollateralFile(type=collateral_file.TYPE, attester=attester.platform, collateral=given)
        collateral_file.write(folder / f"{kind}.json", content)
    for kind in ("snp", "tdx"):
        options = ("--attester", "simulated-snp", "--collateral", f"{kind}.json", "--", "guest.py")
        shell.start(f"guest with {kind}", *palm_torch_run(*options))
    shell.start(
        "gpu", *palm_torch_run("--attester", "simulated-gpu", "-o", "gpu.palm.json", "--", "guest.py")
    )
    (folder / "manifest").write_bytes(b"x")
    refused = (
        "--attester",
        "simulated-gpu",
        "--rim",
        f"{simulated_gpu.VBIOS_RIM_ID}=manifest",
        "-o",
        "refused.palm.json",
        "--",
        "guest.py",
    )
    shell.start("refused", *palm_torch_run(*refused))
    return shell


def claims_of(end: Statement) -> Train:
    assert isinstance(end.claims, Train)
    return end.claims


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "plain", "attested"),
    [
        ("nano", "plain/final.pt", "attested/final.pt"),
        ("trainer", "trained/final/model.pt", "attested/final/model.pt"),
        ("resumed", "trained/final/model.pt", "resumed/final/model.pt"),
    ],
)
def test_an_unmodified_script_computes_the_same_and_is_attested(
    shell: Shell, name: str, plain: str, attested: str
) -> None:
    end = shell.end_of(name)
    assert shell.ended(f"{name} plain" if name != "resumed" else "trainer plain")[0] == 0
    expected, found = shell.tensors(plain), shell.tensors(attested)
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[key]) for key, tensor in expected.items())
    tied = {"head.weight": ("token.weight",)} if name == "nano" else {}
    once = {key: item for key, item in found.items() if (key,) not in tied.values()}
    assert claims_of(end).model.digest == loops.root_of(once, tied)
    assert claims_of(end).data == {}
    assert claims_of(end).steps.taken == {"nano": 12, "trainer": 12, "resumed": 7}[name]
    assert end.run.code.source is CodeSource.IMPORTED
    script = SCRIPTS / ("nano_trainer.py" if name == "nano" else "trainer_style.py")
    main = next(item for item in end.run.code.files if item.module == "__main__")
    assert main.digest == sha256_digest(script.read_bytes())


@pytest.mark.slow
def test_what_the_scripts_opened_is_listed(shell: Shell) -> None:
    for name, files in (
        ("nano", ("data/train.bin", "data/val.bin")),
        ("trainer", ("train.jsonl", "eval.jsonl")),
    ):
        inputs = shell.end_of(name).run.inputs
        assert inputs.keys() == {"command", *(f"opened:{file}" for file in files)}
        for file in files:
            item = inputs[f"opened:{file}"]
            assert (item.source, item.kind) == (Source.REPORTED, "opened")
            assert item.digest == sha256_digest((shell.folder / file).read_bytes())
    resumed = shell.end_of("resumed").run.inputs
    assert {
        "opened:trained/checkpoint-5/model.pt",
        "opened:trained/checkpoint-5/trainer.pt",
    } <= resumed.keys()


@pytest.mark.slow
def test_the_verifier_accepts_it_where_no_data_is_demanded(shell: Shell) -> None:
    shell.end_of("nano")
    data = (shell.folder / "nano_trainer.simulated.palm.json").read_bytes()
    session: Any = SimpleNamespace(evidence=SimpleNamespace(bundle=evidence.decode(data)))
    any_data = policy.parse(loops.policy_text(session))
    assert verifier.verify(data, policy=any_data, at=datetime.now(UTC)).checks
    demanding = policy.parse(loops.policy_text(session, data=[str(sha256_digest(b"corpus"))]))
    with pytest.raises(ClaimError, match="data: the policy demands"):
        verifier.verify(data, policy=demanding, at=datetime.now(UTC))


@pytest.mark.slow
def test_a_script_in_a_simulated_guest_with_collateral_of_its_own(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.end_of("guest with snp")
    path = shell.folder / "guest.simulated.palm.json"
    bundle = evidence.decode(path.read_bytes())
    given = collateral_file.read(shell.folder / "snp.json")
    assert (bundle.attester, bundle.collateral) == ("snp", given.collateral)
    accepted = str(shell.folder / "guest.yaml")
    assert cli.main(["policy", "init", str(path), "--simulated-root", "auto", "-o", accepted]) == cli.ACCEPTED
    assert cli.main(["verify", str(path), "--policy", accepted]) == cli.ACCEPTED
    assert "one guest, chip" in capsys.readouterr().out
    code, _, err = shell.ended("guest with tdx")
    assert code == cli.MALFORMED
    assert err.splitlines()[-1].endswith(
        "it is about 'tdx', the evidence is of 'snp': fetch collateral for this evidence"
    )


@pytest.mark.slow
def test_a_script_on_a_machine_with_a_simulated_gpu(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(shell.end_of("gpu").run.gpu) == 1
    path, accepted = str(shell.folder / "gpu.simulated.palm.json"), str(shell.folder / "gpu.yaml")
    assert cli.main(["policy", "init", path, "--simulated-root", "auto", "-o", accepted]) == cli.ACCEPTED
    assert cli.main(["verify", path, "--policy", accepted]) == cli.ACCEPTED
    assert "NVIDIA:GH100:" in capsys.readouterr().out
    code, _, err = shell.ended("refused")
    assert code == cli.REJECTED
    assert err.splitlines()[-1].endswith("but simulated GPUs bring their own: give none")


@pytest.mark.slow
def test_a_tour_of_what_python_scripts_do(shell: Shell) -> None:
    end = shell.end_of("tour")
    assert "raise ValueError('told')" in shell.ended("tour")[1]
    listed = {item.module: item for item in end.run.code.files}
    assert listed["helper"].digest == sha256_digest(HELPER.encode())
    assert "late_in_worker" not in listed  # what workers import stays theirs
    assert not list(shell.folder.rglob("helper*.pyc"))
    before = {name for name, item in listed.items() if item.reason == importing.BEFORE_THE_HOOK}
    assert "palm_torch.bootstrap" in before
    assert not any(name.startswith("palm_torch") for name in before - {"palm_torch.bootstrap"})
    assert listed["palm_torch.hooks.importing"].reason is None
    assert {"palm_torch", "palm_torch.attesting.attested", "palm_torch.attesting.launch"} <= listed.keys()


def test_unbuffered_output_stays_unbuffered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write_through=True))
    assert "-u" in run.command(["x"])
    monkeypatch.setattr(sys, "stdout", SimpleNamespace())
    assert "-u" not in run.command(["x"])


@pytest.mark.slow
def test_the_same_script_has_the_same_code_each_time(shell: Shell) -> None:
    first, second = shell.end_of("trainer").run.code, shell.end_of("resumed").run.code
    assert first == second
    assert first.digest != shell.end_of("nano").run.code.digest


def words_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> Sequence[str]:
    """Returns the command line of the interpreter that the command would become."""
    started: list[Sequence[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, line: started.append(line))
    assert cli.main(["run", *words]) == cli.ACCEPTED
    return started[0]


def test_the_script_s_words_are_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.py").touch()
    line = words_of(monkeypatch, "train", "-o", "o.json", "--", "s.py", "-o", "--", "--help")
    at = next(index for index, word in enumerate(line) if word.endswith("bootstrap.py"))
    assert line[0] == sys.executable
    assert line[1:at].count("-P") == 1
    plan = Plan.from_words(line[at + 1 :])
    expected = Plan(
        operation="train", module=False, words=("s.py", "-o", "--", "--help"), output="o.json", request=None
    )
    assert plan == dataclasses.replace(expected, safe_path=bool(sys.flags.safe_path))
    line = words_of(monkeypatch, "train", "--request", "r.json", "--", "-m", "a.b", "-m", "x")
    plan = Plan.from_words(line[at + 1 :])
    assert (plan.module, plan.words, plan.request) == (True, ("a.b", "-m", "x"), "r.json")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("train", "s.py", "--lr", "1"), 3, "put two dashes before the script"),
        (("train",), 3, "put two dashes before the script"),
        (("train", "--"), 3, "Missing argument 'SCRIPT [ARGS]...'"),
        (("train", "--", "-m"), 3, "expected the name of a module"),
        (("train", "--", "--lr", "1"), 3, "expected a script or -m MODULE"),
        (("train", "--", "none.py"), 2, "none.py: there is no such script"),
    ],
)
def test_mistakes_are_told_at_once(
    words: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", *words]) == code
    assert says in capsys.readouterr().err


def test_several_processes_without_torchrun_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["run", "train", "--", "s.py"]) == cli.REJECTED
    assert "WORLD_SIZE is 2, and torchrun did not start this process" in capsys.readouterr().err


def test_help_shows_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--help"]) == 0
    told = capsys.readouterr().out
    assert "Usage: palm-torch run OPERATION [OPTIONS] -- SCRIPT [ARGS]..." in told
    assert "palm-torch run train -- train.py --lr 3e-4" in told
    assert run.HINT
