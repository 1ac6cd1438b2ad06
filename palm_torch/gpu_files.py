"""Files in which the makers of GPUs speak of them: reference manifests, and the status of certificates.

Nothing in them needs to be trusted: each is signed under a root that the verifier pins, and dated.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from palm_torch import evidence
from palm_torch.errors import EncodingError, EvidenceError
from palm_torch.evidence import GpuEndorsements
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Sequence


def read(
    *, rims: Sequence[str | Path], ocsp: Sequence[str | Path], crls: Sequence[str | Path]
) -> GpuEndorsements | None:
    """Reads files in which the makers of GPUs speak of them, without looking at them.

    Args:
        rims: Reference manifests, XML.
        ocsp: Answers about the status of certificates, DER.
        crls: Revocation lists, DER.

    Returns:
        What was read; None for no file at all.

    Raises:
        EvidenceError: If a file is missing, unreadable or too large, or there are too many.
    """
    if not (rims or ocsp or crls):
        return None
    read = {
        kind: tuple(
            read_bounded(Path(path), max_bytes=most, what=what, error=EvidenceError) for path in paths
        )
        for kind, paths, most, what in (
            ("rims", rims, evidence.MAX_RIM_BYTES, "the reference manifest"),
            ("ocsp", ocsp, evidence.MAX_OCSP_ANSWER_BYTES, "the OCSP answer"),
            ("crls", crls, evidence.MAX_GPU_CRL_BYTES, "the revocation list"),
        )
    }
    try:
        return GpuEndorsements(**read)
    except EncodingError as error:
        raise EvidenceError(f"files about GPUs: {error}") from error
