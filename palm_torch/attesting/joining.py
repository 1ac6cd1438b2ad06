"""Joining the session that `palm-torch run` opened, from a script that asks for one itself.

Under ``palm-torch run`` the session is open before the script begins. A script that calls
`palm_torch.attested` gets that same session: its ``with`` block binds it, and leaving the block seals it,
so that ``run.evidence`` is there afterwards as it is without the launcher. What the script does after the
block is not part of the evidence, and there is one session a process: a second block is refused.

A script that goes on from a checkpoint (``resume=``) needs a session that says so from its beginning: the
one that is open gives way, unsealed, to one that begins where the block does. Inside a block of the script
that is refused: what it had measured would be lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from palm_torch.attesting.session import Session


class _Offer:
    def __init__(self, session: Session, make: Callable[[Mapping[str, object] | None], Session]) -> None:
        self.session = session
        self.make = make
        self.entered = False


_offers: list[_Offer] = []
"""At most one."""

OPTIONS: Final = {
    "request": "--request FILE",
    "attester": "--attester NAME",
    "collateral": "--collateral FILE",
    "rims": "--rim FILE",
    "ocsp": "--ocsp FILE",
    "gpu_crls": "--gpu-crl FILE",
    "gpu_collector": "--gpu-collector NAME",
}
"""What `palm-torch run` is given instead of an argument of `palm_torch.attested`."""


def offer(session: Session, make: Callable[[Mapping[str, object] | None], Session]) -> None:
    """Makes a session the one that the script of this process joins.

    Args:
        session: The session around the script.
        make: Makes another one like it that goes on from a checkpoint.
    """
    _offers[:] = [_Offer(session, make)]


def withdraw() -> None:
    """Ends the offer."""
    _offers.clear()


def offered() -> Session | None:
    """Returns the session that will make the evidence of the script; None if there is none to join."""
    return _offers[0].session if _offers else None


def join(
    operation: str,
    own: Mapping[str, object],
    *,
    resume: Mapping[str, object] | None,
    deadline_s: float | None = None,
) -> Session | Joined:
    """Returns what a script's own ``with attested(...)`` block is.

    Args:
        operation: What the script calls the block.
        own: Further arguments of the script, by name: what a session that is open cannot take.
        resume: The checkpoint that the block goes on from, if it does.
        deadline_s: Seconds that ranks wait for each other from now on; None leaves it as it is.

    Raises:
        SessionError: If there is no session to join, or the script asks for what it is not.
    """
    if not _offers:
        raise SessionError("there is no session to join")
    found = _offers[0]
    if operation != found.session.operation:
        raise SessionError(
            f"attested({operation!r}): palm-torch run opened a session for {found.session.operation!r} "
            f"before the script began: run the script with `palm-torch run {operation} -- ...`"
        )
    if own:
        name = next(iter(own))
        raise SessionError(
            f"attested({operation!r}, {name}=...): palm-torch run has opened the session already: say it "
            f"there, `palm-torch run {operation} {OPTIONS[name]} -- ...`, and leave it out here"
        )
    if found.session.state != "open":
        raise SessionError(
            f"attested({operation!r}): palm-torch run measures one session, and it is {found.session.state}; "
            "attest further ones in scripts of their own"
        )
    if deadline_s is not None:
        found.session.wait_for(deadline_s)
    if resume is None:
        return Joined(found)
    if found.entered:
        raise SessionError(
            f"attested({operation!r}, resume=...): called inside the block of another attested(...), whose "
            "measurements would be lost: open one block, with resume= where the script goes on from a "
            "checkpoint"
        )
    following = found.make(resume)
    gives_way = SessionError("it gave way to one that resumes")
    found.session.__exit__(SessionError, gives_way, None)
    found.session = following
    return following


class Joined:
    """The ``with`` block of a script around a session that is open already."""

    def __init__(self, found: _Offer) -> None:
        self._offer = found
        self._session = found.session

    def __enter__(self) -> Session:
        """Returns the session that is open.

        Raises:
            SessionError: If it has been entered by a block around this one.
        """
        if self._offer.entered:
            raise SessionError("attested(...): called inside the block of another attested(...): open one")
        self._offer.entered = True
        return self._session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Measures and seals, unless the block raised."""
        self._session.__exit__(kind, error, trace)
