"""`palm-torch check-answers` and `palm-torch open-answer`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import answering
import pytest
import torch

import palm_torch
from palm_torch import answer_verification, cli
from palm_torch.appraisal import policy_template
from palm_torch.attesting.attested import attested
from palm_torch.cvm import simulated
from palm_torch.errors import InputError
from palm_torch.exit_codes import ACCEPTED, MALFORMED, REJECTED, USAGE
from palm_torch.result import Tier

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("fresh_process")

RECEIPTS = [f"{number}.simulated.palm-receipt.json" for number in range(3)]
SEALED = "chat.simulated.palm.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of three answers with all its files: a text, tokens with a trace, bytes that are no text."""
    folder = tmp_path_factory.mktemp("answers")
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "vocabulary.txt").write_text("a b")
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with answering.few_sources(), attested("session", attester="simulated") as run:
        run.model(model)
        tokens = torch.arange(70)
        signed = [
            run.answer(query="why\x1b[2J?", response="x" * 3000, tokenizer=tokenizer, decoding={"t": 1})
        ]
        with palm_torch.commit(model, layers="all") as proof:
            model(torch.ones(1, 4))
        signed.append(run.answer(query=tokens, response=tokens[:2].to(torch.int32), proof=proof))
        signed.append(run.answer(query=b"\xff", response=torch.ones(2)))
        run.receipt(note=b"note").save(folder / "other.palm-receipt.json")
        run.openings.save(folder / "salts.json")
    for number, answer in enumerate(signed):
        answer.save(folder / f"{number}.palm-receipt.json")
        for role, opening in answer.openings.items():
            opening.save(folder / f"{number}.{role}.json")
    proof.save(folder / "trace.json")
    sealed = run.evidence.save(folder / "chat.palm.json")
    root = simulated.SimulatedTdx().root_certificate()
    text = policy_template.starting_policy(Path(sealed).read_bytes(), simulated_root=root)
    (folder / "policy.yaml").write_text(text)
    return folder


@pytest.fixture
def palm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(folder)

    def call(*words: str) -> tuple[int, str]:
        code = cli.main(words)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


@pytest.fixture
def check(palm: Callable[..., tuple[int, str]]) -> Callable[..., tuple[int, str]]:
    return lambda *words: palm("check-answers", "--policy", "policy.yaml", *words)


def test_what_was_asked_and_answered_is_shown_in_order(check: Callable[..., tuple[int, str]]) -> None:
    openings = [f"{number}.{role}.json" for number in range(3) for role in ("query", "response")]
    options = [word for name in openings for word in ("--opening", name)]
    code, out = check(
        *reversed(RECEIPTS),
        *options,
        "--closing",
        SEALED,
        "--trace",
        "trace.json",
        "--tokenizer",
        "tokenizer",
    )
    assert code == ACCEPTED, out
    assert "query     why\\x1b[2J?" in out
    assert f"response  {'x' * 2000} ..." in out
    assert f"query     int64[70]: {' '.join(map(str, range(64)))} ..." in out
    assert "response  int32[2]: 0 1" in out
    assert "query     bytes, 1 bytes" in out
    assert "response  float32[2], 8 bytes" in out
    assert out.index("answer    0") < out.index("answer    1") < out.index("answer    2")
    assert "its context is this answer's" in out
    assert "missing before the last: none" in out
    assert "decoding  t 1 (reported by code)" in out
    assert "unclosed" not in out
    assert out.splitlines()[-1].startswith("ACCEPTED (warning): simulated TEE")


def test_what_is_not_at_hand_is_said(check: Callable[..., tuple[int, str]]) -> None:
    code, out = check(RECEIPTS[1])
    assert code == ACCEPTED
    assert "missing before the last: 0" in out
    assert "query     not opened; --opening FILE shows it" in out
    assert "its context was not given" in out
    assert "decoding  not said" in out
    assert "that none is revoked, and how the session went on: --closing" in out


def test_json_has_everything(check: Callable[..., tuple[int, str]]) -> None:
    code, out = check(*RECEIPTS[1:], "--opening", "1.query.json", "--trace", "trace.json", "--json")
    assert code == ACCEPTED
    said = json.loads(out)
    assert (said["tier"], said["missing"]) == ("warning", [0])
    first, second = said["answers"]
    assert (first["answer"], first["opened"]["query"]["form"]) == (1, "int64[70]")
    assert first["trace"].startswith("palm-sha256:")
    assert (second["trace"], second["opened"]) == (None, {})
    code, out = check(RECEIPTS[0], "--opening", "1.query.json", "--json")
    assert (code, json.loads(out)["tier"]) == (REJECTED, "contraindicated")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (
            [RECEIPTS[0], "--opening", "1.query.json"],
            REJECTED,
            "expected an opening of the query or response",
        ),
        ([RECEIPTS[0], "--opening", "trace.json"], MALFORMED, "trace.json"),
        ([RECEIPTS[0], "--trace", "trace.json"], REJECTED, "none of 1 receipts names it"),
        ([RECEIPTS[0], "--tokenizer", "policy.yaml"], REJECTED, "policy.yaml: expected the tokenizer"),
        ([RECEIPTS[0], "--tokenizer", "gone"], MALFORMED, "cannot read the tokenizer"),
        ([RECEIPTS[0], RECEIPTS[0]], MALFORMED, "the receipt of answer 0 was given twice"),
        ([SEALED], MALFORMED, "expected a receipt of an answer; evidence is for palm-torch verify"),
        (["other.simulated.palm-receipt.json"], MALFORMED, "got one of kind 'receipt'"),
        (["gone"], MALFORMED, "gone: cannot read"),
        ([RECEIPTS[0], "--at", "tomorrow"], USAGE, "--at"),
        ([RECEIPTS[0], "--at", "2001-01-01T00:00:00Z"], REJECTED, f"{RECEIPTS[0]}: "),
    ],
)
def test_what_does_not_belong_together_is_refused(
    check: Callable[..., tuple[int, str]], words: list[str], code: int, says: str
) -> None:
    got, out = check(*words)
    assert (got, says in out) == (code, True), out


def test_without_receipts_nothing_is_verified(folder: Path) -> None:
    with pytest.raises(InputError, match="expected one receipt or more"):
        answer_verification.verify_answers([], policy=folder / "policy.yaml")


def test_answers_are_affirming_if_all_their_results_are(folder: Path) -> None:
    import dataclasses

    found = answer_verification.verify_answers([folder / RECEIPTS[0]], policy=folder / "policy.yaml")
    assert found.tier is Tier.WARNING
    assert found.warnings
    good = dataclasses.replace(found.answers[0].result, tier=Tier.AFFIRMING)
    (answer,) = found.answers
    assert (
        dataclasses.replace(found, answers=(dataclasses.replace(answer, result=good),)).tier is Tier.AFFIRMING
    )


# open-answer ---------------------------------------------------------------------------------------------


def test_an_opening_made_later_is_the_one_made_then(
    palm: Callable[..., tuple[int, str]], folder: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made.json"
    (folder / "tokens.bin").write_bytes(torch.arange(70).numpy().tobytes())
    start = ["open-answer", "salts.json", "-o", str(made), "--answer"]
    code, out = palm(*start, "0", "--role", "query", "--text", "why\x1b[2J?", "--receipt", RECEIPTS[0])
    assert (code, "as the receipt says" in out) == (ACCEPTED, True), out
    assert made.read_bytes() == (folder / "0.query.json").read_bytes()
    assert made.stat().st_mode & 0o777 == 0o600
    code, out = palm(*start, "1", "--role", "query", "--file", "tokens.bin", "--form", "int64[70]")
    assert (code, "not compared" in out) == (ACCEPTED, True), out
    assert made.read_bytes() == (folder / "1.query.json").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (
            ["--answer", "3", "--role", "query", "--text", ""],
            REJECTED,
            "expected an answer from 0 to 2, got 3",
        ),
        (["--answer", "0", "--role", "query"], USAGE, "either --text TEXT or --file FILE"),
        (["--answer", "0", "--role", "query", "--text", "", "--file", "x"], USAGE, "either --text"),
        (["--answer", "0", "--role", "query", "--text", "\ud800"], MALFORMED, "that UTF-8 can spell"),
        (["--answer", "0", "--role", "query", "--file", "gone"], MALFORMED, "cannot read what was said"),
        (
            ["--answer", "0", "--role", "query", "--text", "no", "--receipt", RECEIPTS[0]],
            REJECTED,
            "or another --form",
        ),
        (
            ["--answer", "0", "--role", "query", "--text", "", "--receipt", RECEIPTS[1]],
            REJECTED,
            "expected the receipt of answer 0",
        ),
        (
            [
                "--answer",
                "0",
                "--role",
                "query",
                "--text",
                "",
                "--receipt",
                "other.simulated.palm-receipt.json",
            ],
            REJECTED,
            "expected the receipt of answer 0",
        ),
    ],
)
def test_openings_that_would_not_be_accepted_are_not_written(
    palm: Callable[..., tuple[int, str]], tmp_path: Path, words: list[str], code: int, says: str
) -> None:
    made = tmp_path / "made.json"
    got, out = palm("open-answer", "salts.json", "-o", str(made), *words)
    assert (got, says in out) == (code, True), out
    assert not made.exists()
