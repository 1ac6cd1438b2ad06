"""What seals a run of several ranks: the leader of a machine, and for the others their leader."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NoReturn, TypedDict

from palm_torch import codec
from palm_torch.attesting import ranks, ranks_channel, ranks_facts, ranks_machines, ranks_parts
from palm_torch.attesting.gpus import SessionGpus
from palm_torch.attesting.ranks_store import Machines
from palm_torch.attesting.sealing import RUN_ID_BYTES, Sealer
from palm_torch.cvm import binding
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import SessionError
from palm_torch.statement import Part, Ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from palm_torch.attesting.ranks import Place
    from palm_torch.attesting.ranks_merge import Together
    from palm_torch.attesting.ranks_share import RankShare
    from palm_torch.collateral_file import CollateralFile
    from palm_torch.cvm.attester import Attester
    from palm_torch.encoding import Json
    from palm_torch.evidence import Bundle, Opening
    from palm_torch.roles import Value
    from palm_torch.statement import Code


class Surroundings(TypedDict):
    """The code that a rank has loaded so far, and its environment."""

    code: Code
    environment: Value


class LeadingSealer(Sealer):
    """Seals for all ranks of a machine, and names the other machines of the run.

    Args:
        attester: As in `Sealer`.
        place: The place of this process.
        deadline_s: Seconds that ranks wait for each other.
        nonce: As in `Sealer`.
        collateral: As in `Sealer`.
        gpus: As in `Sealer`.

    Attributes:
        channel: The other ranks of the machine.
    """

    def __init__(
        self,
        attester: Attester,
        *,
        place: Place,
        deadline_s: float,
        nonce: bytes | None,
        collateral: CollateralFile | None = None,
        gpus: SessionGpus | None = None,
    ) -> None:
        super().__init__(attester, nonce=nonce, collateral=collateral, gpus=gpus)
        number = ranks.next_number()
        self.company = self
        self._place = place
        self.channel: Final = ranks_channel.Leader(place, number=number, deadline_s=deadline_s)
        self._meet_machines: Final[Callable[[], Machines]] = lambda: Machines(
            place, number=number, deadline_s=deadline_s
        )
        self._machines: Machines | None = None
        self._parts: tuple[Part, ...] = ()
        self._points = 0
        self._surroundings: Callable[[], Surroundings] = _unknown

    def begin(self, begin_statement: bytes) -> None:
        """Waits for the other ranks, seals the begin statement, and learns which other parts there are.

        Raises:
            CoverageError: If a rank or a machine does not come.
            AttesterError: As `Sealer.begin`.
            SealError: As `Sealer.begin`.
        """
        self.channel.meet()
        if self._place.machines > 1:
            self._machines = self._meet_machines()
            self._machines.meet()
        super().begin(begin_statement)
        own = Part(
            begin=Digest(TAGGED_SHA256, binding.begin_claims_root(begin_statement, self._spki)),
            first=self._place.first,
            count=self._place.local_world_size,
        )
        if self._machines is None:
            self._parts = (own,)
        else:
            self._parts = ranks_parts.exchange(self._machines, self._place, own)
        self.channel.welcome()

    def agree(self, point: str) -> None:
        """Waits until every rank of every machine is at a point."""
        self._points += 1
        machines, name = self._machines, f"{self._points}: {point}"
        self.channel.agree(point, lambda _: None if machines is None else _met(machines.exchange(name, "")))

    def check(self, *, stepping: bool) -> None:
        """Checks that those who compute together are those of this session."""
        ranks.require_all(self._place, stepping=stepping)

    def compare(self, facts: Callable[[], Mapping[str, Json]]) -> None:
        """Compares what all ranks of all machines are about to do."""
        own = ranks_facts.of(facts(), **self._surroundings())

        def check(said: dict[int, list[bytes]]) -> None:
            others = {rank: ranks_facts.read(rank, parts) for rank, parts in sorted(said.items())}
            ranks_facts.check({self._place.rank: own, **others})
            if self._machines is not None:
                told = self._machines.exchange(ranks_facts.POINT, ranks_facts.digests(own))
                ranks_facts.check_machines(told)

        self.channel.agree(ranks_facts.POINT, check)

    def wait_for(self, deadline_s: float) -> None:
        """Sets how many seconds ranks wait for each other from now on."""
        self.channel.wait_for(deadline_s)
        if self._machines is not None:
            self._machines.wait_for(deadline_s)

    def know(self, surroundings: Callable[[], Surroundings]) -> None:
        """Takes what returns the code and the environment of this rank."""
        self._surroundings = surroundings

    def ranks(self, together: Together, first: RankShare) -> Ranks:
        """Returns what the statement says of the ranks, once all machines agree.

        Args:
            together: What the ranks of this machine say.
            first: What the leader measured.

        Raises:
            CoverageError: If the machines do not agree.
        """
        differing = together.differing
        if self._machines is not None:
            own = ranks_machines.agreed(together, first)
            told = self._machines.exchange(
                "what was trained", encode_json(codec.to_json(own)).decode("utf-8")
            )
            differing = ranks_machines.check(told, own)
        return Ranks(
            world_size=self._place.world_size,
            own=self._place.machine,
            parts=self._parts,
            interconnect="none" if len(self._parts) == 1 else "unprotected",
            differing=differing,
        )

    def stop(self, reason: str) -> None:
        """Ends the session of all ranks of all machines, telling them why."""
        self.channel.stop(reason)
        if self._machines is not None:
            self._machines.stop(reason)


class FollowingSealer(Sealer):
    """Seals nothing: the rank's share goes to the leader of its machine, who does.

    Args:
        place: The place of this process.
        deadline_s: Seconds that ranks wait for each other.
        gpus: The machine's GPUs, of which the leader gives evidence.

    Attributes:
        channel: The leader.
    """

    def __init__(self, *, place: Place, deadline_s: float, gpus: SessionGpus | None) -> None:
        # Neither key nor attester: what `Sealer` makes of them is overridden below.
        self.run_id = secrets.token_hex(RUN_ID_BYTES)  # type: ignore[misc]
        self.gpus = gpus or SessionGpus()  # type: ignore[misc]
        self.company = self
        self.segments = ()
        self._place = place
        self._surroundings: Callable[[], Surroundings] = _unknown
        self.channel: Final = ranks_channel.Follower(place, number=ranks.next_number(), deadline_s=deadline_s)

    @property
    def simulated(self) -> bool:
        """Nothing is sealed here."""
        return False

    @property
    def request(self) -> None:
        """The leader answers requests."""
        return

    def register(self) -> None:
        """The leader has the register."""
        return

    def boot_log(self) -> None:
        """The leader has the log."""
        return

    def begin(self, begin_statement: bytes) -> None:  # noqa: ARG002 (what the leader seals is its own)
        """Waits until the leader's session has begun.

        Raises:
            CoverageError: If it does not.
        """
        self.channel.meet()

    def record(self, kind: str, payload: dict[str, object]) -> None:  # type: ignore[override]
        """Drops an event: the log is the leader's, and what came of the rank is in its share."""

    def opening(self, *, fresh: bool = False) -> Opening:  # noqa: ARG002 (nothing was opened)
        """Refuses.

        Raises:
            SessionError: Always.
        """
        self.refuse("run.receipt")

    def end(self, end_statement: bytes) -> Bundle:  # noqa: ARG002 (nothing is sealed)
        """Refuses.

        Raises:
            SessionError: Always.
        """
        self.refuse("run.seal")

    def close(self) -> None:
        """Holds nothing of the machine."""

    def agree(self, point: str) -> None:
        """Waits until every rank is at a point."""
        self.channel.agree(point)

    def check(self, *, stepping: bool) -> None:
        """Checks that those who compute together are those of this session."""
        ranks.require_all(self._place, stepping=stepping)

    def compare(self, facts: Callable[[], Mapping[str, Json]]) -> None:
        """Tells the leader what this rank is about to do, and waits until all are found to do the same."""
        own = ranks_facts.of(facts(), **self._surroundings())
        self.channel.agree(ranks_facts.POINT, [encode_json(own)])

    def wait_for(self, deadline_s: float) -> None:
        """Sets how many seconds ranks wait for each other from now on."""
        self.channel.wait_for(deadline_s)

    def know(self, surroundings: Callable[[], Surroundings]) -> None:
        """Takes what returns the code and the environment of this rank."""
        self._surroundings = surroundings

    def stop(self, reason: str) -> None:
        """Ends the session of all ranks, telling them why."""
        self.channel.stop(reason)

    def refuse(self, what: str) -> NoReturn:
        """Says who has what this rank has not.

        Raises:
            SessionError: Always.
        """
        raise SessionError(
            f"{what}: rank {self._place.rank} follows rank {self._place.first}, which holds the session of "
            "this "
            "machine: call it there alone, `if run.leads: ...`"
        )


def _unknown() -> Surroundings:
    raise SessionError("nobody has told what code and environment this rank has")


def _met(_told: Sequence[bytes]) -> None:
    """What machines give each other where they only meet."""
