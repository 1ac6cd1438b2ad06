"""What a script loaded to go on from a checkpoint: the part of it that this is, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.attesting import owned_model
from palm_torch.errors import CoverageError
from palm_torch.hooks import architecture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.attesting.owned_model import OwnedState
    from palm_torch.digest import Digest
    from palm_torch.hooks import discovery, weights


def part_of(
    held: Sequence[OwnedState],
    owners: discovery.Owners,
    tensors: Sequence[weights.NamedTensor],
    *,
    all_left: bool,
) -> OwnedState | None:
    """Returns the part of the checkpoint that owners were loaded from; None if they are new.

    Args:
        held: The parts that nothing was found to be loaded from yet.
        owners: Who owns what is about to be stepped.
        tensors: Their tensors, as they are now.
        all_left: Whether these are all parts of the checkpoint: then nothing can be new.

    Raises:
        CoverageError: If they were loaded from something else.
    """
    wrong: CoverageError | None = None
    for part in held:
        difference = owned_model.difference(owners, tensors, part)
        if difference is None:
            return part
        if wrong is None or owners.names == part.names:
            wrong = CoverageError(
                f"the model that was loaded is not the checkpoint's: {difference}; load it with "
                "model.load_state_dict(...) from the checkpoint that resume= was taken from, before the "
                "first batch"
            )
    others = [part for part in held if part.names == owners.names]
    if wrong is not None and (others or all_left):
        raise wrong
    return None


def architecture_of(owners: discovery.Owners, held: OwnedState) -> Digest:
    """Returns the digest of an architecture, which is the checkpoint's.

    Raises:
        CoverageError: If it is not.
    """
    described = architecture.describe(owners).digest
    if described != held.architecture:
        raise CoverageError(
            f"the architecture of {'+'.join(held.names) or 'the tensors'} is not the checkpoint's: "
            f"expected {held.architecture}, got {described}; a class, its source file or its settings "
            "changed since"
        )
    return described
