"""What a session of inference says of its answers: events of its log, and the account in its statement.

Every answer is an event of the session's log, and so is every measurement of the weights. The account that
the end statement has is a function of them, which `replay` computes again: how many answers there were, the
history that they make, and which of them are revoked because the weights turned out to be others since they
were last measured. Specification: docs/spec/55-inference.md.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from palm_torch import codec
from palm_torch.commit import history
from palm_torch.digest import SHA256, Digest
from palm_torch.encoding import Json, encode_json
from palm_torch.errors import EncodingError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ANSWER: Final = "answer"
MEASURED: Final = "weights measured"
CHANGED: Final = "weights changed"

MAX_VALUES: Final = 64
"""Most different values, besides numbers, that an account lists of one parameter."""
MAX_PARAMETERS: Final = 256
MAX_NESTING: Final = 16
"""Most lists and objects of a parameter's value inside each other: a statement nests it deeper."""
MAX_TOLD_BYTES: Final = 1 << 20
"""Most bytes of names and values that an account lists: a statement has room for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """An answer, as the log has it: the payload of an event of type `ANSWER`, and an entry of the history.

    Attributes:
        answer: Its number in the session, from 0.
        query: Commitment to what was asked.
        response: Commitment to what was answered.
        trace: Root of the trace of what the model computed; None if none was made.
    """

    answer: int
    query: Digest
    response: Digest
    trace: Digest | None

    def encode(self) -> bytes:
        """Returns the entry of the history, canonical JSON."""
        trace = "null" if self.trace is None else f'"{self.trace}"'
        asked = f'"answer":{self.answer},"query":"{self.query}","response":"{self.response}"'
        return f'{{{asked},"trace":{trace}}}'.encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A measurement of all weights, as the log has it: the payload of `MEASURED` and `CHANGED`.

    Attributes:
        answers: Answers that had been given when it began.
        root: The weights root that was expected.
        tensor: Name of the first tensor that was not what it was; None under `MEASURED`.
    """

    answers: int
    root: Digest
    tensor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """Answers whose receipts are worth nothing: nobody knows which weights gave them.

    Attributes:
        first: Number of the first of them.
        last: Number of the last.
        tensor: Name of a tensor that was not what it was.
    """

    first: int
    last: int
    tensor: str

    def __post_init__(self) -> None:
        """Refuses a span that ends before it begins."""
        if not 0 <= self.first <= self.last:
            raise EncodingError(f"revoked: expected answers from 0 on, got {self.first} to {self.last}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What the script said of one parameter of decoding, over all answers.

    Attributes:
        said: In how many answers it said it.
        least: Smallest number; None if there was none.
        greatest: Largest number.
        others: Everything else that it said, each once, in the order of its canonical JSON.
    """

    said: int
    least: float | None
    greatest: float | None
    others: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What an end statement says of a session's answers, beside the roles of its property.

    Attributes:
        answers: How many there were.
        traced: How many of their receipts name a trace.
        looks: How many times all weights were measured, the first time and the last included.
        revoked: Answers whose receipts are revoked.
        parameters: Parameters of decoding by name, as the script said them.
    """

    answers: int
    traced: int
    looks: int
    revoked: tuple[Revoked, ...]
    parameters: dict[str, Parameter]

    @property
    def revoked_answers(self) -> int:
        """How many answers are revoked."""
        return sum(span.last - span.first + 1 for span in self.revoked)

    def has_said(self, name: str, value: Any) -> bool:  # noqa: ANN401 (JSON)
        """Says whether an answer can have named this parameter, by what is said of all answers."""
        told = self.parameters.get(name)
        if told is None:
            return False
        if _is_number(value):
            return (
                told.least is not None and told.greatest is not None and told.least <= value <= told.greatest
            )
        return encode_json(value) in map(encode_json, told.others)

    def is_revoked(self, answer: int) -> Revoked | None:
        """Returns the span in which an answer was revoked, or None."""
        return next((span for span in self.revoked if span.first <= answer <= span.last), None)

    def to_value(self) -> dict[str, Any]:
        """Returns what the role ``decoding`` of a statement carries."""
        value: Any = codec.to_json(self)
        return dict(value)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a log says of answers and weights.

    Attributes:
        turns: The answers, in order.
        log_sizes: For each answer, how many entries the log had before it.
        looks: Measurements of the weights, in order.
        look_sizes: For each measurement, how many entries the log had before it.
        settled: Whether the last measurement came after the last answer.
    """

    turns: tuple[Turn, ...]
    log_sizes: tuple[int, ...]
    looks: tuple[Look, ...]
    look_sizes: tuple[int, ...]
    settled: bool

    def revoked(self) -> tuple[Revoked, ...]:
        """Returns the answers that the measurements revoke."""
        measured = 0
        for look in self.looks:
            if look.tensor is None:
                measured = look.answers
                continue
            last = len(self.turns) - 1
            return (Revoked(first=measured, last=last, tensor=look.tensor),) if measured <= last else ()
        return ()

    def look_before(self, answer: int) -> Look:
        """Returns the last measurement that the log has before an answer."""
        return self.looks[bisect.bisect_left(self.look_sizes, self.log_sizes[answer]) - 1]

    def history_root(self, size: int | None = None) -> Digest:
        """Returns the root of the history of the first `size` answers, of all if None."""
        turns = self.turns if size is None else self.turns[:size]
        return Digest(SHA256, history.root_of([turn.encode() for turn in turns]))


def account_of(value: dict[str, Any], *, what: str = "decoding") -> Account:
    """Decodes what the role ``decoding`` of a statement carries, accepting exactly what `to_value` makes.

    Raises:
        EvidenceError: If it is anything else.
    """
    account = codec.from_json(Account, value, what=what, error=EvidenceError)
    if len(account.parameters) > MAX_PARAMETERS:
        raise EvidenceError(
            f"{what}.parameters: expected at most {MAX_PARAMETERS}, got {len(account.parameters)}"
        )
    for name, parameter in account.parameters.items():
        at = f"{what}.parameters.{name[:80]}"
        if not 1 <= parameter.said <= account.answers or (parameter.least is None) != (
            parameter.greatest is None
        ):
            raise EvidenceError(
                f"{at}: expected it said in 1 to {account.answers} answers, and a whole range"
            )
        spelled = [encode_json(item) for item in parameter.others]
        if spelled != sorted(set(spelled)) or len(spelled) > MAX_VALUES:
            raise EvidenceError(f"{at}.others: expected at most {MAX_VALUES} values in order, each once")
    return account


def replay(log: Sequence[bytes], *, what: str = "event log") -> Replayed:
    """Reads answers and measurements of weights out of a session's event log.

    1. The first event of either kind is a measurement, which finds nothing changed.
    2. Answers are numbered from 0, without gap.
    3. Measurements are of one root, began in order, and not before answers that they claim to follow.
    4. No answer follows a measurement that found a tensor changed, and no other measurement does.

    Args:
        log: The entries, canonical JSON, in order; their numbers have been checked.
        what: Name of the log, for messages.

    Raises:
        EvidenceError: If an event does not parse, or a step fails.
    """
    turns: list[Turn] = []
    sizes: list[int] = []
    looks: list[Look] = []
    look_sizes: list[int] = []
    settled = False
    for place, kind, payload in _events(log, what):
        at = f"{what}, entry {place}"
        if looks and looks[-1].tensor is not None:
            raise EvidenceError(f"{at}: {kind!r} after the weights were found changed")  # 4
        if kind == ANSWER:
            turn = codec.from_json(Turn, payload, what=at, error=EvidenceError)
            if not looks or turn.answer != len(turns):  # 1, 2
                raise EvidenceError(
                    f"{at}: expected answer {len(turns)} after a measurement of the weights, got answer "
                    f"{turn.answer} after {len(looks)} of them"
                )
            turns.append(turn)
            sizes.append(place)
            settled = False
            continue
        look = codec.from_json(Look, payload, what=at, error=EvidenceError)
        before = looks[-1] if looks else Look(answers=0, root=look.root, tensor=None)
        if (look.tensor is None) != (kind == MEASURED) or look.root != before.root:  # 3
            raise EvidenceError(
                f"{at}: {kind!r} of {look.root}, tensor {look.tensor!r:.80}: these do not fit"
            )
        if not before.answers <= look.answers <= len(turns) or (not looks and look.tensor is not None):
            raise EvidenceError(
                f"{at}: a measurement that began after {look.answers} answers, where {len(turns)} had been "
                f"given and the one before began after {before.answers}"
            )
        looks.append(look)
        look_sizes.append(place)
        settled = look.tensor is not None or look.answers == len(turns)
    return Replayed(tuple(turns), tuple(sizes), tuple(looks), tuple(look_sizes), settled)


def _events(log: Sequence[bytes], what: str) -> Iterator[tuple[int, str, Json]]:
    for place, entry in enumerate(log):
        event = codec.parse(entry, what=f"{what}, entry {place}", max_bytes=len(entry), error=EvidenceError)
        if isinstance(event, dict) and event.get("type") in (ANSWER, MEASURED, CHANGED):
            yield place, str(event["type"]), event.get("payload")


class Parameters:
    """Sums up what a script says of decoding, answer by answer.

    Attributes:
        spelled: What it said of the last answer, canonical JSON.
    """

    def __init__(self) -> None:
        self.spelled = b"{}"
        self._said: dict[str, Parameter] = {}
        self._told_bytes = 0
        self._shown: str | None = "{}"
        self._names: tuple[str, ...] = ()
        self._again = 0

    def with_answer(self, parameters: dict[str, Any]) -> Parameters:
        """Returns these and the parameters of one answer more.

        Args:
            parameters: Plain JSON values by name, as `palm_torch.codec.to_json` makes them.

        Raises:
            EncodingError: If a name or value has no JSON form, or there are more or longer ones than an
                account can list.
        """
        taken = Parameters()
        vars(taken).update(vars(self))
        taken.add(parameters)
        return taken

    def add(self, parameters: dict[str, Any]) -> None:
        """Takes the parameters of one answer; nothing was taken if it raises as `with_answer` does."""
        shown = _shown(parameters)
        if shown == self._shown:  # most answers say what the one before said
            self._again += 1
            return
        spelled = _spelled(parameters)
        said, told = self._counted(), self._told_bytes
        for name, value in parameters.items():
            before = said.get(name)
            now = said[name] = _with(before, value, name)
            if before is None:
                told += len(encode_json(name))
            if now.others and (before is None or len(now.others) > len(before.others)):
                told += len(encode_json(value))
        if len(said) > MAX_PARAMETERS or told > MAX_TOLD_BYTES:
            raise EncodingError(
                f"decoding: expected at most {MAX_PARAMETERS} parameters of {MAX_TOLD_BYTES} bytes in all "
                f"answers, got {len(said)} of {told}; say what is long in the question"
            )
        self._said, self._told_bytes = said, told
        self.spelled = spelled
        self._shown, self._names, self._again = shown, tuple(parameters), 0

    def summed(self) -> dict[str, Parameter]:
        """Returns the parameters by name."""
        return dict(sorted(self._counted().items()))

    def _counted(self) -> dict[str, Parameter]:
        """Returns the parameters with those answers that said what the one before said."""
        said = dict(self._said)
        for name in self._names:
            said[name] = dataclasses.replace(said[name], said=said[name].said + self._again)
        return said


def _shown(parameters: dict[str, Any]) -> str | None:
    """Returns what is the same for the same plain JSON values alone, sooner than their canonical spelling."""
    try:
        return repr(parameters)
    except ValueError:  # a number of thousands of digits
        return None


def _spelled(parameters: dict[str, Any]) -> bytes:
    try:
        return encode_json(parameters)
    except EncodingError as error:
        faults = [f"{name!r:.80}" for name, value in parameters.items() if not _is_json({name: value})]
        raise EncodingError(f"decoding[{', '.join(faults[:3])}]: {error}") from error


def _is_json(parameters: dict[str, Any]) -> bool:
    try:
        encode_json(parameters)
    except EncodingError:
        return False
    return True


def _with(before: Parameter | None, value: Any, name: str) -> Parameter:  # noqa: ANN401 (any JSON value)
    before = before or Parameter(said=0, least=None, greatest=None, others=())
    least, greatest, others = before.least, before.greatest, before.others
    if _is_number(value):
        if value is not least and value is not greatest:
            encode_json(value)  # which refuses what is no number in JSON
        least = value if least is None else min(least, value)
        greatest = value if greatest is None else max(greatest, value)
    elif isinstance(value, (list, dict)) or not any(value is other for other in others):
        if _nesting(value) > MAX_NESTING:
            raise EncodingError(f"decoding, {name!r:.80}: expected at most {MAX_NESTING} lists in each other")
        spelled = {encode_json(item): item for item in itertools.chain(others, [value])}
        if len(spelled) > MAX_VALUES:
            raise EncodingError(
                f"decoding, {name!r:.80}: more than {MAX_VALUES} different values that are no numbers; say "
                "what differs with every answer in the question"
            )
        others = tuple(spelled[key] for key in sorted(spelled))
    return Parameter(said=before.said + 1, least=least, greatest=greatest, others=others)


def _is_number(value: Any) -> bool:  # noqa: ANN401 (any JSON value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _nesting(value: Any) -> int:  # noqa: ANN401 (any JSON value)
    """Returns how many lists and objects are inside each other at most; 0 for a scalar."""
    if not isinstance(value, (list, dict)):
        return 0
    return 1 + max(map(_nesting, value.values() if isinstance(value, dict) else value), default=0)
