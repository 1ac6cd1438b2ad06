"""The operations that can be attested, and what measures each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.attesting.bind import Binding
from palm_torch.attesting.distribute import Distribution
from palm_torch.attesting.inference import Inference
from palm_torch.attesting.one_inference import OneInference
from palm_torch.attesting.preprocess import Preprocessing
from palm_torch.attesting.training import Training
from palm_torch.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.attesting.measured import Measured
    from palm_torch.attesting.sealing import Sealer
    from palm_torch.properties import Operation


def _train(sealer: Sealer, counts_data: bool) -> Measured:  # noqa: FBT001 (one signature for all makers)
    return Training(
        sealer.record,
        counts_data=counts_data,
        why_unattested=sealer.gpus.why_unattested,
        company=sealer.company,
    )


MAKERS: Final[dict[Operation, Callable[[Sealer, bool], Measured]]] = {
    "preprocess": lambda *_: Preprocessing(),
    "distribute": lambda *_: Distribution(),
    "bind": lambda *_: Binding(),
    "train": _train,
    "infer": lambda sealer, _: OneInference(sealer),
    "session": lambda sealer, _: Inference(sealer),
}
"""Operation → what makes its strategy, given the sealer of the session and `Session`'s ``counts_data``."""

AVAILABLE: Final[tuple[Operation, ...]] = tuple(MAKERS)
"""Operations that this version can attest; the statements of all eight are defined."""


def available(operation: str) -> Operation:
    """Returns an operation that can be attested.

    Raises:
        SessionError: If it is another.
    """
    for name in AVAILABLE:
        if name == operation:
            return name
    raise SessionError(f"attested({operation!r}): this version attests {', '.join(map(repr, AVAILABLE))}")
