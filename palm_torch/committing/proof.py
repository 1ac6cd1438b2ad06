"""A commitment to what a model computes in a block: the object that users hold.

Leaving the block makes the trees. What else belongs to the run can still be bound until somebody asks for the
root; afterwards any piece of what was computed can be shown to whoever has it, if the tensors were kept or
are still at hand.
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
    from torch import nn

    from palm_torch.commit import trace_schemes
    from palm_torch.commit.trace import Group
    from palm_torch.commit.trace_gathering import Captured
    from palm_torch.commit.trace_opening import TraceOpening
    from palm_torch.commit.trace_question import Range
    from palm_torch.commit.trace_schemes import Tree
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
        scheme: What the trees are made of.
        module: The module whose outputs these are.

    Attributes:
        module: The same.
    """

    def __init__(
        self,
        taps: Bringer,
        capture: Capture,
        kept: Kept | None = None,
        *,
        scheme: trace_schemes.Name = "hash",
        module: nn.Module | None = None,
    ) -> None:
        self.module = module
        self._taps = taps
        self._capture = capture
        self._kept = kept
        self._scheme = scheme
        self._state: Literal["new", "open", "closed", "failed"] = "new"
        self._model: Digest | None = None
        self._facts: dict[str, Digest] = {}
        self._gathered: list[tuple[Group, Tree]] = []
        self._sealed: tuple[Context, bytes, Digest] | None = None
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
        """Removes the taps, waits until everything is hashed, and makes the trees.

        Raises:
            CoverageError: If something that was tapped was not seen or not captured: there is no root then.
        """
        self._state = "failed"
        with contextlib.ExitStack() as stack:
            stack.callback(self._capture.abandon)
            self._taps.__exit__(kind, error, traceback)
            if kind is None:
                self._gather(self._capture.close())
                self._state = "closed"

    @property
    def root(self) -> Digest:
        """The trace root, once the block has ended; nothing can be bound any more when it is known.

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
        self._require_closed()
        return self._taps.coverage

    def add_facts(self, facts: Mapping[str, Digest], *, model: Digest | None = None) -> None:
        """Binds what else belongs to the run, such as prompt and output, until the root is known.

        Args:
            facts: Name → digest.
            model: The weights root of the model.

        Raises:
            SessionError: If the root is known, the block failed, or a name has another digest already;
                nothing is bound then.
        """
        if self._sealed is not None or self._state == "failed":
            raise SessionError(
                "commit(...): facts are bound before the root is asked for, and it "
                + ("was asked for already" if self._sealed is not None else "will never be there")
            )
        for name, digest in facts.items():
            if self._facts.get(name, digest) != digest:
                raise SessionError(f"commit(...): the fact {name!r} was bound before, to another digest")
        if self._model not in (None, model or self._model):
            raise SessionError("commit(...): the model was bound before, with other weights")
        self._facts.update(facts)
        self._model = model or self._model

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
        """Shows some of what a module computed, and with it the rest of the tiles that this lies in.

        A tile is one row, or of rows below 1 KiB as many as make that: of other tokens or sequences too.

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
        return trace_opening.make(root, context, [tree for _, tree in self._gathered], question, read)

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

    def _gather(self, captured: list[Captured]) -> None:
        if not captured:
            raise CoverageError("commit(...): no tensor was captured: run the model inside the block")
        self._gathered = trace_gathering.gather(captured, scheme=self._scheme)
        streams = self._capture.streams
        self._streams = {(stream.site, stream.dtype, stream.channels): stream for stream in streams}

    def _result(self) -> tuple[Context, bytes, Digest]:
        if self._sealed is None:
            self._require_closed()
            context = Context(
                media_type=trace.MEDIA_TYPE,
                scheme=self._scheme,
                model=self._model,
                groups=tuple(group for group, _ in self._gathered),
                coverage=self._taps.coverage,
                not_captured=self._taps.not_captured,
                environment=self._capture.environment,
                facts=dict(self._facts),
            )
            encoded = context.encode()
            self._sealed = context, encoded, trace.root(encoded)
        return self._sealed

    def _require_closed(self) -> None:
        if self._state != "closed":
            raise SessionError(
                "commit(...): there is no root: the block has not ended"
                if self._state in {"new", "open"}
                else "commit(...): there is no root: the block ended with an error"
            )
