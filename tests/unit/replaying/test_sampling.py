"""Draws of a generator, made again from its state before the answer and from opened logits."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import audited_models
import pytest
import torch

from palm_torch.challenge.places import Place
from palm_torch.commit import answer_facts
from palm_torch.errors import BindingError, DataError, EvidenceError
from palm_torch.hooks import rng_watch
from palm_torch.replaying import generators, sampling

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.replaying.generators import GeneratorStates

OPTIONS: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.02,
    "pad_token_id": 0,
}
HEAD = (1, 1, 1, 10_000)


def before(seed: int = 3) -> GeneratorStates:
    """Returns the states from which `audited_models.run` draws."""
    torch.manual_seed(seed)
    return generators.taken()


def run(folder: Path, *, states: GeneratorStates | None = None, batch: int = 1, **options: Any) -> Any:
    ids, mask = audited_models.prompt(batch=batch, padded=0)
    chosen = {**OPTIONS, **options}
    facts = {answer_facts.DECODING: answer_facts.decoding_digest(chosen)}
    if states is not None:
        facts[answer_facts.BEFORE] = states.digest
    made = audited_models.model("llama")
    return audited_models.run(made, folder, ids=ids, mask=mask, facts=facts, **chosen)


def replayed(done: Any, states: GeneratorStates, **options: Any) -> tuple[sampling.Drawn, ...]:
    asked = done.ask(queries=40, weights=HEAD)
    answer = done.answer(asked, decoding={**OPTIONS, **options})
    return sampling.replay(asked, done.context, answer, states)


@pytest.mark.parametrize("options", [{}, {"top_k": 0, "top_p": None, "min_p": None, "temperature": 1.0}])
def test_the_same_tokens_are_drawn(options: dict[str, Any], tmp_path: Path) -> None:
    states = before()
    found = replayed(run(tmp_path, states=states, **options), states, **options)
    assert {one.verdict for one in found} == {"replayed"}, found
    assert len(found) > 3
    assert "the same token, " in found[0].words


def test_a_token_that_was_not_drawn_differs(tmp_path: Path) -> None:
    claimed = before(4)
    found = replayed(run(tmp_path, states=claimed), claimed)
    assert "differs" in {one.verdict for one in found}
    assert any("the generator draws" in one.words for one in found)


def test_other_states_and_parameters_are_refused(tmp_path: Path) -> None:
    states = before()
    done = run(tmp_path, states=states)
    with pytest.raises(BindingError, match="generators: expected the states"):
        replayed(done, before(4))
    with pytest.raises(BindingError, match="decoding: expected the parameters"):
        replayed(done, states, temperature=0.7)
    asked = done.ask(queries=4, weights=HEAD)
    with pytest.raises(BindingError, match="trace context: expected the root"):
        sampling.replay(asked, done.context + b" ", done.answer(asked, decoding=OPTIONS), states)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"do_sample": False}, "tokens were not drawn"),
        ({"repetition_penalty": 1.1}, "no replay is known of repetition_penalty"),
        ({"batch": 2}, "the rows of all sequences at once"),
    ],
)
def test_what_cannot_be_drawn_again(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    states = before()
    done = run(tmp_path, states=states, **options)
    told = {name: value for name, value in options.items() if name != "batch"}
    found = replayed(done, states, **told)
    assert {one.verdict for one in found} == {"not checked"}
    assert said in found[0].words


def test_generators_that_nothing_binds(tmp_path: Path) -> None:
    found = replayed(run(tmp_path), before())
    assert {one.words for one in found} == {
        "the trace binds no generators.before: it is of no attested answer"
    }


def test_states_are_read_as_they_were_written(tmp_path: Path) -> None:
    states = before()
    assert states.digest == rng_watch.take().spelled().digest()
    states.save(tmp_path / "s.json")
    assert generators.read(tmp_path / "s.json") == states
    assert (tmp_path / "s.json").stat().st_mode & 0o077 == 0
    with pytest.raises(EvidenceError, match="media_type: expected"):
        dataclasses.replace(states, media_type="other")
    with pytest.raises(EvidenceError, match="states: torch: expected"):
        dataclasses.replace(states, states=dataclasses.replace(states.states, torch=()))


@pytest.mark.parametrize("row", [torch.zeros(1, 50), torch.randn(1, 50) * 9, torch.eye(50)[:1] * 1e9])
def test_a_draw_takes_as_much_of_the_generator_whatever_the_row(row: torch.Tensor) -> None:
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    torch.multinomial(row.softmax(-1), 1, generator=one)
    torch.multinomial(torch.ones(1, 50), 1, generator=other)
    assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 0}, {"temperature": True}, {"top_k": -1}, {"top_p": 1.5}, {"min_p": "0.1"}],
)
def test_parameters_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"decoding: {next(iter(wrong))}: expected a number"):
        sampling.scores(torch.randn(1, 9), wrong)


def test_draws_before_a_place_are_skipped(tmp_path: Path) -> None:
    states = before()
    done = run(tmp_path, states=states)
    tokens = set()
    for seed in range(6):
        asked = done.ask(seed, queries=1, weights=(1, 1, 1, 1 << 32))
        (one,) = sampling.replay(asked, done.context, done.answer(asked, decoding=OPTIONS), states)
        assert one.verdict == "replayed", one
        tokens.add(one.place.token)
    assert len(tokens) > 1


def test_logits_that_are_not_finite_draw_nothing_but_take_as_much() -> None:
    place = Place(3, 0, 5)
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    found = sampling._compared(place, torch.full((1, 50), float("nan")), 1, {}, one)
    assert (found.verdict, found.words) == ("not checked", "the logits are not all finite")
    torch.multinomial(torch.ones(1, 50), 1, generator=other)
    assert torch.equal(one.get_state(), other.get_state())


def test_parameters_that_nothing_binds_draw_nothing(tmp_path: Path) -> None:
    """Whoever can choose them afterwards chooses what is drawn."""
    states = before()
    ids, mask = audited_models.prompt(batch=1, padded=0)
    made = audited_models.model("llama")
    facts = {answer_facts.BEFORE: states.digest}
    done = audited_models.run(made, tmp_path, ids=ids, mask=mask, facts=facts, **OPTIONS)
    assert {one.words for one in replayed(done, states)} == {"nothing binds the parameters of decoding"}


def test_a_state_that_is_none(tmp_path: Path) -> None:
    states = before()
    wrong = dataclasses.replace(states, states=dataclasses.replace(states.states, torch=(bytes(5056),)))
    with pytest.raises(EvidenceError, match="generators: torch: expected the state of a generator"):
        replayed(run(tmp_path, states=wrong), wrong)
