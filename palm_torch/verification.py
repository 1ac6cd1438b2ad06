"""`palm_torch.verify`: reads the files and the clock, then asks the verifier, which reads neither."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch import collateral_file
from palm_torch import evidence as bundles
from palm_torch import gpu_files as endorsement_files
from palm_torch import receipt as receipt_files
from palm_torch.appraisal.at_hand import NO_DATA
from palm_torch.appraiser import Appraiser, read_request
from palm_torch.cvm import platforms
from palm_torch.digest import sha256_digest
from palm_torch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from palm_torch.appraisal import freshness as freshnesses
    from palm_torch.data_at_hand import ByRole
    from palm_torch.evidence import Bundle
    from palm_torch.result import AttestationResult

NEW_STORE: Final = (
    "whether it was accepted before: the store of seen evidence was made just now, and remembers nothing "
    "older ({path})"
)


def verify(  # noqa: PLR0913 (each is a file or a choice of the verifier's own)
    evidence: str | Path,
    *,
    policy: str | Path,
    request: str | Path | None = None,
    at: datetime | None = None,
    freshness: freshnesses.Rule = "required",
    artifacts: Mapping[str, str | Path] | None = None,
    reference_values: str | Path | None = None,
    authority_key: str | Path | None = None,
    timestamp_root: str | Path | None = None,
    seen: str | Path | None = None,
    again: bool = False,
    closing: str | Path | None = None,
    collateral: str | Path | None = None,
    rims: Sequence[str | Path] = (),
    ocsp: Sequence[str | Path] = (),
    gpu_crls: Sequence[str | Path] = (),
    parts: Sequence[str | Path] = (),
    datasets: ByRole = None,
    coverage: Sequence[str | Path] = (),
    inclusions: Sequence[str | Path] = (),
    recompute: ByRole = None,
    salt: bytes | None = None,
    nras: Sequence[str | Path] = (),
    jwks: str | Path | None = None,
) -> AttestationResult:
    """Appraises an evidence file, or a receipt, against a policy file, offline.

    Args:
        evidence: The evidence, a ``.palm.json`` file, or a receipt, a ``.palm-receipt.json`` file.
        policy: What is demanded, a YAML file; see `palm_torch.policies.policy`.
        request: The request file that the evidence should answer, if there was one.
        at: The time of verification, aware. None takes the time of the evidence's time stamp if
            `timestamp_root` was given, and this machine's clock if not. The result repeats which.
        freshness: ``not_checked`` accepts evidence that answers a request which is not at hand.
        artifacts: Files to compare with what the evidence says of a role, such as
            ``{"model": "model.safetensors"}``.
        reference_values: Signed values of an authority, for a policy that says ``[authority]``; see
            `palm_torch.policies.reference_values`.
        authority_key: The public key of that authority, PEM.
        timestamp_root: Root certificate, PEM, of the authority that stamped the evidence (RFC 3161).
        seen: The verifier's own store of what it has accepted: each request is answered once, each session
            counts once.
        again: Accepts with `seen` the very evidence that was accepted before.
        closing: For a receipt: the sealed evidence of its session, without which it is *unclosed*.
        collateral: What the platform's vendor says of it, a file that ``palm-torch collateral fetch`` wrote;
            it takes the place of what the evidence carries, and evidence of hardware may carry none.
        rims: Reference manifests of GPUs' drivers and firmware images, XML files; if there are some, they
            take the place of those that the evidence carries. The name of a file, or text ``NAME=FILE``, says
            under which name NVIDIA keeps it, and so for which board it is.
        ocsp: Answers about the status of GPUs' certificates, DER files; likewise.
        gpu_crls: Revocation lists of GPUs' certificates, DER files; likewise.
        parts: The evidence of the other machines of a run, each with its coverage files beside it: all are
            appraised, and their claims together.
        datasets: Manifests of the data, to compare with what was delivered: a path, or paths by role, such as
            ``{"data.dataset1": "corpus.palm-manifest"}``. Coverage maps are looked up beside the evidence.
        coverage: Coverage maps that do not lie there, under any name.
        inclusions: Proofs, written by ``palm-torch coverage``, of how often one record was delivered.
        recompute: The data of these manifests, a path or paths by role: every record that was delivered is
            read and hashed again. Needs the extra that reads its format.
        salt: Secret of private data, for `recompute`.
        nras: Tokens of NVIDIA's attestation service about GPUs of this evidence, JSON files. They decide
            nothing, and are repeated in the result as its opinions; one that is not genuine, not in force,
            about something else or unfavourable is an error.
        jwks: The keys of that service, a JSON Web Key Set; goes with `nras`.

    Returns:
        The result: what was checked, what was not, the reservations, and every claim with its strength.

    Raises:
        InputError: If a file is missing or malformed; nothing was appraised.
        RejectedError: If the evidence must not be believed.
    """
    appraiser = Appraiser.of(
        at=at,
        freshness=freshness,
        reference_values=reference_values,
        authority_key=authority_key,
        timestamp_root=timestamp_root,
        gpu_files=endorsement_files.read(rims=rims, ocsp=ocsp, crls=gpu_crls),
    )
    tokens = endorsement_files.read_tokens(nras=nras, jwks=jwks)
    given = None if collateral is None else collateral_file.read(Path(collateral))
    of_data = NO_DATA
    if datasets or coverage or inclusions or recompute or salt is not None:
        from palm_torch import data_at_hand  # noqa: PLC0415 (many verifiers hold none; without, it starts faster)

        of_data = data_at_hand.gather(
            datasets=datasets, coverage=coverage, inclusions=inclusions, recompute=recompute, salt=salt
        )
    data = bundles.read(Path(evidence))
    if receipt_files.is_receipt(data):
        if of_data != NO_DATA:
            raise InputError(f"{evidence}: a receipt; manifests, maps and proofs are for sealed evidence")
        if timestamp_root is not None or seen is not None or tokens is not None:
            raise InputError(
                f"{evidence}: a receipt; time stamps, the store and opinions are for sealed evidence"
            )
        return appraiser.receipt(
            data,
            what=str(evidence),
            policy=appraiser.policy(Path(policy)),
            request=None if request is None else read_request(Path(request)),
            artifacts=_paths(artifacts),
            closing=None if closing is None else bundles.read(Path(closing)),
            collateral=given,
        )
    if closing is not None:
        raise InputError(f"{evidence}: sealed evidence; --closing goes with a receipt")
    demanded = appraiser.policy(Path(policy))
    asked = None if request is None else read_request(Path(request))
    appraise = functools.partial(
        appraiser.sealed,
        policy=demanded,
        request=asked,
        artifacts=_paths(artifacts),
        collateral=given,
        data_at_hand=of_data,
        tokens=tokens,
    )
    if parts and (coverage or inclusions):
        raise InputError(
            f"{evidence}: a run in parts: each part's coverage maps lie beside it, and a proof is of one "
            "part: leave out --coverage and --inclusion, or verify that part alone"
        )
    if parts:
        from palm_torch import part_files  # noqa: PLC0415 (most runs have one part; without, it starts faster)

        result, accepted = part_files.verify(
            [Path(evidence), *map(Path, parts)],
            appraise=lambda part, what, whole: appraise(part, what=what, whole=whole),
        )
    else:
        result = appraise(data, what=str(evidence))
        accepted = [(bundles.decode(data), result)]
    if seen is not None and record(accepted, Path(seen), at=appraiser.now, again=again, one=bool(parts)):
        left_open = (*result.not_checked, NEW_STORE.format(path=seen))
        return dataclasses.replace(result, not_checked=left_open)
    return result


def record(
    accepted: Sequence[tuple[Bundle, AttestationResult]],
    path: Path,
    *,
    at: datetime,
    again: bool,
    one: bool = False,
) -> bool:
    """Records accepted evidence in a store, all of it or nothing.

    Args:
        accepted: Evidence and results. What counts is what the end quote seals: a signature can be spelled
            in several ways, and a time stamp added.
        path: The store.
        at: Time of verification, aware.
        again: Whether evidence that was accepted before may be accepted once more.
        one: Whether all of it is one run in parts, which answer one request together.

    Returns:
        Whether the store was made just now, so that nothing could have been in it.

    Raises:
        FreshnessError: If a request was answered before, or a run or one of its sessions was accepted before.
        InputError: If the store cannot be used.
    """
    from palm_torch.appraisal import seen as seen_store  # noqa: PLC0415 (loads SQLite: without, it starts faster)

    items = [
        seen_store.Accepted(
            nonce=bundle.challenge.nonce
            if bundle.challenge.kind == "challenged" and not (one and number)
            else None,
            digest=sha256_digest(platforms.report_data_of(bundle.attester, bundle.end.quote)),
            run_id=result.run_id,
            earlier=tuple(segment.session.run_id for segment in bundle.segments),
            checks=result.checks,
        )
        for number, (bundle, result) in enumerate(accepted)
    ]
    with seen_store.open_store(path) as store:
        store.check_and_record_all(items, at, again=again)
        return store.new


def _paths(artifacts: Mapping[str, str | Path] | None) -> dict[str, Path]:
    return {role: Path(path) for role, path in (artifacts or {}).items()}
