"""What torch's own kernels give, beside what an audit expects of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ml_dtypes
import numpy as np
import torch

from palm_torch.audit import arithmetic, bounded, margins

if TYPE_CHECKING:
    from palm_torch.audit.arithmetic import Arithmetic
    from palm_torch.audit.bounded import Bounded
    from palm_torch.audit.margins import Margin

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def of(dtype: str) -> Arithmetic:
    """The arithmetic of a run on this machine's processor."""
    return arithmetic.of(dtype, {"float32_matmul_precision": "highest", "autocast.cpu": "off"})


def stored(tensor: torch.Tensor) -> Any:
    """A tensor as an array of the same bytes."""
    held = tensor.detach().contiguous()
    if held.dtype == torch.bfloat16:
        return held.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return held.numpy()


def exact(tensor: torch.Tensor) -> Bounded:
    return bounded.exact(stored(tensor))


def margin(given: torch.Tensor, expected: Bounded) -> Margin:
    return margins.compare(stored(given), expected)


def assert_consistent(given: torch.Tensor, expected: Bounded) -> Margin:
    """Everything is bounded, and nothing lies outside."""
    found = margin(given, expected)
    assert found.unbounded == 0
    assert found.ratio <= 1.0, found
    return found


def assert_tight(given: torch.Tensor, expected: Bounded, *, times: float = 2.0) -> None:
    """A number that is a few bounds off is found, wherever it is and whichever way it is off."""
    for place in np.ndindex(*given.shape):
        for sign in (1.0, -1.0):
            value = expected.value[place] + sign * times * max(expected.error[place], 1e-30)
            wrong = given.clone()
            wrong[place] = value
            if abs(wrong[place].item() - value) > 0.5 * expected.error[place]:
                continue  # the format has no number there
            assert not margin(wrong, expected).consistent


def quantised(weight: torch.Tensor) -> torch.Tensor:
    """A weight with 8 bits and one scale for each row, as a cheaper model would have it."""
    scale = weight.float().abs().amax(1, keepdim=True) / 127
    return ((weight.float() / scale).round() * scale).to(weight.dtype)
