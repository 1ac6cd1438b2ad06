"""Checking an answer to an audit: everything shown is verified, then each operation is computed again.

Whether the claims that the request names were sealed is not looked at here: whoever calls has appraised the
evidence. Specification: docs/spec/57-audit.md; bounds: docs/audit-bounds.md.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from palm_torch.audit import (
    chosen,
    findings,
    opened,
    part_checks,
    spoken,
    unseen,
    weights_file,
    weights_opened,
)
from palm_torch.audit.findings import AuditResult
from palm_torch.audit.part_checks import Shown
from palm_torch.challenge import answer as answers
from palm_torch.challenge import challenge, questions, weights_asked
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.commit import answer_facts, trace
from palm_torch.errors import BindingError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from palm_torch.audit.findings import Finding
    from palm_torch.audit.weights_file import WeightsFile
    from palm_torch.challenge.answer import AuditAnswer
    from palm_torch.challenge.challenge import Asked
    from palm_torch.challenge.geometry import Geometry
    from palm_torch.challenge.request import AuditRequest
    from palm_torch.challenge.tokens import Tokens
    from palm_torch.commit.salted import SaltedOpening
    from palm_torch.commit.trace import Context
    from palm_torch.commit.weights_commitment import WeightsCommitment

_HEAD: Final = "lm_head.weight"


def check(
    request: AuditRequest,
    context: bytes,
    answer: AuditAnswer,
    *,
    weights: WeightsFile | None = None,
    spoken_openings: Sequence[SaltedOpening] = (),
    decoding: dict[str, Any] | None = None,
) -> AuditResult:
    """Checks an answer, and returns what was found.

    Algorithm:
        1. The context has the root that the request names, and is well formed. *(Stops: another trace.)*
        2. Places follow from the request and the context. *(Stops: a prover who chooses what is looked at.)*
        3. The answer is one to this request, and opens exactly what the request asks. *(Stops: openings left
           out, or of what suits.)*
        4. The ids of the tokens are those that the trace binds; parameters of decoding too, if it binds any.
           What is opened of question and answer has the same ids.
        5. Every opening is checked against the trace root.
        6. Weights at hand have the root that the trace names; opened ones are checked against it.
        7. At each place each operation is computed from opened inputs, and compared with the opened output.

    Args:
        request: What was asked; the nonce is the verifier's own.
        context: The bytes of the trace's context.
        answer: What the prover shows.
        weights: The model's weights, from `weights_at_hand`; None if the answer opens what is needed.
        spoken_openings: Openings of question and answer, from whoever may know them.
        decoding: How tokens were chosen, from a receipt that was accepted; None if only the answer says it.

    Raises:
        RejectedError: At steps 1 to 6: something is not what the roots say.
        DataError: If the trace is not one that can be audited so, or no bounds are known for it.
        EvidenceError: If something that is shown is malformed.
        MissingExtraError: If the trace needs the extra ``kzg``.
    """
    decoded, asked = _asked(request, context)  # 1, 2
    wanted = questions.questions(request, decoded, asked)
    answers.check_asked(answer, request, wanted, decoded)  # 3
    ids = _tokens(answer, decoded, asked)  # 4
    decoding = _decoding(answer, decoded, decoding)
    for opening in spoken_openings:
        spoken.check(opening, decoded, ids)
    if asked.extents.batch > 1 and (decoding or {}).get("num_beams") not in (None, 1):
        raise DataError(
            "decoding: num_beams: expected 1, as beams exchange what was computed before among the sequences "
            "of a batch: no audit follows them"
        )
    rows = opened.verified(request.trace, decoded, wanted, answer.openings)  # 5
    shown = Shown(
        geometry=request.geometry,
        asked=asked,
        opened=rows,
        weights=weights or _weights(request, decoded, asked, answer, ids),  # 6
        drawn=weights is None,
        tokens=ids,
        environment=decoded.environment,
        spoken=frozenset(opening.role for opening in spoken_openings),
    )
    if weights is not None and decoded.model not in (None, weights.root):
        raise BindingError(
            f"weights: expected the root {decoded.model}, which the trace names, got {weights.root}"
        )
    found = tuple(_findings(shown, decoding))  # 7
    return AuditResult(
        media_type=findings.MEDIA_TYPE,
        request=request.digest,
        trace=request.trace,
        sealed=request.claims is not None,
        places=asked.places,
        whole=tuple(asked.parts[number].name for number in asked.whole),
        findings=found,
        detection=findings.detection(len(asked.places)),
        not_checked=tuple(unseen.words(request, decoded, shown, found)),
    )


def weights_at_hand(
    request: AuditRequest,
    context: bytes,
    paths: Sequence[Path],
    *,
    like: WeightsCommitment | None = None,
) -> WeightsFile:
    """Reads the weights that an audit needs, and checks that they are those that the trace names.

    Args:
        request: The request.
        context: The bytes of the trace's context.
        paths: Safetensors files, indices or folders.
        like: A list of all tensors and their roots, which spares hashing those that are not needed.

    Raises:
        BindingError: If the context is another trace's.
        ArtifactError: If the weights are others.
        DataError: If a file is missing, malformed, or of another model than the request describes.
    """
    decoded, asked = _asked(request, context)
    parts = {place.part for place in asked.places} | set(asked.whole)
    needed = {name for number in parts for name in asked.parts[number].weights.values()}
    tied = [(_HEAD, _embedding(request.geometry))] if request.geometry.tied else []
    return weights_file.read(paths, needed, root=decoded.model, tied=tied, like=like)


def _asked(request: AuditRequest, context: bytes) -> tuple[Context, Asked]:
    if (found := trace.root(context)) != request.trace:
        raise BindingError(f"trace context: expected the root {request.trace}, got {found}: another trace's")
    decoded = trace.decode(context, what="trace context")
    return decoded, challenge.asked(request, decoded)


def _embedding(geometry: Geometry) -> str:
    return f"{geometry.prefix}{'embed_tokens' if geometry.family == 'llama' else 'wte'}.weight"


def _tokens(answer: AuditAnswer, context: Context, asked: Asked) -> Tokens | None:
    if answer.tokens is None:
        return None
    ids = audit_tokens.verify(answer.tokens, context.facts.get(audit_tokens.FACT))
    ids.require_fit(asked.extents.batch, asked.extents.tokens)
    ids.require_generated(asked.extents.given)
    return ids


def _decoding(answer: AuditAnswer, context: Context, known: dict[str, Any] | None) -> dict[str, Any] | None:
    """Returns how tokens were chosen: as the receipt says, or else the answer, which may leave it out."""
    fact = context.facts.get(answer_facts.DECODING)
    for whose, said in (("answer", answer.decoding), ("receipt", known)):
        if said is None or fact is None:
            continue
        if (found := answer_facts.decoding_digest(said)) != fact:
            raise BindingError(
                f"{whose}: decoding: expected those that the trace binds as {fact}, got others: {found}"
            )
    return answer.decoding if known is None else known


def _weights(
    request: AuditRequest, context: Context, asked: Asked, answer: AuditAnswer, ids: Tokens | None
) -> weights_opened.WeightsOpened:
    if not request.coordinates:
        raise DataError(
            "weights: the request is that of a verifier who has them: name their files, or draw a request "
            "with coordinates, for which the answer opens what is needed"
        )
    if context.model is None:
        raise DataError(
            "weights: the trace names no weights that openings could be checked against: name files of yours"
        )
    wanted = weights_asked.weights_questions(request, asked, ids)
    weights_asked.check(answer.weights, wanted, context.model)
    return weights_opened.verified(context.model, answer.weights)


def _findings(shown: Shown, decoding: dict[str, Any] | None) -> Iterator[Finding]:
    """Yields findings by part; of a part first those of all rows, then those of places."""
    asked = shown.asked
    by_part: dict[int, list[int]] = {}
    seen = set()
    for number, place in enumerate(asked.places):
        if shown.drawn or place not in seen:  # a place that comes twice has other coordinates then
            by_part.setdefault(place.part, []).append(number)
            seen.add(place)
    whole = {part: len(asked.places) + at for at, part in enumerate(asked.whole)}
    for part in asked.parts:
        if part.number in whole:
            yield from part_checks.whole_block(shown, part, whole[part.number])
        numbers = by_part.get(part.number, [])
        places = [asked.places[number] for number in numbers]
        if part.kind == "embedding":
            yield from itertools.chain.from_iterable(chosen.looked_up(shown, part, place) for place in places)
        elif numbers:
            yield from part_checks.at_places(shown, part, numbers)
        if part.kind == "head":
            yield from (chosen.chosen(shown, part, place, decoding) for place in places)
