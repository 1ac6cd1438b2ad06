"""The evidence bundle: one canonical JSON file with everything a verifier needs beside its own choices.

The bundle carries raw hardware evidence, never somebody's verdict on it. Statements and log entries are
carried as the bytes that were hashed, in base64, and are not re-serialised. A decoder accepts exactly
what `Bundle.encode` makes, within the limits below.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from palm_torch import codec
from palm_torch.digest import Digest, sha256_digest
from palm_torch.dsse import Envelope
from palm_torch.encoding import MAX_INTEGER, encode_json
from palm_torch.errors import EncodingError, EvidenceError, PalmTorchError, SealError
from palm_torch.files import read_bounded, write_atomically
from palm_torch.statement import MAX_STATEMENT_BYTES

MEDIA_TYPE: Final = "application/vnd.palm-torch.evidence+json;version=1"
SUFFIX: Final = ".palm.json"
SIMULATED_SUFFIX: Final = ".simulated.palm.json"

RECEIPT_START: Final = b'{"payload":'
"""How a receipt's canonical bytes begin, and no bundle's."""

MAX_BUNDLE_BYTES: Final = 64 << 20
MAX_QUOTE_BYTES: Final = 16 << 10
MAX_LOG_ENTRIES: Final = 100_000
MAX_LOG_ENTRY_BYTES: Final = 1 << 20
MAX_SESSION_KEY_BYTES: Final = 256
MAX_GPUS: Final = 64
MAX_RIMS: Final = 16
MAX_RIM_BYTES: Final = 256 << 10
MAX_OCSP_ANSWERS: Final = 64
MAX_OCSP_ANSWER_BYTES: Final = 16 << 10
MAX_GPU_CRLS: Final = 16
MAX_GPU_CRL_BYTES: Final = 1 << 20
MAX_SEGMENTS: Final = 1_000
MAX_TIMESTAMP_BYTES: Final = 64 << 10
MAX_BOOT_LOG_BYTES: Final = 1 << 20
MAX_REGISTER_LOG_DIGESTS: Final = 200_000
REGISTER_DIGEST_BYTES: Final = 48
MIN_NONCE_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """Whom the evidence answers.

    Attributes:
        kind: ``challenged`` by a verifier's request file, or ``unchallenged``.
        nonce: SHA-256 of the request file, or 32 random bytes of the session's own.
    """

    kind: Literal["challenged", "unchallenged"]
    nonce: bytes

    def __post_init__(self) -> None:
        """Refuses nonces of another length."""
        if len(self.nonce) != MIN_NONCE_BYTES:
            raise EncodingError(f"nonce: expected {MIN_NONCE_BYTES} bytes, got {len(self.nonce)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEvidence:
    """Raw evidence of one GPU: SPDM report, and certificates in DER, leaf first, concatenated."""

    evidence: bytes
    chain: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceManifest:
    """What the maker of GPUs says that a driver, or the firmware image of a board, measures to.

    Attributes:
        id: Name under which the maker keeps it, as whoever fetched it says; None if nobody says, which a
            verifier's own may have. The document does not name the board that it is for, this name does;
            nobody signs it.
        xml: The reference integrity manifest (RIM).
    """

    id: str | None
    xml: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEndorsements:
    """What the maker of the GPUs says of them: signed by it, and not part of what a quote seals.

    Attributes:
        rims: Reference manifests.
        ocsp: Answers about the status of certificates, DER.
        crls: Revocation lists, DER.
    """

    rims: tuple[ReferenceManifest, ...]
    ocsp: tuple[bytes, ...]
    crls: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Keeps each kind within its limits; nothing at all is spelled null."""
        if not (self.rims or self.ocsp or self.crls):
            raise EncodingError("GPU endorsements: expected at least one, or null")
        for name, files, most, most_bytes in (
            ("rims", tuple(item.xml for item in self.rims), MAX_RIMS, MAX_RIM_BYTES),
            ("ocsp", self.ocsp, MAX_OCSP_ANSWERS, MAX_OCSP_ANSWER_BYTES),
            ("crls", self.crls, MAX_GPU_CRLS, MAX_GPU_CRL_BYTES),
        ):
            _at_most(name, len(files), most, "files")
            if len(set(files)) != len(files):
                raise EncodingError(f"{name}: one file is there twice")
            _at_most(name, max(map(len, files), default=0), most_bytes, "bytes each")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One sealing: a statement's bytes, the CPU quote over it, and the GPUs' evidence under that quote."""

    statement: bytes
    quote: bytes
    gpus: tuple[GpuEvidence, ...]

    def __post_init__(self) -> None:
        """Keeps each part within its limit."""
        _at_most("statement", len(self.statement), MAX_STATEMENT_BYTES, "bytes")
        _at_most("quote", len(self.quote), MAX_QUOTE_BYTES, "bytes")
        _at_most("gpus", len(self.gpus), MAX_GPUS, "GPUs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What opened a session, and shows whose key signs in it; fields as in `Bundle`."""

    attester: Literal["tdx", "snp"]
    run_id: str
    session_key: bytes
    challenge: Challenge
    register_log: tuple[bytes, ...]
    begin: Phase
    collateral: dict[str, str] | None

    def __post_init__(self) -> None:
        """Keeps each part within its limit."""
        _at_most("session_key", len(self.session_key), MAX_SESSION_KEY_BYTES, "bytes")
        _check_register_log(self.register_log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """An earlier part of the run, which ended at a checkpoint without an end quote.

    Attributes:
        session: What opened the earlier session; its collateral is None where the bundle's own serves.
        log: Its event log up to the checkpoint.
        receipt: The segment receipt that the next session resumed from.
    """

    session: Opening
    log: tuple[bytes, ...]
    receipt: Envelope

    def __post_init__(self) -> None:
        """Keeps the log within its limits."""
        _check_log(self.log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Evidence of one run.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        attester: Kind of the platform that made the quotes, ``tdx`` or ``snp``. Whether it was a real one
            follows from the root that its certificates lead to, and is not said here.
        run_id: Name of the run, part of every nonce.
        session_key: Public key of the session, DER SubjectPublicKeyInfo, ECDSA P-256.
        challenge: Whom the evidence answers.
        segments: Earlier parts of the run, oldest first; empty if it was never resumed.
        boot_log: Event log of the machine's boot (CCEL), without its filler; None where there is none. The
            begin statement names its digest.
        register_log: Digests, 48 bytes each, that extended RTMR[3] between boot and this session; empty
            where there is no such register.
        begin: Sealed before the loop started.
        log: Event log entries, each a canonical JSON document.
        end: Sealed after the loop ended.
        collateral: What the appraisal of the quotes needs, by field name; None if it has to come from
            elsewhere.
        gpu_endorsements: What the appraisal of the GPUs needs, of all sessions of the run; None if there are
            no GPUs, or it has to come from elsewhere.
        timestamp: RFC 3161 time-stamp token (DER) over `digest_to_stamp`; None if nobody asked for one.
    """

    media_type: str
    attester: Literal["tdx", "snp"]
    run_id: str
    session_key: bytes
    challenge: Challenge
    segments: tuple[Segment, ...]
    boot_log: bytes | None
    register_log: tuple[bytes, ...]
    begin: Phase
    log: tuple[bytes, ...]
    end: Phase
    collateral: dict[str, str] | None
    gpu_endorsements: GpuEndorsements | None
    timestamp: bytes | None

    def __post_init__(self) -> None:
        """Refuses unknown versions and keeps each part within its limit."""
        if self.media_type != MEDIA_TYPE:
            raise EncodingError(
                f"this version reads {MEDIA_TYPE!r}, the bundle says {self.media_type[:80]!r}"
            )
        _at_most("session_key", len(self.session_key), MAX_SESSION_KEY_BYTES, "bytes")
        _at_most("segments", len(self.segments), MAX_SEGMENTS, "segments")
        _at_most("boot_log", len(self.boot_log or b""), MAX_BOOT_LOG_BYTES, "bytes")
        _check_register_log(self.register_log)
        if self.gpu_endorsements is not None and any(rim.id is None for rim in self.gpu_endorsements.rims):
            raise EncodingError("gpu_endorsements: rims: expected the name under which each of them is kept")
        _at_most("timestamp", len(self.timestamp or b""), MAX_TIMESTAMP_BYTES, "bytes")
        _check_log(self.log)

    @property
    def opening(self) -> Opening:
        """What opened the session that sealed the bundle."""
        return Opening(
            attester=self.attester,
            run_id=self.run_id,
            session_key=self.session_key,
            challenge=self.challenge,
            register_log=self.register_log,
            begin=self.begin,
            collateral=self.collateral,
        )

    def digest_to_stamp(self) -> Digest:
        """Returns what a time-stamp token is over: SHA-256 of the bundle's bytes without a token."""
        return sha256_digest(dataclasses.replace(self, timestamp=None).encode())

    def encode(self) -> bytes:
        """Returns the bundle's bytes: canonical JSON without a trailing newline."""
        return encode_json(codec.to_json(self))


def decode(data: bytes, *, what: str = "evidence") -> Bundle:
    """Decodes a bundle, accepting exactly what `Bundle.encode` makes.

    Args:
        data: The file's bytes.
        what: Name of the file, for messages.

    Raises:
        EvidenceError: If the bytes are too many, not canonical, of an unknown version, or not a bundle.
    """
    if data.startswith(RECEIPT_START):
        raise EvidenceError(f"{what}: a receipt, not sealed evidence; `palm-torch verify` takes either")
    return codec.from_bytes(Bundle, data, what=what, max_bytes=MAX_BUNDLE_BYTES, error=EvidenceError)


def read(path: Path) -> bytes:
    """Reads an evidence file, or a receipt, without looking at it.

    Raises:
        EvidenceError: If it is missing, unreadable or larger than `MAX_BUNDLE_BYTES`.
    """
    return read_bounded(path, what="the evidence", max_bytes=MAX_BUNDLE_BYTES, error=EvidenceError)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Evidence:
    """A sealed bundle in the hands of whoever ran the session.

    Attributes:
        bundle: What goes into the file.
        simulated: Whether the attester was the simulated one; decides the file's name.
        sidecars: Files that travel beside it, such as coverage maps: suffix → what writes the file.
    """

    bundle: Bundle
    simulated: bool
    sidecars: Mapping[str, Callable[[Path], None]]

    def __repr__(self) -> str:
        """Returns one line, without the bundle's bytes."""
        kind = "simulated" if self.simulated else self.bundle.attester
        return f"<Evidence of run {self.bundle.run_id}, {kind}>"

    def save(self, path: str | Path) -> Path:
        """Writes the bundle and its sidecars, each whole or not at all.

        Args:
            path: Where to write; evidence of the simulated attester gets the suffix
                ``.simulated.palm.json`` whatever name was asked for.

        Returns:
            The path written.

        Raises:
            SealError: If the place cannot be written to; the session can save again elsewhere.
        """
        target = self._named(Path(path))
        try:
            unfit = not target.name or "\0" in str(target) or target.is_dir()
        except OSError as error:  # such as a name that is too long
            raise SealError(f"{target}: cannot write here: {error.strerror}") from error
        if unfit:
            raise SealError(f"{str(path)!r}: expected the path of a file to write, such as 'train.palm.json'")
        stem = target.name.removesuffix(SIMULATED_SUFFIX if self.simulated else SUFFIX)
        beside = {
            target.with_name(f"{stem}{suffix}"): write for suffix, write in sorted(self.sidecars.items())
        }
        new = [sidecar for sidecar in beside if not sidecar.exists()]
        try:
            for sidecar, write in beside.items():
                write(sidecar)
            write_atomically(target, [self.bundle.encode()], error=SealError)
        except PalmTorchError:
            for sidecar in new:
                with contextlib.suppress(OSError):  # never written, or where nothing can be written
                    sidecar.unlink()
            raise
        return target

    def _named(self, path: Path) -> Path:
        if not self.simulated or path.name in ("", "..") or path.name.endswith(SIMULATED_SUFFIX):
            return path
        stem = path.name.removesuffix(SUFFIX) if path.name.endswith(SUFFIX) else path.stem
        return path.with_name(stem + SIMULATED_SUFFIX)


def _check_log(log: tuple[bytes, ...]) -> None:
    _at_most("log", len(log), MAX_LOG_ENTRIES, "entries")
    _at_most("a log entry", max(map(len, log), default=0), MAX_LOG_ENTRY_BYTES, "bytes")


def _check_register_log(log: tuple[bytes, ...]) -> None:
    _at_most("register_log", len(log), MAX_REGISTER_LOG_DIGESTS, "digests")
    if any(len(digest) != REGISTER_DIGEST_BYTES for digest in log):
        raise EncodingError(f"register_log: expected digests of {REGISTER_DIGEST_BYTES} bytes each")


def _at_most(what: str, got: int, limit: int, unit: str) -> None:
    if not 0 <= got <= min(limit, MAX_INTEGER):
        raise EncodingError(f"{what}: expected at most {limit} {unit}, got {got}")
