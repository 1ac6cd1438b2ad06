"""The machines of one run, met through the store that torchrun keeps for its workers.

The leaders exchange digests: of what opened their sessions at the begin, and of what their ranks hold at the
end. The store outlives attempts of a run, and restarted machines find in it what was said before: so each
leader says a random word first, all repeat the words of all, and what follows is said under their hash.

The store is a service in the network that nobody vouches for: where it answers wrongly, parts do not name
each other, which shows in the session and again when they are verified.
"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from palm_torch import escaping
from palm_torch.digest import tagged_hash
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from palm_torch.attesting.ranks import Place

MAX_VALUE_BYTES: Final = 8 << 20
MAX_REASON_CHARACTERS: Final = 10_000
MAX_REASON_BYTES: Final = 4 * MAX_REASON_CHARACTERS
MAX_WORDS_BYTES: Final = 4 << 20
MEETING_TAG: Final = "palm-torch/meeting/v1"
WORD_BYTES: Final = 16
_POLL_S: Final = 0.1


class KeyValueStore(Protocol):
    """What is asked of torch's ``TCPStore``."""

    def set(self, key: str, value: str) -> None:
        """Sets a value."""

    def get(self, key: str) -> bytes:
        """Returns a value, which is there."""

    def check(self, keys: list[str]) -> bool:
        """Says whether all of these are there."""


class Machines:
    """The leaders of all machines of one run.

    Args:
        place: The place of this one.
        number: Which session of the process this is.
        deadline_s: Seconds to wait for the others, each time.
        store: Where they meet; None connects to torchrun's.

    Raises:
        CoverageError: If torchrun keeps no store for its workers, or it cannot be reached.
    """

    def __init__(
        self, place: Place, *, number: int, deadline_s: float, store: KeyValueStore | None = None
    ) -> None:
        self._place = place
        self._deadline_s = deadline_s
        self._prefix = f"palm-torch/{place.run.hex()}/{number}"
        self._word = secrets.token_hex(WORD_BYTES)
        self._heard: list[str] = []
        self._meeting: str | None = None
        self._store = store or _connected(place, deadline_s)

    def wait_for(self, deadline_s: float) -> None:
        """Sets how many seconds to wait for the others from now on."""
        self._deadline_s = deadline_s

    def meet(self) -> None:
        """Waits until all machines have heard the same words, each that of this attempt.

        Raises:
            CoverageError: If a machine does not come in time, or has ended the session.
        """
        until = time.monotonic() + self._deadline_s
        try:
            self._store.set(f"{self._prefix}/word/{self._place.machine}", self._word)
            while (machine := self._missing()) is not None:
                if time.monotonic() > until:
                    word = self._read(f"word/{machine}")
                    raise (word and self._ended(word)) or self._late(machine, "the begin of the session")
                time.sleep(_POLL_S)
        except RuntimeError as error:  # all that torch's stores raise
            raise CoverageError(f"torchrun's store does not answer: {error}") from error
        self._meeting = tagged_hash(MEETING_TAG, *(word.encode() for word in self._heard)).hex()

    def _missing(self) -> int | None:
        """Repeats what was heard, and returns a machine that has not heard the same; None if all have.

        One whose word is that of an attempt which ended is not here yet: its next attempt has another word.
        """
        machines = range(self._place.machines)
        words = [self._read(f"word/{machine}") for machine in machines]
        if None in words:
            return words.index(None)
        heard = [word for word in words if word is not None]
        if heard != self._heard:
            self._heard = heard
            self._store.set(f"{self._prefix}/heard/{self._place.machine}", " ".join(heard))
        ended = next((machine for machine in machines if self._ended(heard[machine])), None)
        if ended is not None:
            return ended
        said = [self._read(f"heard/{machine}") for machine in machines]
        return next((machine for machine in machines if said[machine] != " ".join(heard)), None)

    def _read(self, name: str) -> str | None:
        key = f"{self._prefix}/{name}"
        if not self._store.check([key]):
            return None
        value = bytes(self._store.get(key))
        if len(value) > MAX_WORDS_BYTES:
            raise CoverageError(
                f"torchrun's store, {name}: expected at most {MAX_WORDS_BYTES} bytes, got {len(value)}"
            )
        return value.decode("ascii", "replace")

    def exchange(self, point: str, value: str) -> list[bytes]:
        """Gives every other machine a value and returns what all gave, by the number of the machine.

        Args:
            point: What is exchanged; each point is met once.
            value: Text, at most `MAX_VALUE_BYTES` of it.

        Raises:
            CoverageError: If a machine does not give its own in time, or has ended the session, or the store
                gives back another value than this machine's own.
        """
        own = value.encode("utf-8")
        if len(own) > MAX_VALUE_BYTES:
            raise CoverageError(
                f"{point}: expected at most {MAX_VALUE_BYTES} bytes to exchange, got {len(own)}"
            )
        until = time.monotonic() + self._deadline_s
        try:
            self._store.set(self._key(point, self._place.machine), value)
            found = [self._get(point, machine, until) for machine in range(self._place.machines)]
        except RuntimeError as error:  # all that torch's stores raise
            raise CoverageError(f"{point}: torchrun's store does not answer: {error}") from error
        if found[self._place.machine] != own:
            raise CoverageError(
                f"{point}: torchrun's store gives back another value than this machine, number "
                f"{self._place.machine}, gave: something in the network changes it, or two machines have one "
                "number"
            )
        return found

    def stop(self, reason: str) -> None:
        """Tells the other machines that this one has ended the session."""
        under = self._word if self._meeting is None else self._meeting
        try:
            said = escaping.encodable(reason)[:MAX_REASON_CHARACTERS]
            self._store.set(f"{self._prefix}/stop/{under}", said)
        except RuntimeError:
            return  # they will find that it is silent

    def _get(self, point: str, machine: int, until: float) -> bytes:
        key = self._key(point, machine)
        while not self._store.check([key]):
            for under in (self._meeting, *self._heard):
                if under is not None and (ended := self._ended(under)) is not None:
                    raise ended
            if time.monotonic() > until:
                raise self._late(machine, point)
            time.sleep(_POLL_S)
        value = bytes(self._store.get(key))
        if len(value) > MAX_VALUE_BYTES:
            raise CoverageError(
                f"machine {machine}, {point}: expected at most {MAX_VALUE_BYTES} bytes, got {len(value)}"
            )
        return value

    def _key(self, point: str, machine: int) -> str:
        if self._meeting is None:
            raise CoverageError(f"at {point}: the machines of the run have not met")
        return f"{self._prefix}/{self._meeting}/{point}/{machine}"

    def _ended(self, under: str) -> CoverageError | None:
        """Returns what a machine said when it ended the session; None if none has."""
        key = f"{self._prefix}/stop/{under}"
        if not self._store.check([key]):
            return None
        reason = bytes(self._store.get(key))[:MAX_REASON_BYTES].decode("utf-8", "replace")
        return CoverageError(f"another machine has ended the session of all ranks: {reason}")

    def _late(self, machine: int, point: str) -> CoverageError:
        return CoverageError(
            f"machine {machine} did not answer in time: expected all {self._place.machines} machines at "
            f"{point}, within {self._deadline_s:g} seconds of each other; every rank opens "
            "palm_torch.attested(...) around the same loop"
        )


def _connected(place: Place, deadline_s: float) -> KeyValueStore:
    if place.store is None:
        raise CoverageError(
            "torchrun keeps no store for its workers (TORCHELASTIC_USE_AGENT_STORE is not set), in which the "
            "machines of a run could name each other: start it without TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
        )
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # noqa: PLC0415 (only runs on several machines need it)

    host, port = place.store
    try:
        return TCPStore(
            host, port, is_master=False, timeout=timedelta(seconds=deadline_s), wait_for_workers=False
        )
    except RuntimeError as error:
        raise CoverageError(f"torchrun's store at {host}:{port} cannot be reached: {error}") from error
