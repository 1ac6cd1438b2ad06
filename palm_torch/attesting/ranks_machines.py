"""What the machines of one run have to agree on when it ends: each tells the others digests of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch import codec
from palm_torch.attesting import ranks_agreement
from palm_torch.commit import weights_root
from palm_torch.digest import Digest, sha256_digest
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import CoverageError, EvidenceError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.attesting.ranks_merge import Together
    from palm_torch.attesting.ranks_share import RankShare
    from palm_torch.roles import Weights

MAX_AGREED_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What the machines of a run have to agree on at the end.

    Attributes:
        architecture: Digest of the architecture.
        optimizers: Digest of the optimizers' settings, scalers and steps.
        initial: Weights root of the parameters before the first step.
        model: Weights root of the parameters at the end.
        buffers: Digests of each buffer, before and after, by name.
        differing: Buffers that are not the same in all ranks of the machine.
    """

    architecture: Digest
    optimizers: Digest
    initial: Digest
    model: Digest
    buffers: dict[str, tuple[Digest, ...]]
    differing: tuple[str, ...]


def agreed(together: Together, first: RankShare) -> Agreed:
    """Returns what a machine tells the others.

    Args:
        together: What its ranks say together.
        first: What its first rank measured.
    """
    claims = first.train
    before, after = (
        {tensor.name: tensor.root for tensor in w.tensors} for w in (claims.initial, claims.model)
    )
    stepped = [
        *ranks_agreement.optimizers(first),
        claims.configuration.value["scalers"],
        codec.to_json(claims.steps),
    ]
    return Agreed(
        architecture=claims.architecture.digest or sha256_digest(b""),
        optimizers=sha256_digest(encode_json(stepped)),
        initial=_parameters(claims.initial, first.buffers),
        model=_parameters(claims.model, first.buffers),
        buffers={
            name: tuple(roots[name] for roots in (before, after) if name in roots) for name in first.buffers
        },
        differing=together.differing,
    )


def _parameters(weights: Weights, buffers: Sequence[str]) -> Digest:
    return weights_root.claimed_root(tensor for tensor in weights.tensors if tensor.name not in buffers)


def check(told: Sequence[bytes], own: Agreed) -> tuple[str, ...]:
    """Returns the buffers that are not the same in all ranks of all machines.

    What others told came through a store that nobody vouches for: a name that is no buffer here must not
    excuse a parameter from being the same.

    Args:
        told: What each machine told, canonical JSON of `Agreed`, by the number of the machine.
        own: What this machine told.

    Raises:
        CoverageError: If the machines do not agree on what has to be the same, or on what is a buffer.
    """
    found = [_read(item, machine) for machine, item in enumerate(told)]
    first = found[0]
    for machine, other in enumerate(found):
        for name in ("architecture", "optimizers", "initial", "model"):
            expected, got = getattr(first, name), getattr(other, name)
            if expected != got:
                raise CoverageError(
                    f"machine {machine}: {name}: expected {expected}, as on machine 0, got {got}: train one "
                    "model alike in all ranks"
                )
        called = [*sorted(other.buffers), *other.differing]
        if (stranger := next((name for name in called if name not in own.buffers), None)) is not None:
            raise CoverageError(
                f"machine {machine}: expected buffers of the model that is trained here, got "
                f"{stranger[:160]!r}: train one model alike in all ranks"
            )
    names = {name for item in found for name in item.buffers}
    unequal = {name for name in names if len({item.buffers.get(name) for item in found}) > 1}
    return tuple(sorted(unequal.union(*(item.differing for item in found))))


def _read(data: bytes, machine: int) -> Agreed:
    what = f"machine {machine}: what it says of the run"
    try:
        document = decode_json(data, what=what, max_bytes=MAX_AGREED_BYTES)
        return codec.from_json(Agreed, document, what=what, error=EvidenceError)
    except InputError as error:
        raise CoverageError(str(error)) from error
