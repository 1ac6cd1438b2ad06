"""How digests travel with their batch, from where a record was read to where the batch is delivered.

The dataset leaves a note of every record it reads. The wrapped collate function gathers the notes made
since the last batch and sends them along in a `Carrier`; `palm_torch.DataLoader` takes them out when the
loop receives the batch, and only then do they count. Between the two lie processes, queues and prefetched
batches that the loop may never see.

Whatever stands between dataset and collate function (`Subset`, `ConcatDataset`, a dataset of the user's
own, transforms) needs no part in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import gmpy2  # type: ignore[import-untyped]
import torch
from torch.utils.data import get_worker_info
from torch.utils.data._utils.pin_memory import pin_memory

from palm_torch import recorder
from palm_torch.commit import multiset
from palm_torch.data import stacking
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMBER: Final[type[int]] = gmpy2.mpz
"""Integer type for making multiset hashes."""


class Note(NamedTuple):
    """Records that were just read from one dataset.

    Attributes:
        dataset: The dataset's uid.
        indices: Their numbers, int64 little endian.
        digests: Their digests, 32 bytes each.
        multiply: Whether the product of the multiset elements is needed: no manifest tells it.
    """

    dataset: str
    indices: bytes
    digests: bytes
    multiply: bool


class _Gathering(threading.local):
    """The notes of the batch that this thread is fetching; None while it fetches none."""

    notes: list[Note] | None = None
    stacks: bool = False


_here: Final = _Gathering()


class _Worker:
    """The notes of the batch that this worker process is fetching, whichever of its threads reads."""

    notes: list[Note] | None = None
    stacks: bool = False
    failure: str = ""
    observer: recorder.Observer | None = None


@dataclass(frozen=True, slots=True)
class Carrier:
    """A batch with the account of the records that were read for it.

    Attributes:
        batch: What the collate function made.
        reads: One item per dataset, in the order first read.
        failure: What went wrong in the worker, whether or not the code around the dataset let it pass.
        seen: Code and files that the worker met beside its records; see `recorder.Observer`.
    """

    batch: Any
    reads: tuple[recorder.Reads, ...]
    failure: str = ""
    seen: tuple[Any, ...] = ()

    def pin_memory(self) -> Carrier:
        """Returns the carrier with the batch's tensors in pinned memory; torch's pinning thread asks."""
        return Carrier(pin_memory(self.batch), self.reads, self.failure, self.seen)  # type: ignore[no-untyped-call]

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns plain tuples: the way from the worker costs a tenth of what frozen dataclasses cost."""
        return _carrier, (
            self.batch,
            [(item.dataset, item.indices, item.digests, item.product, item.exact) for item in self.reads],
            self.failure,
            self.seen,
        )


@dataclass(frozen=True, slots=True)
class CarryingCollate:
    """A collate function whose batches carry their reads. Picklable when the inner function is.

    Attributes:
        inner: The collate function of the loader.
    """

    inner: Callable[[Any], Any]

    def __call__(self, samples: Any) -> Any:  # noqa: ANN401 (whatever the user's dataset and function make)
        """Collates, then gathers what was read since the last batch.

        Called by a stock loader in the main process, where reads count as they happen, it adds nothing.
        """
        batch = samples.collated() if type(samples) is stacking.Stacked else self.inner(samples)
        notes = _notes()
        if notes is None:
            return batch
        taken = notes.copy()
        notes.clear()
        failure, _Worker.failure = _Worker.failure, ""
        reads = reads_of(taken, exact=stacks() and (len(taken) == 1 or _one_stream(taken, samples)))
        return Carrier(batch, reads, failure, _Worker.observer.seen_here() if _Worker.observer else ())


@dataclass(frozen=True, slots=True)
class CarryingWorkerInit:
    """A worker's first call: from here on its notes are gathered. Picklable when the inner function is.

    Attributes:
        inner: The user's own ``worker_init_fn``, or None.
        stacks: Whether batches may be read stacked: see `stacking`.
    """

    inner: Callable[[int], None] | None
    stacks: bool

    def __call__(self, worker_id: int) -> None:
        """Starts gathering in this worker process, then runs the user's function."""
        _Worker.notes = []
        _Worker.stacks = self.stacks
        _Worker.observer = recorder.observer()
        if _Worker.observer is not None:
            _Worker.observer.begin_here()
        if self.inner is not None:
            self.inner(worker_id)


def leave(note: Note) -> None:
    """Takes note of records that were just read.

    Inside a fetch the note waits for its batch. Outside of one (``dataset[i]`` by hand, a stock loader
    without workers) reading is delivering, and the session is told at once.

    Raises:
        CoverageError: In a worker of a loader that has no carrier.
        SessionError: In a thread or process that the session does not own.
    """
    notes = _Worker.notes
    if notes is None:
        notes = _here.notes
    if notes is not None:
        notes.append(note)
        return
    if get_worker_info() is not None:
        raise CoverageError(
            "this DataLoader has workers, but nothing carries the digests of what they read to the loop: "
            "begin the pass inside the session, where torch's own loaders do, or use "
            "palm_torch.DataLoader(...) in place of torch.utils.data.DataLoader(...), or "
            "palm_torch.StatefulDataLoader(...) in place of torchdata's, arguments unchanged"
        )
    running = recorder.current()
    if running is not None:
        running.deliver(reads_of([note]), grad_enabled=torch.is_grad_enabled())


def forget(dataset: str) -> None:
    """Drops the notes of a stream that wait for their batch, which its loader will not make.

    A loader with ``drop_last`` reads the items of a last, smaller batch and lets them go.
    """
    notes = _notes()
    if notes is not None:
        notes[:] = [note for note in notes if note.dataset != dataset]


def gather(*, stacks: bool = False) -> tuple[list[Note] | None, bool]:
    """Begins to gather this thread's notes.

    Args:
        stacks: Whether the batch may be read stacked: see `stacking`.

    Returns:
        What `restore` needs to end it.
    """
    before = _here.notes, _here.stacks
    _here.notes, _here.stacks = [], stacks
    return before


def restore(before: tuple[list[Note] | None, bool]) -> None:
    """Ends gathering, back to what was before `gather`."""
    _here.notes, _here.stacks = before


def stacks() -> bool:
    """Returns whether what is being fetched may be read stacked: see `stacking`."""
    return _Worker.stacks if _Worker.notes is not None else _here.stacks


def note_failure(error: Exception) -> None:
    """Remembers an error for the main process, should the code around the dataset swallow it here."""
    if _Worker.notes is not None and not _Worker.failure:
        _Worker.failure = f"{type(error).__name__}: {error}"


def reads_of(notes: Sequence[Note], *, exact: bool = False) -> tuple[recorder.Reads, ...]:
    """Sums notes up to one item per dataset, in the order first read, and multiplies where needed."""
    if not notes:
        return ()
    names, indices, digests, multiply = zip(*notes, strict=True)
    if names.count(names[0]) < len(names):  # several: seldom
        return tuple(
            reads
            for name in dict.fromkeys(names)
            for reads in reads_of([note for note in notes if note.dataset == name], exact=exact)
        )
    joined = b"".join(digests)
    product = multiset.product_of(joined, number=NUMBER) if multiply[0] else b""
    return (recorder.Reads(names[0], b"".join(indices), joined, product, exact),)


def _carrier(
    batch: Any,  # noqa: ANN401 (any batch)
    reads: list[tuple[str, bytes, bytes, bytes, bool]],
    failure: str,
    seen: tuple[Any, ...],
) -> Carrier:
    return Carrier(batch, tuple(recorder.Reads(*item) for item in reads), failure, seen)


def _one_stream(notes: Sequence[Note], samples: object) -> bool:
    """Tells whether a batch consists of the very items that these notes are of, one note each."""
    alike = len({note.dataset for note in notes}) == 1 and not any(note.indices for note in notes)
    return alike and isinstance(samples, list) and len(samples) == len(notes)


def _notes() -> list[Note] | None:
    return _Worker.notes if _Worker.notes is not None else _here.notes
