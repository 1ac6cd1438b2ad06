"""Sessions of inference: answers, receipts, what is sealed, and weights that do not stay what they were."""

# ruff: noqa: PT012 (the whole block of a session is under test)
from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

import answering
import pytest
import torch
from answering import Talker, ask, chat, check, content, verify

import palm_torch
from palm_torch.appraisal import answer_traces
from palm_torch.attesting import tokenizers
from palm_torch.attesting.attested import attested
from palm_torch.commit import answer_facts, answers, file_list, salted
from palm_torch.digest import sha256_digest
from palm_torch.errors import (
    BindingError,
    ClaimError,
    CoverageError,
    EncodingError,
    MeasurementError,
    SessionError,
)
from palm_torch.hooks import source, weights
from palm_torch.properties import Infer
from palm_torch.properties import Session as SessionProperty
from palm_torch.result import Tier

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("fresh_process", "few_sources")


def test_a_session_says_which_model_answered_and_how() -> None:
    model = Talker()
    found = chat(3, model=model)
    claims = found.end.claims
    assert isinstance(claims, SessionProperty)
    assert claims.model.digest == weights.WeightsMeter().measure(weights.canonical_tensors(model)).root
    assert (found.account.answers, found.account.revoked, found.account.looks) == (3, (), 2)
    assert claims.history.digest == content(found.receipts[-1]).history
    assert claims.response.digest == content(found.receipts[-1]).response.digest
    result = verify(
        found.run,
        model=[str(claims.model.digest)],
        answers={"least": 3},
        decoding={"temperature": {"greatest": 1}},
        choices={"do_sample": [True]},
    )
    assert result.simulated
    said = {claim.name: claim.value for claim in result.claims}
    assert said["answers"].startswith("3, 0 revoked")
    assert said["decoding temperature"] == "0.5"


def test_infer_is_about_one_answer() -> None:
    model = Talker()
    with attested("infer", attester="simulated") as run:
        run.model(model)
        signed = ask(run, model, 0)
        with pytest.raises(SessionError, match=r"one answer"):
            ask(run, model, 1)
    found = answering.Chat(run, [signed])
    assert isinstance(found.end.claims, Infer)
    assert verify(run).operation == "infer"
    assert check(signed.receipt, run, closing=found.closing).session == "closed"


def test_receipts_are_believed_alone_and_with_the_closing_evidence() -> None:
    found = chat(3)
    for number, signed in enumerate(found.receipts):
        alone = check(signed.receipt, found.run)
        assert (alone.session, alone.tier) == ("unclosed", Tier.WARNING)
        closed = check(
            signed.receipt, found.run, closing=found.closing, decoding={"temperature": {"least": 0.5}}
        )
        assert closed.session == "closed"
        assert {claim.name: claim.value for claim in closed.claims}[
            "answer"
        ] == f"number {number} of its session"


def test_the_first_answer_finds_code_and_collateral_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        pytest.fail("the first answer waited for it")

    with attested("session", attester="simulated") as run:
        run.model(Talker())
        with monkeypatch.context() as waiting:
            waiting.setattr(source, "loaded_sources", refuse)
            waiting.setattr(run._sealer.attester, "collateral", refuse)
            signed = run.answer(query="q", response="a")
    assert check(signed.receipt, run).session == "unclosed"


def test_a_receipt_says_what_it_rests_on_and_chains_the_history() -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        first = content(ask(run, model, 0))
        run.measure_weights()
        run.begin_answer()
        torch.rand(1)
        second = content(ask(run, model, 1))
    assert (first.rests_on.answers, second.rests_on.answers) == (0, 1)
    assert first.history == second.history_before != second.history
    assert (first.generators.since, second.generators.since) == ("last", "begin")
    assert first.generators.before == first.generators.after == second.generators.before
    assert second.generators.after != second.generators.before
    assert (first.answer, second.answer) == (0, 1)
    assert answering.Chat(run, []).account.looks == 3


def test_the_commitments_open_to_what_was_asked_and_to_nothing_else(tmp_path: Path) -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        signed = run.answer(query="yes or no?", response="no")
        again = run.answer(query="yes or no?", response="no")
    assert content(signed).query.digest != content(again).query.digest  # nobody learns that they are equal
    signed.openings["query"].save(tmp_path / "q")
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o600
    opening = salted.decode((tmp_path / "q").read_bytes())
    assert salted.verify(opening, content(signed).query.digest) == salted.Content("text", b"yes or no?")
    with pytest.raises(BindingError):
        salted.verify(opening, content(again).query.digest)
    run.openings.save(tmp_path / "salts")
    kept = salted.decode_salts((tmp_path / "salts").read_bytes())
    later = kept.salts[1].opening("response", salted.Content("text", b"no"))
    assert salted.verify(later, content(again).response.digest).content == b"no"
    lie = kept.salts[1].opening("response", salted.Content("text", b"yes"))
    with pytest.raises(BindingError):
        salted.verify(lie, content(again).response.digest)


def test_a_trace_is_bound_to_its_answer_and_named_in_the_receipt() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    with attested("session", attester="simulated") as run:
        root = run.model(model)
        run.begin_answer()
        with palm_torch.commit(model, layers="all") as proof:
            response = model(torch.ones(3, 4))
        signed = run.answer(
            query=torch.ones(3, 4),
            response=response,
            decoding={"temperature": 0},
            tokenizer=b"{}",
            proof=proof,
            logits=response,
        )
        with pytest.raises(SessionError, match="was asked for already"):
            run.answer(query=b"", response=b"", proof=proof)
        second = run.answer(query=b"", response=b"", tokenizer=b"{}")
    said = content(signed)
    context = answer_traces.check(proof.context, said)
    assert (said.trace, context.model) == (proof.root, root)
    assert set(context.facts) == {
        "query", "response", "tokenizer", "decoding", "generators.before", "generators.after", "logits",
    }  # fmt: skip
    assert context.facts["query"] == said.query.digest
    assert context.facts["logits"] == answer_facts.logits(signed.logits)
    assert len(signed.logits) == 3
    assert (second.logits, content(second).trace) == ((), None)
    assert [turn.trace for turn in answers.replay(run.evidence.bundle.log).turns] == [proof.root, None]
    assert answering.Chat(run, []).account.traced == 1
    with pytest.raises(ClaimError, match="traced"):
        verify(run, traced=True, tokenizer=["any"])
    with pytest.raises(ClaimError, match="trace"):
        check(second.receipt, run, traced=True, tokenizer=["any"])
    assert check(signed.receipt, run, traced=True, tokenizer=["any"]).operation == "session"


def test_a_trace_of_something_else_is_not_bound() -> None:
    model, other = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    with attested("session", attester="simulated") as run:
        run.model(model)
        with palm_torch.commit(other, layers="all") as foreign:
            other(torch.ones(1, 4))
        with pytest.raises(SessionError, match="a trace of another model"):
            run.answer(query=b"", response=b"", proof=foreign)
        with palm_torch.commit(model, layers="all") as early:
            model(torch.ones(1, 4))
        assert early.root.value
        with pytest.raises(SessionError, match="was asked for already"):
            run.answer(query=b"", response=b"", proof=early)
        with pytest.raises(SessionError, match="give proof"):
            run.answer(query=b"", response=b"", logits=torch.ones(1, 1))
        for logits in ([], torch.ones(3), [1.0]):
            with pytest.raises(MeasurementError, match="logits"):
                run.answer(query=b"", response=b"", logits=logits, proof=early)
        signed = run.answer(query=b"", response=b"")
    assert content(signed).answer == 0


class Saved:
    """A tokenizer that saves itself."""

    def __init__(self) -> None:
        self.words = ["a"]

    def save_pretrained(self, folder: str) -> None:
        Path(folder, "tokenizer.json").write_text(" ".join(self.words))


def test_a_tokenizer_may_be_a_folder_or_an_object_that_stays_as_it_is(tmp_path: Path) -> None:
    model, tokenizer = Talker(), Saved()
    tokenizer.save_pretrained(str(tmp_path))
    with attested("session", attester="simulated") as run:
        run.model(model)
        given = [ask(run, model, number, tokenizer=item) for number, item in enumerate([tokenizer, tmp_path])]
    assert content(given[0]).tokenizer == content(given[1]).tokenizer
    expected = sha256_digest(file_list.read(tmp_path, error=MeasurementError))
    assert content(given[0]).tokenizer.digest == expected
    with (
        pytest.raises(MeasurementError, match="the tokenizer has changed since"),
        attested("session", attester="simulated") as run,
    ):
        run.model(model)
        ask(run, model, 0, tokenizer=tokenizer)
        tokenizer.words.append("b")


def test_the_tokenizer_is_one_file_of_the_session(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(b"{}")
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        first, second = (ask(run, model, number, tokenizer=file) for number in range(2))
        with pytest.raises(MeasurementError):
            ask(run, model, 2, tokenizer=b"another")
    digest = str(content(first).tokenizer.digest)
    assert content(second).tokenizer == content(first).tokenizer
    assert verify(run, tokenizer=[digest]).operation == "session"
    with pytest.raises(ClaimError, match="tokenizer"):
        verify(run)
    with pytest.raises(ClaimError, match="tokenizer"):
        check(first.receipt, run, closing=run.evidence.bundle.encode(), tokenizer=["none"])


def test_a_tokenizer_that_is_named_after_an_answer_is_refused_and_the_session_goes_on() -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        ask(run, model, 0)
        with pytest.raises(SessionError, match=r"run\.answer\(tokenizer=...\): the answers before named no"):
            ask(run, model, 1, tokenizer=b"late")
        with pytest.raises(SessionError, match=r"run\.input\(tokenizer=...\): the answers before named no"):
            run.input(tokenizer=b"late")
        run.input(note=b"in time")
        last = ask(run, model, 1)
    assert (content(last).answer, content(last).tokenizer.digest) == (1, None)
    assert verify(run).operation == "session"


def test_each_object_that_was_named_as_the_tokenizer_stays_as_it_was() -> None:
    model, first, second = Talker(), Saved(), Saved()
    with attested("session", attester="simulated") as run:
        run.model(model)
        run.input(tokenizer=tokenizers.written(first))
        given = [ask(run, model, number, tokenizer=(first, second)[number % 2]) for number in range(4)]
    assert len({content(one).tokenizer.digest for one in given}) == 1
    with attested("session", attester="simulated") as run:
        run.model(model)
        ask(run, model, 0, tokenizer=first)
        ask(run, model, 1, tokenizer=second)
        second.words.append("b")
        with pytest.raises(MeasurementError, match="the tokenizer has changed since"):
            ask(run, model, 2, tokenizer=first)
        second.words.pop()
        ask(run, model, 2, tokenizer=first)
    assert verify(run, tokenizer=[str(content(given[0]).tokenizer.digest)]).operation == "session"


@pytest.mark.parametrize(
    ("query", "error"),
    [(object(), MeasurementError), ([1, "2"], MeasurementError), ("\ud800", EncodingError)],
)
def test_what_has_no_bytes_is_refused(query: object, error: type[Exception]) -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        with pytest.raises(error, match="query"):
            run.answer(query=query, response=b"")
        with pytest.raises(EncodingError):
            run.answer(query=b"", response=b"", decoding={"temperature": float("nan")})
        signed = run.answer(query=[1, 2], response=b"")
    assert signed.openings["query"].form == "int64[2]"
    assert content(signed).answer == 0


def test_misuse_is_told() -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        with pytest.raises(SessionError, match=r"run\.model"):
            ask(run, model, 0)
        with pytest.raises(SessionError, match="1 or more"):
            run.model(model, every_answers=0)
        with pytest.raises(CoverageError, match="got str"):
            run.model("model")
        run.model(model)
        with pytest.raises(SessionError, match="already"):
            run.model(model)
        ask(run, model, 0)
    with pytest.raises(CoverageError, match="no answer"), attested("session", attester="simulated") as run:
        run.model(model)
    with (
        pytest.raises(CoverageError, match="nothing was bound"),
        attested("bind", attester="simulated") as run,
    ):
        for call in (lambda: run.model(model), run.begin_answer, run.measure_weights, lambda: run.openings):
            with pytest.raises(SessionError, match="nothing of that kind"):
                call()
        with pytest.raises(SessionError, match="nothing of that kind"):
            run.answer(query=b"", response=b"")


# Weights that change -------------------------------------------------------------------------------------


def by_data(model: Talker) -> None:
    model.wide.data[0, 0] += 1


def by_numpy(model: Talker) -> None:
    model.wide.detach().numpy()[0, 0] += 1


def by_ctypes(model: Talker) -> None:
    ctypes.memset(model.wide.data_ptr(), 7, 4)


BEHIND = [by_data, by_numpy, by_ctypes]


@pytest.mark.parametrize("write", BEHIND)
def test_a_write_that_torch_does_not_count_revokes_at_the_end(write: Callable[[Talker], None]) -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        given = [ask(run, model, 0)]
        run.measure_weights()
        given.append(ask(run, model, 1))
        version = model.wide._version
        write(model)
        assert model.wide._version == version
        given.append(ask(run, model, 2))
    found = answering.Chat(run, given)
    assert found.account.revoked == (answers.Revoked(first=1, last=2, tensor="wide"),)
    with pytest.raises(ClaimError, match=r"revoked: 2 of 3 answers, the policy allows 0: tensor 'wide'"):
        verify(run)
    result = verify(run, revoked=2)
    assert any("answers 1 to 2 of 3 are revoked" in str(item) for item in result.reservations)
    assert check(given[0].receipt, run, closing=found.closing, revoked=2).session == "closed"
    for signed in given[1:]:
        with pytest.raises(ClaimError, match="is revoked: tensor 'wide'"):
            check(signed.receipt, run, closing=found.closing, revoked=2)


def test_a_write_that_torch_counts_is_found_before_the_next_answer() -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        ask(run, model, 0)
        with torch.no_grad():
            model.enc.add_(0)  # counted, and nothing changed
        ask(run, model, 1)
        with torch.no_grad():
            model.enc.add_(1)
        for _ in range(2):
            with pytest.raises(SessionError, match=r"'enc' has changed; answers 0 to 1 are revoked"):
                ask(run, model, 2)
        with pytest.raises(SessionError, match="'enc'"):
            run.measure_weights()
    assert answering.Chat(run, []).account.revoked == (answers.Revoked(first=0, last=1, tensor="enc"),)


def test_a_merged_adapter_is_another_model_and_revokes_nothing_that_was_measured() -> None:
    model = Talker()
    low, high = torch.ones(300, 1), torch.ones(1, 300)
    with attested("session", attester="simulated") as run:
        run.model(model)
        given = [ask(run, model, 0)]
        run.measure_weights()
        model.wide.data = model.wide.data + low @ high
        with pytest.raises(SessionError, match=r"'wide' has changed; no answer is revoked"):
            ask(run, model, 1)
    assert verify(run).operation == "session"
    assert check(given[0].receipt, run, closing=run.evidence.bundle.encode()).session == "closed"


@pytest.mark.parametrize("what", ["parameter", "module", "buffer"])
def test_an_exchanged_part_is_found_before_the_next_answer(what: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    with attested("session", attester="simulated") as run:
        run.model(model)
        run.answer(query=b"", response=b"")
        run.measure_weights()
        if what == "parameter":
            model[0].bias = torch.nn.Parameter(torch.ones(2))
        elif what == "module":
            model.append(torch.nn.Linear(2, 2))
        else:
            model[1].running_mean = torch.ones(2)
        with pytest.raises(SessionError, match="has changed"):
            run.answer(query=b"", response=b"")


def test_what_is_no_part_of_the_weights_may_change() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    model.register_buffer("cache", torch.zeros(1), persistent=False)
    with attested("session", attester="simulated") as run:
        run.model(model)
        run.answer(query=b"", response=b"")
        model.cache = torch.ones(2)
        run.answer(query=b"", response=b"")
    assert verify(run).operation == "session"


def test_the_thread_measures_after_so_many_answers() -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model, every_answers=2)
        ask(run, model, 0)
        ask(run, model, 1)
        _wait_for_look(run)
        third = content(ask(run, model, 2))
        assert third.rests_on.answers >= 2
        by_data(model)
        ask(run, model, 3)
        ask(run, model, 4)
        _wait_for_look(run)
        with pytest.raises(SessionError, match="'wide' has changed"):
            ask(run, model, 5)
    (span,) = answering.Chat(run, []).account.revoked
    assert 2 <= span.first <= 3
    assert span.last == 4
    with pytest.raises(ClaimError, match="revoked"):
        verify(run)


def _wait_for_look(run: answering.Session) -> None:
    vigil = run._measured._weights._vigil
    for _ in range(6000):
        if vigil._done:
            return
        vigil._stopping.wait(0.01)
    raise AssertionError("the thread has measured nothing")


def test_a_thread_that_cannot_measure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Talker()
    with (
        pytest.raises(CoverageError, match="could not be measured again: gone"),
        attested("session", attester="simulated") as run,
    ):
        run.model(model, every_answers=1)

        def gone() -> None:
            raise CoverageError("gone")

        monkeypatch.setattr(run._measured._weights._held, "slices", gone)
        ask(run, model, 0)
        for _ in range(6000):
            if run._measured._weights._vigil._failure is not None:
                break
            run._measured._weights._vigil._stopping.wait(0.01)
        ask(run, model, 1)


def test_records_of_a_dataset_have_no_place(tmp_path: Path) -> None:
    import loops

    data = loops.corpus(tmp_path / "corpus", records=4)
    model = Talker()
    with (
        pytest.raises(SessionError, match="no place for records"),
        attested("session", attester="simulated") as run,
    ):
        run.model(model)
        next(iter(palm_torch.DataLoader(loops.opened(data), batch_size=2)))
