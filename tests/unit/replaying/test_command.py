"""`palm-torch audit replay`: what it prints and returns, and that a request is good for one answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import replayed_models

from palm_torch import cli

REPLAY = ("audit", "replay")
MODEL = ("--model", "replayed_models:plain")
FILES = ("--request", "r.json", "--answer", "a.json", "--context", "c.json")


def palm(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.main((*REPLAY, *words))
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.err + said.out


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """What a verifier and a prover have after a request was answered."""
    monkeypatch.chdir(tmp_path)
    run = replayed_models.run(replayed_models.plain())
    run.proof.save("c.json")
    run.proof.save_trace("kept")
    code, said = palm(capsys, "request", "--context", "c.json", *MODEL, "--queries", "5", "-o", "r.json")
    assert code == cli.ACCEPTED, said
    assert "1 × 9 tokens, 3 blocks" in said
    assert "NOT SEALED" in said
    code, said = palm(capsys, "answer", "--request", "r.json", "--trace", "kept", "-o", "a.json")
    assert code == cli.ACCEPTED, said


@pytest.mark.usefixtures("asked")
def test_an_honest_answer(capsys: Any) -> None:
    code, said = palm(capsys, "check", *FILES, *MODEL, "-o", "found.json")
    assert code == cli.ACCEPTED, said
    assert "times the model's own rounding; no bound is derived" in said.strip().splitlines()[-1]
    assert "NOT CHECKED   what lies outside of the blocks" in said
    assert json.loads(Path("found.json").read_bytes())["within"] == 8
    code, said = palm(capsys, "check", *FILES, *MODEL, "--json")
    assert code == cli.ACCEPTED
    assert json.loads(said)["accepted"] is True


@pytest.mark.usefixtures("asked")
def test_another_model(capsys: Any) -> None:
    code, said = palm(capsys, "check", *FILES, "--model", "replayed_models:another")
    assert code == cli.REJECTED
    assert "DIFFERS: " in said.strip().splitlines()[-1]
    assert "DIFFERS: channel " in said


@pytest.mark.usefixtures("asked")
def test_a_request_is_good_for_one_answer(capsys: Any) -> None:
    assert palm(capsys, "check", *FILES, *MODEL)[0] == cli.ACCEPTED
    answer = json.loads(Path("a.json").read_bytes())
    answer["decoding"] = {"other": 1}
    Path("a.json").write_text(json.dumps(answer, sort_keys=True, separators=(",", ":")))
    code, said = palm(capsys, "check", *FILES, *MODEL)
    assert code == cli.REJECTED
    assert "another answer needs another request" in said


@pytest.mark.usefixtures("asked")
def test_what_is_malformed(capsys: Any) -> None:
    code, said = palm(capsys, "request", "--context", "c.json", *MODEL, "-o", "r.json")
    assert code == cli.MALFORMED
    assert "--force replaces it" in said
    Path("a.json").write_text("{}")
    code, said = palm(capsys, "check", *FILES, *MODEL)
    assert code == cli.MALFORMED
    code, said = palm(capsys, "check", *FILES, "--model", "nothing")
    assert code == cli.MALFORMED


def _bound(made: Any, ids: Any, mask: Any, folder: str = "kept") -> None:
    """Writes a trace whose ids are bound with a mask."""
    import torch

    import palm_torch

    with palm_torch.commit(made, layers="blocks", keep="memory") as proof, torch.no_grad():
        made(ids)
    proof.bind_tokens(ids, mask)
    proof.save("c.json")
    proof.save_trace(folder)


@pytest.mark.parametrize("padded", [1, 9])
def test_what_was_not_checked_is_not_counted_as_replayed(
    padded: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    ids = torch.randint(1, replayed_models.VOCABULARY, (2, 9))
    mask = torch.ones_like(ids)
    mask[1 if padded == 1 else slice(None), 0] = 0
    _bound(replayed_models.plain(), ids, mask)
    asking = ("request", "--context", "c.json", *MODEL, "--queries", "40", "-o", "r.json")
    assert palm(capsys, *asking)[0] == cli.ACCEPTED
    assert palm(capsys, "answer", "--request", "r.json", "--trace", "kept", "-o", "a.json")[0] == cli.ACCEPTED
    code, said = palm(capsys, "check", *FILES, *MODEL)
    last = said.strip().splitlines()[-1]
    left = said.count("NOT CHECKED: the sequence has padding")
    assert left
    if padded == 1:
        assert code == cli.ACCEPTED
        assert f" drawn places, {left} others not checked" in last
    else:
        assert code == cli.REJECTED
        assert last.startswith(f"INCONCLUSIVE: {left} of {left} drawn places")


@pytest.mark.usefixtures("asked")
def test_another_trace_is_refused(capsys: Any) -> None:
    import torch

    ids = torch.ones(1, 9, dtype=torch.int64)
    _bound(replayed_models.plain(), ids, torch.ones_like(ids), "another")
    code, said = palm(capsys, "check", *FILES, *MODEL, "--json")
    assert code == cli.REJECTED
    assert "trace context: expected the root" in said
