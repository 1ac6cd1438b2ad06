"""`palm-torch audit request` and `palm-torch audit answer`, with and without sealed evidence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import answering as sessions
import audited
import loops
import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

import palm_torch
from palm_torch import cli, evidence
from palm_torch.attesting.attested import attested
from palm_torch.challenge import answer, challenge, parts, request, scores_file, sealed
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.commit import trace
from palm_torch.committing import saved_trace
from palm_torch.digest import sha256_digest
from palm_torch.encoding import encode_json

if TYPE_CHECKING:
    from palm_torch.attesting.session import Session

REQUEST = ("audit", "request", "--context", "t.json", "--config", "config.json", "-o", "r.json")
ANSWER = ("audit", "answer", "--request", "r.json", "--trace", "trace", "-o", "a.json")


def palm(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, " ".join(said.err.split())


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> audited.Audited:
    """A trace that was saved, its context and the model's config, in the current folder."""
    monkeypatch.chdir(tmp_path)
    made = audited.Audited(audited.llama())
    Path("t.json").write_bytes(made.encoded)
    Path("config.json").write_text(json.dumps(audited.LLAMA, indent=2), encoding="utf-8")
    saved_trace.save(Path("trace"), made.kept())
    return made


def test_nothing_is_sealed_and_that_is_said(capsys: Any, made: audited.Audited) -> None:
    code, said, loud = palm(capsys, *REQUEST, "--queries", "5", "--whole", "1")
    assert code == cli.ACCEPTED, loud
    drawn = request.read(Path("r.json"))
    assert (drawn.claims, drawn.queries, drawn.whole, drawn.coordinates) == (None, 5, 1, 0)
    assert (drawn.trace, drawn.geometry, drawn.weights) == (made.root, made.geometry, (1, 1, 1, 1))
    parts = len({place.part for place in challenge.asked(drawn, made.context).places})
    assert said.splitlines() == [
        f"trace     {made.root}: 2 × 8 tokens, 4 parts",
        "claims    none",
        f"asks      5 places in {parts} parts, 1 whole blocks, 0 coordinates",
        "request   r.json",
        f"digest    {drawn.digest}",
    ]
    assert loud.startswith(
        "NOT SEALED: neither --evidence nor --receipt was given. Whoever gave you the trace"
    )
    code, said, loud = palm(capsys, *ANSWER)
    assert code == cli.ACCEPTED, loud
    found = answer.read(Path("a.json"))
    assert found.request == drawn.digest
    shown = sum(len(opening.tiles) for opening in found.openings)
    assert said.splitlines() == [
        f"request   {drawn.digest}",
        f"opened    {len(found.openings)} runs of rows, {shown} bytes; 0 blocks of weights",
        "tokens    shown",
        "answer    a.json",
    ]


def test_a_request_is_not_replaced_unasked(capsys: Any, made: audited.Audited) -> None:
    assert palm(capsys, *REQUEST)[0] == cli.ACCEPTED
    first = request.read(Path("r.json"))
    code, _, loud = palm(capsys, *REQUEST)
    assert (code, "r.json: there is a request already; --force replaces it" in loud) == (cli.MALFORMED, True)
    assert request.read(Path("r.json")) == first
    assert palm(capsys, *REQUEST, "--force")[0] == cli.ACCEPTED
    again = request.read(Path("r.json"))
    assert again.nonce != first.nonce
    assert again.trace == made.root


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--policy", "p.yaml"), "--policy goes with --evidence EVIDENCE or --receipt RECEIPT"),
        (("--evidence", "e.json"), "goes with --policy POLICY: what you demand of it"),
        (("--uniform", "0.3"), "--verifier and --uniform go with --scores SCORES"),
        (("--verifier", "0"), "--verifier and --uniform go with --scores SCORES"),
        (("--config", "r.json"), "would be replaced"),
        (("--queries", "-1"), "--queries"),
    ],
)
def test_words_that_mean_nothing(
    capsys: Any, made: audited.Audited, words: tuple[str, ...], says: str
) -> None:
    assert made.root
    Path("r.json").write_text("{}", encoding="utf-8")
    code, _, loud = palm(capsys, *REQUEST, *words)
    assert (code, says in loud) == (cli.USAGE, True), loud


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[]", "config.json: expected a model's config.json, an object, got list"),
        (b"{", "config.json: expected a model's config.json: Expecting"),
        (b"\xff", "config.json: expected a model's config.json: "),
        (b"[" * 200 + b"]" * 200, "config.json: "),
        (b'{"model_type": "bert"}', "config.json: model_type: expected one of gpt2, llama"),
    ],
)
def test_configs_of_no_model(capsys: Any, made: audited.Audited, content: bytes, says: str) -> None:
    assert made.root
    Path("config.json").write_bytes(content)
    code, _, loud = palm(capsys, *REQUEST)
    assert (code, says in loud) == (cli.MALFORMED, True), loud
    assert not Path("r.json").exists()


def test_what_the_trace_does_not_have(capsys: Any, made: audited.Audited) -> None:
    assert made.root
    Path("config.json").write_text(json.dumps({**audited.LLAMA, "num_hidden_layers": 3}), encoding="utf-8")
    code, _, loud = palm(capsys, *REQUEST)
    assert (code, "model.layers.2" in loud) == (cli.MALFORMED, True)
    assert palm(capsys, *REQUEST, "--queries", "0")[0] == cli.MALFORMED
    Path("t.json").write_bytes(b"{}")
    assert palm(capsys, *REQUEST)[0] == cli.MALFORMED
    assert not Path("r.json").exists()


def test_answers_that_cannot_be(capsys: Any, made: audited.Audited) -> None:
    assert palm(capsys, *REQUEST, "--coordinates", "1")[0] == cli.ACCEPTED
    code, _, loud = palm(capsys, *ANSWER)
    assert (code, "it asks for 1 coordinates of weights" in loud) == (cli.MALFORMED, True)
    other = request.draw(audited.Audited(audited.llama(), tokens=None).encoded, made.geometry, claims=None)
    other.save("r.json")
    code, _, loud = palm(capsys, *ANSWER)
    assert (code, "request: expected one about the trace" in loud) == (cli.REJECTED, True)
    code, _, loud = palm(capsys, *ANSWER, "-o", "r.json")
    assert (code, "would be replaced" in loud) == (cli.USAGE, True)
    assert not Path("a.json").exists()


def test_parts_are_drawn_by_scores(capsys: Any, made: audited.Audited) -> None:
    names = [part.name for part in parts.parts(made.geometry)]
    scores = scores_file.Scores(
        media_type=scores_file.MEDIA_TYPE,
        measure="alpha",
        parts=tuple(
            scores_file.PartScore(name=name, score=number / 4, cost=1) for number, name in enumerate(names)
        ),
        verifiers=(scores_file.Verifier(budget=2.0, first=1, end=3),),
    )
    Path("s.json").write_bytes(scores.encode())
    for words, options in (
        ((), {}),
        (("--uniform", "0.25"), {"uniform": 0.25}),
        (("--verifier", "0"), {"verifier": 0}),
    ):
        code, _, loud = palm(capsys, *REQUEST, "--force", "--scores", "s.json", *words)
        assert code == cli.ACCEPTED, loud
        drawn = request.read(Path("r.json"))
        assert drawn.weights == scores_file.weights_of(scores, **options)
        assert len(set(drawn.weights)) > 1
    Path("s.json").write_bytes(dataclasses.replace(scores, parts=scores.parts[:3]).encode())
    code, _, loud = palm(capsys, *REQUEST, "--force", "--scores", "s.json")
    assert (code, "s.json: expected scores of 4 parts, 'embedding' to 'head'" in loud) == (
        cli.MALFORMED,
        True,
    )
    assert request.read(Path("r.json")) == drawn


@pytest.fixture(scope="module")
def talked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Session]:
    """A session of one answer with its trace, and the model's weights."""
    folder = tmp_path_factory.mktemp("audited")
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config).eval()
    asked = torch.tensor([[3, 4, 5]])
    with sessions.few_sources(), attested("session", attester="simulated") as run:
        run.model(model)
        with palm_torch.commit(model, layers="audit", keep="memory") as proof:
            out = model.generate(asked, max_new_tokens=4, do_sample=False, pad_token_id=0)
        proof.bind_tokens(out)
        given = run.answer(query=asked, response=out, decoding={"do_sample": False}, proof=proof)
    (folder / "e.palm.json").write_bytes(run.evidence.bundle.encode())
    (folder / "receipt.json").write_bytes(given.receipt.encode())
    required = {"property": "session", "model": ["any"], "tokenizer": ["none"]}
    policy = {**yaml.safe_load(loops.policy_text(run)), "claims": required}
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    model.save_pretrained(folder / "model")
    (folder / "config.json").write_bytes((folder / "model" / "config.json").read_bytes())
    proof.save(folder / "t.json")
    proof.save_trace(folder / "trace")
    return folder, run


def test_of_an_answer(capsys: Any, talked: tuple[Path, Session], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = talked
    monkeypatch.chdir(folder)
    bundle = evidence.decode(Path("e.palm.json").read_bytes())
    statement = palm_torch.receipt.decode(Path("receipt.json").read_bytes()).envelope.payload
    for words, claims in (
        (("--evidence", "e.palm.json"), sealed.of_evidence(bundle)),
        (("--receipt", "receipt.json"), sha256_digest(statement)),
        (("--receipt", "receipt.json", "--evidence", "e.palm.json"), sha256_digest(statement)),
    ):
        code, said, loud = palm(capsys, *REQUEST, "--force", *words, "--policy", "policy.yaml")
        assert code == cli.ACCEPTED, loud
        assert said.startswith(f"evidence  {words[1]}: ACCEPTED")
        assert "NOT SEALED" not in loud
        assert request.read(Path("r.json")).claims == claims
        assert palm(capsys, *ANSWER)[0] == cli.ACCEPTED
    code, _, loud = palm(capsys, *REQUEST, "--force", "--coordinates", "2")
    assert code == cli.ACCEPTED, loud
    code, said, loud = palm(capsys, *ANSWER, "--weights", "model")
    assert code == cli.ACCEPTED, loud
    found = answer.read(Path("a.json"))
    assert f"{len(found.weights)} blocks of weights" in said
    context = trace.decode(Path("t.json").read_bytes(), what="t.json")
    assert found.tokens is not None
    assert {opening.root for opening in found.weights} == {context.model}
    assert audit_tokens.verify(found.tokens, context.facts["tokens"]).length == 7
    code, _, loud = palm(capsys, *ANSWER, "--weights", "model", "-o", "model/model.safetensors")
    assert (code, "would be replaced" in loud) == (cli.USAGE, True)


def test_evidence_of_another_trace(capsys: Any, talked: tuple[Path, Session], made: audited.Audited) -> None:
    folder, _ = talked
    assert made.root
    words = ("--evidence", str(folder / "e.palm.json"), "--policy", str(folder / "policy.yaml"))
    code, _, loud = palm(capsys, *REQUEST, *words)
    assert (code, "names it" in loud) == (cli.REJECTED, True)
    assert not Path("r.json").exists()
    Path("config.json").write_bytes(encode_json({}))
    assert palm(capsys, *REQUEST)[0] == cli.MALFORMED
