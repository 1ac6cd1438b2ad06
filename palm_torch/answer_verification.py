"""Several receipts of answers at once: each is appraised, and together they must tell one history."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palm_torch import codec, collateral_file, files, gpu_files
from palm_torch import evidence as bundles
from palm_torch import receipt as receipt_files
from palm_torch.appraisal import answer_openings, answer_receipts, answer_traces
from palm_torch.appraisal.closing import Closing
from palm_torch.appraiser import Appraiser, read_request
from palm_torch.commit import file_list, salted, trace
from palm_torch.commit.salted import Content
from palm_torch.commit.trace import Context
from palm_torch.digest import sha256_digest
from palm_torch.encoding import Json
from palm_torch.errors import ArtifactError, BindingError, DataError, EvidenceError, InputError, prefixed
from palm_torch.receipt import AnswerReceipt
from palm_torch.result import AttestationResult, Tier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from palm_torch.appraisal import freshness as freshnesses


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedAnswer:
    """One answer whose receipt was accepted.

    Attributes:
        path: The receipt's file.
        content: What it says.
        result: What came of appraising it.
        opened: What was asked (``query``) and answered (``response``), as far as it was opened.
        trace: The context of its trace, if that was given.
    """

    path: str
    content: AnswerReceipt
    result: AttestationResult
    opened: dict[str, Content]
    trace: Context | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedAnswers:
    """Answers of one session, in order.

    Attributes:
        answers: The answers whose receipts were given, by number.
        missing: Numbers of answers between the first of the session and the last one given, of which there
            is no receipt.
    """

    answers: tuple[VerifiedAnswer, ...]
    missing: tuple[int, ...]

    @property
    def tier(self) -> Tier:
        """The lowest tier of them all."""
        affirming = all(answer.result.tier is Tier.AFFIRMING for answer in self.answers)
        return Tier.AFFIRMING if affirming else Tier.WARNING

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps them from being affirming, each reason once."""
        return tuple(dict.fromkeys(reason for answer in self.answers for reason in answer.result.warnings))

    @property
    def not_checked(self) -> tuple[str, ...]:
        """What was left open of any of them, each once."""
        return tuple(dict.fromkeys(line for answer in self.answers for line in answer.result.not_checked))

    def to_json(self) -> Json:
        """Returns everything as a JSON value; contents in base64."""
        return {
            "tier": self.tier.value,
            "missing": list[Json](self.missing),
            "answers": [
                {
                    "receipt": answer.path,
                    "answer": answer.content.answer,
                    "opened": codec.to_json(answer.opened),
                    "trace": None if answer.trace is None else str(answer.content.trace),
                    "result": answer.result.to_json(),
                }
                for answer in self.answers
            ],
        }


def verify_answers(  # noqa: PLR0913 (each is a file or a choice of the verifier's own)
    receipts: Sequence[str | Path],
    *,
    policy: str | Path,
    request: str | Path | None = None,
    closing: str | Path | None = None,
    openings: Sequence[str | Path] = (),
    traces: Sequence[str | Path] = (),
    tokenizer: str | Path | None = None,
    at: datetime | None = None,
    freshness: freshnesses.Rule = "required",
    reference_values: str | Path | None = None,
    authority_key: str | Path | None = None,
    collateral: str | Path | None = None,
    rims: Sequence[str | Path] = (),
    ocsp: Sequence[str | Path] = (),
    gpu_crls: Sequence[str | Path] = (),
) -> VerifiedAnswers:
    """Appraises receipts of answers, offline, and what else there is of them.

    1. Each receipt is accepted, as by `palm_torch.verify`, and is one of an answer.
    2. They are of one session and tell one history.
    3. Each opening shows what was asked or answered in one of them.
    4. Each trace context is that of one of them, and its facts are that answer's.
    5. The tokenizer is the one that they name.

    Args:
        receipts: Receipts of one session, in any order.
        policy: What is demanded of each.
        request: The request that the session should answer, if there was one.
        closing: The sealed evidence of the session; without it the receipts are *unclosed*, and revoked
            answers do not show.
        openings: Openings of salted commitments.
        traces: Contexts of traces.
        tokenizer: The tokenizer's file, or the folder that it was saved to.
        at: As for `palm_torch.verify`, like everything that follows.
        freshness: See `palm_torch.verify`.
        reference_values: See `palm_torch.verify`.
        authority_key: See `palm_torch.verify`.
        collateral: See `palm_torch.verify`.
        rims: See `palm_torch.verify`.
        ocsp: See `palm_torch.verify`.
        gpu_crls: See `palm_torch.verify`.

    Raises:
        InputError: If a file is missing or malformed, or a receipt is given twice or not one of an answer.
        RejectedError: If one of them must not be believed, or they do not belong together.
    """
    if not receipts:
        raise InputError("expected one receipt or more, got none")
    appraiser = Appraiser.of(
        at=at,
        freshness=freshness,
        reference_values=reference_values,
        authority_key=authority_key,
        timestamp_root=None,
        gpu_files=gpu_files.read(rims=rims, ocsp=ocsp, crls=gpu_crls),
    )
    appraise = functools.partial(
        appraiser.receipt,
        policy=appraiser.policy(Path(policy)),
        request=None if request is None else read_request(Path(request)),
        artifacts={},
        closing=None if closing is None else Closing(bundles.read(Path(closing))),
        collateral=None if collateral is None else collateral_file.read(Path(collateral)),
    )
    accepted: list[tuple[str, AnswerReceipt, AttestationResult]] = []
    for path in receipts:  # 1
        data = bundles.read(Path(path))
        content = _content(data, str(path))
        if any(content == other for _, other, _ in accepted):
            raise InputError(f"{path}: the receipt of answer {content.answer} was given twice")
        with prefixed(str(path)):
            accepted.append((str(path), content, appraise(data, what=str(path))))
    accepted.sort(key=lambda item: item[1].answer)
    contents = [content for _, content, _ in accepted]
    answer_receipts.check_order(contents)  # 2
    opened: list[dict[str, Content]] = [{} for _ in contents]
    for path in openings:  # 3
        data = files.read_bounded(
            Path(path), what="the opening", max_bytes=salted.MAX_FILE_BYTES, error=EvidenceError
        )
        place, role, shown = answer_openings.match(
            salted.decode(data, what=str(path)), contents, what=str(path)
        )
        opened[place][role] = shown
    contexts = _contexts([Path(path) for path in traces], contents)  # 4
    if tokenizer is not None:
        _check_tokenizer(Path(tokenizer), contents)  # 5
    return VerifiedAnswers(
        answers=tuple(
            VerifiedAnswer(
                path=path, content=content, result=result, opened=opened[place], trace=contexts.get(place)
            )
            for place, (path, content, result) in enumerate(accepted)
        ),
        missing=tuple(sorted({*range(contents[-1].answer)} - {content.answer for content in contents})),
    )


def _content(data: bytes, path: str) -> AnswerReceipt:
    if not receipt_files.is_receipt(data):
        raise InputError(f"{path}: expected a receipt of an answer; evidence is for palm-torch verify")
    content = receipt_files.decode_content(receipt_files.decode(data, what=path).envelope.payload, what=path)
    if not isinstance(content, AnswerReceipt):
        raise InputError(f"{path}: expected a receipt of an answer, got one of kind {content.KIND!r}")
    return content


def _contexts(paths: Sequence[Path], contents: Sequence[AnswerReceipt]) -> dict[int, Context]:
    """Returns the contexts that are given, each by the place of its answer."""
    found = {}
    for path in paths:
        data = files.read_bounded(
            path, what="the trace", max_bytes=trace.MAX_CONTEXT_BYTES, error=EvidenceError
        )
        root = trace.root(data)
        places = [place for place, content in enumerate(contents) if content.trace == root]
        if not places:
            raise BindingError(f"{path}: the trace {root}: none of {len(contents)} receipts names it")
        place = places[0]
        found[place] = answer_traces.check(data, contents[place], what=str(path))
    return found


def _check_tokenizer(path: Path, contents: Sequence[AnswerReceipt]) -> None:
    if path.is_dir():
        digest = sha256_digest(file_list.read(path, error=DataError))
    else:
        data = files.read_bounded(
            path, what="the tokenizer", max_bytes=file_list.MAX_FILE_BYTES, error=DataError
        )
        digest = sha256_digest(data)
    for content in contents:
        if content.tokenizer.digest != digest:
            raise ArtifactError(
                f"{path}: expected the tokenizer {content.tokenizer.digest or 'none'} of answer "
                f"{content.answer}, got {digest}"
            )
