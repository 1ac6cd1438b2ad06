"""What a session's two quotes seal, recomputed from the evidence.

Nothing here appraises a platform: quotes come in verified. The begin quote seals who opened the session,
the end quote seals what it led to, and the runtime register follows the event log from one to the other.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from palm_torch import codec, evidence, statement
from palm_torch.commit import history
from palm_torch.cvm import binding, eventlog, platforms
from palm_torch.digest import SHA256, Digest, sha256_digest
from palm_torch.errors import BindingError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.cvm.platforms import Verified
    from palm_torch.evidence import Bundle, Challenge, GpuEvidence, Opening
    from palm_torch.statement import Begin

ENTRY_KEYS: Final = {"seq", "type", "payload"}
"""What every entry of an event log holds: its place, its kind, and what happened."""


def read_begin(opening: Opening) -> Begin:
    """Decodes the begin statement of a session; what it says is another question.

    Raises:
        EvidenceError: If the statement does not parse.
    """
    return statement.decode_begin(opening.begin.statement)


def begin_context(opening: Opening) -> bytes:
    """Returns what the report data of a begin quote, and the nonces of its GPUs, derive from; 32 bytes."""
    root = binding.begin_claims_root(opening.begin.statement, opening.session_key)
    return context(opening.challenge, run_id=opening.run_id, phase="begin", claims_root=root)


def end_context(bundle: Bundle) -> bytes:
    """Returns what the report data of an end quote, and the nonces of its GPUs, derive from; 32 bytes."""
    root = end_claims_root(bundle)
    return context(bundle.challenge, run_id=bundle.run_id, phase="end", claims_root=root)


def end_claims_root(bundle: Bundle) -> bytes:
    """Returns the claims root that the end quote of sealed evidence commits to; 32 bytes."""
    return binding.end_claims_root(
        bundle.end.statement,
        history.root_of(bundle.log),
        len(bundle.log),
        bundle.session_key,
        bundle.begin.quote,
    )


def check_begin(opening: Opening, begin: Begin, quote: Verified) -> None:
    """Checks that a begin quote seals a session: challenge, run, begin statement, key and register.

    Args:
        opening: What opened the session.
        begin: Its begin statement, from `read_begin`.
        quote: Its begin quote, verified.

    Raises:
        BindingError: If it seals something else, or a begin statement of another session.
    """
    expected = _sealed(begin_context(opening), opening.begin.gpus)
    binding.check_report_data(quote.report_data, expected, what="begin quote")
    if begin.run_id != opening.run_id:
        raise BindingError(f"run {opening.run_id!r:.80}, but the begin statement is of {begin.run_id!r:.80}")
    challenge = opening.challenge
    if begin.request != (Digest(SHA256, challenge.nonce) if challenge.kind == "challenged" else None):
        raise BindingError("the begin statement names another request than the one it travels with")
    _check_register(begin.register, opening.register_log, quote)


def check_end(bundle: Bundle, quote: Verified) -> None:
    """Checks that an end quote seals a bundle: end statement, event log, and the begin quote itself.

    Args:
        bundle: The evidence.
        quote: Its end quote, verified.

    Raises:
        BindingError: If it seals something else.
    """
    expected = _sealed(end_context(bundle), bundle.end.gpus)
    binding.check_report_data(quote.report_data, expected, what="end quote")


def check_log(bundle: Bundle, begin: Begin, quotes: tuple[Verified, Verified]) -> str:
    """Checks that the runtime register, if the session could extend one, followed its event log.

    Args:
        bundle: The evidence; its end quote seals the root of the log (`check_end`).
        begin: Its begin statement, which says whether the session could extend a register.
        quotes: Begin and end quote, verified.

    Returns:
        What was checked, in words.

    Raises:
        EvidenceError: If an entry does not parse.
        BindingError: If the register went another way.
    """
    read_log(bundle.log)
    before, after = (quote.runtime_register for quote in quotes)
    said = f"{len(bundle.log)} entries in order"
    if before is None:
        return f"{said}, their root sealed; a machine of this kind has no runtime register"
    if begin.register is None:
        if after != before:
            raise BindingError("RTMR[3] changed during a session that could not extend it")
        return f"{said}, their root sealed; the session could not extend RTMR[3], which stayed as it was"
    if after != replayed(before, bundle.log):
        raise BindingError(
            "RTMR[3] of the end quote does not follow from its value at begin and the event log"
        )
    return f"{said}, RTMR[3] replays"


def check_boot_log(bundle: Bundle, begin: Begin, quotes: tuple[Verified, Verified]) -> None:
    """Checks that a boot log is the one which the session saw, and leads to the registers of both quotes.

    Args:
        bundle: The evidence, with or without a boot log.
        begin: Its begin statement.
        quotes: Begin and end quote, verified.

    Raises:
        EvidenceError: If the log does not parse.
        BindingError: If it is another one, is missing, or leads elsewhere.
    """
    log = bundle.boot_log
    if begin.boot_log != (None if log is None else sha256_digest(log)):
        raise BindingError("the begin statement names another boot log than the one it travels with")
    if log is None:
        return
    for quote in quotes:
        runtime = platforms.check_boot_log(log, quote)
        if bundle.register_log[: len(runtime)] != runtime:
            raise BindingError("the register log does not begin with what the boot extended RTMR[3] with")


def read_log(log: Sequence[bytes]) -> tuple[dict[str, Any], ...]:
    """Decodes the entries of an event log: each an object with its place, its kind and its payload.

    Raises:
        EvidenceError: If an entry is not canonical JSON, out of place, or anything else.
    """
    entries = []
    for index, entry in enumerate(log):
        document = codec.parse(
            entry, what=f"log entry {index}", max_bytes=evidence.MAX_LOG_ENTRY_BYTES, error=EvidenceError
        )
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
    return _sealed(context(challenge, run_id=run_id, phase=phase, claims_root=claims_root), gpus)


def context(challenge: Challenge, *, run_id: str, phase: binding.Phase, claims_root: bytes) -> bytes:
    """Returns what the nonces of GPUs, and the report data of a quote, derive from; see `report_data`."""
    return binding.context(
        nonce=challenge.nonce,
        challenged=challenge.kind == "challenged",
        run_id=run_id,
        phase=phase,
        claims_root=claims_root,
    )


def _sealed(ctx: bytes, gpus: Sequence[GpuEvidence]) -> bytes:
    return binding.report_data(ctx, binding.gpu_hash([(gpu.evidence, gpu.chain) for gpu in gpus]))


def _check_register(named: str | None, log: Sequence[bytes], quote: Verified) -> None:
    found = quote.runtime_register
    if found is None:
        if named is not None or log:
            raise BindingError("a runtime register is spoken of, but a machine of this kind has none")
        return
    eventlog.check_runtime_register(found, log)
    if named is not None and named != found.hex():
        raise BindingError("RTMR[3] of the begin quote is not the one the begin statement names")
