"""Measuring inference: which model gave which answers, in which order, and that it was that model all along.

The weights are measured once, when the script names the model. For every answer cheap hints are looked at;
a thread measures everything again from time to time, and once more it is done when the block has ended. An
answer is worth what the measurements around it say: one that finds a tensor changed revokes all answers since
the one before, for nobody knows which of them came from which weights.
"""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self

from palm_torch import codec
from palm_torch.attesting import reading, sealing, training_claims
from palm_torch.attesting.measured import Finished
from palm_torch.commit import answers, salted
from palm_torch.commit.answers import Account, Look, Revoked, Turn
from palm_torch.commit.history import History
from palm_torch.commit.salted import Content, Salts
from palm_torch.digest import SHA256, Digest
from palm_torch.errors import CoverageError, EncodingError, MeasurementError, SessionError
from palm_torch.hooks import rng_watch, spelled
from palm_torch.hooks.held_weights import HeldWeights
from palm_torch.hooks.vigil import Looked, Vigil
from palm_torch.properties import Infer, Session
from palm_torch.receipt import AnswerReceipt, Generators, RestsOn
from palm_torch.roles import EMPTY, Artifact, Source, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import nn

    from palm_torch.attesting.measured import Said
    from palm_torch.attesting.sealing import Sealer
    from palm_torch.dsse import Envelope
    from palm_torch.properties import Property
    from palm_torch.recorder import Reads
    from palm_torch.statement import Code, Device


class Traced(Protocol):
    """A commitment to what a model computed; what `palm_torch.commit` makes."""

    @property
    def root(self) -> Digest:
        """The trace root; raises if its block has not ended."""

    @property
    def trace(self) -> Any:  # noqa: ANN401 (a `palm_torch.commit.trace.Context`, of which the model counts)
        """Everything that the root binds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One answer as the script hands it over.

    Attributes:
        query: What was asked.
        response: What was answered.
        decoding: Parameters, JSON.
        tokenizer: The tokenizer, or an empty artifact.
        trace: A commitment to the computation, or None.
    """

    query: Content
    response: Content
    decoding: dict[str, Any]
    tokenizer: Artifact
    trace: Traced | None


class Inference:
    """Measures the answers of one model.

    Args:
        sealer: Logs events and signs receipts.
    """

    PROPERTY: ClassVar[type[Property]] = Session
    NAMED: ClassVar[tuple[str, ...]] = ("tokenizer",)
    MOST: ClassVar[int | None] = None

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._hooks = ExitStack()
        self._held: HeldWeights | None = None
        self._vigil: Vigil | None = None
        self._last_look = Looked(0, 0.0, None)
        self._looks = 0
        self._revoked: tuple[Revoked, ...] = ()
        self._changed: str | None = None
        self._history = History()
        self._turn: Turn | None = None
        self._salts: list[Salts] = []
        self._parameters = answers.Parameters()
        self._traced = 0
        self._tokenizer: Artifact | None = None
        self._before: tuple[str, Digest] | None = None

    def __enter__(self) -> Self:
        """Nothing has to be hooked before the model is named."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stops the thread that measures."""
        self._hooks.close()

    @property
    def salts(self) -> tuple[Salts, ...]:
        """The secrets of the answers given, in order."""
        return tuple(self._salts)

    def name_model(
        self, model: nn.Module | Mapping[str, torch.Tensor], *, every_answers: int, every_s: float
    ) -> Digest:
        """Measures the model whose answers the session is about, and begins to watch it.

        Args:
            model: The model, or tensors by name.
            every_answers: After how many answers to measure all weights again.
            every_s: After how many seconds.

        Returns:
            The weights root.

        Raises:
            SessionError: If one was named before, or a number is none.
            CoverageError: If the model cannot be measured.
        """
        if self._held is not None:
            raise SessionError("run.model: the session has its model already; open another session")
        if every_answers < 1 or not 0 < every_s < threading.TIMEOUT_MAX:
            raise SessionError(
                f"run.model: expected to measure again after 1 or more answers and above 0 seconds, got "
                f"{every_answers!r} and {every_s!r}"
            )
        moment = time.monotonic()
        held = HeldWeights(model)
        self._note(Looked(0, moment, None), held.root)
        self._held = held
        self._vigil = self._hooks.enter_context(Vigil(held, every_answers=every_answers, every_s=every_s))
        self._before = ("last", rng_watch.generators_digest())
        return held.root

    def begin_answer(self) -> None:
        """Takes the random number generators from which the next answer is drawn."""
        self._before = ("begin", rng_watch.generators_digest())

    def remeasure(self) -> None:
        """Measures all weights now: the answers given so far rest on it.

        Raises:
            SessionError: If no model was named, or it is not what it was.
        """
        held = self._require_held("run.measure_weights")
        self._measure(held)
        self._require_unchanged()

    def answer(self, given: Given, code: Code) -> tuple[Envelope, Salts]:
        """Logs one answer and signs a receipt for it.

        1. The weights are what they were, as far as the thread and the hints say.
        2. Question and answer are committed to, each under a salt of its own.
        3. The answer is logged, and appended to the history.
        4. The receipt is signed, and logged.

        Args:
            given: The answer.
            code: The code loaded so far.

        Raises:
            SessionError: If there is no model, the weights are not what they were, the session has its one
                answer already, or the tokenizer or the trace is another model's.
            EncodingError: If parameters of decoding have no JSON form.
            SealError: If the log is full, or the receipt cannot be signed.
        """
        held = self._require_held("run.answer")
        number = self._history.size
        if self.MOST is not None and number >= self.MOST:
            raise SessionError(
                "run.answer: a session of 'infer' is about one answer, and it has it; attested('session') is "
                "about many"
            )
        trace = self._trace_of(given, held)
        self._check_tokenizer(given.tokenizer)
        self._collect(held)  # 1
        self._require_unchanged()
        if held.settle() is not None:
            self._measure(held)
            self._require_unchanged()
        after = rng_watch.generators_digest()
        since, before = self._before or ("last", after)
        salts = Salts(  # 2
            answer=number,
            query=secrets.token_bytes(salted.SALT_BYTES),
            response=secrets.token_bytes(salted.SALT_BYTES),
        )
        turn = Turn(
            answer=number,
            query=salted.commit(given.query, salts.query),
            response=salted.commit(given.response, salts.response),
        )
        self._parameters.add(given.decoding)
        event: Any = codec.to_json(turn)
        self._sealer.record(answers.ANSWER, event)  # 3
        history_before = self._history.root()
        self._history.append(turn.encode())
        self._turn, self._tokenizer = turn, given.tokenizer
        self._salts.append(salts)
        self._before = ("last", after)
        self._traced += trace is not None
        if self._vigil is not None:
            self._vigil.answered(number + 1)
        look = self._last_look
        envelope = self._sealer.issue(  # 4
            lambda issued: AnswerReceipt(
                issued=issued,
                answer=number,
                model=held.root,
                rests_on=RestsOn(answers=look.answers, age_s=int(time.monotonic() - look.moment)),
                tokenizer=given.tokenizer,
                query=_artifact(turn.query),
                response=_artifact(turn.response),
                decoding=Value(source=Source.REPORTED, value=given.decoding),
                generators=Generators(
                    since="begin" if since == "begin" else "last", before=before, after=after
                ),
                trace=trace,
                history_before=Digest(SHA256, history_before),
                history=Digest(SHA256, self._history.root()),
            ),
            code,
        )
        return envelope, salts

    def deliver(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        """Refuses a batch: what is read here would be in no claim.

        Raises:
            SessionError: Always.
        """
        del reads, grad_enabled
        raise SessionError(
            "a session of inference has no place for records of a dataset: read the questions otherwise, and "
            "name them in run.answer(query=...)"
        )

    def finish(self, said: Said) -> Finished:
        """Measures the weights once more and returns the property.

        Raises:
            CoverageError: If there was no answer, or the weights cannot be measured.
            MeasurementError: If the tokenizer is another than the answers' receipts name.
        """
        held, turn = self._held, self._turn
        if held is None or turn is None:
            raise CoverageError(
                "no answer was given: call run.model(model) and run.answer(query=..., response=...) inside "
                "the session"
            )
        tokenizer = said.inputs.get("tokenizer", _NO_TOKENIZER)
        if tokenizer != self._tokenizer:
            raise MeasurementError(
                "run.input(tokenizer=...): expected the tokenizer that the answers' receipts name, "
                f"{self._tokenizer}, got {tokenizer}; name it before the first answer, once"
            )
        self._measure(held)
        account = Account(
            answers=self._history.size,
            traced=self._traced,
            looks=self._looks,
            revoked=self._revoked,
            parameters=self._parameters.summed(),
        )
        root = Digest(SHA256, self._history.root())
        event = {"answers": self._history.size, "history": str(root), "model": str(held.root)}
        return Finished(
            claims=self._claims(
                held, turn, root, tokenizer, Value(source=Source.REPORTED, value=account.to_value()), said
            ),
            kind=sealing.RESULT,
            event=dict(event),
        )

    def devices(self) -> tuple[Device, ...]:
        """Returns the CPU, and every GPU that the answers may have been computed on."""
        return reading.in_use()

    def sidecars(self) -> dict[str, Callable[[Path], None]]:
        """Returns none: the log has the history."""
        return {}

    # ------------------------------------------------------------------------------------------------------

    def _claims(
        self, held: HeldWeights, turn: Turn, root: Digest, tokenizer: Artifact, decoding: Value, said: Said
    ) -> Property:
        return Session(
            model=training_claims.weights(training_claims.tensors_of(held.tensors), taken="end"),
            tokenizer=tokenizer,
            query=_artifact(turn.query),
            response=_artifact(turn.response),
            history=Artifact(source=Source.MEASURED, kind="history", digest=root),
            decoding=decoding,
            seeds=said.seeds,
        )

    def _require_held(self, what: str) -> HeldWeights:
        if self._held is None:
            raise SessionError(f"{what}: name the model before, once: run.model(model)")
        return self._held

    def _require_unchanged(self) -> None:
        if self._changed is not None:
            spans = ", ".join(f"{span.first} to {span.last}" for span in self._revoked)
            raise SessionError(
                f"the weights are not those that were measured: {self._changed!r:.200} has changed; "
                f"{f'answers {spans} are revoked' if spans else 'no answer is revoked'}. A session is about "
                "one model: leave this block and open another"
            )

    def _collect(self, held: HeldWeights) -> None:
        """Takes what the thread has found since."""
        for look in () if self._vigil is None else self._vigil.collect():
            self._note(look, held.root)

    def _measure(self, held: HeldWeights) -> None:
        """Measures all weights here and now, once the thread is done with what it is at."""
        with nullcontext() if self._vigil is None else self._vigil.quiet():
            self._collect(held)
            if self._changed is None:
                number, moment = self._history.size, time.monotonic()
                self._note(Looked(number, moment, held.measure()), held.root)

    def _note(self, look: Looked, root: Digest) -> None:
        """Logs a measurement, and revokes the answers since the one before if something had changed."""
        if self._changed is not None:
            return
        kind = answers.MEASURED if look.changed is None else answers.CHANGED
        event: Any = codec.to_json(Look(answers=look.answers, root=root, tensor=look.changed))
        self._sealer.record(kind, event)
        self._looks += 1
        if look.changed is None:
            self._last_look = look
            return
        self._changed = look.changed
        first, last = self._last_look.answers, self._history.size - 1
        if first <= last:
            self._revoked = (Revoked(first=first, last=last, tensor=look.changed),)

    def _check_tokenizer(self, tokenizer: Artifact) -> None:
        if self._tokenizer is not None and tokenizer != self._tokenizer:
            raise SessionError(
                f"run.answer: expected the tokenizer of the answers before, {self._tokenizer.digest}, got "
                f"{tokenizer.digest}: a session is about one"
            )

    def _trace_of(self, given: Given, held: HeldWeights) -> Digest | None:
        if given.trace is None:
            return None
        root, model = given.trace.root, given.trace.trace.model
        if model not in (None, held.root):
            raise SessionError(
                f"run.answer(proof=...): a trace of the weights {model}, the session is about {held.root}"
            )
        return root


class OneInference(Inference):
    """Measures one answer of one model."""

    PROPERTY: ClassVar[type[Property]] = Infer
    MOST: ClassVar[int | None] = 1

    def _claims(
        self, held: HeldWeights, turn: Turn, root: Digest, tokenizer: Artifact, decoding: Value, said: Said
    ) -> Property:
        del root
        return Infer(
            model=training_claims.weights(training_claims.tensors_of(held.tensors), taken="end"),
            tokenizer=tokenizer,
            query=_artifact(turn.query),
            response=_artifact(turn.response),
            decoding=decoding,
            seeds=said.seeds,
        )


def given_answer(
    *,
    query: object,
    response: object,
    decoding: Mapping[str, Any] | None,
    tokenizer: Artifact | None,
    proof: Traced | None,
) -> Given:
    """Returns an answer as the script hands it over, its content copied.

    Raises:
        MeasurementError: If question or answer is nothing that has bytes.
        EncodingError: If a parameter has no JSON form.
    """
    said = codec.to_json(dict(decoding or {}))
    if not isinstance(said, dict):
        raise EncodingError("decoding: expected parameters by name")
    return Given(
        query=spelled.content_of(query, what="run.answer(query=...)"),
        response=spelled.content_of(response, what="run.answer(response=...)"),
        decoding=said,
        tokenizer=tokenizer or _NO_TOKENIZER,
        trace=proof,
    )


_NO_TOKENIZER: Final = Artifact(source=Source.DECLARED, kind=EMPTY, digest=None)


def _artifact(digest: Digest) -> Artifact:
    return Artifact(source=Source.MEASURED, kind=salted.KIND, digest=digest)
