"""The one door to dcap-qvl: a second opinion on a quote, by other people's code.

It verifies everything it knows of, from the root down, and says what it thinks of the platform; it is asked
after this library has come to a verdict of its own, and the two must agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dcap_qvl  # type: ignore[import-untyped]  # ships stubs, but no py.typed marker

if TYPE_CHECKING:
    from datetime import datetime

    from palm_torch.cvm.collateral import Collateral


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier makes of a quote.

    Attributes:
        status: TCB status; None if the quote is refused.
        advisory_ids: Advisories that apply, in alphabetical order; none if it is refused.
        reason: Why it is refused; empty if it is not.
    """

    status: str | None
    advisory_ids: tuple[str, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        """Returns one line for messages."""
        if self.status is None:
            return f"refused ({self.reason})"
        return f"{self.status} (advisories: {', '.join(self.advisory_ids) or 'none'})"

    @property
    def opinion(self) -> tuple[str | None, tuple[str, ...]]:
        """What two verdicts are compared by: why a quote is refused each verifier says in its own words."""
        return self.status, self.advisory_ids


def verify(raw: bytes, endorsements: Collateral, *, root: bytes, now: datetime) -> Verdict:
    """Asks dcap-qvl, which raises a ValueError on bytes of any kind, an OverflowError on times before 1970.

    Args:
        raw: The canonical quote.
        endorsements: Collateral for its platform.
        root: The root certificate, DER, already matched with an anchor.
        now: Time of verification; dcap-qvl counts whole seconds.
    """
    try:
        report = dcap_qvl.verify_with_root_ca(
            raw,
            dcap_qvl.QuoteCollateralV3(
                pck_crl_issuer_chain=endorsements.pck_crl_issuer_chain,
                root_ca_crl=endorsements.der("root_ca_crl"),
                pck_crl=endorsements.der("pck_crl"),
                tcb_info_issuer_chain=endorsements.tcb_info_issuer_chain,
                tcb_info=endorsements.tcb_info,
                tcb_info_signature=endorsements.der("tcb_info_signature"),
                qe_identity_issuer_chain=endorsements.qe_identity_issuer_chain,
                qe_identity=endorsements.qe_identity,
                qe_identity_signature=endorsements.der("qe_identity_signature"),
            ),
            root,
            int(now.timestamp()),
        )
    except (ValueError, OverflowError) as error:
        return Verdict(None, reason=str(error))
    return Verdict(str(report.status), tuple(sorted(set(map(str, report.advisory_ids)))))
