"""`palm_torch.DataLoader`: torch's own loader, with every batch accounted for when the loop receives it.

Nothing about loading changes: same arguments, same batches, same use of random numbers. Workers hash what
they read and send the digests along with the batch; under ``palm-torch run`` also what they import and open
by themselves. Records count at ``next()``, because prefetched batches that the loop never asked for must
not. Nothing is changed in the loader either: only the iterators it makes carry an account.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
import torch.utils.data

from palm_torch import recorder
from palm_torch.data import carrier, evaluating, stacking
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.padding import Padding
from palm_torch.errors import CoverageError, PalmTorchError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.utils.data.dataloader import _BaseDataLoaderIter

    from palm_torch.recorder import Reads

T_co = TypeVar("T_co", covariant=True)
E = TypeVar("E", bound=BaseException)

_TORCH_SAYS_DEAD = "DataLoader worker (pid"
_TORCH_SAYS_LATE = "DataLoader timed out"
_TORCH_SAYS_RAISED = "Caught "


@contextlib.contextmanager
def carrying(loader: torch.utils.data.DataLoader[Any]) -> Iterator[None]:
    """Makes an iterator that begins inside the block carry the account of what is read.

    Iterators take the loader's functions when they are made; the loader gets its own back.
    """
    collate, begin = loader.collate_fn, loader.worker_init_fn
    stacked = stacks(loader)
    loader.collate_fn = carrier.CarryingCollate(collate)
    loader.worker_init_fn = carrier.CarryingWorkerInit(begin, stacked)
    try:
        yield
    finally:
        loader.collate_fn, loader.worker_init_fn = collate, begin


def stacks(loader: torch.utils.data.DataLoader[Any]) -> bool:
    """Returns whether nothing stands between an attested dataset and torch's own collate function."""
    dataset = loader.dataset
    beneath = AttestedMmapDataset.beneath(dataset) or stacking.hands_on_records(dataset)
    return beneath and stacking.is_default(loader.collate_fn)


def unhashed_workers(loader: torch.utils.data.DataLoader[Any]) -> CoverageError | None:
    """Returns what is wrong with workers that load their code anew, where the code of a run is hashed.

    None outside of a session under ``palm-torch run``, and where workers are forked.
    """
    if not loader.num_workers or not recorder.workers_must_fork():
        return None
    context: Any = loader.multiprocessing_context or multiprocessing
    method = context.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if method == "fork":
        return None
    return CoverageError(
        f"DataLoader(num_workers={loader.num_workers}): workers started by {method!r} load their code "
        "anew, and palm-torch run has not hashed it: pass multiprocessing_context='fork', or "
        "num_workers=0"
    )


def require_hashed_workers(loader: torch.utils.data.DataLoader[Any]) -> None:
    """Refuses workers whose code nobody hashed.

    Raises:
        CoverageError: As `unhashed_workers` returns it.
    """
    error = unhashed_workers(loader)
    if error is not None:
        recorder.failed(error)
        raise error


class Delivering:
    """What an attested loader adds to one of torch's kind, which it stands before in the bases."""

    def _get_iterator(self) -> _BaseDataLoaderIter:
        """Makes torch's iterator, carrying the account of what is read."""
        with carrying(self):  # type: ignore[arg-type]  # the class beside this one is torch's loader
            iterator: _BaseDataLoaderIter = super()._get_iterator()  # type: ignore[misc]  # likewise
        return iterator


class DataLoader(Delivering, torch.utils.data.DataLoader[T_co]):
    """A `torch.utils.data.DataLoader` that tells the running session what it delivers.

    Takes exactly the arguments of torch's class. Outside a session it behaves as torch's does. The
    dataset, or a dataset beneath it, must be attested: see `AttestedMmapDataset`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (torch's signature, whatever it is)
        super().__init__(*args, **kwargs)

    def __iter__(self) -> Iterator[T_co]:  # type: ignore[override]  # torch names its private iterator class
        """Starts an epoch.

        Raises:
            CoverageError: If workers would load their code anew, where the code of a run is hashed.
        """
        require_hashed_workers(self)
        return DeliveringIterator(self, super().__iter__())


functools.update_wrapper(DataLoader.__init__, torch.utils.data.DataLoader.__init__)


class DeliveringIterator:
    """One pass over a loader, reporting each batch at the moment the loop receives it.

    It belongs to the session that was open when it began (or to none), and breaks for good at the first
    error: after that no count could be believed.
    """

    def __init__(self, loader: torch.utils.data.DataLoader[Any], inner: _BaseDataLoaderIter) -> None:
        self._loader = loader
        self._inner = inner
        self._session = recorder.session_id()
        self._stacks = stacks(loader)
        self._padding = Padding.of(loader)
        self._broken: str | None = None

    def __iter__(self) -> Self:
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
        self._require_whole()
        self._check_session()
        batch, reads = self._opened(self._fetch(loses=self._session is not None))
        if recorder.current() is None:
            return batch
        if not reads:
            raise self._break(
                CoverageError(
                    f"the loop was given a batch that no attested dataset had part in (dataset: "
                    f"{type(self._loader.dataset).__name__}): wrap what lies on disk in "
                    "palm_torch.AttestedMmapDataset, or read through one inside your dataset's __getitem__"
                )
            )
        self._count(self._marked(reads))
        return batch

    def _fetch(self, *, loses: bool) -> Any:  # noqa: ANN401 (a carrier, or whatever the collate function makes)
        """Returns torch's next item.

        Args:
            loses: Whether the account is lost with a worker.
        """
        before = carrier.gather(stacks=self._stacks)
        try:
            return next(self._inner)
        except StopIteration:
            raise
        except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
            self._break(error)
            if loses and self._loader.num_workers and _is_workers_end(error):
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

    def _opened(self, item: Any) -> tuple[Any, tuple[Reads, ...]]:  # noqa: ANN401 (as `_fetch` returns it)
        """Takes a batch out of its carrier; another item was put in its place by a subclass."""
        if not isinstance(item, carrier.Carrier):
            return item, ()
        observer = recorder.observer()
        if observer is not None and item.seen:
            observer.take(item.seen)
        if item.failure and recorder.current() is not None:
            raise self._break(CoverageError(f"a worker could not account for what it read: {item.failure}"))
        return item.batch, item.reads

    def _marked(self, reads: tuple[Reads, ...]) -> tuple[Reads, ...]:
        """Returns what was read for the batch just fetched, with what a sampler repeated."""
        if self._padding is None:
            return reads
        return self._padding.mark(reads, self._inner._num_yielded)  # noqa: SLF001 (of restored passes, too)

    def _count(self, reads: Sequence[Reads]) -> None:
        """Tells the session of a batch that the loop is about to receive."""
        running = recorder.current()
        if running is None:
            return
        try:
            running.deliver(reads, grad_enabled=torch.is_grad_enabled() and not evaluating.now())
        except BaseException as error:
            self._break(error)
            raise

    def _require_whole(self) -> None:
        if self._broken is not None:
            raise CoverageError(
                f"this pass over the DataLoader broke earlier ({self._broken}); begin a new one"
            )

    def _check_session(self) -> None:
        now = recorder.session_id()
        if now != self._session:
            when = "before the session began" if now is not None else "in a session that has ended"
            raise self._break(
                SessionError(
                    f"this pass over the DataLoader was begun {when}: write `for batch in loader` inside "
                    "the `with palm_torch.attested(...)` block, and finish it there"
                )
            )

    def _break(self, error: E) -> E:
        """Ends the pass for good, and persistent workers: one may hold notes of a batch that never came."""
        text = str(error).strip()
        self._broken = f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
        if isinstance(error, PalmTorchError):
            recorder.failed(error)
        self._loader._iterator = None  # noqa: SLF001 (where torch's loader keeps them)
        return error


def _is_workers_end(error: Exception) -> bool:
    """Tells torch's report of a dead or late worker from an error that user code raised in a worker.

    A worker that died while its batch was on the way shows as a pipe that ends, or a socket that is gone.
    """
    if isinstance(error, RuntimeError):
        return str(error).startswith((_TORCH_SAYS_DEAD, _TORCH_SAYS_LATE))
    return not str(error).startswith(_TORCH_SAYS_RAISED)
