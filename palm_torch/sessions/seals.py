"""What a session's two quotes seal, recomputed from the evidence.

Nothing here appraises a platform: quotes come in verified. The begin quote seals who opened the session,
the end quote seals what it led to, and the runtime register follows the event log from one to the other.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from palm_torch import evidence, statement
from palm_torch.commit import history
from palm_torch.cvm import binding
from palm_torch.digest import SHA256, Digest
from palm_torch.encoding import decode_json
from palm_torch.errors import BindingError, EncodingError, EvidenceError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.cvm.tdx import VerifiedQuote
    from palm_torch.evidence import Bundle, Challenge, GpuEvidence, Opening
    from palm_torch.statement import Begin

ENTRY_KEYS: Final = {"seq", "type", "payload"}
"""What every entry of an event log holds: its place, its kind, and what happened."""


def read_begin(opening: Opening) -> Begin:
    """Decodes the begin statement of a session; what it says is another question.

    Raises:
        EvidenceError: If the statement does not parse.
        PlatformError: If the platform is one that this version cannot appraise, or GPUs are spoken of.
    """
    if opening.attester != "tdx":
        raise PlatformError(f"attester {opening.attester!r}: this version appraises 'tdx'")
    if opening.begin.gpus:
        raise PlatformError("GPU evidence: this version cannot appraise it, and leaves nothing unchecked")
    begin = statement.decode_begin(opening.begin.statement)
    if begin.gpu:
        raise PlatformError("GPU state in the begin statement, and no GPU evidence that vouches for it")
    return begin


def check_begin(opening: Opening, begin: Begin, quote: VerifiedQuote) -> None:
    """Checks that a begin quote seals a session: challenge, run, begin statement, key and register.

    Args:
        opening: What opened the session.
        begin: Its begin statement, from `read_begin`.
        quote: Its begin quote, verified.

    Raises:
        BindingError: If it seals something else, or a begin statement of another session.
    """
    root = binding.begin_claims_root(opening.begin.statement, opening.session_key)
    expected = report_data(
        opening.challenge, run_id=opening.run_id, phase="begin", claims_root=root, gpus=opening.begin.gpus
    )
    binding.check_report_data(quote.quote.td_report.report_data, expected, what="begin quote")
    if begin.run_id != opening.run_id:
        raise BindingError(f"run {opening.run_id!r:.80}, but the begin statement is of {begin.run_id!r:.80}")
    challenge = opening.challenge
    if begin.request != (Digest(SHA256, challenge.nonce) if challenge.kind == "challenged" else None):
        raise BindingError("the begin statement names another request than the one it travels with")
    if begin.register != quote.quote.td_report.rt_mrs[3].hex():
        raise BindingError("RTMR[3] of the begin quote is not the one the begin statement names")


def check_end(bundle: Bundle, quote: VerifiedQuote) -> None:
    """Checks that an end quote seals a bundle: end statement, event log, and the begin quote itself.

    Args:
        bundle: The evidence.
        quote: Its end quote, verified.

    Raises:
        BindingError: If it seals something else.
    """
    root = binding.end_claims_root(
        bundle.end.statement,
        history.root_of(bundle.log),
        len(bundle.log),
        bundle.session_key,
        bundle.begin.quote,
    )
    expected = report_data(
        bundle.challenge, run_id=bundle.run_id, phase="end", claims_root=root, gpus=bundle.end.gpus
    )
    binding.check_report_data(quote.quote.td_report.report_data, expected, what="end quote")


def read_log(log: Sequence[bytes]) -> tuple[dict[str, Any], ...]:
    """Decodes the entries of an event log: each an object with its place, its kind and its payload.

    Raises:
        EvidenceError: If an entry is not canonical JSON, out of place, or anything else.
    """
    entries = []
    for index, entry in enumerate(log):
        try:
            document = decode_json(entry, what=f"log entry {index}", max_bytes=evidence.MAX_LOG_ENTRY_BYTES)
        except EncodingError as error:
            raise EvidenceError(str(error)) from error
        if (
            not isinstance(document, dict)
            or type(document.get("seq")) is not int
            or document["seq"] != index
            or document.keys() != ENTRY_KEYS
            or not isinstance(document["type"], str)
            or not isinstance(document["payload"], dict)
        ):
            raise EvidenceError(
                f"log entry {index}: expected an object with 'seq': {index}, a 'type' and a 'payload'"
            )
        entries.append(document)
    return tuple(entries)


def replayed(register: bytes, log: Sequence[bytes]) -> bytes:
    """Returns what RTMR[3] holds after an event log, 48 bytes.

    Args:
        register: What it held before, 48 bytes.
        log: The entries, in order.
    """
    for entry in log:
        register = hashlib.sha384(register + hashlib.sha384(entry).digest()).digest()
    return register


def report_data(
    challenge: Challenge,
    *,
    run_id: str,
    phase: binding.Phase,
    claims_root: bytes,
    gpus: Sequence[GpuEvidence] = (),
) -> bytes:
    """Returns the report data that a quote of a session carries, 64 bytes.

    Args:
        challenge: Whom the run answers.
        run_id: Name of the run.
        phase: Which of the session's two quotes.
        claims_root: What the quote seals, 32 bytes, as `palm_torch.cvm.binding` makes it for the phase.
        gpus: Evidence of GPUs that travels with the quote.
    """
    ctx = binding.context(
        nonce=challenge.nonce,
        challenged=challenge.kind == "challenged",
        run_id=run_id,
        phase=phase,
        claims_root=claims_root,
    )
    return binding.report_data(ctx, binding.gpu_hash([(gpu.evidence, gpu.chain) for gpu in gpus]))
