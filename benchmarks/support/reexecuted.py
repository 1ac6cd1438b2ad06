"""The exact check: run what is claimed once more on a machine that is the same, and compare commitments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from palm_torch.digest import Digest
from support import committed, serving

if TYPE_CHECKING:
    from support.world import Claim, World


@dataclass(frozen=True, slots=True)
class Reference:
    """What the claimed model computes from the claimed tokens.

    Attributes:
        activations: Digest of all tensors.
        chosen: The answer that it gives, int64 [new].
    """

    activations: Digest
    chosen: torch.Tensor


def reference(world: World, claim: Claim) -> Reference:
    """Runs the claimed model over the claimed tokens, call by call."""
    own = serving.again(world.model, claim.served)
    chosen = own.rows(serving.HEAD).argmax(-1)
    return Reference(committed.commit(own).trace.activations(), chosen)


def differs(claim: Claim, shown: Digest, own: Reference) -> bool:
    """Says whether a claim is found out: other tensors, or an answer that does not follow from them.

    Args:
        claim: What is claimed.
        shown: Digest of the tensors that the prover committed to.
        own: The verifier's own run.
    """
    answer = claim.served.tokens[0, claim.served.prompt :]
    return shown != own.activations or bool((answer != own.chosen).any())
