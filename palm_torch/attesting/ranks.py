"""Which of a run's processes this one is, as `torchrun` tells each of them in its environment.

The ranks of one machine share one session: the first of them, the leader, holds it, and the others follow.
What is read here is the process's own environment; where it is wrong, the ranks do not meet.
"""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from palm_torch.digest import tagged_hash
from palm_torch.errors import CoverageError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from palm_torch.encoding import Json

TAG: Final = "palm-torch/ranks/v1"
RUN_TAG: Final = "palm-torch/machines/v1"
LAUNCHED: Final = "TORCHELASTIC_RUN_ID"
"""The variable that only torchrun sets."""

MAX_WORLD_SIZE: Final = 1 << 16

_NUMBERS: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place of a process among those of its run.

    Attributes:
        rank: Its number in the run.
        world_size: How many ranks the run has.
        local_rank: Its number on its machine; 0 leads.
        local_world_size: How many ranks its machine has.
        machine: Number of its machine.
        machines: How many machines the run has.
        name: 32 bytes that are the same in all ranks of a machine in one attempt of one run, and in no other.
        run: 32 bytes that are the same on all machines of one run, in every attempt.
        store: Host and port of the store that torchrun keeps for its workers; None if it keeps none.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    machine: int
    machines: int
    name: bytes
    run: bytes
    store: tuple[str, int] | None

    @property
    def leads(self) -> bool:
        """Whether this process holds the session of its machine."""
        return self.local_rank == 0

    @property
    def first(self) -> int:
        """The first rank of this machine."""
        return self.rank - self.local_rank


class Company(Protocol):
    """Those with whom a process trains: nobody, or the other ranks."""

    def agree(self, point: str) -> None:
        """Waits until every rank is at a point, before something is asked of all of them.

        Raises:
            CoverageError: If one is not, or this process is alone.
        """

    def check(self, *, stepping: bool) -> None:
        """Checks that those who compute together are those whose session this is.

        Args:
            stepping: Whether a step is under way: then several ranks have to be in one process group.

        Raises:
            CoverageError: As `require_all`.
        """

    def compare(self, facts: Callable[[], Mapping[str, Json]]) -> None:
        """Compares with all other ranks what has to be the same in all, when the first step begins.

        Args:
            facts: Returns what this rank trains, and how, by name.

        Raises:
            CoverageError: If a rank is not there, or says something else; it is named.
        """


class Alone:
    """The company of a session of one process."""

    def agree(self, point: str) -> None:
        """Refuses: there is nobody to ask.

        Raises:
            CoverageError: Always.
        """
        raise CoverageError(
            f"at {point}: parameters are DTensors, of which this process holds a part, and its session is of "
            "one process alone: start the script with torchrun, and open palm_torch.attested(...) in every "
            "rank"
        )

    def check(self, *, stepping: bool) -> None:
        """Checks that no other process computes with this one.

        Raises:
            CoverageError: As `require_all`.
        """
        require_all(None, stepping=stepping)

    def compare(self, facts: Callable[[], Mapping[str, Json]]) -> None:
        """Compares with nobody."""


_sessions: Final = itertools.count(1)


def next_number() -> int:
    """Returns which session of this process comes next: one script runs in all ranks, so all agree on it."""
    return next(_sessions)


def place(environ: Mapping[str, str] = os.environ) -> Place | None:
    """Returns the place of this process; None if torchrun did not start it, or started it alone.

    Raises:
        SessionError: If the environment names a place that cannot be.
    """
    if LAUNCHED not in environ:
        return None
    rank, world, local, local_world, machine, machines = (_number(environ, name) for name in _NUMBERS)
    if not (
        0 <= local <= rank < world <= MAX_WORLD_SIZE
        and local < local_world <= world
        and 0 <= machine < machines <= world
        and rank - local + local_world <= world
        and (machines == 1) == (local_world == world)
    ):
        told = ", ".join(f"{name}={environ[name]}" for name in _NUMBERS)
        raise SessionError(f"torchrun: expected the place of one rank among others, got {told}")
    if world == 1:
        return None
    host, port = environ.get("MASTER_ADDR", ""), environ.get("MASTER_PORT", "")
    run = [environ[LAUNCHED], str(world)]
    attempt = [host, port, environ.get("TORCHELASTIC_RESTART_COUNT", "0")]
    shares = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and port.isdecimal()
    return Place(
        rank=rank,
        world_size=world,
        local_rank=local,
        local_world_size=local_world,
        machine=machine,
        machines=machines,
        name=_hashed(TAG, *run, *attempt),
        run=_hashed(RUN_TAG, *run),
        store=(host, int(port)) if shares else None,
    )


def require_all(here: Place | None, *, stepping: bool) -> None:
    """Checks that the processes of a run which compute together are those whose session this is.

    Args:
        here: The place of this process; None for a session of one process.
        stepping: Whether a step is under way: ranks without a process group exchange nothing, and each of
            them trains for itself.

    Raises:
        CoverageError: If torch's default process group has other ranks, or several ranks step without one.
    """
    module = sys.modules.get("torch.distributed")
    if module is None or not module.is_available() or not module.is_initialized():
        if here is not None and stepping:
            raise CoverageError(
                f"this process is rank {here.rank} of {here.world_size} that torchrun started, and they are "
                "in no process group, so that each trains for itself: call "
                "torch.distributed.init_process_group() before the first step, and wrap the model in "
                "DistributedDataParallel or fully_shard; or start the script without torchrun"
            )
        return
    found = module.get_rank(), module.get_world_size()
    if here is None:
        if found[1] == 1:
            return
        raise CoverageError(
            f"this process is rank {found[0]} of {found[1]} that train together, and its session is of one "
            "process alone: start the script with torchrun, and open palm_torch.attested(...) in every rank"
        )
    if found == (here.rank, here.world_size):
        return
    raise CoverageError(
        f"torch.distributed: expected rank {here.rank} of {here.world_size}, as torchrun says, got rank "
        f"{found[0]} of {found[1]}: call init_process_group() without rank= and world_size="
    )


def _hashed(tag: str, *said: str) -> bytes:
    return tagged_hash(tag, *(part.encode("utf-8", "surrogateescape") for part in said))


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not (text.isascii() and text.isdecimal()):
        raise SessionError(f"torchrun: expected a number in the variable {name}, got {text[:40]!r}")
    return int(text)
