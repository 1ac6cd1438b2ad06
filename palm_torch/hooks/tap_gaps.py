"""What the counts of an account say: how many calls were due, and what is missing or too many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.commit.trace import ModuleCoverage
from palm_torch.hooks.tap_targets import LAYERDROP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.hooks.tap_accounts import Account

_SHOWN: Final = 5


def coverage(account: Account) -> ModuleCoverage:
    """Returns the counts, with the number of calls that were due."""
    owner = account.owner
    if account.conditional is not None and not is_steady(account):
        calls = owner.fired if owner is not None else account.fired
        where = f" in calls of {owner.name}" if owner is not None else ""
        return _coverage(account, f"at will{where} ({account.conditional})", calls)
    if owner is not None and (owner.fired or _is_skipped(owner)):
        times = f", {account.per_call} times" if account.per_call > 1 else ""
        return _coverage(
            account, f"in each call of {owner.name}{times}", owner.fired * max(account.per_call, 1)
        )
    if len(account.siblings) > 1:
        most = max(item.fired for item in account.siblings)
        return _coverage(account, f"as often as the other items of {account.run}", max(most, 1))
    return _coverage(account, "at least once", max(account.fired, 1))


def is_steady(account: Account) -> bool:
    """Says whether every call of the owner had to run it, as it turned out."""
    dropped = (
        account.conditional == LAYERDROP and account.owner is not None and account.fired < account.owner.fired
    )
    return account.conditional is None or (account.conditional == LAYERDROP and not dropped)


def gap(account: Account) -> str | None:
    """Returns what is wrong with the counts now that the block ends; None if nothing is."""
    if account.entered > account.fired:
        return (
            f"{account.name}: {account.entered} calls began and {account.fired} returned: an exception came "
            "out of it and the script went on; run what may fail in a block of its own"
        )
    if not account.captured or not is_steady(account):
        return None
    above, fired = account.owner, account.fired
    if not fired:
        return None if above is not None and _is_skipped(above) else missing(account)
    if account.since and above is not None and above.fired:
        return beside(account)
    while above is not None and not above.fired:
        above = above.owner
    uneven = above is not None and fired % above.fired != 0
    fewer = any(fired < item.fired for item in account.siblings)
    return missing(account) if uneven or fewer else None


def in_call(owner: Account, children: Sequence[Account]) -> str:
    """Returns the message for modules that ran too seldom or too often in the last call of their owner."""
    lines = [
        f"call {owner.fired} of {owner.name} ran {child.name} {child.since} times, "
        f"expected {max(child.per_call, 1)}"
        for child in children[:_SHOWN]
    ]
    more = len(children) - _SHOWN
    rest = [f"and {more} other modules not as often as expected"] if more > 0 else []
    return "\n  ".join([*lines, *rest, missing(children[0])])


def beside(account: Account) -> str:
    """Returns the message for calls of a module while its owner did not run."""
    owner = account.owner.name if account.owner is not None else "the model"
    return (
        f"{account.name}: {account.since} calls beside those of {owner}, by the script or by another module: "
        "make them in a block of their own, or name it in conditional="
    )


def missing(account: Account) -> str:
    """Returns how often it was seen, how often it should have been, and what the likely reason is."""
    due = coverage(account)
    reason = (
        f"a copy of it ran {account.strangers} times instead: run the module that the block was given"
        if account.strangers
        else "called by its .forward(...), by a fused kernel or in a graph compiled before the block, none "
        "of which runs hooks: call the module itself, and torch.compiler.reset() before the block; or it "
        "runs only sometimes: leave it out of layers= or name it in conditional="
    )
    return f"{account.name}: seen {due.fired} times, expected {due.expected} ({due.rule}); likely {reason}"


def _is_skipped(account: Account | None) -> bool:
    """Says whether a module never ran because it, or one that it is a part of, may be skipped."""
    while account is not None and not account.fired:
        if account.conditional is not None:
            return True
        account = account.owner
    return False


def _coverage(account: Account, rule: str, expected: int) -> ModuleCoverage:
    return ModuleCoverage(account.path, rule, expected, account.fired)
