"""What a bundle says, as a JSON value: parsed, and believed by nobody.

Nothing is verified here. Statements, log entries and the fixed fields of the quotes are taken out of their
wrapping so that a person can read them before, or instead of, an appraisal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_torch import codec, evidence, statement
from palm_torch.appraisal import claims
from palm_torch.cvm import eventlog, gpu, platforms, timestamp
from palm_torch.encoding import Json
from palm_torch.errors import EvidenceError, prefixed
from palm_torch.evidence import Bundle
from palm_torch.result import Claim

if TYPE_CHECKING:
    from palm_torch.evidence import GpuEndorsements, GpuEvidence, Phase, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """A bundle taken apart.

    Attributes:
        bundle: The bundle.
        claims: What its end statement says; the strength of a claim is not known without an appraisal.
        document: Everything, as a JSON value under ``verified: false``.
    """

    bundle: Bundle
    claims: tuple[Claim, ...]
    document: dict[str, Json]


def inspect(data: bytes, *, what: str = "evidence") -> Inspected:
    """Takes a bundle apart without believing it.

    Args:
        data: The bundle's bytes.
        what: Name of the file, for messages.

    Raises:
        InputError: If the bundle, a statement, a log entry, a quote or a GPU's report does not parse.
    """
    bundle = evidence.decode(data, what=what)
    end = statement.decode(bundle.end.statement)
    statement.decode_begin(bundle.begin.statement)
    document: dict[str, Json] = {
        "verified": False,
        "media_type": bundle.media_type,
        "attester": bundle.attester,
        "run_id": bundle.run_id,
        "operation": end.operation,
        "challenge": {"kind": bundle.challenge.kind, "nonce": bundle.challenge.nonce.hex()},
        "session_key": bundle.session_key.hex(),
        "boot_log": _boot_log(bundle.boot_log),
        "register_log": [digest.hex() for digest in bundle.register_log],
        "segments": [_segment(item, f"segment {number}") for number, item in enumerate(bundle.segments, 1)],
        "begin": _phase(bundle.attester, bundle.begin, "begin"),
        "log": [_read(entry, f"log entry {index}") for index, entry in enumerate(bundle.log)],
        "end": _phase(bundle.attester, bundle.end, "end"),
        "collateral": list[Json](sorted(bundle.collateral or {})),
        "gpu_endorsements": _gpu_endorsements(bundle.gpu_endorsements),
        "timestamp": None if bundle.timestamp is None else _timestamp(bundle.timestamp, bundle),
    }
    return Inspected(bundle=bundle, claims=claims.claims_of(end, "code"), document=document)


def _boot_log(log: bytes | None) -> Json:
    """Returns the events; where the digest is not over the data, the data is what somebody says it was."""
    if log is None:
        return None
    return [
        {
            "register": "mrtd" if event.register == 0 else f"rtmr{event.register - 1}",
            "type": f"{event.type:#x}",
            "digest": event.digest.hex(),
            "data": event.data.hex(),
            "data_is_measured": event.data_is_measured,
        }
        for event in eventlog.parse(log)
    ]


def _segment(segment: Segment, name: str) -> Json:
    return {
        "run_id": segment.session.run_id,
        "challenge": {
            "kind": segment.session.challenge.kind,
            "nonce": segment.session.challenge.nonce.hex(),
        },
        "session_key": segment.session.session_key.hex(),
        "begin": _phase(segment.session.attester, segment.session.begin, f"{name}: begin"),
        "log": [_read(entry, f"{name}: log entry {index}") for index, entry in enumerate(segment.log)],
        "receipt": _read(segment.receipt.payload, f"{name}: receipt"),
        "collateral": list[Json](sorted(segment.session.collateral or {})),
    }


def _timestamp(token: bytes, bundle: Bundle) -> Json:
    info = timestamp.look_into(token)
    return {
        "time": info.time.isoformat(),
        "accuracy": timestamp.accuracy_in_words(info.accuracy),
        "serial": str(info.serial),
        "over": f"sha256:{info.imprint.hex()}",
        "over_this_file": info.imprint == bundle.digest_to_stamp().value,
        "bytes": len(token),
    }


def _phase(attester: platforms.Kind, phase: Phase, name: str) -> Json:
    shown = platforms.shown(attester, phase.quote)
    return {
        "statement": _read(phase.statement, f"{name} statement"),
        "quote_bytes": len(phase.quote),
        "registers": {register: value.hex() for register, value in shown.items()},
        "gpus": [_gpu(item, f"{name}: GPU {number}") for number, item in enumerate(phase.gpus)],
    }


def _gpu(found: GpuEvidence, name: str) -> Json:
    with prefixed(name):
        return dict[str, Json](gpu.look_into(found.evidence, found.chain))


def _gpu_endorsements(found: GpuEndorsements | None) -> Json:
    if found is None:
        return None
    return {
        "rims": [rim.id for rim in found.rims],
        "ocsp": len(found.ocsp),
        "crls": len(found.crls),
    }


def _read(data: bytes, what: str) -> Json:
    return codec.parse(data, what=what, max_bytes=statement.MAX_STATEMENT_BYTES, error=EvidenceError)
