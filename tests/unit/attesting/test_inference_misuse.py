"""Sessions of inference used wrongly, or by several threads: one clear error, and evidence that holds."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import answering
import pytest
import torch
from answering import Talker, ask, check, verify
from safetensors.torch import save_file
from torch import nn

from palm_torch import evidence
from palm_torch.attesting import sealing
from palm_torch.attesting.attested import attested
from palm_torch.commit import answers
from palm_torch.errors import CoverageError, EncodingError, MeasurementError, SealError, SessionError
from palm_torch.hooks import loading
from palm_torch.hooks.held_weights import HeldWeights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("fresh_process", "few_sources")


@pytest.fixture
def hurried() -> Iterator[None]:
    """Lets threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hurried")
def test_threads_that_answer_at_once_are_taken_one_after_the_other() -> None:
    model, each = Talker(), 8
    with attested("session", attester="simulated") as run:
        run.model(model)

        def serve() -> None:
            for _ in range(each):
                run.answer(query=b"q" * 50_000, response=b"r" * 50_000)
                run.receipt(file=b"beside")

        threads = [threading.Thread(target=serve) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        last = run.answer(query=b"", response=b"")
    assert len(answers.replay(run.evidence.bundle.log).turns) == 3 * each + 1
    assert check(last.receipt, run, closing=run.evidence.bundle.encode()).session == "closed"


def test_a_full_log_takes_no_answer_that_it_has_no_room_to_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MAX_LOG_ENTRIES", sealing.RESERVED_ENTRIES + 6)
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        ask(run, model, 0)
        ask(run, model, 1)
        for number in range(2, sealing.RESERVED_ENTRIES):
            with pytest.raises(SealError, match="used up"):
                run.answer(query=b"", response=b"", decoding={"temperature": number})
        run.measure_weights()
        with pytest.raises(SealError, match="used up"):
            run.measure_weights()
    account = answering.Chat(run, []).account
    assert (account.answers, account.parameters["temperature"].greatest) == (2, 0.5)
    assert verify(run).operation == "session"


class Settings:
    temperature = 0.5


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ITSELF: dict[str, Any] = {}
ITSELF["itself"] = ITSELF


@pytest.mark.parametrize(
    ("decoding", "words"),
    [
        (Settings(), "by name, got Settings"),
        ("temperature=1", "by name, got str"),
        ({"\ud800": 1}, "not valid Unicode"),
        ({"stop": nested(17)}, "16 lists"),
        (ITSELF, "holds itself"),
        ({"stop": "x" * (1 << 20)}, "say what is long in the question"),
        ({str(number): 1 for number in range(257)}, "256 parameters"),
        ({"bias": torch.ones(1)}, "no JSON form for Tensor"),
        ({"top_k": 1, "bias": float("nan")}, r"decoding\['bias'\]: JSON has no nan"),
        ({"seed": 10**5000}, r"decoding\['seed'\]: integer beyond"),
        ({"seed": {"of": 1 << 60}}, r"decoding\['seed'\]: integer beyond"),
    ],
)
def test_parameters_that_a_statement_cannot_hold_are_refused_before_the_answer_is_logged(
    decoding: Any, words: str
) -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        with pytest.raises(EncodingError, match=words):
            run.answer(query=b"", response=b"", decoding=decoding)
        run.answer(query=b"", response=b"", decoding={"stop": nested(16)})
    account = answering.Chat(run, []).account
    assert (account.answers, list(account.parameters)) == (1, ["stop"])
    assert verify(run).operation == "session"


def test_other_misuse_is_told() -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        with pytest.raises(MeasurementError, match="int64 can hold"):
            run.answer(query=[1 << 70], response=b"")
        with pytest.raises(SessionError, match=r"say them with each answer"):
            run.config(vocabulary=7)
        ask(run, model, 0)


class Named(str):
    """A key by its text alone, whatever it says of itself."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return "<key>"


def test_parameters_are_told_by_their_text() -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        given = [run.answer(query=b"", response=b"", decoding={Named(key): 5}) for key in ("top_k", "top_p")]
        with pytest.raises(EncodingError, match="JSON keys: expected each once"):
            run.answer(query=b"", response=b"", decoding={Named("a"): 1, Named("a"): 2})
    assert [answering.content(one).decoding.value for one in given] == [{"top_k": 5}, {"top_p": 5}]
    assert {name: one.said for name, one in answering.Chat(run, []).account.parameters.items()} == {
        "top_k": 1,
        "top_p": 1,
    }


def test_generators_that_cannot_be_spelled_fail_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from numpy import random

    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        with monkeypatch.context() as bent:
            bent.setattr(random, "get_state", lambda *, legacy: {"bit_generator": None, "legacy": legacy})
            run.begin_answer()
        with pytest.raises(MeasurementError, match=r"numpy\.random\.bit_generator: expected numbers"):
            ask(run, model, 0)
        assert answering.content(run.answer(query=b"", response=b"")).generators.since == "last"
        run.begin_answer()
        assert answering.content(run.answer(query=b"", response=b"")).generators.since == "begin"


def test_tensors_of_any_rank_are_answers_and_what_has_no_bytes_is_told() -> None:
    deep = torch.arange(4.0).reshape(*[1] * 64, 4)
    with attested("session", attester="simulated") as run:
        model = Talker()
        run.model(model)
        signed = run.answer(query=deep, response=b"")
        assert signed.openings["query"].content == torch.arange(4.0).numpy().tobytes()
        with pytest.raises(CoverageError, match=r"run\.answer\(query=...\): it has no bytes to copy"):
            run.answer(query=torch._efficientzerotensor(3), response=b"")
        with pytest.raises(SessionError, match=r"expected what palm_torch\.commit\(model\) gave, got object"):
            run.answer(query=b"", response=b"", proof=object())  # type: ignore[arg-type]  # the misuse
        with pytest.raises(SessionError, match="expected a root as a Digest, got str"):
            run.answer(query=b"", response=b"", proof=Rootless(model))  # type: ignore[arg-type]  # the misuse


class Rootless:
    """A trace with something else for its root."""

    root = "x"

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def add_facts(self, *_: object, **__: object) -> None:
        """Binds nothing."""


class Foreign:
    """A trace of something that has no weights."""

    module = nn.ReLU()

    def add_facts(self, *_: object, **__: object) -> None:
        pytest.fail("nothing is bound to it")


def test_a_trace_of_something_without_weights_is_none_of_this_model() -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        with pytest.raises(SessionError, match="a trace of another model"):
            run.answer(query=b"", response=b"", proof=Foreign())  # type: ignore[arg-type]
        ask(run, model, 0)


class Extra(nn.Linear):
    """A module that saves more than its tensors."""

    def get_extra_state(self) -> object:
        return self.scale

    scale = 1.0


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another package do it
        converted: nn.Module = torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4)), {nn.Linear}
        )
    return converted


def test_weights_that_no_measurement_would_see_are_refused() -> None:
    for model in (quantised(), nn.Sequential(Extra(2, 2))):
        with pytest.raises(CoverageError, match="neither parameter nor buffer"):
            HeldWeights(model)


def test_a_change_that_a_hint_has_shown_counts_though_it_was_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        ask(run, model, 0)
        monkeypatch.setattr(run._measured._weights._held, "settle", lambda: "enc")
        with pytest.raises(SessionError, match="'enc' has changed; answers 0 to 0 are revoked"):
            ask(run, model, 1)
    assert answering.Chat(run, []).account.revoked_answers == 1


def test_weights_that_were_loaded_are_as_old_as_their_reading(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(2)}, file)
    loaded = loading.load_safetensors(file)
    now = time.monotonic()
    held = HeldWeights(loaded)
    assert (held.hashed_bytes, held.moment < now) == (0, True)
    assert HeldWeights({"w": torch.ones(2)}).moment >= now
