"""What `run.state_dict()` returns: plain tensors and numbers that any way of saving checkpoints takes.

``torch.save`` and ``torch.load(weights_only=True)`` as well as distributed checkpoints keep such a dictionary
as it is. Nothing in it is secret, and nothing in it is believed when it comes back: see
`palm_torch.attesting.resuming`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import torch

from palm_torch import codec, dsse, receipt, statement
from palm_torch.attesting import segment_state
from palm_torch.attesting.segment_state import SegmentState
from palm_torch.digest import sha256_digest
from palm_torch.dsse import Envelope
from palm_torch.encoding import encode_json
from palm_torch.errors import EvidenceError, prefixed
from palm_torch.receipt import SegmentReceipt
from palm_torch.statement import Code

if TYPE_CHECKING:
    from collections.abc import Iterator

State: TypeAlias = "dict[str, torch.Tensor | int]"

VERSION: Final = 1
MAX_RECEIPT_BYTES: Final = 2 * dsse.MAX_PAYLOAD_BYTES

_COUNTS: Final = "counts."


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint that parses; nobody has verified it.

    Attributes:
        envelope: The signed segment receipt.
        content: What it says.
        code: The code loaded until it was signed.
        state: The state whose digest the receipt names.
        counts: Multiplicities of records by dataset and use, little endian.
    """

    envelope: Envelope
    content: SegmentReceipt
    code: Code
    state: SegmentState
    counts: dict[str, dict[str, bytes]]


def to_tensors(envelope: Envelope, state: bytes, counts: Mapping[str, Mapping[str, bytes]]) -> State:
    """Returns a checkpoint as a dictionary of plain tensors and numbers.

    Args:
        envelope: The signed segment receipt.
        state: The encoded state.
        counts: Multiplicities of records by dataset and use.
    """
    return {
        "version": VERSION,
        "receipt": _tensor(encode_json(envelope.to_json())),
        "state": _tensor(state),
        **{
            f"{_COUNTS}{dataset}.{use}": _tensor(data)
            for dataset, uses in counts.items()
            for use, data in uses.items()
        },
    }


def from_tensors(found: Mapping[str, object]) -> Checkpoint:
    """Reads a checkpoint, accepting exactly what `to_tensors` makes.

    Raises:
        EvidenceError: If it is anything else, or its receipt speaks of another state.
    """
    if not isinstance(found, Mapping):
        raise EvidenceError(
            f"resume: expected what run.state_dict() returned, got {type(found).__name__}: write "
            'attested("train", resume=checkpoint["palm"]) if it was saved under that name'
        )
    missing = {"version", "receipt", "state"} - found.keys()
    if missing:
        raise EvidenceError(
            f"resume: not what run.state_dict() returned: {min(missing)!r} is missing; got keys "
            f"{', '.join(sorted(map(str, found)))[:200]!r}"
        )
    if type(found["version"]) is not int or found["version"] != VERSION:
        raise EvidenceError(f"resume: this version reads checkpoints of version {VERSION}")
    envelope = _envelope(_bytes(found, "receipt", MAX_RECEIPT_BYTES))
    content = receipt.decode_content(envelope.payload, what="checkpoint: receipt")
    if not isinstance(content, SegmentReceipt):
        raise EvidenceError(f"checkpoint: expected a receipt of kind 'segment', got {content.KIND!r}")
    encoded = _bytes(found, "state", segment_state.MAX_STATE_BYTES)
    found_state = sha256_digest(encoded)
    if found_state != content.state:
        raise EvidenceError(
            f"checkpoint: expected the state {content.state} that its receipt names, got "
            f"{found_state}: it was edited, or belongs to another checkpoint"
        )
    counts: dict[str, dict[str, bytes]] = {name: {} for name in content.data}
    for name, dataset, use in _counts_of(found):
        held = content.data.get(dataset)
        if held is None or held.records is None or use not in held.uses:
            raise EvidenceError(f"checkpoint: {name!r} is of nothing that its receipt names")
        counts[dataset][use] = _bytes(found, name, 4 * held.records)
    state = segment_state.decode(encoded)
    with prefixed("checkpoint"):
        code = content.issued.code.whole(statement.decode_begin(state.session.begin.statement).code)
    return Checkpoint(envelope=envelope, content=content, code=code, state=state, counts=counts)


def _counts_of(found: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    for name in found:
        if name in ("version", "receipt", "state"):
            continue
        dataset, dot, use = str(name).removeprefix(_COUNTS).partition(".")
        if not str(name).startswith(_COUNTS) or not dot:
            raise EvidenceError(f"resume: not what run.state_dict() returned: unknown key {str(name)[:80]!r}")
        yield name, dataset, use


def _envelope(data: bytes) -> Envelope:
    document = codec.parse(data, what="checkpoint: receipt", max_bytes=MAX_RECEIPT_BYTES, error=EvidenceError)
    return dsse.from_json(document, what="checkpoint: receipt", error=EvidenceError)


def _tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _bytes(found: Mapping[str, object], name: str, max_bytes: int) -> bytes:
    tensor = found[name]
    if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.uint8 or tensor.dim() != 1:
        raise EvidenceError(f"resume: {name}: expected a tensor of bytes (uint8, one dimension)")
    if tensor.numel() > max_bytes:
        raise EvidenceError(f"resume: {name}: expected at most {max_bytes} bytes, got {tensor.numel()}")
    return tensor.detach().cpu().contiguous().numpy().tobytes()
