"""An answer as a script hands it over: its content copied, before anything is signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from palm_torch import codec
from palm_torch.commit import answer_facts
from palm_torch.commit.salted import Content
from palm_torch.digest import Digest
from palm_torch.errors import EncodingError, SessionError
from palm_torch.hooks import spelled
from palm_torch.roles import EMPTY, Artifact, Source

if TYPE_CHECKING:
    from torch import nn

    from palm_torch.receipt import Generators

NO_TOKENIZER: Final = Artifact(source=Source.DECLARED, kind=EMPTY, digest=None)
"""The tokenizer of a session that names none."""


class Traced(Protocol):
    """A commitment to what a model computed; what `palm_torch.commit` makes."""

    @property
    def module(self) -> nn.Module | None:
        """The module that was looked at, if that is known."""

    @property
    def root(self) -> Digest:
        """The trace root; raises if its block has not ended. Nothing can be bound after it was asked for."""

    def add_facts(self, facts: Mapping[str, Digest], *, model: Digest | None = None) -> None:
        """Binds what else belongs to the run under the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenAnswer:
    """One answer as the script hands it over.

    Attributes:
        query: What was asked.
        response: What was answered.
        decoding: Parameters, JSON.
        tokenizer: The tokenizer, or an empty artifact.
        trace: A commitment to the computation, or None.
        logits: Digest of the logits of each generated token, in order; empty if they were not given.
    """

    query: Content
    response: Content
    decoding: dict[str, Any]
    tokenizer: Artifact
    trace: Traced | None
    logits: tuple[Digest, ...]

    def bind(
        self, *, query: Digest, response: Digest, generators: Generators, model: Digest
    ) -> Digest | None:
        """Binds the answer under the root of its trace, and returns the root; None if it has no trace.

        Args:
            query: The commitment to what was asked.
            response: The commitment to what was answered.
            generators: States of the random number generators around it.
            model: The weights root.

        Raises:
            SessionError: If the trace is bound already, its root known, or it has none.
        """
        if self.trace is None:
            return None
        found = answer_facts.facts(
            query=query,
            response=response,
            tokenizer=self.tokenizer.digest,
            decoding=self.decoding,
            before=generators.before,
            after=generators.after,
        )
        if self.logits:
            found[answer_facts.LOGITS] = answer_facts.logits(self.logits)
        self.trace.add_facts(found, model=model)
        root = self.trace.root
        if not isinstance(root, Digest):
            raise SessionError(
                f"run.answer(proof=...): expected a root as a Digest, got {type(root).__name__}"
            )
        return root


def take(
    *,
    query: object,
    response: object,
    decoding: Mapping[str, Any] | None,
    tokenizer: Artifact | None,
    proof: Traced | None,
    logits: object,
) -> GivenAnswer:
    """Returns an answer as the script hands it over, its content copied.

    Raises:
        MeasurementError: If question, answer or logits are nothing that has bytes.
        EncodingError: If a parameter has no JSON form.
        SessionError: If the trace is none, or there are logits and no trace to bind them.
    """
    said = _parameters({} if decoding is None else decoding)
    if proof is not None and not callable(getattr(type(proof), "add_facts", None)):
        raise SessionError(
            f"run.answer(proof=...): expected what palm_torch.commit(model) gave, got {type(proof).__name__}"
        )
    if logits is not None and proof is None:
        raise SessionError(
            "run.answer(logits=...): logits are bound by the root of a trace: give proof=... as well"
        )
    return GivenAnswer(
        query=spelled.content_of(query, what="run.answer(query=...)"),
        response=spelled.content_of(response, what="run.answer(response=...)"),
        decoding=said,
        tokenizer=tokenizer or NO_TOKENIZER,
        trace=proof,
        logits=() if logits is None else spelled.logits_of(logits, what="run.answer(logits=...)"),
    )


def _parameters(decoding: object) -> dict[str, Any]:
    if type(decoding) is not dict and not isinstance(decoding, Mapping):
        raise EncodingError(
            f"run.answer(decoding=...): expected parameters by name, got {type(decoding).__name__}; of a "
            "GenerationConfig, its to_diff_dict()"
        )
    try:
        said: Any = codec.to_json(dict(decoding))
    except RecursionError as error:
        raise EncodingError(
            "run.answer(decoding=...): a parameter holds itself, or nests too deep"
        ) from error
    except EncodingError as error:
        raise EncodingError(f"run.answer(decoding=...): {error}") from error
    found: dict[str, Any] = said
    return found
