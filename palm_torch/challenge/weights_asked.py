"""Which blocks of weights an answer opens, where the verifier does not have the weights.

Of a linear layer it is the rows of the coordinates that were drawn, of a norm or a bias all of it, of an
embedding the row that a token looked up. Layers of GPT-2 keep their matrices the other way round, inputs by
outputs, and no part of such a matrix makes one output: there it is the whole matrix.

Specification: docs/spec/57-audit.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_torch.challenge.tokens import PADDING
from palm_torch.errors import BindingError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from palm_torch.challenge.challenge import Asked
    from palm_torch.challenge.geometry import Geometry
    from palm_torch.challenge.parts import Part
    from palm_torch.challenge.request import AuditRequest
    from palm_torch.challenge.tokens import Tokens
    from palm_torch.commit.opening_file import WeightsOpening
    from palm_torch.digest import Digest

_BIAS = ".bias"


@dataclass(frozen=True, slots=True)
class WeightsQuestion:
    """A block of weights to show.

    Attributes:
        name: Canonical name of the parameter, or an alias.
        rows: First row of its two-dimensional view, and the one after the last.
        columns: Likewise the columns.
    """

    name: str
    rows: tuple[int, int]
    columns: tuple[int, int]

    def __str__(self) -> str:
        """Returns the question in words, for messages."""
        return "{}, rows {}:{}, columns {}:{}".format(self.name, *self.rows, *self.columns)


def linear_widths(geometry: Geometry) -> dict[str, tuple[int, int]]:
    """Returns role of each linear layer → outputs and inputs."""
    hidden, inner = geometry.hidden, geometry.intermediate
    turned = geometry.heads * geometry.head_width
    shared = geometry.key_value_heads * geometry.head_width
    return {
        "query": (turned, hidden),
        "key": (shared, hidden),
        "value": (shared, hidden),
        "qkv": (3 * hidden, hidden),
        "attention out": (hidden, turned),
        "gate": (inner, hidden),
        "up": (inner, hidden),
        "down": (hidden, inner),
        "logits": (geometry.vocabulary, hidden),
    }


def weights_questions(
    request: AuditRequest, asked: Asked, tokens: Tokens | None
) -> tuple[WeightsQuestion, ...]:
    """Returns the blocks of weights that an answer has to open, in this order; none if nobody asks.

    By place in the order of the draw, whole blocks after them; by role; each block once.

    Args:
        request: The request.
        asked: What it asks of the trace.
        tokens: The ids, as the answer shows them; None if it shows none: then no row of an embedding is
            opened, nor is one where there is padding.

    Raises:
        DataError: If an id is none of the vocabulary.
    """
    if not request.coordinates:
        return ()
    widths = linear_widths(request.geometry)
    found: dict[WeightsQuestion, None] = {}
    for number, place in enumerate(asked.places):
        part = asked.parts[place.part]
        if part.kind == "embedding":
            row = None if tokens is None else tokens.rows[place.sequence][place.token]
            if tokens is not None and row is not None and row != PADDING:
                found.update(
                    dict.fromkeys(
                        _looked_up(request.geometry, part, row, tokens.position(place.sequence, place.token))
                    )
                )
            continue
        found.update(dict.fromkeys(_of_part(request.geometry, widths, asked, part, number)))
    for number, at in enumerate(asked.whole, len(asked.places)):
        found.update(dict.fromkeys(_of_part(request.geometry, widths, asked, asked.parts[at], number)))
    return tuple(found)


def _looked_up(geometry: Geometry, part: Part, token: int, position: int) -> Iterator[WeightsQuestion]:
    if token >= geometry.vocabulary:
        raise DataError(f"tokens: expected ids below {geometry.vocabulary}, got {token}")
    for role, name in part.weights.items():
        row = token if role == "token embedding" else position
        yield WeightsQuestion(name, (row, row + 1), (0, geometry.hidden))


def _of_part(
    geometry: Geometry, widths: dict[str, tuple[int, int]], asked: Asked, part: Part, number: int
) -> Iterator[WeightsQuestion]:
    for role, name in part.weights.items():
        if role not in widths:
            yield WeightsQuestion(name, (0, 1), (0, _vector(geometry, widths, role)))
            continue
        outputs, inputs = widths[role]
        if geometry.family == "gpt2" and role != "logits":
            yield WeightsQuestion(name, (0, inputs), (0, outputs))
            continue
        for row in asked.coordinates(number, role, outputs):
            yield WeightsQuestion(name, (row, row + 1), (0, inputs))


def _vector(geometry: Geometry, widths: dict[str, tuple[int, int]], role: str) -> int:
    """Returns how long a norm or a bias is."""
    layer = role.removesuffix(_BIAS)
    if layer in widths:
        return widths[layer][0]
    return geometry.head_width if role in {"query norm", "key norm"} else geometry.hidden


def check(openings: Sequence[WeightsOpening], questions: Sequence[WeightsQuestion], model: Digest) -> None:
    """Refuses openings of other weights than those asked for.

    Args:
        openings: Those of an answer, of which nothing was checked.
        questions: What `weights_questions` returned.
        model: The weights root that the trace names.

    Raises:
        BindingError: If there are others, or they are of another root.
    """
    if len(openings) != len(questions):
        raise BindingError(f"answer: expected {len(questions)} openings of weights, got {len(openings)}")
    for number, (opening, question) in enumerate(zip(openings, questions, strict=True)):
        tensor = opening.tensor
        if opening.root != model:
            raise BindingError(
                f"answer: weights {number}: expected them under the root {model}, got {opening.root}"
            )
        names = (tensor.name, *tensor.aliases)
        if question.name not in names or (opening.rows, opening.columns) != (question.rows, question.columns):
            raise BindingError(
                f"answer: weights {number}: expected {question}, got {tensor.name!r:.200}, {opening.block}"
            )
