"""`attested`: the door to a session around a loop."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from palm_torch import collateral_file, gpu_files, request
from palm_torch.attesting import gpus, joining, operations, ranks, ranks_channel
from palm_torch.attesting.ranks_session import FollowingSession, LeadingSession
from palm_torch.attesting.session import Session
from palm_torch.cvm import attester as attesters
from palm_torch.errors import RequestError, SessionError
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from palm_torch.attesting.joining import Joined
    from palm_torch.evidence import GpuEndorsements
    from palm_torch.properties import Operation
    from palm_torch.roles import Artifact

MAX_DEADLINE_S: Final = 7 * 24 * 3600
"""Most seconds that ranks wait for one another: a week."""


def attested(  # noqa: PLR0913 (each is a file or a choice of the caller's own)
    operation: str,
    *,
    request: str | Path | None = None,
    attester: str = "auto",
    collateral: str | Path | None = None,
    rims: Sequence[str | Path] = (),
    ocsp: Sequence[str | Path] = (),
    gpu_crls: Sequence[str | Path] = (),
    gpu_collector: str = "auto",
    resume: Mapping[str, object] | None = None,
    ranks_deadline_s: float | None = None,
) -> Session | Joined:
    """Opens a session: use it in a ``with`` statement around the loop you already have.

    In a script that ``palm-torch run`` started the block is that of the session which is open already. Under
    ``torchrun`` every rank opens one: the first rank of each machine leads and seals, ``run.leads`` says
    which.

    Args:
        operation: What the block does: ``train``; ``infer`` for one answer of a model and ``session`` for
            any number in order; ``bind``, ``preprocess`` and ``distribute`` for data.
        request: A verifier's request file to answer; without one the evidence is *unchallenged*.
        attester: ``auto`` takes the machine's TEE, and the simulated one (announced on stderr) if it has
            none; ``simulated``, ``simulated-snp`` or a TEE's name asks for that one, ``simulated-gpu`` for
            simulated TDX with a simulated GPU. GPUs of NVIDIA that compute confidentially attest as well.
        collateral: What the vendor says of this platform, a file that ``palm-torch collateral fetch`` wrote:
            it travels with the evidence, and a run on TDX cannot be resumed without it. A verifier can bring
            its own, newer one.
        rims: NVIDIA's reference manifests of the GPUs' driver and firmware images, files that travel with the
            evidence. A verifier can bring its own. The name of a file, or text ``NAME=FILE``, says under
            which name NVIDIA keeps it, and so for which board it is.
        ocsp: Answers about the status of the GPUs' certificates, DER files; likewise. They are good for as
            long as they say, which may be a day.
        gpu_crls: Revocation lists of the GPUs' certificates, DER files; likewise.
        gpu_collector: Who asks this machine's GPUs: ``nvml`` is the driver's library, ``nvattest`` and
            ``nv-sdk`` are NVIDIA's tools; ``auto`` takes NVML where there is a driver.
        resume: What `Session.state_dict` returned in an earlier session, as it was saved with the checkpoint;
            the run goes on from there. None begins a run.
        ranks_deadline_s: Under ``torchrun``: seconds that ranks wait for one another when the session begins,
            before the first step, before parameters of which each has a part are gathered, and when it ends.
            A rank that is not there by then ends the session of all. None is 60, or what ``palm-torch run
            --ranks-deadline`` was given.

    Returns:
        The session; ``with`` binds it, so that ``run.log`` and ``run.evidence`` are at hand.

    Raises:
        SessionError: If the operation is unknown or not available, or not that of the session to join; or,
            when ``with`` enters a session with `resume`, not that of the checkpoint.
        RequestError: If the request is malformed, expired or for another operation.
        EvidenceError: If `resume` is not what `Session.state_dict` returned, `collateral` is no collateral
            file, or one about another kind of platform; or, when ``with`` enters the session, a file about
            GPUs does not parse, or is about none of them.
        AttesterError: If the attester or the collector asked for is not there or does not attest, or there
            are no GPUs that files about GPUs could serve.
        RejectedError: When ``with`` enters the session, of the class that fits, if a file about GPUs is not
            NVIDIA's, or not about what they run.
        SignatureError: When ``with`` enters a session with `resume`, if a signature in the checkpoint does
            not hold. Other faults are told by the other kinds of `RejectedError`: `TrustAnchorError` and
            `PlatformError` if another machine or image made it, `BindingError` if its parts do not belong
            together, `FreshnessError` if it answers another request.
        MeasurementError: Likewise, if the code is not what it was before the checkpoint.
        CoverageError: At the first steps or at the end, if the model, the optimizer or the data that the
            script loaded are not the checkpoint's.
    """
    measured = operations.available(operation)
    deadline_s = None if ranks_deadline_s is None else _deadline(ranks_deadline_s)
    if joining.offered() is not None:
        own: dict[str, object] = {
            "request": request,
            "attester": None if attester == "auto" else attester,
            "collateral": collateral,
            "rims": tuple(rims) or None,
            "ocsp": tuple(ocsp) or None,
            "gpu_crls": tuple(gpu_crls) or None,
            "gpu_collector": None if gpu_collector == "auto" else gpu_collector,
        }
        return joining.join(
            operation,
            {name: value for name, value in own.items() if value is not None},
            resume=resume,
            deadline_s=deadline_s,
        )
    return _session(
        measured,
        attester,
        gpu_collector,
        deadline_s=deadline_s or ranks_channel.DEADLINE_S,
        nonce=None if request is None else _read_request(Path(request), operation),
        collateral=None if collateral is None else collateral_file.read(Path(collateral)),
        endorsements=gpu_files.read(rims=rims, ocsp=ocsp, crls=gpu_crls, travel=True),
        resume=resume,
    )


def launched(  # noqa: PLR0913 (as `attested`)
    operation: str,
    *,
    request: str | None,
    attester: str,
    collateral: str | None,
    rims: Sequence[str] = (),
    ocsp: Sequence[str] = (),
    gpu_crls: Sequence[str] = (),
    gpu_collector: str = "auto",
    ranks_deadline_s: float | None = None,
    opened: Callable[[], Mapping[str, Artifact]],
    command: Sequence[str],
) -> Session:
    """Returns the session around a whole script, which may read its data by itself and may join it.

    Args:
        operation: As in `attested`.
        request: As in `attested`.
        attester: As in `attested`.
        collateral: As in `attested`.
        rims: As in `attested`.
        ocsp: As in `attested`.
        gpu_crls: As in `attested`.
        gpu_collector: As in `attested`.
        ranks_deadline_s: As in `attested`.
        opened: Returns the files that the script has opened, when the run ends.
        command: The script and its words, as they were given; sealed as an input of the run.

    Raises:
        SessionError: As in `attested`.
        RequestError: As in `attested`.
        EvidenceError: As in `attested`.
        AttesterError: As in `attested`.
    """
    measured = operations.available(operation)
    nonce = None if request is None else _read_request(Path(request), operation)
    given = None if collateral is None else collateral_file.read(Path(collateral))
    deadline_s = ranks_channel.DEADLINE_S if ranks_deadline_s is None else _deadline(ranks_deadline_s)
    travelling = gpu_files.read(rims=rims, ocsp=ocsp, crls=gpu_crls, travel=True)

    def make(resume: Mapping[str, object] | None) -> Session:
        return _session(
            measured,
            attester,
            gpu_collector,
            deadline_s=deadline_s,
            nonce=nonce,
            collateral=given,
            endorsements=travelling,
            resume=resume,
            opened=opened,
            command=command,
            counts_data=False,
        )

    session = make(None)
    joining.offer(session, make)
    return session


def _session(
    operation: Operation,
    attester: str,
    gpu_collector: str,
    *,
    deadline_s: float = ranks_channel.DEADLINE_S,
    endorsements: GpuEndorsements | None,
    **arguments: Any,  # noqa: ANN401 (those of `Session`)
) -> Session:
    """Returns the session of this process: its own, or that of a rank among others."""
    place = ranks.place()
    found = gpus.SessionGpus(
        gpus.collector_for(attester, gpu_collector),
        endorsements=endorsements,
        required=gpu_collector != "auto",
    )
    if place is None:
        return Session(operation, attesters.select(attester), gpus=found, **arguments)
    if place.leads:
        asked = attesters.select(attester)
        return LeadingSession(operation, place, asked, gpus=found, deadline_s=deadline_s, **arguments)
    return FollowingSession(operation, place, gpus=found, deadline_s=deadline_s, **arguments)


def _deadline(seconds: float) -> float:
    if not 0 < seconds <= MAX_DEADLINE_S:
        raise SessionError(f"ranks_deadline_s: expected seconds, up to {MAX_DEADLINE_S}, got {seconds!r}")
    return float(seconds)


def _read_request(path: Path, operation: str) -> bytes:
    data = read_bounded(path, what="the request", max_bytes=request.MAX_REQUEST_BYTES, error=RequestError)
    asked = request.decode(data, what=str(path))
    if asked.operation != operation:
        raise RequestError(f"{path}: asks for {asked.operation!r}, the session is {operation!r}")
    if asked.expired(datetime.now(UTC)):
        raise RequestError(f"{path}: expired at {asked.expires}; ask the verifier for a new one")
    return request.nonce_of(data)
