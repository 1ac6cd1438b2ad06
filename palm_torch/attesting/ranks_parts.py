"""The parts of a run on several machines: each tells its own, and all are told the same of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch import codec
from palm_torch.digest import sha256_digest
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import CoverageError, EvidenceError, InputError
from palm_torch.statement import Part, Ranks

if TYPE_CHECKING:
    from palm_torch.attesting.ranks import Place
    from palm_torch.attesting.ranks_store import Machines

MAX_PART_BYTES: Final = 4096


def exchange(machines: Machines, place: Place, own: Part) -> tuple[Part, ...]:
    """Returns the parts of all machines, in their order, once every machine has them.

    Args:
        machines: The machines of the run, which have met.
        place: The place of this process.
        own: The part of this machine.

    Raises:
        CoverageError: If a machine does not answer or tells no part, the parts do not have each rank once, or
            the machines were not told the same.
    """
    told = machines.exchange("the parts of the run", encode_json(codec.to_json(own)).decode("utf-8"))
    parts = tuple(_read(number, item) for number, item in enumerate(told))
    if parts[place.machine] != own:
        raise CoverageError(f"torchrun's store gives back another part than ours: {parts[place.machine]}")
    try:
        Ranks(
            world_size=place.world_size,
            own=place.machine,
            parts=parts,
            interconnect="unprotected",
            differing=(),
        )
    except InputError as error:
        raise CoverageError(f"the machines of the run do not have each rank once: {error}") from error
    seen = sha256_digest(encode_json(codec.to_json(parts)))
    for number, item in enumerate(machines.exchange("what the parts are", str(seen))):
        if item != str(seen).encode("ascii"):
            raise CoverageError(
                f"machine {number} was told of other parts than this one: expected {seen}, got "
                f"{item[:100].decode('ascii', 'replace')}: torchrun's store does not say one thing to all"
            )
    return parts


def _read(number: int, item: bytes) -> Part:
    what = f"machine {number}: its part"
    try:
        document = decode_json(item, what=what, max_bytes=MAX_PART_BYTES)
        return codec.from_json(Part, document, what=what, error=EvidenceError)
    except InputError as error:
        raise CoverageError(str(error)) from error
