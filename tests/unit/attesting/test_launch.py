"""`palm-torch run` from within: a script as Python would run it, in a session, and evidence at the end."""

from __future__ import annotations

import inspect
import os
import re
import sys
import types
from typing import TYPE_CHECKING, Any

import loops
import pytest

import palm_torch
from palm_torch import evidence, statement
from palm_torch.attesting import joining, launch
from palm_torch.attesting.attested import attested
from palm_torch.attesting.launch import Plan
from palm_torch.commands import run as command
from palm_torch.digest import sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import SessionError
from palm_torch.hooks import importing
from palm_torch.properties import Train
from palm_torch.statement import CodeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from palm_torch.statement import Statement

STEPS = """
import torch
net = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
net(torch.ones(1, 2)).sum().backward()
optimizer.step()
"""
"""A training that reads no data at all."""


ORDINARY = f"""
import os, sys
assert sys.argv == ["script.py", "--lr", "1"], sys.argv
assert sys.path[0] == os.path.dirname(__file__) == os.getcwd()
assert (__name__, __package__, __spec__, __cached__) == ("__main__", None, None, None)
assert sys.modules["__main__"].__dict__ is globals()
with open("settings.json") as stream: stream.read()
{STEPS}
os.chdir("/")
"""

EVALUATION = """
import sys, loops, palm_torch, torch
with torch.no_grad():
    for _ in palm_torch.DataLoader(loops.opened(sys.argv[1]), batch_size=4): pass
"""

JOINING = """
import sys
import loops, torch, palm_torch
from palm_torch.attesting.attested import attested
net = loops.Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
with attested("train") as run:
    data = palm_torch.AttestedMmapDataset(sys.argv[1], targets=True)
    loops.train(net, optimizer, palm_torch.DataLoader(data, batch_size=4))
    run.log(loss=1.0)
    run.config(lr=0.1)
    assert run.input(note=b"x") == {"note": b"x"}
print(run.run_id)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loops.corpus(tmp_path_factory.mktemp("data") / "corpus", records=4)


@pytest.fixture(scope="module", autouse=True)
def _fresh_process() -> Iterator[None]:
    with loops.fresh_process():
        yield


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Runs a script's text as the launcher does, in this process and under the hook."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    before = set(sys.modules)
    remove = importing.install()

    def run_it(text: str, *words: str, **options: Any) -> int:
        (tmp_path / "script.py").write_text(text, encoding="utf-8")
        plan = {"operation": "train", "module": False, "words": ("script.py", *words), **options}
        return launch.main(Plan(**plan).to_words())

    yield run_it
    remove()
    for name in set(sys.modules) - before:
        if name.startswith("palm_test_"):
            del sys.modules[name]


def end_of(path: Path) -> Statement:
    return statement.decode(evidence.decode(path.read_bytes()).end.statement)


def claims_of(end: Statement) -> Train:
    assert isinstance(end.claims, Train)
    return end.claims


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Returns the last line on standard error."""
    return capsys.readouterr().err.splitlines()[-1]


def test_a_script_that_knows_nothing_of_it_is_attested(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text("{}", encoding="utf-8")
    code = run(ORDINARY, "--lr", "1")
    path = tmp_path / "script.simulated.palm.json"
    assert (code, said(capsys)) == (0, f"evidence: {path}")
    end = end_of(path)
    assert claims_of(end).data == {}
    assert claims_of(end).steps.taken == 1
    assert {role: item.kind for role, item in end.run.inputs.items()} == {
        "command": "bytes",
        "opened:settings.json": "opened",
    }
    assert end.run.inputs["command"].digest == sha256_digest(encode_json(["script.py", "--lr", "1"]))
    assert end.run.code.source is CodeSource.IMPORTED
    begin = statement.decode_begin(evidence.decode(path.read_bytes()).begin.statement)
    assert begin.code.source is CodeSource.IMPORTED
    assert "__main__" in {item.module for item in begin.code.files}
    assert joining.offered() is None


@pytest.mark.parametrize(
    ("text", "code", "last"),
    [
        ("raise SystemExit", 0, "evidence: "),
        ("raise SystemExit(0)", 0, "evidence: "),
        ("raise SystemExit(7)", 7, "palm-torch: no evidence was written: the script ended with exit code 7"),
        ("raise SystemExit('boo')", "boo", "palm-torch: no evidence was written"),
    ],
)
def test_exit_codes(
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    code: object,
    last: str,
) -> None:
    with pytest.raises(SystemExit) as left:
        run(STEPS + text)
    assert left.value.code in (code, code or None)
    assert said(capsys).startswith(last)
    assert len(list(tmp_path.glob("*.palm.json"))) == (code == 0)


@pytest.mark.parametrize(
    ("error", "code"), [("ValueError('no')", 1), ("KeyboardInterrupt", 130), ("BaseException", 1)]
)
def test_an_exception_is_told_as_python_tells_it(
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: str,
    code: int,
) -> None:
    assert run(f"def f():\n    raise {error}\nf()\n") == code
    lines = capsys.readouterr().err.splitlines()
    begin = lines.index("Traceback (most recent call last):")
    assert lines[begin - 1].startswith("palm-torch: no evidence was written: the script ended with ")
    assert lines[begin + 1] == f'  File "{tmp_path / "script.py"}", line 3, in <module>'
    assert "palm_torch" not in "\n".join(lines[begin:])
    assert not list(tmp_path.glob("*.palm.json"))


def test_what_is_no_script_is_refused(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("x = = 1") == 1
    assert said(capsys) == "SyntaxError: invalid syntax"
    for words in (("gone.py",), (str(tmp_path),), ("code.zip",)):
        assert run("", words=words) == 2
        assert "error: InputError: " in said(capsys)
    assert run("", operation="guess") == 1
    assert said(capsys).startswith("error: SessionError: attested('guess'): this version attests ")
    assert run("", output=str(tmp_path / "no" / "where.json")) == 2
    assert "evidence cannot be written there" in said(capsys)
    assert run("", request=str(tmp_path / "none.json")) == 2
    assert "cannot read the request" in said(capsys)
    assert run("x = 1") == 1
    told = said(capsys)
    assert "no torch.optim optimizer stepped" in told
    assert "no record was delivered either" in told
    assert "hand-written" not in told


def test_nothing_in_a_message_reaches_the_terminal(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("", words=("a\x1b[31mb.py",)) == 2
    assert "a\\x1b[31mb.py" in said(capsys)


def test_modules_run_as_main(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "palm_test_pkg"
    package.mkdir()
    (package / "__init__.py").touch()
    check = "assert (__name__, __package__) == ('__main__', 'palm_test_pkg')\nfrom . import __file__\n"
    text = STEPS + check + "import sys\nassert sys.argv[1:] == ['x'], sys.argv\n"
    for name in ("go", "__main__"):
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    assert run("", module=True, words=("palm_test_pkg.go", "x")) == 0
    assert said(capsys).endswith("/go.simulated.palm.json")
    assert run("", module=True, words=("palm_test_pkg", "x"), output="out.palm.json") == 0
    assert said(capsys).endswith("/out.simulated.palm.json")
    sys.modules["palm_test_bare"] = types.ModuleType("palm_test_bare")
    for name in ("palm_test_pkg.none", "palm_test_none.x", "palm_test_bare", "sys"):
        assert run("", module=True, words=(name,)) == 2
        assert "no module of that name" in said(capsys)
    (package / "broken.py").write_text("import palm_test_none_such", encoding="utf-8")
    (package / "sub").mkdir()
    (package / "sub/__init__.py").write_text("import palm_test_none_such", encoding="utf-8")
    assert run("", module=True, words=("palm_test_pkg.sub.x",)) == 1
    assert said(capsys) == "ModuleNotFoundError: No module named 'palm_test_none_such'"


def test_the_safe_path_stays_safe(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run("import sys, os\nassert os.getcwd() not in sys.path\nraise SystemExit(5)", safe_path=False) == 1
    )
    assert "AssertionError" in said(capsys)
    sys.path.remove(str(tmp_path))
    with pytest.raises(SystemExit):
        run("import sys, os\nassert os.getcwd() not in sys.path\nraise SystemExit(5)", safe_path=True)


def test_a_script_that_opens_a_session_joins_the_one_there_is(
    run: Callable[..., int], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(JOINING + "run.evidence.save('own.palm.json')\n", str(data)) == 0
    assert capsys.readouterr().out.strip() == end_of(tmp_path / "script.simulated.palm.json").run.run_id
    end = end_of(tmp_path / "own.simulated.palm.json")
    assert end == end_of(tmp_path / "script.simulated.palm.json")
    assert claims_of(end).data["dataset1"].uses["train"].delivered == 4
    assert (end.run.reported["loss"].count, sorted(end.run.inputs)) == (1, ["command", "note"])
    assert end.run.code.source is CodeSource.IMPORTED


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "attested('train', request='r.json')",
            r"attested\('train', request=...\): palm-torch run has opened",
        ),
        ("attested('train', attester='tdx')", r"--attester"),
        ("attested('train').__enter__().run_id\n1/0", "division"),
    ],
)
def test_a_session_of_its_own_is_refused(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    assert run(f"from palm_torch.attesting.attested import attested\n{line}\n") == 1
    assert re.search(words, capsys.readouterr().err)


def test_one_session_a_script(
    run: Callable[..., int], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(JOINING + "attested('train')\n", str(data)) == 1
    assert "palm-torch run measures one session, and it is sealed" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.palm.json"))


def test_another_operation_is_refused() -> None:
    with pytest.raises(SessionError, match="no session to join"):
        joining.join("train", {}, resume=None)
    session = type("Other", (), {"operation": "infer", "state": "open"})()
    joining.offer(session, lambda _: session)
    try:
        with pytest.raises(SessionError, match="opened a session for 'infer' before"):
            joining.join("train", {}, resume=None)
    finally:
        joining.withdraw()


def test_a_block_that_joins_says_how_long_ranks_wait() -> None:
    told: list[float] = []
    session = type("Other", (), {"operation": "train", "state": "open", "wait_for": told.append})()
    joining.offer(session, lambda _: session)
    try:
        attested("train")
        attested("train", ranks_deadline_s=600)
        with pytest.raises(SessionError, match="ranks_deadline_s: expected seconds, up to 604800, got 0"):
            attested("train", ranks_deadline_s=0)
    finally:
        joining.withdraw()
    assert told == [600.0]


RESUMING = """
import sys, loops, torch, palm_torch
net = loops.Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
saved = torch.load("checkpoint.pt") if "--resume" in sys.argv else None
with palm_torch.attested("train", resume=saved and saved["palm"]) as run:
    if saved: net.load_state_dict(saved["net"])
    data = palm_torch.AttestedMmapDataset(sys.argv[1], targets=True)
    loops.train(net, optimizer, palm_torch.DataLoader(data, batch_size=4))
    torch.save({"net": net.state_dict(), "palm": run.state_dict()}, "checkpoint.pt")
"""


def test_a_script_that_resumes_has_a_session_that_says_so(
    run: Callable[..., int], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(RESUMING, str(data)) == 0
    assert run(RESUMING, str(data), "--resume", output="resumed.palm.json") == 0, capsys.readouterr().err
    path = tmp_path / "resumed.simulated.palm.json"
    assert len(evidence.decode(path.read_bytes()).segments) == 1
    end = end_of(path)
    assert claims_of(end).steps.taken == 2
    assert claims_of(end).data["dataset1"].uses["train"].delivered == 8
    assert {"opened:checkpoint.pt", "command", "command#2"} <= end.run.inputs.keys()
    assert end.run.code.source is CodeSource.IMPORTED


def test_a_block_that_raised_leaves_no_evidence_even_if_the_script_goes_on(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = "with contextlib.suppress(ValueError), palm_torch.attested('train'):\n    raise ValueError\n"
    assert run(f"import contextlib, palm_torch\n{block}") == 1
    assert "the block raised ValueError" in said(capsys)
    assert not list(tmp_path.glob("*.palm.json"))


def test_a_forked_child_that_reaches_the_end_leaves_it_to_its_parent(
    run: Callable[..., int], tmp_path: Path
) -> None:
    text = STEPS + "import os\nchild = os.fork()\nif child: print(os.waitpid(child, 0)[1])\n"
    pid = os.getpid()
    try:
        code = run(text)
    finally:
        if os.getpid() != pid:
            os._exit(0 if not list(tmp_path.glob("*.palm.json")) else 1)
    assert code == 0
    assert len(list(tmp_path.glob("*.palm.json"))) == 1


def test_delivered_records_are_counted_as_strictly_as_ever(
    run: Callable[..., int], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(STEPS + EVALUATION, str(data)) == 1
    assert "records are delivered after steps that were fed otherwise" in capsys.readouterr().err
    assert run(EVALUATION + STEPS, str(data)) == 1
    assert "before any record was delivered with gradients on" in capsys.readouterr().err


def test_the_plan_travels_whole() -> None:
    plan = Plan(
        operation="train",
        module=True,
        words=("a.b", "--x", "é"),
        output="o",
        rims=("a", "b"),
        ocsp=("c",),
        gpu_crls=("d", "e"),
        gpu_collector="nvml",
    )
    assert Plan.from_words(plan.to_words()) == plan
    assert plan.evidence_path().name == "o"
    assert Plan(operation="train", module=False, words=("x/y.py",)).evidence_path().name == "y.palm.json"
    assert palm_torch.__version__


NESTED = """
import sys, loops, torch, palm_torch
net = loops.Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
data = palm_torch.AttestedMmapDataset(sys.argv[1], targets=True)
with palm_torch.attested("train") as run:
    loops.train(net, optimizer, palm_torch.DataLoader(data, batch_size=4))
    with palm_torch.attested("train"{arguments}):
        pass
    with torch.no_grad():
        net.weight.add_(1)
"""


@pytest.mark.parametrize("arguments", ["", ', resume={"palm": run.state_dict()}["palm"]'])
def test_a_block_inside_another_is_refused(
    run: Callable[..., int], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str
) -> None:
    assert run(NESTED.replace("{arguments}", arguments), str(data)) == 1
    assert "called inside the block of another attested(...)" in said(capsys)
    assert not list(tmp_path.glob("*.palm.json"))


def test_what_a_script_is_told_to_say_elsewhere_can_be_said_there() -> None:
    """Every argument of `attested` is either an option of the command or taken by a session that is open."""
    options = {name for parameter in command.run.params for name in parameter.opts}
    assert {words.split()[0] for words in joining.OPTIONS.values()} <= options
    assert inspect.signature(attested).parameters.keys() - joining.OPTIONS == {
        "operation",
        "resume",
        "ranks_deadline_s",
    }
    assert "--ranks-deadline" in options


def test_a_request_beside_a_checkpoint_is_said_to_the_launcher(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    line = "import palm_torch\npalm_torch.attested('train', request='r.json', resume={})\n"
    assert run(line) == 1
    assert "`palm-torch run train --request FILE -- ...`, and leave it out here" in said(capsys)


def test_a_checkpoint_that_is_none_ends_the_script_without_evidence(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("import palm_torch\npalm_torch.attested('train', resume={'net': 1})\n") == 1
    told = capsys.readouterr().err
    assert "resume: not what run.state_dict() returned" in told
    assert "no evidence was written: the script ended with EvidenceError" in told
    assert not list(tmp_path.glob("*.palm.json"))
