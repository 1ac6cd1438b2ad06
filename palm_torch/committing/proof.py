"""A commitment to what a model computes in a block: the object that users hold.

Leaving the block makes the root. Afterwards any piece of what was computed can be shown to whoever has the
root, if the tensors were kept or are still at hand.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self

from palm_torch import files
from palm_torch.commit import trace, trace_gathering, trace_opening, trace_question, trace_rows
from palm_torch.commit.trace import Context, ModuleCoverage, NotCaptured, Site
from palm_torch.committing.given import Given
from palm_torch.errors import CoverageError, DataError, SessionError
from palm_torch.hooks import tensors as tensor_contents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    import torch

    from palm_torch.commit.trace_gathering import Captured
    from palm_torch.commit.trace_opening import TraceOpening
    from palm_torch.commit.trace_question import Range
    from palm_torch.committing.capture import Capture
    from palm_torch.committing.spill import Kept
    from palm_torch.committing.streams import Stream
    from palm_torch.digest import Digest


class Bringer(Protocol):
    """What hooks a model and calls the capture: `palm_torch.hooks.taps.Taps`."""

    def __enter__(self) -> object:
        """Installs the hooks."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object:
        """Removes them; raises CoverageError if a tapped module was not seen as often as it should be."""

    @property
    def coverage(self) -> tuple[ModuleCoverage, ...]:
        """How often each tapped module was seen, by path."""

    @property
    def not_captured(self) -> tuple[NotCaptured, ...]:
        """Outputs that were seen and left out."""


class Proof:
    """A commitment to what a model computes in a block; `palm_torch.commit` makes it.

    Args:
        taps: Brings the tensors.
        capture: Takes them.
        kept: Where they are kept, or None.
    """

    def __init__(self, taps: Bringer, capture: Capture, kept: Kept | None = None) -> None:
        self._taps = taps
        self._capture = capture
        self._kept = kept
        self._state: Literal["new", "open", "closed", "failed"] = "new"
        self._model: Digest | None = None
        self._facts: dict[str, Digest] = {}
        self._sealed: tuple[Context, bytes, Digest] | None = None
        self._leaves: list[bytes] = []
        self._streams: dict[tuple[Site, str, int], Stream] = {}

    def __enter__(self) -> Self:
        """Installs the taps.

        Raises:
            SessionError: If the block was entered before.
            CoverageError: If a module cannot be tapped.
        """
        if self._state != "new":
            raise SessionError("commit(...): its block was entered before; make another commitment")
        self._state = "failed"
        self._taps.__enter__()
        self._state = "open"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Removes the taps, waits until everything is hashed, and makes the root.

        Raises:
            CoverageError: If something that was tapped was not seen or not captured: there is no root then.
        """
        self._state = "failed"
        with contextlib.ExitStack() as stack:
            stack.callback(self._capture.abandon)
            self._taps.__exit__(kind, error, traceback)
            if kind is None:
                self._seal(self._capture.close())
                self._state = "closed"

    @property
    def root(self) -> Digest:
        """The trace root, once the block has ended.

        Raises:
            SessionError: If it has not, or it failed.
        """
        return self._result()[2]

    @property
    def context(self) -> bytes:
        """Everything that the root binds, as the bytes it is the hash of; whoever checks openings needs them.

        Raises:
            SessionError: As in `root`.
        """
        return self._result()[1]

    @property
    def trace(self) -> Context:
        """The same, decoded.

        Raises:
            SessionError: As in `root`.
        """
        return self._result()[0]

    @property
    def coverage(self) -> tuple[ModuleCoverage, ...]:
        """How often each tapped module was seen.

        Raises:
            SessionError: As in `root`.
        """
        return self.trace.coverage

    def add_facts(self, facts: Mapping[str, Digest], *, model: Digest | None = None) -> None:
        """Binds what else belongs to the run, such as prompt and output.

        Args:
            facts: Name → digest.
            model: The weights root of the model.

        Raises:
            SessionError: If the block has ended, or a name has another digest already.
        """
        if self._state not in {"new", "open"}:
            raise SessionError("commit(...): facts are bound inside the block; it has ended")
        for name, digest in facts.items():
            if self._facts.setdefault(name, digest) != digest:
                raise SessionError(f"commit(...): the fact {name!r} was bound before, to another digest")
        if model is not None:
            if self._model not in (None, model):
                raise SessionError("commit(...): the model was bound before, with other weights")
            self._model = model

    def open(
        self,
        site: str | Site,
        *,
        output: str | None = None,
        tokens: Range = None,
        batch: Range = None,
        channels: Range = None,
        call: int | None = None,
        tensors: Mapping[int, torch.Tensor] | None = None,
    ) -> TraceOpening:
        """Shows some of what a module computed.

        Example: ``proof.open("model.layers.3", tokens=slice(0, 4), channels=slice(0, 64)).save("row.json")``

        Args:
            site: Canonical path of the module.
            output: Path within what it returned, where it returned several tensors.
            tokens: Which tokens, counted through all calls, or within `call`; all if left out. Numbers
                below 0 count from the end, here and in all ranges.
            batch: Which sequences of the batch.
            channels: Which channels.
            call: One call of the module, from 0, for tokens of it alone.
            tensors: Number of a call → its tensor, where nothing was kept.

        Raises:
            SessionError: As in `root`.
            DataError: If the trace has nothing such, it is too much for one opening, nothing was kept and the
                tensors given are not those captured, or the disk lost what was kept.
        """
        context, _, root = self._result()
        if isinstance(site, str):
            site = trace_question.site_of(context, site, output)
        question = trace_question.ask(context, site, tokens=tokens, batch=batch, channels=channels, call=call)
        read = self._reader(site, call, tensors)
        return trace_opening.make(root, context, self._leaves, question, read)

    def save(self, path: str | Path) -> None:
        """Writes the context to a file, for those who check openings.

        Raises:
            DataError: If it cannot be written.
            SessionError: As in `root`.
        """
        files.write_atomically(Path(path), [self.context], error=DataError)

    def forget(self) -> None:
        """Lets go of kept activations: of memory and disk. Openings need the tensors from then on."""
        self._kept = None

    def _reader(
        self, site: Site, call: int | None, tensors: Mapping[int, torch.Tensor] | None
    ) -> Callable[[int, int], bytes]:
        group, _ = trace_rows.find(self.trace, site, call)
        kept = self._kept
        if tensors is None and kept is not None:
            stream = self._streams[site, group.dtype, group.channels]
            return lambda start, stop: stream.read(kept, start, stop)

        def content(tensor: torch.Tensor) -> Callable[[], memoryview]:
            return lambda: tensor_contents.tensor_bytes(tensor, what=str(site))

        given = {number: content(tensor) for number, tensor in (tensors or {}).items()}
        return Given(site, group, given).read

    def _seal(self, captured: list[Captured]) -> None:
        if not captured:
            raise CoverageError("commit(...): no tensor was captured: run the model inside the block")
        gathered = trace_gathering.gather(captured)
        context = Context(
            media_type=trace.MEDIA_TYPE,
            scheme="hash",
            model=self._model,
            groups=tuple(group for group, _ in gathered),
            coverage=self._taps.coverage,
            not_captured=self._taps.not_captured,
            environment=self._capture.environment,
            facts=self._facts,
        )
        encoded = context.encode()
        self._sealed = context, encoded, trace.root(encoded)
        self._leaves = [leaves for _, leaves in gathered]
        streams = self._capture.streams
        self._streams = {(stream.site, stream.dtype, stream.channels): stream for stream in streams}

    def _result(self) -> tuple[Context, bytes, Digest]:
        if self._sealed is None:
            raise SessionError(
                "commit(...): there is no root: the block has not ended"
                if self._state in {"new", "open"}
                else "commit(...): there is no root: the block ended with an error"
            )
        return self._sealed
