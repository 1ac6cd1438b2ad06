"""Step 1 of verifying: a bundle taken apart, with what stands beside it; nothing of it is believed yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from palm_torch import evidence, statement
from palm_torch.errors import EvidenceError
from palm_torch.evidence import Bundle, GpuEndorsements
from palm_torch.sessions import gpus, openings, seals
from palm_torch.statement import Begin, Statement

if TYPE_CHECKING:
    from palm_torch.collateral_file import CollateralFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A bundle taken apart.

    Attributes:
        bundle: The bundle.
        begin: Its begin statement.
        end: Its end statement.
        collateral: What the platform's vendor says of it, by field.
        gpu_files: What the makers of GPUs say of them, at hand.
        gpus_at_hand: What was made of that, if it was read already.
    """

    bundle: Bundle
    begin: Begin
    end: Statement
    collateral: Mapping[str, str]
    gpu_files: GpuEndorsements | None
    gpus_at_hand: gpus.AtHand | None

    @classmethod
    def of(
        cls,
        data: bytes,
        what: str,
        given: CollateralFile | None,
        gpu_files: GpuEndorsements | None,
        gpus_at_hand: gpus.AtHand | None,
    ) -> Self:
        """Takes a bundle apart: size limits, canonical bytes only.

        Args:
            data: The bundle's bytes.
            what: Its name, for messages.
            given: Collateral at hand, in place of the bundle's own.
            gpu_files: As the attribute.
            gpus_at_hand: As the attribute.

        Raises:
            InputError: If something in it is malformed, or there is no collateral.
        """
        bundle = evidence.decode(data, what=what)
        collateral = bundle.collateral if given is None else given.fields_for(bundle.attester)
        if collateral is None:
            raise EvidenceError(f"{what}: {openings.NO_COLLATERAL}")
        return cls(
            bundle=bundle,
            begin=seals.read_begin(bundle.opening),
            end=statement.decode(bundle.end.statement),
            collateral=collateral,
            gpu_files=gpu_files,
            gpus_at_hand=gpus_at_hand,
        )
