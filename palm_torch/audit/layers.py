"""Three ways to check a linear layer: against all weights, against opened rows of them, or all rows at once.

With the weights at hand every output coordinate at a place is computed. Where the answer opens weights, it is
the coordinates that the request drew. For a block of which every row is opened, sums of coordinates with
drawn signs are compared instead, so that the weights are passed once however many rows there are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from palm_torch.audit import margins
from palm_torch.audit.arithmetic import Arithmetic
from palm_torch.audit.operations import freivalds, linear
from palm_torch.challenge import weights_asked
from palm_torch.challenge.geometry import Geometry
from palm_torch.challenge.parts import Part
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from palm_torch.audit.bounded import Bounded, Stored
    from palm_torch.audit.margins import Margin
    from palm_torch.challenge.challenge import Asked

DRAWS: Final = 4
"""How often signs are drawn for the outputs of one layer: an error above twice the bound of its group escapes
all of them with probability 1/16 at most."""


class Weights(Protocol):
    """Weights that were checked against a root: those at hand, or those that an answer opened."""

    def vector(self, name: str) -> NDArray[Any]:
        """Returns a norm or a bias."""

    def rows(self, name: str, numbers: Sequence[int]) -> NDArray[Any]:
        """Returns some rows of a matrix."""

    def matrix(self, name: str) -> NDArray[Any]:
        """Returns all of a matrix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Weights of one part, with what the configuration says of their shapes.

    Attributes:
        weights: The weights.
        geometry: What the verifier says that the model is.
        part: The part.
        arithmetic: Of the part's rows; its weights are of the same element type.
    """

    weights: Weights
    geometry: Geometry
    part: Part
    arithmetic: Arithmetic

    @property
    def transposed(self) -> bool:
        """Whether the matrices of the blocks are (in, out), as GPT-2 has them."""
        return self.geometry.family == "gpt2" and self.part.kind == "block"

    def widths(self, role: str) -> tuple[int, int]:
        """Returns outputs and inputs of a linear layer."""
        return weights_asked.linear_widths(self.geometry)[role]

    def vector(self, role: str, length: int) -> NDArray[Any]:
        """Returns a norm or a bias.

        Raises:
            DataError: If it has another length or element type.
        """
        return self._fitting(role, self.weights.vector(self.part.weights[role]), (length,))

    def bias(self, role: str) -> NDArray[Any] | None:
        """Returns the bias of a linear layer; None if it has none."""
        name = f"{role}.bias"
        return self.vector(name, self.widths(role)[0]) if name in self.part.weights else None

    def matrix(self, role: str) -> NDArray[Any]:
        """Returns the matrix of a linear layer as it is stored.

        Raises:
            DataError: If it has another shape or element type.
        """
        outputs, inputs = self.widths(role)
        shape = (inputs, outputs) if self.transposed else (outputs, inputs)
        return self._fitting(role, self.weights.matrix(self.part.weights[role]), shape)

    def rows(self, role: str, numbers: Sequence[int], width: int) -> NDArray[Any]:
        """Returns rows of a matrix.

        Raises:
            DataError: If they have another width or element type.
        """
        return self._fitting(role, self.weights.rows(self.part.weights[role], numbers), (len(numbers), width))

    def _fitting(self, role: str, found: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        name = self.part.weights[role]
        if found.shape != shape:
            raise DataError(
                f"weights: {name!r}: expected shape {list(shape)}, as the configuration says, got "
                f"{list(found.shape)}"
            )
        if found.dtype.name != (dtype := self.arithmetic.form.name):
            raise DataError(
                f"weights: {name!r}: expected {dtype}, the element type of what {self.part.name} gives, got "
                f"{found.dtype.name}: no bounds are known where they differ"
            )
        return found


class Layers(Protocol):
    """A way to check linear layers."""

    def check(self, source: Source, role: str, x: Bounded, y: Stored, rows: Sequence[int]) -> list[Margin]:
        """Compares outputs of a layer with what its inputs make.

        Args:
            source: The weights.
            role: Role of the layer.
            x: Inputs, (rows, in).
            y: Committed outputs, (rows, out).
            rows: Which rows of the stretch these are.

        Returns:
            One margin for each row, whose index is the output coordinate; or one for all rows, whose index is
            the row and a coordinate.
        """


class WholeLayers:
    """Computes every output coordinate from weights at hand."""

    def check(self, source: Source, role: str, x: Bounded, y: Stored, rows: Sequence[int]) -> list[Margin]:
        """See `Layers`."""
        del rows
        weight, bias = source.matrix(role), source.bias(role)
        expected = linear.applied(x, weight, bias, source.arithmetic, transposed=source.transposed)
        return [margins.compare(row, expected[number]) for number, row in enumerate(y)]


class DrawnLayers:
    """Computes the output coordinates that a request drew, from opened rows of weights.

    Args:
        asked: What the request asks.
        numbers: For each row of the stretch the number by which its coordinates were drawn.
    """

    def __init__(self, asked: Asked, numbers: Sequence[int]) -> None:
        self._asked = asked
        self._numbers = numbers

    def check(self, source: Source, role: str, x: Bounded, y: Stored, rows: Sequence[int]) -> list[Margin]:
        """See `Layers`."""
        if source.transposed:  # no part of such a matrix makes one output, so all of it was opened
            return WholeLayers().check(source, role, x, y, rows)
        outputs, inputs = source.widths(role)
        bias = source.bias(role)
        found: list[Margin] = []
        for at, row in enumerate(rows):
            drawn = list(self._asked.coordinates(self._numbers[row], role, outputs))
            expected = linear.applied(
                x[at : at + 1],
                source.rows(role, drawn, inputs),
                None if bias is None else bias[drawn],
                source.arithmetic,
            )
            margin = margins.compare(y[at][drawn], expected[0])
            found.append(dataclasses.replace(margin, index=tuple(drawn[index] for index in margin.index)))
        return found


class SummedLayers:
    """Compares sums of output coordinates with drawn signs, for all rows at once.

    Args:
        asked: What the request asks.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def check(self, source: Source, role: str, x: Bounded, y: Stored, rows: Sequence[int]) -> list[Margin]:
        """See `Layers`."""
        del rows
        outputs, _ = source.widths(role)
        signs = self._asked.signs(source.part.number, role, DRAWS * outputs)
        margin = freivalds.checked(
            x,
            y,
            source.matrix(role),
            source.bias(role),
            np.array(signs, np.int8).reshape(DRAWS, outputs),
            source.arithmetic,
            transposed=source.transposed,
        )
        where = (margin.index[1], margin.index[2] * freivalds.GROUP) if margin.index else ()
        return [dataclasses.replace(margin, index=where)]
