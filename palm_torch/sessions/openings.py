"""Whose key is this: what opened a session, verified, so that its key's signatures mean something.

A receipt is worth what the session that signed it was worth. `verify` establishes that worth from the begin
quote alone; only with its result can a signature be checked, so that the steps keep their order.

1. The opening is of a kind that can be appraised.
2. The begin quote is genuine: it leads to the one root that was configured.
3. The platform is the one, and in the state, that the rules ask for.
4. The begin quote seals this challenge, this run, this begin statement and this session key; the begin
   statement names the same.
5. The GPUs, if any, answered nonces of this session, and are those that the rules ask for.
6. The session key is an ECDSA key on P-256, in its one spelling.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from palm_torch import dsse, receipt
from palm_torch.cvm import platforms
from palm_torch.cvm.platforms import Verified
from palm_torch.digest import Digest, sha256_digest
from palm_torch.errors import BindingError, EvidenceError
from palm_torch.evidence import Opening
from palm_torch.sessions import gpus, seals
from palm_torch.statement import Begin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from palm_torch.cvm.platforms import Requirements
    from palm_torch.dsse import Envelope
    from palm_torch.receipt import Content
    from palm_torch.statement import Code

NO_COLLATERAL: Final = (
    "no collateral, which says what the platform's vendor knows of it: fetch it with `palm-torch collateral "
    "fetch EVIDENCE -o FILE` and give it with --collateral FILE"
)

_MADE_HERE: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedOpening:
    """A session that a genuine platform opened; `verify` alone makes it.

    Attributes:
        opening: What travelled.
        begin: Its begin statement.
        quote: Its begin quote, verified and appraised.
        gpus: Its GPUs, verified and appraised.
        key: The session's public key, which the quote seals.
    """

    opening: Opening
    begin: Begin
    quote: Verified
    gpus: gpus.Attested
    key: ec.EllipticCurvePublicKey
    token: InitVar[object]

    def __post_init__(self, token: object) -> None:
        """Refuses to be made elsewhere."""
        if token is not _MADE_HERE:
            raise TypeError("a VerifiedOpening is made by openings.verify alone")

    @property
    def simulated(self) -> bool:
        """Whether the platform, or one of its GPUs, is a simulator's."""
        return self.quote.simulated or self.gpus.simulated

    @property
    def quote_digest(self) -> Digest:
        """SHA-256 of the begin quote: how a receipt names the session."""
        return sha256_digest(self.opening.begin.quote)


def verify(
    opening: Opening,
    *,
    requirements: Requirements,
    at: datetime,
    collateral: Mapping[str, str] | None = None,
    at_hand: gpus.AtHand = gpus.NOTHING,
) -> VerifiedOpening:
    """Verifies what opened a session.

    Args:
        opening: What travelled.
        requirements: The root that its quote must lead to, and the platform that it must come from.
        at: Time of verification, aware.
        collateral: Serves an opening that carries none, by field.
        at_hand: What the makers of GPUs say; an opening carries nothing of that.

    Returns:
        The verified opening.

    Raises:
        InputError: If a part does not parse, or there is no collateral at all.
        RejectedError: Of the class that fits, if a step fails.
    """
    begin = seals.read_begin(opening)  # 1
    fields = collateral if opening.collateral is None else opening.collateral
    if fields is None:
        raise EvidenceError(NO_COLLATERAL)
    endorsements = platforms.read_endorsements(opening.attester, fields)
    quote = platforms.verify(  # 2
        opening.attester, opening.begin.quote, endorsements, requirements=requirements, now=at
    )
    platforms.appraise(quote, requirements)  # 3
    seals.check_begin(opening, begin, quote)  # 4
    attested = gpus.verify(  # 5
        opening.begin,
        begin.gpu,
        seals.begin_context(opening),
        requirements=requirements,
        at_hand=at_hand,
        now=at,
    )
    key = dsse.session_public_key(opening.session_key)  # 6
    return VerifiedOpening(
        opening=opening, begin=begin, quote=quote, gpus=attested, key=key, token=_MADE_HERE
    )


class VerifiedReceipt(NamedTuple):
    """What a receipt says whose signature was verified, and the code loaded until it was issued."""

    content: Content
    code: Code


def verify_receipt(envelope: Envelope, session: VerifiedOpening) -> VerifiedReceipt:
    """Verifies that a session signed a receipt, and returns what it says.

    Args:
        envelope: The receipt.
        session: The session that should have signed it.

    Raises:
        SignatureError: If its key did not sign it.
        EvidenceError: If what it signed is not a receipt, or names the code by another digest.
        CodeError: If it says that the code became known in another way than the begin statement says.
        BindingError: If the receipt names another run or another begin quote.
    """
    payload = dsse.verify(envelope, payload_type=dsse.IN_TOTO_PAYLOAD, key=session.key, what="receipt")
    content = receipt.decode_content(payload)
    if content.issued.run_id != session.opening.run_id:
        raise BindingError(
            f"receipt: expected one of run {session.opening.run_id}, got {content.issued.run_id!r:.80}"
        )
    if content.issued.begin != session.quote_digest:
        raise BindingError(
            f"receipt: expected one of the session that began with quote {session.quote_digest}, got "
            f"{content.issued.begin}"
        )
    return VerifiedReceipt(content, content.issued.code.whole(session.begin.code))
