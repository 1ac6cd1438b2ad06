"""`palm_torch.StatefulDataLoader`: torchdata's loader, which can go on in the middle of an epoch.

The position in the data is the loader's own: save ``loader.state_dict()`` beside the model and give it to
``loader.load_state_dict`` before iterating. What was prefetched and never delivered counts neither before
the checkpoint nor after it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from torchdata import stateful_dataloader  # type: ignore[import-untyped]  # it has no stubs

from palm_torch.data import carrier
from palm_torch.data.loader import Delivering, DeliveringIterator, require_hashed_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

T_co = TypeVar("T_co", covariant=True)


class StatefulDataLoader(Delivering, stateful_dataloader.StatefulDataLoader[T_co]):  # type: ignore[misc]  # as above
    """A `torchdata.stateful_dataloader.StatefulDataLoader` that tells the running session what it delivers.

    Takes exactly the arguments of torchdata's class, and keeps and restores its state as that does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (torchdata's signature)
        super().__init__(*args, **kwargs)

    def __iter__(self) -> Iterator[T_co]:
        """Starts an epoch, or goes on with the one whose state was loaded.

        Raises:
            CoverageError: If workers would load their code anew, where the code of a run is hashed.
        """
        require_hashed_workers(self)
        before = carrier.gather()  # what is skipped on the way to the position is not delivered
        try:
            inner = super().__iter__()
        finally:
            carrier.restore(before)
        return DeliveringIterator(self, inner)

    def state_dict(self) -> dict[str, Any]:
        """Returns the position: what comes next is the first batch that has not been delivered."""
        before = carrier.gather()
        try:
            state: dict[str, Any] = super().state_dict()
        finally:
            carrier.restore(before)
        return state


functools.update_wrapper(StatefulDataLoader.__init__, stateful_dataloader.StatefulDataLoader.__init__)
