"""Audits of what provers committed to, each with a nonce of its own, and what they notice of a trace."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from palm_torch.audit import checking, weights_file
from palm_torch.challenge import challenge, geometry, parts, request
from palm_torch.commit import trace
from palm_torch.committing.proof import Proof
from palm_torch.errors import PalmTorchError
from support import committed
from support.noticing import Counted
from support.world import Claim

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from palm_torch.challenge.places import Place
    from palm_torch.challenge.request import AuditRequest
    from support.serving import Served
    from support.world import World

Outcome: TypeAlias = Literal["consistent", "inconsistent", "refused"]

DECODING: Final = {"do_sample": False}
PLACES: Final = 128
"""Looked at in each trace on which delta is counted."""
_NONCES: Final = 60


@dataclass(frozen=True, slots=True)
class Shown:
    """What a prover committed to.

    Attributes:
        claim: What it claims.
        proof: The commitment, which can be opened.
        sealed: The context that was sealed: that of `proof`, unless the prover shows an old root.
        rho: Probability that one drawn place is a broken one.
        broken: How many broken places there are.
    """

    claim: Claim
    proof: Proof
    sealed: bytes
    rho: float
    broken: int


@dataclass(frozen=True, slots=True)
class Audited:
    """What audits of several commitments found.

    Attributes:
        outcomes: One of each audit.
        broken: How many broken places were drawn.
        seen: How many of these the audits accused.
        wronged: How many other places they accused.
        margin: The largest margin of what was found consistent.
        seconds: Of processor time in all, for checking.
        nbytes: Size of one answer.
    """

    outcomes: tuple[Outcome, ...]
    broken: int
    seen: int
    wronged: int
    margin: float
    seconds: float
    nbytes: int

    @property
    def noticed(self) -> int:
        """How many audits accused or refused."""
        return sum(outcome != "consistent" for outcome in self.outcomes)


class Auditor:
    """A verifier with the claimed weights at hand.

    Args:
        world: The claimed model.
        path: Its weights.
        queries: Places in each audit.
        weights: How often each part is drawn; None draws all equally often.
    """

    def __init__(
        self, world: World, path: Path, *, queries: int, weights: Sequence[int] | None = None
    ) -> None:
        self._geometry = geometry.from_config(world.model.config.to_dict(), what="config.json")
        self._parts = parts.parts(self._geometry)
        needed = {name for part in self._parts for name in part.weights.values()}
        self._weights = weights_file.read([path], needed, root=None)
        self._world = world
        self.queries = queries
        self.drawn = tuple(weights) if weights is not None else (1,) * len(self._parts)

    def drawing(self, weights: Sequence[int]) -> Auditor:
        """Returns an auditor who draws parts otherwise, and is the same in everything else."""
        made = object.__new__(Auditor)
        made.__dict__.update(self.__dict__)
        made.drawn = tuple(weights)
        return made

    def shown(self, claim: Claim) -> Shown:
        """Commits to a claim, as its prover does, under the root of the claimed weights."""
        proof = self._commit(claim.served)
        sealed = proof if claim.sealed is None else self._commit(claim.sealed)
        return Shown(claim, proof, sealed.context, *self.rho(claim))

    def rho(self, claim: Claim) -> tuple[float, int]:
        """Returns the probability that one drawn place is a broken one, and how many of these there are.

        It looks at no number: the attack says it.
        """
        shares, count = [], 0
        for part in self._parts:
            first = claim.served.prompt - 1 if part.kind == "head" else 0
            places = range(first, claim.served.fed)
            block = part.number - 1 if part.kind == "block" else 0
            broken = sum(claim.broken(part.kind, block, at) for at in places)
            shares.append(broken / len(places))
            count += broken
        rho = sum(w * share for w, share in zip(self.drawn, shares, strict=True)) / sum(self.drawn)
        return rho, count

    def counted(self, shown: Iterable[Shown]) -> Counted:
        """Looks at many places of each commitment, and counts the broken ones and which of them it notices.

        The places are drawn as in every audit. Of some nonces the one is taken that has most broken places,
        so that the one broken place of a trace is among them; whether it would be noticed plays no part.
        """
        checked, noticed, wronged = [], [], 0
        for item in shown:
            asked, broken = max(
                (self._drawn_broken(item) for _ in range(_NONCES)), key=lambda found: len(found[1])
            )
            try:
                result = checking.check(asked, item.sealed, self._answer(item, asked), weights=self._weights)
            except PalmTorchError:
                accused: set[Place | None] = {*broken}
            else:
                accused = {finding.place for finding in result.inconsistent}
            checked.append(len(broken))
            noticed.append(len(broken & accused))
            wronged += len(accused - broken)
        return Counted(tuple(checked), tuple(noticed), wronged)

    def audit(self, shown: Sequence[Shown], draws: int) -> Audited:
        """Audits some commitments in turn, each time with a fresh nonce.

        Args:
            shown: The commitments.
            draws: How many audits.
        """
        outcomes: list[Outcome] = []
        margins, nbytes, spent = [0.0], 0, 0.0
        broken = seen = wronged = 0
        for number in range(draws):
            item = shown[number % len(shown)]
            asked = self._request(item, self.queries)
            answer = self._answer(item, asked)
            nbytes = nbytes or len(answer.encode())
            began = time.process_time()
            try:
                result = checking.check(asked, item.sealed, answer, weights=self._weights)
            except PalmTorchError:
                outcomes.append("refused")
            else:
                outcomes.append("consistent" if result.consistent else "inconsistent")
                margins.append(result.margin or 0.0)
                accused = {finding.place for finding in result.inconsistent}
                wrong = self._broken(item.claim, result.places)
                broken += len(wrong)
                seen += len(wrong & accused)
                wronged += len(accused - wrong)
            spent += time.process_time() - began
        return Audited(
            outcomes=tuple(outcomes),
            broken=broken,
            seen=seen,
            wronged=wronged,
            margin=max(margins),
            seconds=spent,
            nbytes=nbytes,
        )

    def _request(self, item: Shown, queries: int) -> AuditRequest:
        return request.draw(item.sealed, self._geometry, claims=None, queries=queries, weights=self.drawn)

    def _drawn_broken(self, item: Shown) -> tuple[AuditRequest, set[Place]]:
        """Returns a request for many places, and the broken ones among them."""
        asked = self._request(item, PLACES)
        context = trace.decode(item.sealed, what="sealed context")
        return asked, self._broken(item.claim, challenge.asked(asked, context).places)

    def _broken(self, claim: Claim, places: Sequence[Place]) -> set[Place]:
        """Returns those places that the attack says that it breaks."""
        kinds = [(part.kind, part.number - 1 if part.kind == "block" else 0) for part in self._parts]
        return {place for place in places if claim.broken(*kinds[place.part], place.token)}

    def _answer(self, item: Shown, asked: Any) -> Any:  # noqa: ANN401 (a request, and its answer)
        if item.claim.sealed is None:
            return item.proof.answer(asked, decoding=DECODING)
        own = replace(asked, trace=item.proof.root)  # the prover has nothing that answers this request
        return replace(item.proof.answer(own, decoding=DECODING), request=asked.digest)

    def _commit(self, served: Served) -> Proof:
        proof = committed.commit(served, model=self._world.model, root=self._weights.root)
        proof.bind_tokens(served.tokens)
        return proof
