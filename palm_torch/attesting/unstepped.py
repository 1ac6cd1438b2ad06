"""Parameters that no optimizer steps: they stay what they were, or it is said that they did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

    from palm_torch.attesting.owned_model import Owned
    from palm_torch.hooks.weights import WeightsMeasurement
    from palm_torch.hooks.writes import WriteWatch


def changed(
    owned: Sequence[Owned],
    now: WeightsMeasurement,
    *,
    stepped: Callable[[torch.Tensor], bool],
    watch: WriteWatch,
) -> Iterator[str]:
    """Yields the names of parameters that changed, or were written to, although no optimizer steps them.

    Args:
        owned: The model.
        now: Its weights now.
        stepped: Says whether an optimizer has stepped a tensor in this session.
        watch: Watches the parameters since the model was found.

    Raises:
        CoverageError: If one of them asks for gradients: that is training by hand.
    """
    after = {spec.name: root for spec, root in now.tensors}
    for part in owned:
        before = {tensor.name: tensor.root.value for tensor in part.reference}
        for named in part.parameters():
            if stepped(named.tensor):
                continue
            moved = before.get(named.name) not in (None, after[named.name])
            if moved and named.trainable:
                raise CoverageError(
                    f"parameter {named.name} changed, but no optimizer that was measured has stepped it: a "
                    "hand-written update, or weights loaded after the first step, cannot be attested; give "
                    "it to a torch.optim optimizer, or set requires_grad to False if it is not trained"
                )
            if moved or (watch.counts(named.tensor) and watch.written([named.tensor])):
                yield named.name
