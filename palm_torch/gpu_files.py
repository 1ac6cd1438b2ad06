"""Files in which NVIDIA speaks of GPUs: reference manifests, status of certificates, tokens of its service.

Nothing in the first two needs to be trusted: each is signed under a root that the verifier pins, and dated.
Tokens are somebody's opinion: see `palm_torch.appraisal.opinions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch import evidence
from palm_torch.cvm import gpu_names
from palm_torch.errors import EncodingError, EvidenceError, PolicyError
from palm_torch.evidence import GpuEndorsements, ReferenceManifest
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_TOKENS: Final = 128
MAX_TOKEN_BYTES: Final = 1 << 20
MAX_KEY_SET_BYTES: Final = 1 << 20

_RIM_SUFFIXES: Final = (".xml", ".swidtag")
_RIM_START: Final = "NV_"
_EXAMPLE: Final = "NV_GPU_VBIOS_1010_0200_882_96009F0001"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a verifier holds of NVIDIA's attestation service, unread.

    Attributes:
        files: Name of a file and its bytes, a detached EAT bundle.
        keys: The service's keys, a JSON Web Key Set: its bytes.
    """

    files: tuple[tuple[str, bytes], ...]
    keys: bytes


def read(
    *,
    rims: Sequence[str | Path],
    ocsp: Sequence[str | Path],
    crls: Sequence[str | Path],
    travel: bool = False,
) -> GpuEndorsements | None:
    """Reads files in which the makers of GPUs speak of them, without looking at them.

    Args:
        rims: Reference manifests, XML; see `split_rim`.
        ocsp: Answers about the status of certificates, DER.
        crls: Revocation lists, DER.
        travel: Whether they shall travel with evidence, which names every manifest.

    Returns:
        What was read; None for no file at all.

    Raises:
        EvidenceError: If a file is missing, unreadable or too large, there are too many, or a manifest has no
            name and needs one.
    """
    if not (rims or ocsp or crls):
        return None
    named = [split_rim(given) for given in rims]
    for rim_id, path in named if travel else ():
        if rim_id is None:
            raise EvidenceError(
                f"{path}: expected a reference manifest under NVIDIA's name for it, which says for which "
                f"board it is: call the file so, or give NAME=FILE, such as {_EXAMPLE}={path.name}"
            )
    manifests = _read([path for _, path in named], evidence.MAX_RIM_BYTES, "the reference manifest")
    try:
        return GpuEndorsements(
            rims=tuple(
                ReferenceManifest(id=rim_id, xml=xml)
                for (rim_id, _), xml in zip(named, manifests, strict=True)
            ),
            ocsp=_read(ocsp, evidence.MAX_OCSP_ANSWER_BYTES, "the OCSP answer"),
            crls=_read(crls, evidence.MAX_GPU_CRL_BYTES, "the revocation list"),
        )
    except EncodingError as error:
        raise EvidenceError(f"files about GPUs: {error}") from error


def split_rim(given: str | Path) -> tuple[str | None, Path]:
    """Returns the name under which NVIDIA keeps a manifest, None if nobody says it, and the file.

    The document does not say for which board it is; its name does.

    Args:
        given: ``NAME=FILE``, such as ``NV_GPU_VBIOS_1010_0200_882_96009F0001=vbios.xml``; or ``FILE`` alone,
            which says the name if the file is called so, with or without ``.xml`` or ``.swidtag``.

    Raises:
        EvidenceError: If something that begins like a name, and stands before ``=``, is none.
    """
    text = str(given)
    name, equals, file = text.partition("=")
    if equals and name.startswith(_RIM_START):
        if not gpu_names.is_rim_id(name):
            raise EvidenceError(
                f"{text[:200]!r}: expected before '=' the name that NVIDIA keeps the manifest under, as "
                f"{_EXAMPLE}, got {name[:120]!r}"
            )
        return name, Path(file)
    path = Path(text)
    name = path.name
    for suffix in _RIM_SUFFIXES:
        name = name.removesuffix(suffix)
    return (name if gpu_names.is_rim_id(name) else None), path


def absolute_rim(given: str) -> str:
    """Returns what names the same manifest from any folder; see `split_rim`.

    Raises:
        EvidenceError: As there.
    """
    rim_id, path = split_rim(given)
    return str(path.absolute()) if rim_id is None else f"{rim_id}={path.absolute()}"


def read_tokens(*, nras: Sequence[str | Path], jwks: str | Path | None) -> Tokens | None:
    """Reads tokens of NVIDIA's attestation service, and its keys, without looking at them.

    Args:
        nras: The tokens, detached EAT bundles, JSON.
        jwks: The service's keys, a JSON Web Key Set.

    Returns:
        What was read; None for no file at all.

    Raises:
        PolicyError: If there are tokens without keys, or keys without tokens, or the keys cannot be read.
        EvidenceError: If a token is missing, unreadable or too large, or there are too many.
    """
    if not nras and jwks is None:
        return None
    if not nras or jwks is None:
        raise PolicyError("--nras and --jwks go together: give both")
    if len(nras) > MAX_TOKENS:
        raise EvidenceError(f"expected at most {MAX_TOKENS} tokens, got {len(nras)}")
    read = _read(nras, MAX_TOKEN_BYTES, "the token of NVIDIA's attestation service")
    keys = read_bounded(Path(jwks), max_bytes=MAX_KEY_SET_BYTES, what="the key set", error=PolicyError)
    return Tokens(tuple((str(path), data) for path, data in zip(nras, read, strict=True)), keys)


def _read(paths: Sequence[str | Path], max_bytes: int, what: str) -> tuple[bytes, ...]:
    return tuple(
        read_bounded(Path(path), max_bytes=max_bytes, what=what, error=EvidenceError) for path in paths
    )
