"""`palm-torch audit check`: what it prints and returns, and that a request is good for one answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import answering as sessions
import audited_models
import loops
import pytest
import torch
import yaml

import palm_torch
from palm_torch import cli
from palm_torch.attesting.attested import attested
from palm_torch.commit import weights_commitment

if TYPE_CHECKING:
    from palm_torch.challenge.request import AuditRequest

WORDS = ("audit", "check", "--request", "r.json", "--answer", "a.json", "--context", "c.json")


def palm(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.main(words)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out + said.err


def last(said: str) -> str:
    return said.strip().splitlines()[-1]


def save(run: audited_models.Run, asked: AuditRequest, **words: Any) -> None:
    asked.save("r.json")
    run.answer(asked, **words).save("a.json")
    Path("c.json").write_bytes(run.context)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> audited_models.Run:
    monkeypatch.chdir(tmp_path)
    return audited_models.run(audited_models.model("llama"), Path("model"))


def test_a_consistent_answer(run: audited_models.Run, capsys: Any) -> None:
    save(run, run.ask(queries=16, whole=1), decoding=audited_models.GREEDY)
    code, said = palm(capsys, *WORDS, "--weights", "model", "-o", "found.json")
    assert code == cli.ACCEPTED, said
    assert "NOT SEALED" in said
    assert "drawn     16 places, and all rows of model.layers." in said
    assert "; farthest output " in said
    assert "CONSISTENT: " in said
    assert "nothing is proved by that" in said
    found = json.loads(Path("found.json").read_bytes())
    assert not found["sealed"]
    assert {one["verdict"] for one in found["findings"]} <= {"consistent", "not checked"}
    code, said = palm(capsys, *WORDS, "--weights", "model", "--json")
    assert code == cli.ACCEPTED
    assert json.loads(said)["consistent"] is True
    weights_commitment_of = weights_commitment.commit(Path("model"))
    Path("like.json").write_bytes(weights_commitment_of.encode())
    code, said = palm(capsys, *WORDS, "--weights", "model", "--like", "like.json")
    assert code == cli.ACCEPTED, said


def test_weights_that_the_answer_opens(run: audited_models.Run, capsys: Any) -> None:
    save(run, run.ask(queries=4, coordinates=2), weights=run.weights)
    code, said = palm(capsys, *WORDS)
    assert code == cli.ACCEPTED, said


def test_an_inconsistent_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    served, claimed = audited_models.model("llama", seed=1), audited_models.model("llama")
    run = audited_models.run(served, Path("model"), named=claimed)
    save(run, run.ask(queries=16))
    code, said = palm(capsys, *WORDS, "--weights", "model")
    assert code == cli.REJECTED
    assert "INCONSISTENT  model.layers." in said
    assert "more operations; --json lists them" in said
    assert "operations cannot have given what the trace says" in said
    code, said = palm(capsys, *WORDS, "--weights", "model", "--json")
    assert code == cli.REJECTED
    assert json.loads(said)["consistent"] is False


def test_an_answer_from_which_nothing_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    made = audited_models.model("llama")
    ids, mask = audited_models.prompt(batch=1, padded=0)

    def edit(_module: object, _given: object, output: torch.Tensor) -> torch.Tensor:
        return torch.full_like(output, float("inf"))

    made.model.embed_tokens.register_forward_hook(edit)
    run = audited_models.run(made, Path("model"), ids=ids, mask=mask, bind=False)
    save(run, run.ask(queries=4, weights=(1, 10_000, 1, 1)))
    code, said = palm(capsys, *WORDS, "--weights", "model")
    assert code == cli.REJECTED
    assert "is not finite, or so large that anything may follow" in said


def test_a_request_is_good_for_one_answer(run: audited_models.Run, capsys: Any) -> None:
    asked = run.ask(queries=4)
    save(run, asked)
    assert palm(capsys, *WORDS, "--weights", "model")[0] == cli.ACCEPTED
    run.answer(asked, decoding={"do_sample": False}).save("a.json")
    code, said = palm(capsys, *WORDS, "--weights", "model")
    assert code == cli.REJECTED
    assert "this request was used for the answer" in said


def test_what_goes_together(run: audited_models.Run, capsys: Any) -> None:
    save(run, run.ask(queries=4))
    code, said = palm(capsys, *WORDS)
    assert code == cli.MALFORMED
    assert "the request is that of a verifier who has them" in last(said)
    assert palm(capsys, *WORDS, "--like", "c.json")[0] == cli.USAGE
    assert palm(capsys, *WORDS, "--policy", "c.json")[0] == cli.USAGE
    audited_models.model("llama", seed=9).save_pretrained("other")
    code, said = palm(capsys, *WORDS, "--weights", "other")
    assert code == cli.REJECTED
    assert "these are other weights" in last(said)


@pytest.fixture
def talked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> audited_models.Run:
    """An attested session of one answer with its trace, in files."""
    monkeypatch.chdir(tmp_path)
    made = audited_models.model("llama")
    ids, mask = audited_models.prompt(batch=1, padded=0)
    with sessions.few_sources(), attested("session", attester="simulated") as session:
        session.model(made)
        with palm_torch.commit(made, layers="audit", keep="memory") as proof:
            out = made.generate(ids, attention_mask=mask, max_new_tokens=3, **audited_models.GREEDY)
        proof.bind_tokens(out)
        given = session.answer(query=ids, response=out, decoding={"do_sample": False}, proof=proof)
    Path("e.palm.json").write_bytes(session.evidence.bundle.encode())
    Path("receipt.json").write_bytes(given.receipt.encode())
    for role in ("query", "response"):
        given.openings[role].save(f"{role}.json")
    required = {"property": "session", "model": ["any"], "tokenizer": ["none"]}
    policy = {**yaml.safe_load(loops.policy_text(session)), "claims": required}
    Path("policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    made.save_pretrained("model")
    proof.save("c.json")
    proof.save_trace("trace")
    described = audited_models.geometry.from_config(made.config.to_dict(), what="config.json")
    return audited_models.Run(proof, described, Path("model"))


def test_from_sealed_evidence_to_a_verdict(talked: audited_models.Run, capsys: Any) -> None:
    sealed = ("--evidence", "e.palm.json", "--policy", "policy.yaml")
    asking = ("audit", "request", "--context", "c.json", "--config", "model/config.json", "-o", "r.json")
    code, said = palm(capsys, *asking, *sealed)
    assert code == cli.ACCEPTED, said
    code, said = palm(capsys, "audit", "answer", "--request", "r.json", "--trace", "trace", "-o", "a.json")
    assert code == cli.ACCEPTED, said
    code, said = palm(capsys, *WORDS, *sealed, "--weights", "model")
    assert code == cli.ACCEPTED, said
    assert said.splitlines()[0].startswith("evidence  e.palm.json: ACCEPTED (warning)")
    assert "NOT SEALED" not in said
    assert "NOT APPRAISED" not in said
    code, said = palm(capsys, *WORDS, *sealed, "--weights", "model", "--json")
    assert json.loads(said)["answers"] == [0]
    code, said = palm(capsys, *WORDS, "--weights", "model")
    assert code == cli.ACCEPTED
    assert "NOT APPRAISED: the request names sealed claims" in said
    assert "are those of the query and the response you know" in said
    code, said = palm(
        capsys, *WORDS, "--weights", "model", "--opening", "query.json", "--opening", "response.json"
    )
    assert code == cli.ACCEPTED, said
    assert "response you know" not in said
    receipt = ("--receipt", "receipt.json", "--policy", "policy.yaml")
    code, said = palm(capsys, *WORDS, *receipt, "--weights", "model")
    assert code == cli.REJECTED
    assert "expected a request about the claims" in last(said)
    own = talked.ask(queries=4)
    save(talked, own)
    code, said = palm(capsys, *WORDS, *sealed, "--weights", "model")
    assert code == cli.REJECTED
    assert "got one about none" in last(said)


@pytest.mark.usefixtures("talked")
def test_what_a_receipt_says_of_decoding(capsys: Any) -> None:
    """Whoever answers from a saved trace does not say how tokens were chosen: the receipt does."""
    receipt = ("--receipt", "receipt.json", "--policy", "policy.yaml")
    asking = ("audit", "request", "--context", "c.json", "--config", "model/config.json", "-o", "r.json")
    code, said = palm(capsys, *asking, *receipt, "--queries", "60")
    assert code == cli.ACCEPTED, said
    code, said = palm(capsys, "audit", "answer", "--request", "r.json", "--trace", "trace", "-o", "a.json")
    assert code == cli.ACCEPTED, said
    code, said = palm(capsys, *WORDS, *receipt, "--weights", "model", "--json")
    assert code == cli.ACCEPTED, said
    tokens = [one for one in json.loads(said)["findings"] if one["operation"] == "token"]
    assert "consistent" in {one["verdict"] for one in tokens}


def test_blocks_replayed_from_sealed_evidence(talked: audited_models.Run, capsys: Any) -> None:
    assert talked.context
    sealed = ("--evidence", "e.palm.json", "--policy", "policy.yaml")
    replay, own = ("audit", "replay"), ("--context", "c.json", "--model", "model")
    code, said = palm(capsys, *replay, "request", *own, *sealed, "-o", "p.json")
    assert code == cli.ACCEPTED, said
    assert "evidence  e.palm.json: ACCEPTED (warning)" in said
    code, said = palm(capsys, *replay, "answer", "--request", "p.json", "--trace", "trace", "-o", "b.json")
    assert code == cli.ACCEPTED, said
    asked = ("--request", "p.json", "--answer", "b.json")
    code, said = palm(capsys, *replay, "check", *asked, *own, *sealed)
    assert code == cli.ACCEPTED, said
    assert "evidence  e.palm.json: ACCEPTED (warning)" in said
    assert "NOT SEALED" not in said
    assert "\nREPLAYED: " in said
    code, said = palm(capsys, *replay, "check", *asked, *own, *sealed, "--json")
    told, _ = json.JSONDecoder().raw_decode(said[said.index("{") :])
    assert told["accepted"] is True
    assert told["evidence"] is not None
