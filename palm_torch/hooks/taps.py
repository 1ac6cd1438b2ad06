"""Taps: hooks that hand every output of chosen modules to a sink, and prove at the end that none was missed.

    with taps.Taps(model, "blocks", sink) as tapped:
        model.generate(**prompt)
    tapped.coverage

Hooks are put on when the block opens and taken off when it closes, whatever happened in it. In between each
tapped module, and each that calls one, keeps an account (`tap_accounts`). What was promised and not seen
raises `CoverageError`: in the call in which it happens if that can be told there, at the end otherwise. An
exception that leaves the block is passed on, and nothing is checked.

Not seen, and not to be told: what a module computes after its hooks ran, in a ``__call__`` of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import weakref
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from palm_torch.errors import CoverageError, SessionError
from palm_torch.hooks import (
    tap_compiled,
    tap_gaps,
    tap_hooks,
    tap_op,
    tap_order,
    tap_outputs,
    tap_targets,
    tap_tree,
)
from palm_torch.hooks.tap_accounts import Account
from palm_torch.hooks.tap_ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from torch import nn

    from palm_torch.commit.trace import ModuleCoverage, NotCaptured
    from palm_torch.hooks.tap_ledger import Sink
    from palm_torch.hooks.tap_targets import Conditional, Layers, Selection

_SHOWN: Final = 5

_numbers = itertools.count(1)
_tokens: Final[weakref.WeakKeyDictionary[nn.Module, int]] = weakref.WeakKeyDictionary()
"""Module → its token, the same in every block: a graph that was compiled in one serves the next ones too."""


class Taps:
    """The taps of one ``with`` block; a second block needs another object.

    Args:
        model: The model, in known wrappers or not. It may be compiled, if it has not run since, or inside.
        layers: What to tap; see `tap_targets`.
        sink: What takes the outputs, on the thread on which the model runs.
        conditional: Modules that their owner may skip, beside experts, adapters and dropped layers.

    Attributes:
        selection: What was chosen, and what was left out.

    Raises:
        CoverageError: If something cannot be tapped; every such thing is named.
    """

    __slots__ = ("_accounts", "_ledger", "_stack", "_used", "selection")

    def __init__(
        self, model: nn.Module, layers: Layers, sink: Sink, *, conditional: Conditional = ()
    ) -> None:
        self.selection: Final[Selection] = tap_targets.select(model, layers, conditional=conditional)
        self._ledger = Ledger(sink)
        self._accounts = _accounts(self.selection, self._ledger)
        self._stack = contextlib.ExitStack()
        self._used = False

    def __enter__(self) -> Self:
        """Puts the hooks on.

        Raises:
            SessionError: If it was used before.
            CoverageError: If this torch does not tell what has to be known.
        """
        if self._used:
            raise SessionError("these taps were used before: make new ones for each block")
        self._used = True
        tap_op.require_names()
        with contextlib.ExitStack() as stack:
            modules = [place.module for place in self.selection.tree.places]
            tap_outputs.learn_caches(modules)
            stack.enter_context(tap_compiled.watched())
            for account in self._accounts.values():
                _install(account, stack)
            self._stack = stack.pop_all()
        _open.append(self._ledger)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes the hooks off, and checks the counts if no exception leaves the block.

        Raises:
            CoverageError: If something was missed.
        """
        with self._stack, contextlib.ExitStack() as last:
            last.callback(_close, self._ledger, self._accounts.values())
            if kind is None:
                self.check()

    def check(self) -> None:
        """Checks that everything was seen that should have been, up to now.

        Raises:
            CoverageError: Naming each module that was not, how often it was seen, how often it should have
                been, and the likely reason.
            SessionError: If the model ran on two threads, or in a forked process.
        """
        if self._ledger.problem is not None:
            raise self._ledger.problem
        accounts = self._accounts.values()
        gaps = [*self._moved(), *filter(None, (tap_gaps.gap(account) for account in accounts))]
        if gaps:
            more = len(gaps) - _SHOWN
            lines = [f"  {gap}" for gap in gaps[:_SHOWN]] + ([f"  and {more} more"] if more > 0 else [])
            never = all(account.fired == 0 for account in accounts)
            head = "the model did not run in the block" if never else "not all of the model was seen"
            raise CoverageError("\n".join([f"{head}:", *lines]))

    @property
    def coverage(self) -> tuple[ModuleCoverage, ...]:
        """How often each tapped module ran and should have, by path."""
        return tuple(sorted((tap_gaps.coverage(one) for one in self._tapped()), key=lambda one: one.module))

    @property
    def expected(self) -> Mapping[str, int]:
        """Calls that were due, for each tapped module; those of its owner where it may skip it."""
        return MappingProxyType({one.module: one.expected for one in self.coverage})

    @property
    def fired(self) -> Mapping[str, int]:
        """Calls that were seen, for each tapped module."""
        return MappingProxyType({one.path: one.fired for one in self._tapped()})

    @property
    def recomputed(self) -> Mapping[str, int]:
        """Calls inside of a backward pass, which repeat earlier ones, for each tapped module."""
        return MappingProxyType({one.path: one.recomputed for one in self._tapped()})

    @property
    def strangers(self) -> Mapping[str, int]:
        """Calls of copies of tapped modules, for each of which there were some; none was captured."""
        return MappingProxyType({one.path: one.strangers for one in self._tapped() if one.strangers})

    @property
    def received(self) -> Mapping[str, tuple[int, int]]:
        """For each item after another one of a list: how often it got exactly what that had returned.

        The second number is how often that could be looked at, which is in eager mode only. Code between the
        items that computes something else of it is no fault, except in a `nn.Sequential`, where it raises.
        """
        found = {one.path: (one.received, one.handed) for one in self._tapped() if one.before is not None}
        return MappingProxyType(found)

    @property
    def not_captured(self) -> tuple[NotCaptured, ...]:
        """Parts of outputs that were seen and left out, by module and path."""
        return tuple(sorted(self._ledger.not_captured, key=lambda one: (one.module, one.output, one.kind)))

    def _tapped(self) -> list[Account]:
        return [account for account in self._accounts.values() if account.captured]

    def _moved(self) -> list[str]:
        """Returns what changed about the modules and their hooks while the block was open."""
        found = []
        replaced = self.selection.tree.replaced(self._accounts)
        for path, account in self._accounts.items():
            later = tap_order.later_hooks(account.module, account.hook)
            if path in replaced:
                found.append(f"{account.name}: another module was put in its place while the block was open")
            elif later is None:
                found.append(f"{account.name}: its tap was taken off while the block was open")
            elif later and account.captured:
                found.append(tap_order.replaced(account.name, later))
        return found


def _accounts(selection: Selection, ledger: Ledger) -> dict[str, Account]:
    """Returns an account for each target and for all that call it, by path, callers first."""
    tree = selection.tree
    targets = {target.place.path: target for target in selection.targets}
    wanted = set(targets)
    pending = list(targets)
    while pending:
        owners = set(tree.by_path[pending.pop()].owners) - wanted
        wanted |= owners
        pending += owners
    accounts = {
        place.path: Account(place.path, place.module, ledger, captured=place.path in targets)
        for place in tree.places
        if place.path in wanted and tap_tree.has_forward(place.module)
    }
    for path, account in accounts.items():
        place = tree.by_path[path]
        account.conditional = (
            targets[path].conditional if path in targets else tap_targets.conditional_of(tree, place)
        )
        if len(place.owners) == 1:
            account.owner = accounts.get(place.owners[0])
        due = account.captured and account.conditional in {None, tap_targets.LAYERDROP}
        if account.owner is not None and due:
            account.owner.children = (*account.owner.children, account)
    _join_runs(selection, accounts)
    return accounts


def _join_runs(selection: Selection, accounts: Mapping[str, Account]) -> None:
    """Makes the items of each list known to one another."""
    runs: dict[str, list[Account]] = {}
    steady: dict[str, Account] = {}
    for target in selection.targets:
        if target.conditional is None:
            account = steady[target.place.path] = accounts[target.place.path]
            if target.run is not None:
                account.run = target.run
                account.siblings = runs.setdefault(target.run, [])
                account.siblings.append(account)
    for holder in filter(lambda place: tap_tree.is_list(place.module), selection.tree.places):
        items = [steady.get(item.path) for item in selection.tree.children(holder)]
        for before, after in itertools.pairwise(items):
            if before is not None and after is not None and before is not after:
                after.before, before.watched = before, True
                after.chained = tap_tree.runs_its_items(holder.module)


def _install(account: Account, stack: contextlib.ExitStack) -> None:
    """Puts the hooks of one account on, and what takes them off on the stack."""
    token = _tokens.setdefault(account.module, next(_numbers))
    if token in tap_op.receivers:  # another block has the module too
        token = next(_numbers)
    tap_op.receivers[token] = account
    stack.callback(tap_op.receivers.pop, token, None)
    tap = tap_hooks.Tap(token, captured=account.captured)
    handle = account.module.register_forward_hook(tap)
    stack.callback(handle.remove)
    account.hook = account.last_hook = handle.id
    if not account.captured or account.children or account.before is not None:
        before = account.module.register_forward_pre_hook(
            tap_hooks.Arrival(token), prepend=True, with_kwargs=True
        )
        stack.callback(before.remove)


_open: Final[list[Ledger]] = []
"""What the blocks that are open in this process share each."""


def _close(ledger: Ledger, accounts: Iterable[Account]) -> None:
    _open.remove(ledger)
    for account in accounts:
        account.output = None  # nobody will get it any more


def _forked() -> None:
    for ledger in _open:
        ledger.problem = SessionError(
            f"process {os.getpid()} was forked inside of the block, and what runs there is not "
            "recorded: fork before the block"
        )


os.register_at_fork(after_in_child=_forked)
