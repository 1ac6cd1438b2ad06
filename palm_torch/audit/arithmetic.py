"""The arithmetic that a traced run computed with: formats, units of rounding, and what was taken for granted.

Every bound of an audit is made of these numbers; `docs/audit-bounds.md` derives them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Form:
    """A floating-point format.

    Attributes:
        name: As torch names it.
        unit: Largest relative error of one rounding to nearest.
        tiny: Largest absolute error of a result near zero. Where hardware may flush subnormal numbers this is
            the smallest normal number; float16 is never flushed, so there it is half the smallest subnormal.
        largest: Largest finite number.
    """

    name: str
    unit: float
    tiny: float
    largest: float


FLOAT32: Final = Form("float32", 2.0**-24, 2.0**-126, (2.0 - 2.0**-23) * 2.0**127)
BFLOAT16: Final = Form("bfloat16", 2.0**-8, 2.0**-126, (2.0 - 2.0**-7) * 2.0**127)
FLOAT16: Final = Form("float16", 2.0**-11, 2.0**-25, 65504.0)
FORMS: Final[Mapping[str, Form]] = MappingProxyType(
    {form.name: form for form in (FLOAT32, BFLOAT16, FLOAT16)}
)
"""Name of a dtype → its format."""

FUNCTION: Final = 8 * FLOAT32.unit
"""Relative error allowed to an elementary function: 4 units in the last place of float32.

Source: SLEEF's functions that torch uses on processors err by 1 unit, and the tables of the CUDA programming
guide give 1 or 2 for exp, tanh, erf, rsqrt, sin and cos, and 4 for pow.
"""

CUDA_ACCUMULATOR: Final = 2.0**-22
"""Tensor cores align up to a few dozen products with the largest and cut them off, instead of rounding.

Source: Fasi, Higham, Mikaitis, Pranesh, Numerical behavior of NVIDIA tensor cores, 2021; the lemma on sums.
"""

PARTIAL_SUMS: Final = 8
"""Most partial sums of one output that are thought to be added in the narrow format, where that may be."""

_OPERANDS: Final[Mapping[str, float]] = MappingProxyType(
    {"highest": 0.0, "high": 2.0**-10, "medium": 2.0**-7}
)
_REDUCED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bfloat16": "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
        "float16": "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    }
)
_AUTOCAST: Final = ("autocast.cpu", "autocast.cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """What the operations of a run rounded to.

    Attributes:
        form: Format of weights and activations.
        accumulator: Relative error of one addition within a sum of products, or of anything else.
        operand: Relative error of each operand of a matrix product, which may have been rounded first.
        reduction: Relative error, of the sum of absolute products, of adding partial sums in a narrow format.
        assumptions: What makes the bounds wider than usual, or what the run does not state and the bounds
            take for granted; one sentence each, for the report.
    """

    form: Form
    accumulator: float = FLOAT32.unit
    operand: float = 0.0
    reduction: float = 0.0
    assumptions: tuple[str, ...] = field(default=())

    def products(self, terms: int) -> float:
        """Returns the error of a sum of so many products, by the unit of the sum of absolute products.

        Args:
            terms: How many products and other addends the sum has, in whatever order it is added.
        """
        added = _more((terms + 2) * self.accumulator)
        if not self.operand:
            return added + self.reduction
        return added + self.operand * (2.0 + self.operand) * (1.0 + added) + self.reduction

    def sums(self, terms: int) -> float:
        """Returns the error of a sum that no matrix unit computes, by the unit of the absolute addends."""
        return _more((terms + 2) * FLOAT32.unit)


def of(dtype: str, environment: Mapping[str, str]) -> Arithmetic:
    """Reads a run's arithmetic from what its trace says of its environment.

    Args:
        dtype: Torch's name of the element type of weights and activations.
        environment: The field `environment` of the trace's context.

    Raises:
        DataError: If no bounds are known for such a run.
    """
    form = FORMS.get(dtype)
    if form is None:
        raise DataError(
            f"dtype: expected one of {', '.join(FORMS)}, got {dtype!r}: no bounds are known for it"
        )
    for name in _AUTOCAST:
        if (found := environment.get(name, "off")) != "off":
            raise DataError(
                f"environment, {name}: expected 'off', got {found!r}: under autocast operations differ in "
                "their dtypes, and no bounds are known; replay such blocks in torch instead"
            )
    told: list[str] = []
    accumulator = FLOAT32.unit
    if "autocast.cuda" in environment:
        accumulator = CUDA_ACCUMULATOR
        told.append("a GPU was there: sums of products may have been cut off instead of rounded")
    return Arithmetic(
        form=form,
        accumulator=accumulator,
        operand=_operand(form, environment, told),
        reduction=_reduction(form, environment, told),
        assumptions=tuple(told),
    )


def _operand(form: Form, environment: Mapping[str, str], told: list[str]) -> float:
    if form is not FLOAT32:
        return 0.0
    name = "float32_matmul_precision"
    precision = environment.get(name)
    if precision is None:
        told.append(f"{name} is not stated: matrix products are taken to have used whole float32 numbers")
        return 0.0
    if precision not in _OPERANDS:
        raise DataError(f"environment, {name}: expected one of {', '.join(_OPERANDS)}, got {precision!r}")
    if precision != "highest":
        told.append(
            f"{name} is {precision!r}: operands of matrix products may have been rounded first, and weights "
            "rounded to 8 bits lie within the bounds"
        )
    return _OPERANDS[precision]


def _reduction(form: Form, environment: Mapping[str, str], told: list[str]) -> float:
    name = _REDUCED.get(form.name)
    if name is None or "autocast.cuda" not in environment:
        return 0.0
    allowed = environment.get(name)
    if allowed is None:
        told.append(f"{name} is not stated: partial sums are taken to have been added in float32")
        return 0.0
    if allowed not in {"False", "True"}:
        raise DataError(f"environment, {name}: expected 'False' or 'True', got {allowed!r}")
    if allowed == "False":
        return 0.0
    told.append(
        f"{name}: up to {PARTIAL_SUMS} partial sums may have been added in {form.name}: weights rounded to 8 "
        "bits lie within such bounds, in wide layers to 4, and an audit that is to find them needs it off"
    )
    return _more(PARTIAL_SUMS * form.unit)


def _more(first: float) -> float:
    """Returns (1 + u)^n − 1 at most, of the product nu: gamma, which stands for all powers of it."""
    return first / (1.0 - first) if first < 1.0 else float("inf")
