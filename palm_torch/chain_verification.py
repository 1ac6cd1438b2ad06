"""Several evidence files at once: each is appraised, and what one run used is traced to what others made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from palm_torch import codec, collateral_file, gpu_files, statement, verification
from palm_torch import evidence as bundles
from palm_torch import receipt as receipt_files
from palm_torch import request as request_files
from palm_torch.appraisal import chain, claims
from palm_torch.appraisal.shared_sessions import Earlier
from palm_torch.appraiser import Appraiser, read_request
from palm_torch.encoding import Json
from palm_torch.errors import FreshnessError, InputError, prefixed
from palm_torch.result import AttestationResult, Tier, strength_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from palm_torch.appraisal import freshness as freshnesses
    from palm_torch.collateral_file import CollateralFile
    from palm_torch.digest import Digest
    from palm_torch.evidence import Bundle

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedChain:
    """Several pieces of evidence, each accepted, and the links between them.

    Attributes:
        tier: Affirming if every result is, all pieces hang together without a gap, and every link, of which
            there is at least one, is a hardware link or named by the policy; otherwise a warning.
        results: Name of the file → its result, in the order given.
        chain: Which run used what another one produced.
        not_checked: What was not checked of them together; what was not of each stands in its result.
    """

    tier: Tier
    results: dict[str, AttestationResult]
    chain: chain.Chain
    not_checked: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """Returns the tier, all results and the chain as a JSON value."""
        results = {name: result.to_json() for name, result in self.results.items()}
        return {
            "tier": self.tier.value,
            "results": results,
            "chain": codec.to_json(self.chain),
            "not_checked": list[Json](self.not_checked),
        }


def verify_chain(  # noqa: PLR0913 (each is a file or a choice of the verifier's own)
    evidence: Sequence[str | Path],
    *,
    policies: Sequence[str | Path],
    requests: Sequence[str | Path] = (),
    at: datetime | None = None,
    freshness: freshnesses.Rule = "required",
    reference_values: str | Path | None = None,
    authority_key: str | Path | None = None,
    timestamp_root: str | Path | None = None,
    seen: str | Path | None = None,
    again: bool = False,
    collaterals: Sequence[str | Path] = (),
    rims: Sequence[str | Path] = (),
    ocsp: Sequence[str | Path] = (),
    gpu_crls: Sequence[str | Path] = (),
) -> VerifiedChain:
    """Appraises several evidence files, and links them by the digests they share.

    Args:
        evidence: The files; each is read once.
        policies: One policy for all, or one for each in the same order.
        requests: Requests, in any order; each must be answered by one of the files.
        at: As for `palm_torch.verify`, like everything that follows.
        freshness: See `palm_torch.verify`.
        reference_values: See `palm_torch.verify`.
        authority_key: See `palm_torch.verify`.
        timestamp_root: See `palm_torch.verify`.
        seen: See `palm_torch.verify`; nothing is recorded unless all is accepted.
        again: See `palm_torch.verify`.
        collaterals: None at all, one collateral file for all, or one for each in the same order.
        rims: See `palm_torch.verify`; for all files.
        ocsp: See `palm_torch.verify`; for all files.
        gpu_crls: See `palm_torch.verify`; for all files.

    Raises:
        InputError: If a file is missing or malformed, a receipt, or given twice; or the numbers of files,
            policies and collateral files do not fit.
        FreshnessError: If a request is answered by none of the files.
        RejectedError: If one of the files must not be believed, or they go in a circle.
    """
    appraiser = Appraiser.of(
        at=at,
        freshness=freshness,
        reference_values=reference_values,
        authority_key=authority_key,
        timestamp_root=timestamp_root,
        gpu_files=gpu_files.read(rims=rims, ocsp=ocsp, crls=gpu_crls),
    )
    paths = [Path(item) for item in evidence]
    if len(policies) not in (1, len(paths)):
        raise InputError(f"expected one policy, or {len(paths)}, one for each file; got {len(policies)}")
    if len(collaterals) not in (0, 1, len(paths)):
        raise InputError(
            f"expected one collateral file, or {len(paths)}, one for each file; got {len(collaterals)}"
        )
    demanded = _for_each(paths, [appraiser.policy(Path(item)) for item in policies])
    read: list[CollateralFile | None] = [collateral_file.read(Path(item)) for item in collaterals]
    given = _for_each(paths, read) if read else [None] * len(paths)
    asked = {request_files.nonce_of(data): data for data in (read_request(Path(item)) for item in requests)}
    members: list[chain.Member] = []
    accepted: list[tuple[Bundle, AttestationResult]] = []
    for path, policy, collateral in zip(paths, demanded, given, strict=True):
        data = bundles.read(path)
        if receipt_files.is_receipt(data):
            raise InputError(f"{path}: a receipt; verify it by itself")
        bundle = bundles.decode(data, what=str(path))
        request = asked.pop(bundle.challenge.nonce, None)
        with prefixed(str(path)):
            result = appraiser.sealed(
                data, what="evidence", policy=policy, request=request, collateral=collateral
            )
        accepted.append((bundle, result))
        members.append(_member(str(path), bundle, result, claims.named(policy.claims)))
    if asked:
        raise FreshnessError(f"none of the files answers the request with SHA-256 {next(iter(asked)).hex()}")
    built = chain.build(members)
    left_open = tuple(_origins_left_open(built))
    if seen is not None and verification.record(accepted, Path(seen), at=appraiser.now, again=again):
        left_open = (*left_open, verification.NEW_STORE.format(path=seen))
    results = {str(path): result for path, (_, result) in zip(paths, accepted, strict=True)}
    return VerifiedChain(tier=_tier(results, built), results=results, chain=built, not_checked=left_open)


def _for_each(paths: Sequence[Path], items: list[_Item]) -> list[_Item]:
    return items * len(paths) if len(items) == 1 else items


def _member(
    name: str, bundle: Bundle, result: AttestationResult, named: dict[str, frozenset[Digest]]
) -> chain.Member:
    return chain.Member(
        name=name,
        statement=statement.decode(bundle.end.statement),
        strength=strength_of(simulated=result.simulated, reservations=result.reservations),
        reserved=bool(result.reservations),
        earlier=tuple(_earlier(bundle)),
        named=named,
    )


def _earlier(bundle: Bundle) -> Iterator[Earlier]:
    for segment in bundle.segments:
        content = receipt_files.decode_content(segment.receipt.payload)
        if isinstance(content, receipt_files.SegmentReceipt):
            yield Earlier(session=segment.session.run_id, steps=content.steps.taken)


def _origins_left_open(built: chain.Chain) -> Iterator[str]:
    """Yields what no evidence shows the origin of, though the verifier's own policy admits it."""
    for link in built.links:
        if link.label is chain.Label.NAMED:
            where = f"where {link.role_in} of {link.consumer} comes from"
            yield f"{where}: the policy names its digest, and no evidence"


def _tier(results: Mapping[str, AttestationResult], built: chain.Chain) -> Tier:
    affirming = (
        all(result.tier is Tier.AFFIRMING for result in results.values())
        and not built.loose
        and bool(built.links)
        and len(built.parts) == 1
        and all(link.label in (chain.Label.HARDWARE, chain.Label.NAMED) for link in built.links)
    )
    return Tier.AFFIRMING if affirming else Tier.WARNING
