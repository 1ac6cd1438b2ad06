"""`palm_torch.DataLoader`: torch's own loader, with every batch accounted for when the loop receives it.

Nothing about loading changes: same arguments, same batches, same use of random numbers. Workers hash what
they read and send the digests along with the batch; under ``palm-torch run`` also what they import and open
by themselves. Records count at ``next()``, because prefetched batches
that the loop never asked for must not.
"""

from __future__ import annotations

import functools
import multiprocessing
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.utils.data

from palm_torch import recorder
from palm_torch.data import carrier, stacking
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.padding import Padding
from palm_torch.errors import CoverageError, PalmTorchError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.data.dataloader import _BaseDataLoaderIter

T_co = TypeVar("T_co", covariant=True)

_TORCH_SAYS_DEAD = "DataLoader worker (pid"
_TORCH_SAYS_LATE = "DataLoader timed out"
_TORCH_SAYS_RAISED = "Caught "


class Delivering:
    """What an attested loader adds to one of torch's kind, which it stands before in the bases.

    Attributes:
        dataset: As in torch's class.
        num_workers: As in torch's class.
        collate_fn: As in torch's class.
        worker_init_fn: As in torch's class.
        multiprocessing_context: As in torch's class.
    """

    dataset: Any
    num_workers: int
    collate_fn: Any
    worker_init_fn: Any
    multiprocessing_context: Any
    _iterator: _BaseDataLoaderIter | None

    def carry(self) -> None:
        """Makes batches carry the account of what was read for them; to be called once, when constructed."""
        if not isinstance(self.collate_fn, carrier.CarryingCollate):
            self.collate_fn = carrier.CarryingCollate(self.collate_fn)
        begin = self.worker_init_fn
        inner = begin.inner if isinstance(begin, carrier.CarryingWorkerInit) else begin
        self.worker_init_fn = carrier.CarryingWorkerInit(inner, self.stacks())

    def stacks(self) -> bool:
        """Returns whether nothing stands between an attested dataset and torch's own collate function."""
        collate = self.collate_fn
        inner = collate.inner if isinstance(collate, carrier.CarryingCollate) else collate
        beneath = AttestedMmapDataset.beneath(self.dataset) or stacking.hands_on_records(self.dataset)
        return beneath and stacking.is_default(inner)

    def require_hashed_workers(self) -> None:
        """Refuses workers that would load their code anew, unhashed, where the code of a run is hashed.

        Raises:
            CoverageError: If a session under ``palm-torch run`` is open and workers are not forked.
        """
        if not self.num_workers or not recorder.workers_must_fork():
            return
        context = self.multiprocessing_context or multiprocessing
        method = context.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
        if method != "fork":
            error = CoverageError(
                f"DataLoader(num_workers={self.num_workers}): workers started by {method!r} load their code "
                "anew, and palm-torch run has not hashed it: pass multiprocessing_context='fork', or "
                "num_workers=0"
            )
            recorder.failed(error)
            raise error

    def forget_workers(self) -> None:
        """Lets go of persistent workers after a failure: one may hold notes of a batch that never came."""
        self._iterator = None


class DataLoader(Delivering, torch.utils.data.DataLoader[T_co]):
    """A `torch.utils.data.DataLoader` that tells the running session what it delivers.

    Takes exactly the arguments of torch's class. Outside a session it behaves as torch's does. The
    dataset, or a dataset beneath it, must be attested: see `AttestedMmapDataset`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (torch's signature, whatever it is)
        super().__init__(*args, **kwargs)
        self.carry()

    def __iter__(self) -> Iterator[T_co]:  # type: ignore[override]  # torch names its private iterator class
        """Starts an epoch.

        Raises:
            CoverageError: As `Delivering.require_hashed_workers`.
        """
        self.require_hashed_workers()
        return DeliveringIterator(self, super().__iter__())


functools.update_wrapper(DataLoader.__init__, torch.utils.data.DataLoader.__init__)


class DeliveringIterator:
    """One pass over a loader, reporting each batch at the moment the loop receives it.

    It belongs to the session that was open when it began (or to none), and breaks for good at the first
    error: after that no count could be believed.
    """

    def __init__(self, loader: Delivering, inner: _BaseDataLoaderIter) -> None:
        self._loader = loader
        self._inner = inner
        self._session = recorder.session_id()
        self._stacks = loader.stacks()
        self._padding = Padding.of(loader)
        self._broken: str | None = None

    def __iter__(self) -> DeliveringIterator:
        """Returns itself."""
        return self

    def __len__(self) -> int:
        """Returns the number of batches in the pass, as torch estimates it."""
        return len(self._inner)

    def __next__(self) -> Any:  # noqa: ANN401 (whatever the collate function makes)
        """Fetches the next batch and tells the session about it.

        Raises:
            SessionError: If a session began or ended since the pass began.
            CoverageError: If, in a session, a worker died, no attested dataset had part in the batch, or
                the pass broke before.
        """
        if self._broken is not None:
            raise CoverageError(
                f"this pass over the DataLoader broke earlier ({self._broken}); begin a new one"
            )
        self._check_session()
        before = carrier.gather(stacks=self._stacks)
        try:
            item = next(self._inner)
        except StopIteration:
            raise
        except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
            self._break(error)
            if self._session is not None and self._loader.num_workers and _is_workers_end(error):
                lost = CoverageError(
                    "the DataLoader lost its workers, and with them the account of what was read: "
                    f"{type(error).__name__}: {error}"
                )
                recorder.failed(lost)
                raise lost from error
            raise
        except BaseException as error:
            self._break(error)
            raise
        finally:
            carrier.restore(before)
        return self._deliver(item)

    def _deliver(self, item: Any) -> Any:  # noqa: ANN401 (a carrier, or whatever a subclass put in its place)
        batch, reads = (item.batch, item.reads) if isinstance(item, carrier.Carrier) else (item, ())
        observer = recorder.observer()
        if observer is not None and isinstance(item, carrier.Carrier) and item.seen:
            observer.take(item.seen)
        running = recorder.current()
        if running is None:
            return batch
        if isinstance(item, carrier.Carrier) and item.failure:
            error = CoverageError(f"a worker could not account for what it read: {item.failure}")
            self._break(error)
            raise error
        if not reads:
            error = CoverageError(
                f"the loop was given a batch that no attested dataset had part in (dataset: "
                f"{type(self._loader.dataset).__name__}): wrap what lies on disk in "
                "palm_torch.AttestedMmapDataset, or read through one inside your dataset's __getitem__"
            )
            self._break(error)
            raise error
        if self._padding is not None:
            reads = self._padding.mark(reads, self._inner._num_yielded)  # noqa: SLF001 (of restored passes, too)
        try:
            running.deliver(reads, grad_enabled=torch.is_grad_enabled())
        except BaseException as error:
            self._break(error)
            raise
        return batch

    def _check_session(self) -> None:
        now = recorder.session_id()
        if now != self._session:
            when = "before the session began" if now is not None else "in a session that has ended"
            error = SessionError(
                f"this pass over the DataLoader was begun {when}: write `for batch in loader` inside "
                "the `with palm_torch.attested(...)` block, and finish it there"
            )
            self._break(error)
            raise error

    def _break(self, error: BaseException) -> None:
        text = str(error).strip()
        self._broken = f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
        if isinstance(error, PalmTorchError):
            recorder.failed(error)
        self._loader.forget_workers()


def _is_workers_end(error: Exception) -> bool:
    """Tells torch's report of a dead or late worker from an error that user code raised in a worker.

    A worker that died while its batch was on the way shows as a pipe that ends, or a socket that is gone.
    """
    if isinstance(error, RuntimeError):
        return str(error).startswith((_TORCH_SAYS_DEAD, _TORCH_SAYS_LATE))
    return not str(error).startswith(_TORCH_SAYS_RAISED)
