"""A commitment to what a model computes in a block: from the taps to the root.

Leaving the block makes the trees. What else belongs to the run can still be bound until somebody asks for the
root.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from palm_torch import files
from palm_torch.commit import trace, trace_gathering
from palm_torch.commit.trace import Context, Site
from palm_torch.errors import CoverageError, DataError, SessionError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from torch import nn

    from palm_torch.commit import trace_schemes
    from palm_torch.commit.trace import Group, ModuleCoverage
    from palm_torch.commit.trace_gathering import Captured
    from palm_torch.commit.trace_schemes import Tree
    from palm_torch.committing.bringer import Bringer
    from palm_torch.committing.capture import Capture
    from palm_torch.committing.spill import Kept
    from palm_torch.committing.streams import Stream
    from palm_torch.digest import Digest


class Commitment:
    """A commitment to what a model computes in a block, from its taps to its root.

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

    @property
    def recomputed(self) -> Mapping[str, int]:
        """How many calls of each tapped module were seen inside of a backward pass: no part of the root.

        Raises:
            SessionError: As in `root`.
        """
        self._require_closed()
        return self._taps.recomputed

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

    def save(self, path: str | Path) -> None:
        """Writes the context to a file, for those who check openings.

        Raises:
            DataError: If it cannot be written.
            SessionError: As in `root`.
        """
        files.write_atomically(Path(path), [self.context], error=DataError)

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
