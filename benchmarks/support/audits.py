"""Audits of what provers committed to, each with a nonce of its own, and how often they should notice."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from palm_torch.audit import checking, weights_file
from palm_torch.challenge import geometry, parts, request
from palm_torch.committing.proof import Proof
from palm_torch.errors import PalmTorchError
from support import committed
from support.world import Claim

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from support.serving import Served
    from support.world import World

Outcome: TypeAlias = Literal["consistent", "inconsistent", "refused"]

DECODING = {"do_sample": False}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a prover committed to.

    Attributes:
        claim: What it claims.
        proof: The commitment, which can be opened.
        sealed: The context that was sealed: that of `proof`, unless the prover shows an old root.
        rho: Probability that one drawn place is a broken one.
    """

    claim: Claim
    proof: Proof
    sealed: bytes
    rho: float


@dataclass(frozen=True, slots=True)
class Audited:
    """What audits of several commitments found, and should have found.

    Attributes:
        outcomes: One of each audit.
        chances: Of each audit, the probability that it notices.
        margin: The largest margin of what was found consistent.
        seconds: Of processor time in all, for checking.
        nbytes: Size of one answer.
    """

    outcomes: tuple[Outcome, ...]
    chances: tuple[float, ...]
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
        return Shown(claim, proof, sealed.context, self.rho(claim))

    def rho(self, claim: Claim) -> float:
        """Returns the probability that one drawn place is a broken one; it looks at no number."""
        shares = []
        for part in self._parts:
            first = claim.served.prompt - 1 if part.kind == "head" else 0
            places = range(first, claim.served.fed)
            block = part.number - 1 if part.kind == "block" else 0
            shares.append(sum(claim.broken(part.kind, block, at) for at in places) / len(places))
        return sum(w * share for w, share in zip(self.drawn, shares, strict=True)) / sum(self.drawn)

    def audit(self, shown: Sequence[Shown], draws: int) -> Audited:
        """Audits some commitments in turn, each time with a fresh nonce.

        Args:
            shown: The commitments.
            draws: How many audits.
        """
        outcomes: list[Outcome] = []
        chances, margins, nbytes, spent = [], [0.0], 0, 0.0
        nodes: dict[tuple[int, int, int], bytes] = {}
        for number in range(draws):
            item = shown[number % len(shown)]
            asked = request.draw(
                item.sealed, self._geometry, claims=None, queries=self.queries, weights=self.drawn
            )
            with committed.remembering(nodes):
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
            spent += time.process_time() - began
            chances.append(1 - (1 - item.rho) ** self.queries)
        return Audited(tuple(outcomes), tuple(chances), max(margins), spent, nbytes)

    def _answer(self, item: Shown, asked: Any) -> Any:  # noqa: ANN401 (a request, and its answer)
        if item.claim.sealed is None:
            return item.proof.answer(asked, decoding=DECODING)
        own = replace(asked, trace=item.proof.root)  # the prover has nothing that answers this request
        return replace(item.proof.answer(own, decoding=DECODING), request=asked.digest)

    def _commit(self, served: Served) -> Proof:
        proof = committed.commit(served, model=self._world.model, root=self._weights.root)
        proof.bind_tokens(served.tokens)
        return proof
