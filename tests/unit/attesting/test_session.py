"""The session itself: what a script can say about its run, answering a request, sealing and saving."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import loops
import numpy as np
import pytest
import torch
from loops import Net, check, opened, train

from palm_torch import request as requests
from palm_torch.attesting.attested import attested
from palm_torch.cvm import attester as attesters
from palm_torch.cvm import simulated
from palm_torch.data.loader import DataLoader
from palm_torch.digest import sha256_digest
from palm_torch.errors import AttesterError, EncodingError, MeasurementError, SealError, SessionError
from palm_torch.roles import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from palm_torch.attesting.session import Session


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loops.corpus(tmp_path_factory.mktemp("data") / "corpus", records=4)


@pytest.fixture(scope="module", autouse=True)
def _fresh_process() -> Iterator[None]:
    with loops.fresh_process():
        yield


def step(data: Path) -> None:
    net = Net()
    train(net, torch.optim.SGD(net.parameters(), lr=0.1), DataLoader(opened(data), batch_size=4))


class Flaky(simulated.SimulatedTdx):
    """A machine that refuses the quotes it is told to refuse."""

    def __init__(self, *refused: int) -> None:
        super().__init__()
        self._refused = refused
        self._asked = 0
        self.unwritable = False

    def quote(self, report_data: bytes) -> bytes:
        self._asked += 1
        if self._asked in self._refused:
            raise AttesterError("the quoting service does not answer")
        return super().quote(report_data)

    def extend(self, digest: bytes) -> None:
        if self.unwritable:
            raise AttesterError("the register cannot be written")
        super().extend(digest)


# What a script says -------------------------------------------------------------------------------------


def test_logged_quantities_are_summed_up_and_labelled(data: Path, tmp_path: Path) -> None:
    with attested("train") as run:
        step(data)
        for loss in (3, 5.5, torch.tensor([2.5], requires_grad=True), np.float32(4), float("nan")):
            run.log(loss=loss)
        run.log(last=torch.tensor(1.5, dtype=torch.bfloat16), never=float("nan"), beyond=float("inf"))
    reported = check(run, tmp_path, reported={"last": {"greatest": 1.5}}).end.run.reported
    loss = reported["loss"]
    assert loss.source is Source.REPORTED
    assert (loss.count, loss.first, loss.last, loss.least, loss.greatest) == (5, 3.0, "nan", 2.5, 5.5)
    assert (reported["never"].least, reported["never"].greatest) == ("nan", "nan")
    assert (reported["beyond"].least, reported["beyond"].greatest) == ("inf", "inf")


def test_what_is_not_one_number_is_not_logged(data: Path, tmp_path: Path) -> None:
    with attested("train") as run:
        step(data)
        for value in (
            "3",
            None,
            True,
            1j,
            [1],
            10**400,
            torch.ones(2),
            np.ones(2),
            torch.ones((), device="meta"),
        ):
            for says in (run.log, run.config, run.input, run.output):
                with pytest.raises(MeasurementError, match="stands before the number of the rank that said"):
                    says(**{"loss#rank1": 1.0})  # type: ignore[operator]  # of several signatures
            with pytest.raises(MeasurementError, match=r"run\.log\(loss=\.\.\.\): expected"):
                run.log(loss=value)
        for name in ("", "\ud800", "a\nb", "a" * 201):
            with pytest.raises(MeasurementError, match=r"run\.log: expected a name"):
                run.log(**{name: 1})
        run.log(**{f"loss{number}": number for number in range(1000)})
        with pytest.raises(MeasurementError, match="at most 1000 different names"):
            run.log(another=1)
    assert len(check(run, tmp_path).end.run.reported) == 1000


def test_configuration_is_what_was_said_then_and_labelled(data: Path, tmp_path: Path) -> None:
    said: dict[str, Any] = {"layers": [1, 2]}
    with attested("train") as run:
        run.config(model=said, seed=7)
        said["layers"].append(object())
        step(data)
        with pytest.raises(EncodingError):
            run.config(rate=float("nan"))
        with pytest.raises(EncodingError):
            run.config(optimizer=object())
        with pytest.raises(MeasurementError, match="at most 1048576 bytes of settings"):
            run.config(vocabulary=["word"] * 200_000)
    config = check(run, tmp_path).claims.configuration.value["config"]
    assert config == {"source": "reported by code", "value": {"model": {"layers": [1, 2]}, "seed": 7}}


def test_inputs_and_outputs_by_role(data: Path, tmp_path: Path) -> None:
    tokenizer, report = tmp_path / "tokenizer.json", tmp_path / "report.txt"
    tokenizer.write_bytes(b"{}")
    with attested("train") as run:
        run.input(tokenizer=tokenizer, prompt=b"words", recipe=str(tokenizer))
        step(data)
        report.write_bytes(b"fine")
        run.output(report=report)
        with pytest.raises(MeasurementError, match=r"dictionary='.*': cannot be read: No such file"):
            run.input(dictionary=tmp_path / "missing")
        with pytest.raises(MeasurementError, match="cannot be read"):
            run.output(folder=tmp_path)
        with pytest.raises(MeasurementError, match="the role 'data' is not named by the script"):
            run.input(data=tokenizer)
        with pytest.raises(MeasurementError, match="the role 'tokenizer' is not named by the script"):
            run.output(tokenizer=tokenizer)
        with pytest.raises(MeasurementError, match="expected a path or bytes, got object"):
            run.input(tokenizer=object())
        with pytest.raises(MeasurementError, match="cannot be read: embedded null"):
            run.input(recipe="a\0b")
        with pytest.raises(MeasurementError, match="a role: expected a name"):
            run.input(**{"\ud800": b""})
    files = {"tokenizer": tokenizer, "report": report, "recipe": tokenizer}
    found = check(run, tmp_path, files=files, tokenizer=[str(sha256_digest(b"{}"))])
    assert found.end.run.inputs["prompt"].digest == sha256_digest(b"words")
    assert sorted(found.end.run.inputs) == ["prompt", "recipe"]  # the tokenizer has a role of its own
    assert sorted(found.end.run.outputs) == ["report"]


def test_request_is_answered(data: Path, tmp_path: Path) -> None:
    asked = requests.Request(
        type=requests.TYPE,
        nonce=secrets.token_hex(32),
        operation="train",
        roles=("model", "data"),
        expires=(datetime.now(UTC) + timedelta(hours=1)).strftime(requests.TIME_FORMAT),
    )
    (tmp_path / "request.json").write_bytes(asked.encode())
    with attested("train", request=tmp_path / "request.json") as run:
        step(data)
    assert check(run, tmp_path, challenge=asked.encode()).result.freshness == "challenged"


# Beginning and ending -----------------------------------------------------------------------------------


def test_nothing_is_said_outside_of_the_block(data: Path) -> None:
    run = attested("train")
    for state in ("new", "sealed"):
        for call in (run.log, run.config, run.input, run.output):
            with pytest.raises(SessionError, match=rf"the session is {state}; call it inside"):
                call()
        if state == "new":
            with pytest.raises(SessionError, match=r"run\.evidence: there is none"):
                _ = run.evidence
            with run:
                step(data)
                with pytest.raises(SessionError, match=r"run\.evidence: there is none: the session is open"):
                    _ = run.evidence
                with pytest.raises(SessionError, match=r"run\.seal\(\): nothing to seal"):
                    run.seal()


def test_session_is_entered_once(data: Path) -> None:
    with attested("train") as run:
        step(data)
    with pytest.raises(SessionError, match="entered once; this one is sealed"), run:
        pass


def test_operations_of_later_versions_are_named() -> None:
    with pytest.raises(
        SessionError, match=r"attested\('evaluate'\): this version attests .*'infer', 'session'$"
    ):
        attested("evaluate")


def test_unknown_attester_is_refused() -> None:
    with pytest.raises(AttesterError, match="expected one of"):
        attested("train", attester="sgx")


def test_attester_that_fails_at_begin_begins_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attesters, "select", lambda _kind: Flaky(1))
    run = attested("train")
    with pytest.raises(AttesterError, match="does not answer"), run:
        step(data)
    with run:  # nothing had begun
        step(data)
    check(run, tmp_path)


# Sealing and saving -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "working"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def _failing_to_seal(data: Path, monkeypatch: pytest.MonkeyPatch, *refused: int) -> tuple[Session, SealError]:
    monkeypatch.setattr(attesters, "select", lambda _kind: Flaky(*refused))
    run = attested("train")
    with (
        pytest.raises(SealError, match="measured but could not be sealed: the quoting service") as caught,
        run,
    ):
        step(data)
    return run, caught.value


def test_failed_seal_leaves_a_diagnosis_and_is_tried_again(
    data: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, error = _failing_to_seal(data, monkeypatch, 2, 3)
    (diagnosis,) = folder.iterdir()
    assert diagnosis.name == f"palm-{run.run_id}.failed.json"
    assert str(diagnosis) in str(error)
    assert json.loads(diagnosis.read_bytes())["evidence"] is False
    with pytest.raises(SessionError, match=r"run\.evidence: there is none: the session is measured"):
        _ = run.evidence
    with pytest.raises(SealError, match="does not answer"):
        run.seal()
    sealed = run.seal()
    assert sealed is run.evidence
    with pytest.raises(SessionError, match=r"run\.seal\(\): nothing to seal: the session is sealed"):
        run.seal()
    assert run.evidence is sealed
    check(run, tmp_path)


def test_register_that_refuses_at_the_end_is_tried_again(
    data: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Flaky()
    monkeypatch.setattr(attesters, "select", lambda _kind: machine)
    run = attested("train")

    def refused_at_the_end() -> None:
        with run:
            step(data)
            machine.unwritable = True

    with pytest.raises(SealError, match="could not be logged: the register cannot be written"):
        refused_at_the_end()
    assert len(list(folder.iterdir())) == 1
    machine.unwritable = False
    run.seal()
    assert len(run.evidence.bundle.log) == 2
    check(run, tmp_path)


def test_register_that_refuses_at_the_first_step_ends_the_run(
    data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Flaky()
    machine.unwritable = True
    monkeypatch.setattr(attesters, "select", lambda _kind: machine)
    with pytest.raises(AttesterError, match="cannot be written"), attested("train"):
        step(data)
    assert not list(folder.iterdir())


def test_diagnosis_that_cannot_be_written_does_not_lose_the_run(
    data: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.rmdir()
    run, error = _failing_to_seal(data, monkeypatch, 2)
    assert "no diagnosis was written" in str(error)
    run.seal()
    check(run, tmp_path)


def test_evidence_is_saved_elsewhere_when_a_place_refuses(data: Path, folder: Path, tmp_path: Path) -> None:
    with attested("train") as run:
        step(data)
    (folder / "occupied").write_bytes(b"")
    for path in (folder / "occupied" / "train.palm.json", folder / "missing" / "train.palm.json"):
        with pytest.raises(SealError, match="cannot write here"):
            run.evidence.save(path)
    (folder / "train.simulated.palm.json").mkdir()
    with pytest.raises(SealError, match="expected the path of a file"):
        run.evidence.save(folder / "train.palm.json")
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
    assert check(run, tmp_path).path.name == f"{run.run_id}.simulated.palm.json"


def test_evidence_that_no_verifier_could_read_is_not_sealed(
    data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_too_large() -> None:
        with attested("train"):
            step(data)
            monkeypatch.setattr("palm_torch.evidence.MAX_STATEMENT_BYTES", 1000)

    with pytest.raises(SealError, match="statement: expected at most 1000 bytes"):
        run_too_large()
    assert len(list(folder.glob("*.failed.json"))) == 1


def test_simulation_announces_itself_and_names_the_file(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attesters._announce.cache_clear()
    with attested("train") as run:
        step(data)
    assert "SIMULATED TEE" in capsys.readouterr().err
    assert run.evidence.save(tmp_path / "train.json").name == "train.simulated.palm.json"
