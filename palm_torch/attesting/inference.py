"""Measuring inference: which model gave which answers, in which order, and that it was that model all along.

What happens to the weights is the business of `palm_torch.attesting.watched_weights`. Here each answer is
committed to, bound to the trace of its computation if there is one, logged, and given a receipt; the end
says what came of all of them.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from palm_torch.attesting import reading, sealing, training_claims
from palm_torch.attesting.answer_blank import AnswerBlank
from palm_torch.attesting.given_answer import NO_TOKENIZER
from palm_torch.attesting.measured import Finished
from palm_torch.attesting.watched_weights import WatchedWeights
from palm_torch.commit import answers, salted
from palm_torch.commit.answers import Account, Turn
from palm_torch.commit.history import History
from palm_torch.commit.salted import Salts
from palm_torch.digest import SHA256, Digest
from palm_torch.errors import CoverageError, MeasurementError, SessionError
from palm_torch.hooks import rng_watch
from palm_torch.properties import Session
from palm_torch.receipt import Generators
from palm_torch.roles import Artifact, Source, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import nn

    from palm_torch.attesting.given_answer import GivenAnswer
    from palm_torch.attesting.measured import Said
    from palm_torch.attesting.sealing import Sealer
    from palm_torch.dsse import Envelope
    from palm_torch.encoding import Json
    from palm_torch.properties import Property
    from palm_torch.receipt import CodeSoFar
    from palm_torch.recorder import Reads
    from palm_torch.statement import Device


class Answered(NamedTuple):
    """What came of one answer.

    Attributes:
        envelope: The signed receipt.
        salts: What opens its commitments.
    """

    envelope: Envelope
    salts: Salts


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
        self._weights: WatchedWeights | None = None
        self._history = History()
        self._history_root = Digest(SHA256, self._history.root())
        self._turn: Turn | None = None
        self._salts: list[Salts] = []
        self._parameters = answers.Parameters()
        self._traced = 0
        self._tokenizer: Artifact | None = None
        self._tokenizer_again: Callable[[], Digest | None] | None = None
        self._blank: AnswerBlank | None = None
        self._begun: rng_watch.Taken | None = None
        self._last: Digest | None = None

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
        if self._weights is not None:
            raise SessionError("run.model: the session has its model already; open another session")
        weights = WatchedWeights(model, sealer=self._sealer, every_answers=every_answers, every_s=every_s)
        self._weights = self._hooks.enter_context(weights)
        self._last = rng_watch.take().digest()
        return weights.root

    def prepare(self, code: CodeSoFar) -> None:
        """Does now what the first answer would have to do beside what all of them do.

        Args:
            code: The code loaded so far.

        Raises:
            SessionError: If no model was named.
        """
        self._blank_of(code, self._require_weights("run.model").root)

    def begin_answer(self) -> None:
        """Takes the random number generators from which the next answer is drawn."""
        self._begun = rng_watch.take()

    def remeasure(self) -> None:
        """Measures all weights now: the answers given so far rest on it.

        Raises:
            SessionError: If no model was named, or it is not what it was.
            SealError: If the log is full.
        """
        weights = self._require_weights("run.measure_weights")
        self._sealer.require_room(1)
        weights.remeasure()

    def require_no_answer(self, what: str) -> None:
        """Checks that no answer was given yet.

        Args:
            what: What the script calls, which names a tokenizer.

        Raises:
            SessionError: If one was.
        """
        if self._history.size:
            raise SessionError(
                f"{what}: the answers before named no tokenizer, and a session is about one: name it with "
                "the first answer, or open another session"
            )

    def watch_tokenizer(self, again: Callable[[], Digest | None] | None) -> None:
        """Takes what measures the tokenizer again, where it is an object that may have changed by the end.

        Raises:
            MeasurementError: If the object that was watched until now has changed.
        """
        self._require_same_tokenizer()
        self._tokenizer_again = again

    def answer(self, given: GivenAnswer, code: CodeSoFar) -> Answered:
        """Logs one answer and signs a receipt for it.

        1. The weights are what they were, as far as the thread and the hints say.
        2. Question and answer are committed to, each under a salt of its own.
        3. The trace, if there is one, is bound to them, and its root taken.
        4. The answer is logged, and appended to the history.
        5. The receipt is signed, and logged.

        Args:
            given: The answer.
            code: The code loaded so far.

        Raises:
            SessionError: If there is no model, the weights are not what they were, the session has its one
                answer already, the tokenizer or the trace is another model's, or the trace is bound already.
            EncodingError: If parameters of decoding have no JSON form.
            SealError: If the log is full, or the receipt cannot be signed.
        """
        weights = self._require_weights("run.answer")
        number = self._history.size
        if self.MOST is not None and number >= self.MOST:
            raise SessionError(
                "run.answer: a session of 'infer' is about one answer, and it has it; attested('session') is "
                "about many"
            )
        if given.tokenizer is not self._tokenizer:
            self._check_tokenizer(given.tokenizer)
        module = None if given.trace is None else given.trace.module
        if given.trace is not None and (module is None or not weights.holds(module)):
            raise SessionError(
                "run.answer(proof=...): a trace of another model: it has parameters that are not among those "
                "that run.model(...) measured"
            )
        self._sealer.require_room(2)  # nothing is logged of an answer that can have no receipt
        weights.require_unchanged()  # 1
        parameters = self._parameters.with_answer(given.decoding)
        generators = self._generators()
        blank = self._blank_of(code, weights.root)
        salts = Salts.drawn(number)  # 2
        query = salted.commit(given.query, salts.query)
        response = salted.commit(given.response, salts.response)
        trace = given.bind(query=query, response=response, generators=generators, model=weights.root)  # 3
        turn = Turn(answer=number, query=query, response=response, trace=trace)
        entry = turn.encode()
        self._sealer.record(answers.ANSWER, entry)  # 4
        self._history.append(entry)
        history_before, self._history_root = self._history_root, Digest(SHA256, self._history.root())
        self._turn, self._tokenizer, self._parameters = turn, given.tokenizer, parameters
        self._salts.append(salts)
        self._begun, self._last = None, generators.after
        self._traced += trace is not None
        weights.answered(number + 1)
        envelope = self._sealer.issue_spelled(  # 5
            lambda place: blank.fill(
                place,
                turn,
                rests_on=weights.rests_on(),
                tokenizer=given.tokenizer,
                decoding=parameters.spelled,
                generators=generators,
                history_before=history_before,
                history=self._history_root,
            )
        )
        return Answered(envelope, salts)

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
            MeasurementError: If the tokenizer is another than the answers' receipts name, or has changed.
        """
        with self._sealer.lock:  # an answer that another thread is about to give is part of it
            return self._finished(said)

    def _finished(self, said: Said) -> Finished:
        weights, turn = self._weights, self._turn
        if weights is None or turn is None:
            raise CoverageError(
                "no answer was given: call run.model(model) and run.answer(query=..., response=...) inside "
                "the session"
            )
        tokenizer = said.inputs.get("tokenizer", NO_TOKENIZER)
        if tokenizer != self._tokenizer:
            raise MeasurementError(
                "run.input(tokenizer=...): expected the tokenizer that the answers' receipts name, "
                f"{self._tokenizer and self._tokenizer.digest}, got {tokenizer.digest}; name it before the "
                "first answer, once"
            )
        self._require_same_tokenizer()
        weights.measure()
        account = Account(
            answers=self._history.size,
            traced=self._traced,
            looks=weights.looks,
            revoked=weights.revoked,
            parameters=self._parameters.summed(),
        )
        root = self._history_root
        event: dict[str, Json] = {
            "answers": self._history.size,
            "history": str(root),
            "model": str(weights.root),
        }
        return Finished(
            claims=self._claims(
                weights, turn, root, tokenizer, Value(source=Source.REPORTED, value=account.to_value()), said
            ),
            kind=sealing.RESULT,
            event=event,
        )

    def devices(self) -> tuple[Device, ...]:
        """Returns the CPU, and every GPU that the answers may have been computed on."""
        return reading.in_use()

    def sidecars(self) -> dict[str, Callable[[Path], None]]:
        """Returns none: the log has the history."""
        return {}

    # ------------------------------------------------------------------------------------------------------

    def _claims(
        self,
        weights: WatchedWeights,
        turn: Turn,
        root: Digest,
        tokenizer: Artifact,
        decoding: Value,
        said: Said,
    ) -> Property:
        return Session(
            model=training_claims.weights(training_claims.tensors_of(weights.tensors), taken="end"),
            tokenizer=tokenizer,
            query=salted_artifact(turn.query),
            response=salted_artifact(turn.response),
            history=Artifact(source=Source.MEASURED, kind="history", digest=root),
            decoding=decoding,
            seeds=said.seeds,
        )

    def _require_weights(self, what: str) -> WatchedWeights:
        if self._weights is None:
            raise SessionError(f"{what}: name the model before, once: run.model(model)")
        return self._weights

    def _require_same_tokenizer(self) -> None:
        named = self._tokenizer
        if self._tokenizer_again is None or named is None:
            return
        if (now := self._tokenizer_again()) != named.digest:
            raise MeasurementError(
                f"run.answer(tokenizer=...): expected {named.digest}, as it was when it was named, got "
                f"{now}: the tokenizer has changed since; open a session for each"
            )

    def _check_tokenizer(self, tokenizer: Artifact) -> None:
        if self._tokenizer is not None and tokenizer != self._tokenizer:
            raise SessionError(
                f"run.answer: expected the tokenizer of the answers before, {self._tokenizer.digest}, got "
                f"{tokenizer.digest}: a session is about one"
            )

    def _blank_of(self, code: CodeSoFar, model: Digest) -> AnswerBlank:
        if self._blank is None or self._blank.code is not code:
            self._blank = AnswerBlank(self._sealer.place(), code, model)
        return self._blank

    def _generators(self) -> Generators:
        begun, self._begun = self._begun, None  # states that cannot be spelled fail one answer, not all
        before = None if begun is None else begun.digest()
        self._begun = begun
        after = rng_watch.take().digest()
        if before is not None:
            return Generators(since="begin", before=before, after=after)
        return Generators(since="last", before=self._last or after, after=after)


def salted_artifact(digest: Digest) -> Artifact:
    """Returns a salted commitment as what fills a role."""
    return Artifact(source=Source.MEASURED, kind=salted.KIND, digest=digest)
