"""Real TDX evidence with one bit flipped at a time: who still accepts it, this library or dcap-qvl alone.

The tests try some, ``benchmarks/bitflips.py`` tries every one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dcap_qvl  # type: ignore[import-untyped]  # ships stubs, but no py.typed marker
import tdx_vectors as real

from palm_torch import collateral_file
from palm_torch.cvm import certificates, collateral, quote, tdx
from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    from datetime import datetime

    from palm_torch.cvm.collateral import Collateral


@dataclass(frozen=True)
class Target:
    """Something whose every bit counts.

    Attributes:
        data: As it is accepted.
        ours: Verifies it; raises one of our errors where it must not be believed.
        theirs: Whether dcap-qvl alone accepts it.
    """

    data: bytes
    ours: Callable[[bytes], object]
    theirs: Callable[[bytes], bool]


@dataclass(frozen=True)
class Outcome:
    """What became of one flip: the class of our error, None if accepted; and whether dcap-qvl accepts."""

    error: str | None
    theirs: bool


def targets(vectors: Callable[[str], bytes]) -> dict[str, Target]:
    """Returns the targets by name: "v4", "v5" (quotes) and "collateral" (of the former, as a file)."""
    intel = vectors("tdx/dcap-qvl/TrustedRootCA.der")
    june, later = real.read(vectors, "june"), real.read(vectors, "outdated")
    four, five = (quote.canonical(vectors(name)) for name in (real.V4_QUOTE, real.V5_QUOTE))
    file = collateral_file.CollateralFile(
        type=collateral_file.TYPE, attester="tdx", collateral=dataclasses.asdict(june)
    ).encode()

    def ours(raw: bytes, endorsements: Collateral, now: datetime) -> None:
        tdx.verify_quote(raw, endorsements, anchors=[certificates.INTEL_SGX_ROOT], now=now)

    def theirs(raw: bytes, document: str, now: datetime) -> bool:
        try:
            found = dcap_qvl.QuoteCollateralV3.from_json(document)
            dcap_qvl.verify_with_root_ca(raw, found, intel, int(now.timestamp()))
        except ValueError:
            return False
        return True

    def of_quote(raw: bytes, endorsements: Collateral, now: datetime) -> Target:
        document = json.dumps(dataclasses.asdict(endorsements))
        return Target(
            raw, lambda data: ours(data, endorsements, now), lambda data: theirs(data, document, now)
        )

    def of_file(data: bytes) -> None:
        held = collateral_file.decode(data).fields_for("tdx")
        ours(four, collateral.from_json(dict(held)), real.JUNE_2025)

    def file_of_theirs(data: bytes) -> bool:
        try:
            document = json.dumps(json.loads(data)["collateral"])
        except (ValueError, KeyError):
            return False
        return theirs(four, document, real.JUNE_2025)

    return {
        "v4": of_quote(four, june, real.JUNE_2025),
        "v5": of_quote(five, later, real.FEBRUARY_2026),
        "collateral": Target(file, of_file, file_of_theirs),
    }


def flip(target: Target, bit: int, *, ask_both: bool = True) -> Outcome:
    """Flips one bit; an error that is not ours passes through."""
    data = bytearray(target.data)
    data[bit // 8] ^= 1 << bit % 8
    flipped = bytes(data)
    theirs = ask_both and target.theirs(flipped)
    try:
        target.ours(flipped)
    except PalmTorchError as error:
        return Outcome(type(error).__name__, theirs)
    return Outcome(None, theirs)
