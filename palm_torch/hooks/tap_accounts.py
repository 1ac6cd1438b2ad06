"""How often each module ran, and how often it should have: one account for each, kept while the model runs.

A tapped module has to run in every call of its owner, as often as in the first one. The comparison is made
when the owner returns, so a call that went past the hook (``module.forward(x)``, a fused kernel, a graph that
was compiled before) fails in the very call in which it happened. A forward pass inside of a backward one is
the recomputation of a checkpointed part: it is counted apart, and not captured.

A copy of a model carries the hooks of the original. What is called by a module that is not the account's own
is a stranger: counted, never captured.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Final

import torch

from palm_torch.commit.trace import NotCaptured, Site
from palm_torch.errors import CoverageError, prefixed
from palm_torch.hooks import tap_gaps, tap_op, tap_order, tap_outputs
from palm_torch.hooks.tap_targets import LAYERDROP

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn

    from palm_torch.hooks.tap_ledger import Ledger

_Tensor: Final = torch.Tensor
_NO_HOOK: Final = -1
_UNKNOWN: Final = -1


class Account:
    """What is known of one module while a block is open.

    Args:
        path: Canonical path.
        module: The module, without wrappers.
        ledger: What all accounts share.
        captured: Whether its outputs go to the sink, or it is only counted.

    Attributes:
        children: Accounts of tapped modules that each call of this one has to call.
        owner: Account of what calls it; None if it is the model or hangs in several places.
        run: Canonical path of the list of which it is an item; None if it is not.
        siblings: Accounts of all items of that list that may not be skipped, itself included; else empty.
        conditional: Why its owner may skip it; None if it may not.
        before: Account of the tapped item before it in the same list.
        chained: Whether that item's output has to be this one's input.
        entered: Calls that began.
        fired: Calls that returned.
        recomputed: Calls inside of a backward pass.
        strangers: Calls of copies.
        since: Calls that returned since the owner last did.
        per_call: Calls in each call of the owner; below 0 before the first.
        handed: How often the item before it had returned when it was called.
        received: How often it was called with what that one had returned.
        watched: Whether an item after it looks for its output.
        hook: Identity of its forward hook.
        last_hook: Identity of the module's last forward hook, found harmless; at first its own.
        output: The first tensor of the last output, marked for the item after it.
        sites: Path within the output → its site.
        plain: The site of outputs that are tensors and nothing else, once one was found to be dense.
    """

    __slots__ = (
        "before",
        "captured",
        "chained",
        "children",
        "conditional",
        "entered",
        "fired",
        "handed",
        "hook",
        "last_hook",
        "ledger",
        "module",
        "output",
        "owner",
        "path",
        "per_call",
        "plain",
        "received",
        "recomputed",
        "run",
        "siblings",
        "since",
        "sites",
        "strangers",
        "watched",
    )

    def __init__(self, path: str, module: nn.Module, ledger: Ledger, *, captured: bool) -> None:
        self.path = path
        self.module = module
        self.ledger = ledger
        self.captured = captured
        self.children: tuple[Account, ...] = ()
        self.owner: Account | None = None
        self.run: str | None = None
        self.siblings: list[Account] = []
        self.conditional: str | None = None
        self.before: Account | None = None
        self.chained = self.watched = False
        self.entered = self.fired = self.recomputed = self.strangers = 0
        self.since = self.received = self.handed = 0
        self.per_call = _UNKNOWN
        self.hook = self.last_hook = _NO_HOOK
        self.output: tap_order.Mark | None = None
        self.sites: dict[str, Site] = {}
        self.plain: Site | None = None

    @property
    def name(self) -> str:
        """The module's path, for messages."""
        return self.path or "the model"

    def arrived(self, module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Counts a call that begins, and looks whether it begins with what the item before it returned.

        Raises:
            CoverageError: If it is traced by `torch.jit`, gets another tensor from its `nn.Sequential`, or
                what it calls was called by others before.
            SessionError: If it runs where it must not.
        """
        if module is not self.module or tap_op.in_backward():
            return
        if torch._C._get_tracing_state() is not None:  # noqa: SLF001 (`torch.jit.is_tracing` is slower)
            self.ledger.fail(
                CoverageError(
                    f"{self.name}: torch.jit.trace runs it inside of the block; trace it before or after"
                )
            )
        ledger = self.ledger
        if ledger.problem is not None or ledger.thread != get_ident():
            ledger.require()
        self.entered += 1
        for child in self.children:
            if child.since:
                self.ledger.fail(CoverageError(tap_gaps.beside(child)))
        if self.before is not None:
            self._compare(self.before, args, kwargs)

    def left(self, module: nn.Module, output: object) -> None:
        """Counts a call that returned, and hands its tensors to the sink.

        Raises:
            CoverageError: If the output cannot be captured, a later hook may have replaced it, or a module
                that this one has to call was not called.
            SessionError: If it runs where it must not.
        """
        if module is not self.module:
            self.strangers += 1
            return
        if tap_op.in_backward():
            self.recomputed += 1
            return
        ledger = self.ledger
        if ledger.problem is not None or ledger.thread != get_ident():
            ledger.require()
        if next(reversed(module._forward_hooks), _NO_HOOK) != self.last_hook:  # noqa: SLF001 (order of hooks)
            self._require_last()
        if type(output) is _Tensor and self.plain is not None:  # as it mostly is
            self.fired = (call := self.fired) + 1
            self.since += 1
            ledger.sink.capture(self.plain, output, call)
            if self.children:
                self._compare_counts()
        else:
            self._take(self._leaves(output))
        if self.watched:
            self.output = tap_order.mark(output)

    def left_in_graph(
        self, tensors: Sequence[Tensor], paths: Sequence[str], others: Sequence[tuple[str, str]]
    ) -> None:
        """Counts a call in a compiled graph; see `tap_op.Receiver`."""
        if tap_op.in_backward():
            self.recomputed += 1
            return
        self.ledger.require()
        if next(reversed(self.module._forward_hooks), _NO_HOOK) != self.last_hook:  # noqa: SLF001 (order of hooks)
            self._require_last()  # a graph looks at the hooks before it runs: these are the ones in it
        self.entered += 1
        self.output = None
        for path, kind in others:
            self.ledger.not_captured.add(NotCaptured(self.path, path, kind))
        self._take(zip(paths, tensors, strict=True))

    def _leaves(self, output: object) -> Iterable[tuple[str, object]]:
        if not self.captured:
            return ()
        with prefixed(self.name):
            return list(tap_outputs.leaves(output))

    def _take(self, leaves: Iterable[tuple[str, object]]) -> None:
        call = self.fired
        self.fired = call + 1
        self.since += 1
        for path, value in leaves if self.captured else ():
            if not isinstance(value, torch.Tensor):
                left_out = NotCaptured(self.path, path, tap_outputs.kind_of(value))
                self.ledger.not_captured.add(left_out)
                continue
            site = self.sites.get(path)
            if site is None:
                site = self.sites[path] = Site(self.path, path)
            tap_outputs.require_dense(value, what=str(site))
            self.ledger.sink.capture(site, value, call)
            if not path:
                self.plain = site
        self._compare_counts()

    def _compare_counts(self) -> None:
        """Compares how often each child ran in the call that ends with how often it should have."""
        for child in self.children:
            if child.since != child.per_call:
                self._settle()
                break
        for child in self.children:
            child.since = 0

    def _settle(self) -> None:
        """Takes the first count of each child as what is due; any other count later is a gap."""
        gaps = []
        for child in self.children:
            dropped = child.conditional == LAYERDROP and self.module.training
            if child.since and child.per_call == _UNKNOWN:
                child.per_call = child.since
            elif child.since != child.per_call and not (dropped and child.since <= max(child.per_call, 0)):
                gaps.append(child)
        if gaps:
            self.ledger.fail(CoverageError(tap_gaps.in_call(self, gaps)))

    def _require_last(self) -> None:
        later = tap_order.later_hooks(self.module, self.hook)
        if later is None:
            self.ledger.fail(CoverageError(f"{self.name}: its tap was taken off while the block was open"))
        elif later:
            self.ledger.fail(CoverageError(tap_order.replaced(self.name, later)))
        self.last_hook = next(reversed(self.module._forward_hooks))  # noqa: SLF001 (order of hooks)

    def _compare(self, before: Account, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        marked = before.output
        if marked is None:
            return
        before.output = None
        self.handed += 1
        if tap_order.is_same(marked, args, kwargs):
            self.received += 1
        elif self.chained:
            self.ledger.fail(
                CoverageError(
                    f"{self.name} was called with another tensor than {before.name} returned, or with one "
                    "that changed: a hook or code of the nn.Sequential replaced what was captured; remove it"
                )
            )
