"""`palm-torch fingerprint`, `check --fingerprint` and `audit select`: from a model to a verdict."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

import palm_torch
from palm_torch import terminal
from palm_torch.audit import calibration, fingerprint_file
from palm_torch.challenge import scores_file
from palm_torch.commands import appraising, audit_select, check_rerun, trace_evidence
from palm_torch.commands import fingerprint as verb
from palm_torch.commands.arguments import FILE
from palm_torch.commit import trace
from palm_torch.committing import fingerprints, reruns
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.commit.trace import Context


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(40, 32)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(32, 32), nn.Tanh()) for _ in range(3))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        for layer in self.layers:
            x = x + layer(x)
        found: torch.Tensor = x
        return found


def run(command: click.Command, *words: str) -> Any:
    return command.main(list(words), standalone_mode=False)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Writes prompts and tokens into the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "made_up_models", __import__("sys").modules[__name__])
    source = random.Random(0)
    lists = [[source.randrange(40) for _ in range(12)] for _ in range(9)]
    Path("prompts.txt").write_text("\n".join(map(json.dumps, lists)), encoding="utf-8")
    Path("tokens.json").write_text(json.dumps(lists[0]), encoding="utf-8")
    return tmp_path


def calibrated(*words: str) -> calibration.Calibration:
    run(
        verb.fingerprint,
        *("calibrate", "--model", "made_up_models:Model", "--prompts", "prompts.txt"),
        *("-o", "k.json", *words),
    )
    return calibration.read("k.json")


def test_a_calibration_says_what_it_can_promise(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = calibrated()
    said = capsys.readouterr().out
    assert at.is_dir()
    assert (len(made.scores), made.tokens, made.about["vary"]) == (6, (12, 12), "batch,threads")
    assert "honest       layers.1: projection 0.00098" in said
    assert "14.29% expected; at most 39.30% with confidence 95%" in said
    assert "NOT REACHED: a bound of 5.00% needs 59 prompts" in said
    calibrated(
        "--rate", "0.4", "--json", "--runs", "1", "--vary", "threads", "--tokens", "5", "--site", "layers.0"
    )
    document = json.loads(capsys.readouterr().out)
    assert document["tokens"] == [5, 5]
    assert [part["site"]["module"] for part in document["sites"]] == ["layers.0"]
    calibrated("--rate", "0.4")
    assert "NOT REACHED" not in capsys.readouterr().out
    with pytest.raises(click.BadParameter, match=r"expected of batch, .* got 'moon'"):
        calibrated("--vary", "moon")
    with pytest.raises(click.UsageError, match="would be replaced"):
        run(
            verb.fingerprint,
            *("calibrate", "--model", "m:f", "--prompts", "prompts.txt", "-o", "prompts.txt"),
        )


def test_a_fingerprint_of_given_tokens(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("make", "--model", "made_up_models:Model", "--tokens", "tokens.json")
    run(verb.fingerprint, *words, "-o", "f.json")
    made = fingerprint_file.read(at / "f.json")
    said = capsys.readouterr().out
    assert "site         layers.1: 12 tokens of 32 channels" in said
    assert f"digest       {made.digest}" in said
    run(verb.fingerprint, *words, "-o", "g.json", "--seed", "ab" * 32, "--site", "layers.0")
    seeded = fingerprint_file.read(at / "g.json")
    assert seeded.seed == b"\xab" * 32
    assert [part.site.module for part in seeded.sites] == ["layers.0"]
    with pytest.raises(click.BadParameter, match="seed: expected 32 bytes, got 2"):
        run(verb.fingerprint, *words, "-o", "g.json", "--seed", "abab")
    Path("tokens.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="expected one token or more"):
        run(verb.fingerprint, *words, "-o", "g.json")


def proven(model: nn.Module, ids: list[int]) -> tuple[Context, Any]:
    """Runs a model under a commitment that binds the fingerprint of what it computed, as a prover does."""
    with palm_torch.commit(model, keep="memory") as proof, torch.no_grad():
        model(torch.tensor([ids]))
    groups = [group for group, _ in proof._gathered]
    made = fingerprints.make(groups, proof._streams, proof._kept)
    proof.add_facts({fingerprint_file.FACT: made.digest})
    proof.save("c.json")
    made.save("f.json")
    for module in ("layers.1", "layers.2"):
        proof.open(module, tokens=slice(2, 7)).save(f"{module}.json")
    return proof.trace, proof


@click.command()
@click.option("--root")
@click.option("--evidence", type=FILE)
@click.option("--context", type=FILE)
@click.option("--receipt", type=FILE)
@appraising.options(several=False)
@check_rerun.options
@click.option("--json", "as_json", is_flag=True)
def wired(**options: Any) -> int:
    return check_rerun.run(**options)


def check(
    capsys: pytest.CaptureFixture[str], proof: Any, *flags: str, **words: str | None
) -> tuple[int, str]:
    given = {
        "context": "c.json",
        "fingerprint": "f.json",
        "rerun": "g.json",
        "calibration": "k.json",
        "root": str(proof.root),
        **words,
    }
    options = [word for name, value in given.items() if value is not None for word in (f"--{name}", value)]
    code = run(wired, *options, *flags)
    return code, capsys.readouterr().out


def test_from_a_model_to_a_verdict(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibrated("--rate", "0.4")
    ids = json.loads((at / "tokens.json").read_text())
    reruns.run(Model().eval(), ids).save("g.json")
    capsys.readouterr()
    _, proof = proven(Model(), ids)
    code, said = check(capsys, proof)
    assert code == 0, said
    assert said.splitlines()[-1].startswith("ALIKE: as close to your run as honest re-runs are")
    assert "NOT SHOWN, that it was made of what the trace binds" in said
    code, said = check(capsys, proof, "--shown", "layers.1.json", "--shown", "layers.2.json")
    assert code == 0
    assert "made of   10 rows of the trace are what it was made of" in said
    other = Model()
    with torch.no_grad():
        other.layers[1][0].weight *= 1.01
    _, proof = proven(other, ids)
    code, said = check(capsys, proof)
    assert (code, said.splitlines()[-1]) == (
        1,
        "DIFFERENT: further from your run than honest re-runs are",
    )
    code, said = check(capsys, proof, "--json")
    document = json.loads(said)
    assert (code, document["verdict"], document["rows_shown"]) == (1, "different", 0)
    assert document["score"] > document["threshold"]
    _, proof = proven(other, ids[:7])
    code, said = check(capsys, proof, "--json")
    document = json.loads(said)
    assert (code, document["score"], document["why"]) == (1, None, "layers.1: 12 tokens against 7")


def test_what_is_refused(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibrated("--rate", "0.4")
    ids = json.loads((at / "tokens.json").read_text())
    reruns.run(Model().eval(), ids).save("g.json")
    _, proof = proven(Model(), ids)
    made = fingerprint_file.read("f.json")
    part = made.sites[0]
    # a fingerprint of the expected run, bound to a trace of another one: only openings tell
    other = Model()
    with torch.no_grad():
        other.layers[0][0].weight *= 1.5
    with palm_torch.commit(other, keep="memory") as cheat, torch.no_grad():
        other(torch.tensor([ids]))
    cheat.add_facts({fingerprint_file.FACT: made.digest})
    cheat.save("cheat.json")
    cheat.open("layers.1", tokens=slice(0, 3)).save("o.json")
    capsys.readouterr()
    code, said = check(capsys, cheat, context="cheat.json")
    assert (code, "ALIKE" in said) == (0, True)
    code, said = check(capsys, cheat, context="cheat.json", shown="o.json")
    assert code == 1
    assert "is not that of the row which the trace has there" in said
    code, said = check(capsys, proof, root="palm-sha256:" + "00" * 32)
    assert (code, "it is of another trace" in said) == (1, True)
    dataclasses.replace(made, sites=(part,)).save("f2.json")
    code, said = check(capsys, proof, fingerprint="f2.json")
    assert (code, "expected the fingerprint that the trace binds" in said) == (1, True)
    code, said = check(capsys, proof, rerun="f2.json")
    assert (code, "MALFORMED" in said) == (2, True)
    proof.open("layers.0", tokens=slice(0, 3)).save("o.json")
    code, said = check(capsys, proof, shown="o.json")
    assert (code, "expected whole rows of a site of the fingerprint" in said) == (2, True)
    refused: list[tuple[dict[str, str | None], str]] = [
        ({"rerun": None}, "goes with --context CONTEXT"),
        ({"root": None}, "check needs either --root ROOT"),
        ({"evidence": "e.json"}, "check needs either --root ROOT"),
        ({"evidence": "e.json", "root": None}, "--evidence goes with --policy POLICY"),
        ({"policy": "p.yaml"}, "--policy goes with --evidence EVIDENCE or --receipt RECEIPT"),
    ]
    for words, says in refused:
        with pytest.raises(click.UsageError, match=says):
            check(capsys, proof, **words)


def test_evidence_names_the_trace(
    at: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated("--rate", "0.4")
    ids = json.loads((at / "tokens.json").read_text())
    reruns.run(Model().eval(), ids).save("g.json")
    _, proof = proven(Model(), ids)
    capsys.readouterr()
    asked = []

    def named(context: bytes, what: str, **words: Any) -> Any:
        asked.append((trace.root(context), what, words["evidence"], words["policy"]))
        return SimpleNamespace(root=proof.root, source="e.json", result=SimpleNamespace(to_json=dict))

    monkeypatch.setattr(trace_evidence, "named", named)
    monkeypatch.setattr(terminal, "verdict", lambda _: "ACCEPTED as it is")
    words: dict[str, str | None] = {"root": None, "evidence": "e.json", "policy": "p.yaml"}
    code, said = check(capsys, proof, **words)
    assert asked == [(proof.root, "c.json", Path("e.json"), Path("p.yaml"))]
    assert code == 0
    assert said.startswith("evidence  e.json: ACCEPTED as it is\nroot ")
    code, said = check(capsys, proof, "--json", **words)
    assert json.loads(said)["evidence"] == {}


def test_options_are_added_to_a_command() -> None:
    @check_rerun.options
    def bare() -> None:
        pass

    names = [option.name for option in click.command()(bare).params]
    assert names == list(check_rerun.NAMES)


def saved_model(folder: Path) -> Path:
    source = np.random.default_rng(0)
    tensors = {
        name: source.standard_normal((8, 8)).astype(np.float32)
        for name in (
            "model.embed_tokens.weight",
            "lm_head.weight",
            *(f"model.layers.{n}.w" for n in range(4)),
        )
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_who_looks_at_which_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = saved_model(tmp_path), tmp_path / "scores.json"
    run(audit_select.select, "--weights", str(model), "--budgets", "130,64,1", "-o", str(out))
    said = capsys.readouterr().out
    found = scores_file.read(out)
    assert [len(range(who.first, who.end)) for who in found.verifiers] == [2, 1, 0]
    assert "verifier 2  nothing that its budget would do for: 0.000 M of 0.000 M parameters, 0.0%" in said
    assert "covered    3 of 6 parts" in said
    assert len(scores_file.weights_of(found, verifier=0)) == 6
    run(audit_select.select, "--weights", str(model), "--score", "uniform", "--json")
    document = json.loads(capsys.readouterr().out)
    assert [part["score"] for part in document["parts"]] == [1] * 6
    run(audit_select.select, "--weights", str(model), "--score", "l2")
    assert "-o FILE writes them" in capsys.readouterr().out


@pytest.mark.parametrize("budgets", ["", "a", "1,-1", "nan", "1,,2"])
def test_budgets_that_are_none(tmp_path: Path, budgets: str) -> None:
    with pytest.raises(click.BadParameter, match="expected numbers of parameters"):
        run(audit_select.select, "--weights", str(tmp_path), "--budgets", budgets)


def test_scores_are_not_written_over_the_weights(tmp_path: Path) -> None:
    model = saved_model(tmp_path)
    path = str(model / "model.safetensors")
    with pytest.raises(click.UsageError, match="would be replaced"):
        run(audit_select.select, "--weights", path, "-o", path)
