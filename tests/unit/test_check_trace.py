"""`palm-torch check` and `palm-torch inspect` of traces: from a root, from evidence, from a receipt."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import answering
import loops
import pytest
import safetensors.numpy
import traces
import yaml
from traces import DECODING

import palm_torch
from palm_torch import cli, receipt
from palm_torch.attesting.attested import attested
from palm_torch.commands import evidence_appraisal
from palm_torch.commit import trace, trace_question
from palm_torch.commit.trace import ModuleCoverage, Site
from palm_torch.digest import sha256_digest
from palm_torch.encoding import encode_json

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.attesting.session import Session

SITE = Site("layers.1")
QUERY = str(sha256_digest(b"prompt"))


def palm(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(words)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out + said.err


def last(said: str) -> str:
    return said.strip().splitlines()[-1]


def saved(scheme: Any, **ranges: Any) -> traces.MadeUp:
    """Writes a trace's context and an opening of it."""
    made = traces.MadeUp(
        (traces.layers(3), "bfloat16", 48, DECODING),
        ((Site("pair", "0"), Site("pair", "1")), "float32", 4, DECODING),
        scheme=scheme,
    )
    Path("t.json").write_bytes(made.encoded)
    made.open(trace_question.ask(made.context, SITE, **ranges), "bfloat16", 48).save("o.json")
    return made


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> traces.MadeUp:
    monkeypatch.chdir(tmp_path)
    return saved("hash", tokens=slice(3, 5), batch=1, channels=slice(0, 8))


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_what_is_shown_under_a_root(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made = saved(scheme, tokens=slice(3, 5), batch=1, channels=slice(0, 8))
    words = ("check", "o.json", "--context", "t.json", "--root", str(made.root))
    code, said = palm(capsys, *words, "--values", "v.safetensors", "--fact", f"prompt={QUERY}")
    assert code == cli.ACCEPTED, said
    lines = said.splitlines()
    assert lines[:8] == [
        f"root      {made.root}, scheme {scheme}",
        "site      layers.1, bfloat16",
        "opened    batch 1:2, tokens 3:5, channels 0:8: 32 bytes",
        "model     not named",
        f"fact      prompt {QUERY}, as you expect",
        "coverage  1 modules, 5 calls, each seen as often as it had to be, as the trace says",
        "left out  layers.0 (output 1): a cache",
        "values    v.safetensors",
    ]
    assert "NOT SHOWN: anything it returned elsewhere, or others did; whose run it was" in said
    assert last(said) == (
        "PROVEN: these are batch 1:2, tokens 3:5, channels 0:8 of layers.1 in the run with this root"
    )
    data = Path("v.safetensors").read_bytes()
    opening = trace_question.ask(made.context, SITE, tokens=slice(3, 5), batch=1, channels=slice(0, 8))
    assert data.endswith(
        palm_torch.commit.trace_opening.verify(
            made.root, made.encoded, opening, palm_torch.commit.trace_opening.read(Path("o.json"))
        ).values
    )
    assert b'"layers.1"' in data
    assert b'"site":"layers.1|"' in data


def test_as_json(capsys: Any, made: traces.MadeUp) -> None:
    code, said = palm(capsys, "check", "o.json", "--context", "t.json", "--root", str(made.root), "--json")
    found = json.loads(said)
    assert code == cli.ACCEPTED
    assert (found["module"], found["output"], found["call"], found["shape"]) == (
        "layers.1",
        "",
        None,
        [1, 2, 8],
    )
    assert (found["facts"], found["model"], found["scheme"]) == ({"prompt": QUERY}, None, "hash")
    assert (found["answers"], found["evidence"], found["strength"]) == (None, None, None)
    assert found["not_captured"] == [{"kind": "a cache", "module": "layers.0", "output": "1"}]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--site", "layers.2"), "expected the site 'layers.2', it is of layers.1"),
        (("--site", "layers.1|0"), "expected the site 'layers.1|0', it is of layers.1"),
        (("--site", "pair"), "'pair' has several outputs: --site is one of 'pair|0', 'pair|1'"),
        (("--call", "0"), "expected call 0, it counts tokens through all calls"),
        (("--tokens", "3"), "expected tokens 3:4, it has 3:5"),
        (("--batch", "0:2"), "expected batch 0:2, it has 1:2"),
        (("--channels", "0:48"), "expected channels 0:48, it has 0:8"),
        (("--fact", "query=" + QUERY), "the fact 'query' to be " + QUERY + ", the trace has none of that"),
        (("--fact", f"prompt={sha256_digest(b'')}"), f"the trace has {QUERY}"),
    ],
)
def test_what_the_caller_expects(capsys: Any, made: traces.MadeUp, words: Any, says: str) -> None:
    root = ("check", "o.json", "--context", "t.json", "--root", str(made.root))
    code, said = palm(capsys, *root, *words)
    assert code == cli.REJECTED
    assert last(said).startswith("REJECTED ArtifactError: o.json: ")
    assert says in last(said)
    good = ("--site", "layers.1", "--tokens", "3:5", "--batch", "1", "--channels", "0:8")
    assert palm(capsys, *root, *good)[0] == cli.ACCEPTED


def test_one_call_and_one_of_several_outputs(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = saved("hash")
    asked = trace_question.ask(made.context, Site("pair", "1"), call=2)
    made.open(asked, "float32", 4).save("o.json")
    words = ("check", "o.json", "--context", "t.json", "--root", str(made.root))
    code, said = palm(capsys, *words, "--call", "2", "--site", "pair|1", "--values", "v.safetensors")
    assert code == cli.ACCEPTED
    assert "opened    call 2, batch 0:2, tokens 0:1, channels 0:4: 32 bytes" in said
    assert list(safetensors.numpy.load_file("v.safetensors")) == ["pair|1"]
    code, said = palm(capsys, *words, "--call", "1")
    assert code == cli.REJECTED
    assert "expected call 1, it is of call 2" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "check needs either --root ROOT, or --evidence EVIDENCE, --receipt RECEIPT or both"),
        (("--root", "0" * 64, "--evidence", "e"), "check needs either --root ROOT, or"),
        (("--root", "0" * 64), "an opening of a trace goes with --context CONTEXT"),
        (
            ("--root", "0" * 64, "--context", "t.json", "--like", "l"),
            "--like goes with an opening of weights",
        ),
        (
            ("--root", "0" * 64, "--context", "t.json", "--rows", "3"),
            "--rows goes with an opening of weights",
        ),
        (("--root", "0" * 64, "--context", "t.json", "--policy", "p"), "--policy goes with --evidence"),
        (("--receipt", "r", "--context", "t.json"), "goes with --policy POLICY: what you demand of it"),
        (("--root", "0" * 64, "--context", "t.json", "--fact", "x"), "expected NAME=DIGEST, each name once"),
        (("--root", "0" * 64, "--context", "t.json", "--fact", "x=y"), "the fact 'x'"),
        (("--root", "x", "--context", "t.json"), "--root"),
        (("--root", "0" * 64, "--context", "t.json", "--values", "t.json"), "would be replaced"),
    ],
)
def test_words_that_mean_nothing(capsys: Any, made: traces.MadeUp, words: tuple[str, ...], says: str) -> None:
    assert made.root
    code, said = palm(capsys, "check", "o.json", *words)
    assert (code, says in " ".join(said.split())) == (cli.USAGE, True), said


def test_words_of_traces_for_other_files(capsys: Any, made: traces.MadeUp) -> None:
    assert made.root
    Path("w.json").write_bytes(b'{"columns":[0,1]}')
    code, said = palm(capsys, "check", "w.json", "--root", "0" * 64, "--tokens", "3")
    assert code == cli.USAGE
    assert "--tokens goes with an opening of a trace: w.json does not say that it is one" in said
    code, said = palm(capsys, "check", "missing.json", "--root", "0" * 64)
    assert code == cli.MALFORMED
    assert "cannot read the opening" in said


def test_files_that_are_bent(capsys: Any, made: traces.MadeUp) -> None:
    words = ("check", "o.json", "--context", "t.json", "--root")
    code, said = palm(capsys, *words, "0" * 64, "--json")
    assert (code, json.loads(said)["error"]) == (cli.REJECTED, "BindingError")
    Path("t.json").write_bytes(made.encoded + b"\n")
    assert palm(capsys, *words, str(made.root))[0] == cli.REJECTED
    Path("t.json").write_bytes(made.encoded)
    good = Path("o.json").read_bytes()
    Path("o.json").write_bytes(good[:-2] + b" }")
    code, said = palm(capsys, *words, str(made.root))
    assert (code, "MALFORMED EvidenceError: o.json" in said) == (cli.MALFORMED, True)
    Path("o.json").write_bytes(good)
    Path("t.json").unlink()
    code, said = palm(capsys, *words, str(made.root))
    assert (code, "cannot read the context" in said) == (cli.MALFORMED, True)


def test_values_that_safetensors_cannot_hold(capsys: Any, made: traces.MadeUp) -> None:
    other = traces.MadeUp(((SITE,), "complex128", 2, DECODING))
    Path("t.json").write_bytes(other.encoded)
    other.open(trace_question.ask(other.context, SITE), "complex128", 2).save("o.json")
    words = ("check", "o.json", "--context", "t.json", "--root", str(other.root), "--values", "v.safetensors")
    code, said = palm(capsys, *words)
    assert (code, "it is proven, check it without --values" in said) == (cli.USAGE, True)
    assert made.root != other.root


def test_what_a_context_says_of_gaps_and_of_nothing(capsys: Any, made: traces.MadeUp) -> None:
    gap = ModuleCoverage("layers.2", "at will", 5, 3)
    left_out = made.context.not_captured * 6
    forged = {f"query {QUERY}, as you expect": sha256_digest(b"other")}
    context = dataclasses.replace(made.context, facts=forged)
    Path("c.json").write_bytes(context.encode())
    assert f"fact      'query {QUERY}, as you expect' sha256:" in palm(capsys, "inspect", "c.json")[1]
    context = dataclasses.replace(made.context, facts={}, coverage=(gap,), not_captured=left_out)
    Path("c.json").write_bytes(context.encode())
    code, said = palm(capsys, "inspect", "c.json")
    assert code == cli.ACCEPTED
    assert "NOT VERIFIED" in said
    assert "fact      none: the trace says of no question or answer that it is theirs" in said
    assert "1 modules not as often as expected, such as 'layers.2': 3 of 5 (expected 'at will')" in said
    assert "left out  2 more outputs; --json lists them" in said


def test_inspecting(capsys: Any, made: traces.MadeUp) -> None:
    code, said = palm(capsys, "inspect", "t.json")
    assert code == cli.ACCEPTED
    assert "file      t.json, the context of a trace" in said
    assert f"root      {made.root}, scheme hash" in said
    group = f"bfloat16, 48 channels, 5 calls, 18 rows, 6 tiles, root {made.context.groups[0].root}"
    assert f"group     layers.0 and 2 more sites: {group}" in said
    assert "setting   torch 2.13.0" in said
    code, said = palm(capsys, "inspect", "o.json")
    assert "file      o.json, an opening of a trace" in said
    assert "opened    batch 1:2, tokens 3:5, channels 0:8" in said
    found = json.loads(palm(capsys, "inspect", "t.json", "--json")[1])
    assert (found["root"], found["verified"]) == (str(made.root), False)
    found = json.loads(palm(capsys, "inspect", "o.json", "--json")[1])
    assert (found["root"], found["verified"]) == (str(made.root), False)
    Path("t.json").write_bytes(made.encoded[:-1])
    assert palm(capsys, "inspect", "t.json")[0] == cli.MALFORMED


class Talked(NamedTuple):
    """A folder with the evidence of two answers, of which the first has a trace, and the session's words."""

    folder: Path
    run: Session
    receipts: list[Any]


@pytest.fixture(scope="module")
def talked(tmp_path_factory: pytest.TempPathFactory) -> Talked:
    folder = tmp_path_factory.mktemp("talked")
    model = answering.Talker()
    with answering.few_sources(), attested("session", attester="simulated") as run:
        run.model(model)
        with palm_torch.commit(model, layers=[""], keep="memory") as proof:
            model.reply(answering.question(0))
        given = [answering.ask(run, model, 0, proof=proof), answering.ask(run, model, 1)]
        with palm_torch.commit(model, layers=[""], keep="memory") as stranger:
            model.reply(answering.question(0))
    (folder / "e.palm.json").write_bytes(run.evidence.bundle.encode())
    for number, one in enumerate(given):
        (folder / f"r{number}.json").write_bytes(one.receipt.encode())
    required = {"property": "session", "model": ["any"], "tokenizer": ["none"]}
    policy = {**yaml.safe_load(loops.policy_text(run)), "claims": required}
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    for name, kept in (("mine", proof), ("other", stranger)):
        kept.save(folder / f"{name}.palm-trace.json")
        kept.open("", tokens=2, channels=slice(0, 4)).save(folder / f"{name}.palm-opening.json")
    return Talked(folder, run, given)


def believed(name: str, *words: str) -> tuple[str, ...]:
    opening = (f"{name}.palm-opening.json", "--context", f"{name}.palm-trace.json")
    return ("check", *opening, *words, "--policy", "policy.yaml")


def test_of_an_answer(capsys: Any, talked: Talked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(talked.folder)
    for words, unclosed in (
        (("--evidence", "e.palm.json"), False),
        (("--receipt", "r0.json", "--evidence", "e.palm.json"), False),
        (("--receipt", "r0.json"), True),
    ):
        code, said = palm(capsys, *believed("mine", *words))
        assert code == cli.ACCEPTED, said
        source = words[1]
        assert said.startswith(f"evidence  {source}: ACCEPTED (warning): ")
        assert ("unclosed" in said.splitlines()[0]) == unclosed
        assert "answer    0 of the session" in said
        assert "site      the model itself, float32" in said
        assert "fact      query palm-sha256:" in said
        assert "whose run it was" not in said
        assert last(said) == (
            "PROVEN: these are batch 0:1, tokens 2:3, channels 0:4 of the model itself in answer 0, as "
            f"{source} says (warning, strength simulated)"
        )
        found = json.loads(palm(capsys, *believed("mine", *words), "--json")[1])
        assert (found["answers"], found["strength"]) == ([0], "simulated")
        assert found["model"] == str(answering.content(talked.receipts[0]).model)


def test_traces_of_nobody(
    capsys: Any, talked: Talked, monkeypatch: pytest.MonkeyPatch, good: GoodRun
) -> None:
    monkeypatch.chdir(talked.folder)
    code, said = palm(capsys, *believed("other", "--evidence", "e.palm.json"))
    assert code == cli.REJECTED
    assert "none of the 2 answers of e.palm.json, 1 with a trace, names it" in last(said)
    for name in ("r0.json", "r1.json"):
        code, said = palm(capsys, *believed("other", "--receipt", name))
        assert (code, "expected the trace" in last(said)) == (cli.REJECTED, True)
    code, said = palm(capsys, *believed("mine", "--evidence", "r0.json"))
    assert (code, "r0.json: a receipt; expected sealed evidence" in last(said)) == (cli.MALFORMED, True)
    code, said = palm(capsys, *believed("mine", "--receipt", "e.palm.json"))
    assert (code, "e.palm.json: expected a receipt" in last(said)) == (cli.MALFORMED, True)
    code, said = palm(capsys, *believed("mine", "--receipt", "r0.json", "--part", "e.palm.json"))
    assert (code, "--part goes with sealed evidence alone" in said) == (cli.USAGE, True)
    Path("train.palm.json").write_bytes(good.data)
    Path("train.yaml").write_bytes(good.policy_text())
    Path("train.request").write_bytes(good.request)
    train = ("--policy", "train.yaml", "--request", "train.request", "--at", "2026-11-21T12:00:00Z")
    code, said = palm(capsys, *believed("mine", "--evidence", "train.palm.json"), *train)
    assert (code, "expected evidence of 'infer' or 'session'" in last(said)) == (cli.REJECTED, True)


def renamed_trace(bundle: Any, root: Any) -> Any:
    """Returns a bundle whose log names another trace for its first answer."""
    log = []
    for entry in bundle.log:
        event = json.loads(entry)
        if event["type"] == "answer" and event["payload"]["answer"] == 0:
            event["payload"]["trace"] = str(root)
        log.append(encode_json(event))
    return dataclasses.replace(bundle, log=tuple(log))


def test_a_trace_of_another_model_or_question_under_an_answers_name(
    capsys: Any, talked: Talked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log may name it: the context has to speak of that answer all the same."""
    monkeypatch.chdir(talked.folder)
    other = Path("other.palm-trace.json").read_bytes()
    bundle = talked.run.evidence.bundle

    def attempt(context: bytes) -> str:
        def sealed(*_: Any, **__: Any) -> Any:
            return None, renamed_trace(bundle, trace.root(context))

        monkeypatch.setattr(evidence_appraisal, "sealed", sealed)
        Path("other.palm-trace.json").write_bytes(context)
        code, said = palm(capsys, *believed("other", "--evidence", "e.palm.json"))
        assert code == cli.REJECTED
        return last(said)

    decoded = trace.decode(other, what="context")
    model = answering.content(talked.receipts[0]).model
    assert f"expected a trace of the model {model}, as e.palm.json says, got one of none" in attempt(other)
    mine = dataclasses.replace(decoded, model=model)
    assert "fact 'query': expected palm-sha256:" in attempt(mine.encode())
    asked = answering.content(talked.receipts[0]).query.digest
    assert asked is not None
    half = dataclasses.replace(mine, facts={"query": asked})
    assert "fact 'response': expected palm-sha256:" in attempt(half.encode())
    Path("other.palm-trace.json").write_bytes(other)


def test_a_receipt_of_something_else(capsys: Any, talked: Talked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(talked.folder)
    content = receipt.ArtifactsReceipt(
        issued=answering.content(talked.receipts[0]).issued,
        artifacts={"a": answering.content(talked.receipts[0]).query},
    )
    monkeypatch.setattr(evidence_appraisal, "signed", lambda *_, **__: (None, content))
    code, said = palm(capsys, *believed("mine", "--receipt", "r0.json"))
    assert (code, "expected the receipt of an answer, got one of 'receipt'" in last(said)) == (
        cli.REJECTED,
        True,
    )


def test_an_answer_that_is_revoked(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = answering.Talker()
    with answering.few_sources(), attested("session", attester="simulated") as run:
        run.model(model)
        with palm_torch.commit(model, layers=[""], keep="memory") as proof:
            model.reply(answering.question(0))
        answering.ask(run, model, 0, proof=proof)
        model.dec.data.numpy()[0, 0] += 1
    Path("e.palm.json").write_bytes(run.evidence.bundle.encode())
    required = {"property": "session", "model": ["any"], "tokenizer": ["none"], "revoked": 1}
    policy = {**yaml.safe_load(loops.policy_text(run)), "claims": required}
    Path("policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    proof.save("mine.palm-trace.json")
    proof.open("").save("mine.palm-opening.json")
    code, said = palm(capsys, *believed("mine", "--evidence", "e.palm.json"))
    assert code == cli.REJECTED
    assert "REJECTED ClaimError: answer 0 is revoked: tensor 'dec' was found changed" in said
