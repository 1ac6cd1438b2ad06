"""The sessions of ranks: one leads on each machine and seals, the others follow it.

In every rank the script is the same. What differs is what comes of the block: evidence in the rank that
leads, and in the others the certainty that it was sealed, or the error that kept it from being.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, runtime_checkable

from palm_torch.attesting import ranks_channel, ranks_merge, ranks_share
from palm_torch.attesting.measured import Measured
from palm_torch.attesting.ranks_sealers import FollowingSealer, LeadingSealer, Surroundings
from palm_torch.attesting.ranks_share import RankShare
from palm_torch.attesting.session import Session
from palm_torch.commit import coverage
from palm_torch.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from palm_torch.attesting.gpus import SessionGpus
    from palm_torch.attesting.ranks import Place
    from palm_torch.attesting.sealing import Sealer
    from palm_torch.attesting.signed_receipt import SignedReceipt
    from palm_torch.collateral_file import CollateralFile
    from palm_torch.cvm.attester import Attester
    from palm_torch.data.shares import CountMap
    from palm_torch.digest import Digest
    from palm_torch.evidence import Evidence
    from palm_torch.properties import Operation
    from palm_torch.statement import Statement


@runtime_checkable
class Shared(Measured, Protocol):
    """An operation that several ranks can do together."""

    def maps(self) -> dict[tuple[str, str], CountMap]:
        """Returns how often each record was delivered, by dataset and use; after `finish`."""

    def same(self) -> dict[str, Digest]:
        """Returns what proves to other ranks of this machine that datasets are of the same files, by name."""

    def buffers(self) -> list[str]:
        """Returns the names of the model's tensors that are buffers, sorted."""

    def parted(self) -> bool:
        """Returns whether this rank has only a part of some parameter."""


class RankSession(Session):
    """A session of one rank among others; made by `palm_torch.attested` under torchrun.

    Args:
        operation: What the block does.
        place: The place of this process.
        attester: The platform that vouches; None where another rank asks it.
        deadline_s: Seconds that ranks wait for each other where all have to be.
        arguments: Further arguments of `Session`.

    Raises:
        SessionError: If ranks cannot do this together.
    """

    _sealer: LeadingSealer | FollowingSealer

    def __init__(
        self,
        operation: Operation,
        place: Place,
        attester: Attester | None = None,
        *,
        deadline_s: float = ranks_channel.DEADLINE_S,
        **arguments: Any,  # noqa: ANN401 (those of `Session`)
    ) -> None:
        self._place, self._deadline_s = place, deadline_s
        self._share: RankShare | None = None
        if arguments.get("resume") is not None:
            raise SessionError(
                f"attested({operation!r}, resume=...): a run of {place.world_size} ranks cannot go on from a "
                "checkpoint of its session in this version: begin a new session from the weights that you "
                "saved, "
                "whose root its evidence will name as `initial`"
            )
        super().__init__(operation, attester, **arguments)  # type: ignore[arg-type]  # a follower needs none
        if not isinstance(self._measured, Shared):
            raise SessionError(
                f"attested({operation!r}): one process does this, and torchrun has started "
                f"{place.world_size}: run the script without torchrun"
            )
        self._sealer.know(self._surroundings)

    def wait_for(self, deadline_s: float) -> None:
        """Sets how many seconds ranks wait for each other from now on."""
        self._sealer.wait_for(deadline_s)

    def _surroundings(self) -> Surroundings:
        begin = self._segment.opened
        return {
            "code": self._segment.code_of_receipts().whole(begin.code),
            "environment": begin.environment,
        }

    def state_dict(self) -> NoReturn:
        """Refuses: no checkpoint holds the state of several ranks in this version.

        Raises:
            SessionError: Always.
        """
        raise SessionError(
            f"run.state_dict(): the session of a run of {self._place.world_size} ranks cannot be resumed in "
            "this "
            "version: save model and optimizer as before, without it; after an interruption begin a new "
            "session "
            "from these weights, whose root its evidence will name as `initial`"
        )

    def __enter__(self) -> Self:
        """Waits for the other ranks, seals the begin statement and starts to measure."""
        try:
            return super().__enter__()
        except BaseException as error:
            self._stop(f"{type(error).__name__}: {error}")
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Measures, and seals in the rank that leads, unless the block raised in some rank."""
        try:
            super().__exit__(kind, error, trace)
        except BaseException as failure:
            self._stop(f"{type(failure).__name__}: {failure}")
            raise
        if error is not None:
            self._stop(f"the block raised {type(error).__name__}: {error}")

    def _end_statement(self) -> Statement:
        self._sealer.company.check(stepping=False)
        self._sealer.company.agree(ranks_channel.END)
        end = super()._end_statement()
        measured = self._measured
        if not isinstance(measured, Shared):
            raise SessionError(f"{self._operation!r} cannot be shared by ranks")
        self._share = RankShare(
            rank=self._place.rank,
            end=end,
            maps=measured.maps(),
            buffers=tuple(measured.buffers()),
            parted=measured.parted(),
            same=measured.same(),
        )
        return end

    def _stop(self, reason: str) -> None:
        """Ends the session of all ranks."""
        raise NotImplementedError


class LeadingSession(RankSession):
    """The session of the first rank of a machine, which seals for all of them."""

    _sealer: LeadingSealer
    AGAIN = "the other ranks have been told, and nothing seals it any more: run again"

    @property
    def leads(self) -> bool:
        """True: the evidence is here."""
        return True

    def _sealer_of(
        self,
        attester: Attester,
        *,
        nonce: bytes | None,
        collateral: CollateralFile | None,
        gpus: SessionGpus | None,
    ) -> Sealer:
        return LeadingSealer(
            attester,
            place=self._place,
            deadline_s=self._deadline_s,
            nonce=nonce,
            collateral=collateral,
            gpus=gpus,
        )

    def _end_statement(self) -> Statement:
        super()._end_statement()
        own = self._share
        if own is None:
            raise SessionError("the session has not measured anything")
        received = self._sealer.channel.shares()
        others = [ranks_share.decode(rank, parts) for rank, parts in sorted(received.items())]
        together = ranks_merge.merge([own, *others], why_unattested=self._sealer.gpus.why_unattested)
        self._maps = together.maps
        run = dataclasses.replace(together.end.run, ranks=self._sealer.ranks(together, own))
        return dataclasses.replace(together.end, run=run)

    def _conclude(self) -> None:
        super()._conclude()
        self._sealer.channel.sealed()

    def _sidecars(self) -> dict[str, Callable[[Path], None]]:
        return {
            f".{name}.{use}.coverage": partial(_write, found) for (name, use), found in self._maps.items()
        }

    def _stop(self, reason: str) -> None:
        self._sealer.stop(reason)
        if self._state == "measured":  # the others have been told that nothing will be sealed
            self._state = "ended in all ranks, without evidence"


class FollowingSession(RankSession):
    """The session of any other rank: what it measures becomes part of the evidence of the rank that leads."""

    _sealer: FollowingSealer

    @property
    def leads(self) -> bool:
        """False: the evidence is in the first rank of the machine."""
        return False

    @property
    def evidence(self) -> NoReturn:
        """Refuses.

        Raises:
            SessionError: Always.
        """
        self._sealer.refuse("run.evidence")

    def receipt(self, /, **_roles: str | Path | bytes) -> SignedReceipt:
        """Refuses.

        Raises:
            SessionError: Always.
        """
        self._sealer.refuse("run.receipt")

    def seal(self) -> Evidence:
        """Refuses.

        Raises:
            SessionError: Always.
        """
        self._sealer.refuse("run.seal")

    def _sealer_of(
        self,
        attester: Attester,  # noqa: ARG002 (the leader asks it)
        *,
        nonce: bytes | None,  # noqa: ARG002 (the leader answers)
        collateral: CollateralFile | None,  # noqa: ARG002 (likewise)
        gpus: SessionGpus | None,
    ) -> Sealer:
        return FollowingSealer(place=self._place, deadline_s=self._deadline_s, gpus=gpus)

    def _conclude(self) -> None:
        if self._share is None:
            raise SessionError("the session has not measured anything")
        self._sealer.channel.share(ranks_share.encode(self._share))
        self._state = f"sealed by rank {self._place.first}"

    def _stop(self, reason: str) -> None:
        self._sealer.stop(reason)


def _write(found: CountMap, path: Path) -> None:
    coverage.write_sidecar(path, found.counts, found.itemsize)
