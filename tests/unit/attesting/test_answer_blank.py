"""Receipts of answers that are filled in are those that `encode_content` spells."""

from __future__ import annotations

import pytest

from palm_torch import receipt
from palm_torch.attesting.answer_blank import AnswerBlank
from palm_torch.attesting.given_answer import NO_TOKENIZER
from palm_torch.attesting.inference import salted_artifact
from palm_torch.commit import answers
from palm_torch.commit.answers import Turn
from palm_torch.digest import TAGGED_SHA256, Digest, sha256_digest
from palm_torch.receipt import AnswerReceipt, CodeSoFar, Generators, Place, RestsOn
from palm_torch.roles import Artifact, Source, Value
from palm_torch.statement import CodeSource, SourceFile, code_digest

ROOT = sha256_digest(b"weights")
TOKENIZER = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"tokenizer"))
DECODING = [{}, {"temperature": 0.5, "stop": ["%(answer)b", "é\n"], "do_sample": True}]


def code_of(*modules: str) -> CodeSoFar:
    files = tuple(SourceFile(module=name, digest=ROOT, reason=None) for name in sorted(modules))
    return CodeSoFar(source=CodeSource.IMPORTED, digest=code_digest(files), since=files)


def place_of(number: int) -> Place:
    root = sha256_digest(b"log%d" % number)
    return Place(run_id="5a" * 16, begin=ROOT, sequence=number, log_root=root, log_size=2 * number + 1)


def commitment(text: bytes) -> Digest:
    return Digest(TAGGED_SHA256, sha256_digest(text).value)


def filled(blank: AnswerBlank, content: AnswerReceipt, place: Place) -> bytes:
    query, response = content.query.digest, content.response.digest
    assert query is not None
    assert response is not None
    summed = answers.Parameters().with_answer(content.decoding.value)
    return blank.fill(
        place,
        Turn(answer=content.answer, query=query, response=response, trace=content.trace),
        rests_on=content.rests_on,
        tokenizer=content.tokenizer,
        decoding=summed.spelled,
        generators=content.generators,
        history_before=content.history_before,
        history=content.history,
    )


@pytest.mark.parametrize("modules", [(), ("a%b", 'quoted"', "é", "%(answer)b", "query")], ids=["none", "odd"])
def test_what_is_filled_in_is_what_the_format_spells(modules: tuple[str, ...]) -> None:
    code = code_of(*modules)
    blank = AnswerBlank(place_of(0), code, ROOT)
    for number, (tokenizer, decoding, trace) in enumerate(
        (tokenizer, decoding, trace)
        for tokenizer in (NO_TOKENIZER, TOKENIZER, NO_TOKENIZER)
        for decoding in DECODING
        for trace in (None, commitment(b"trace"))
    ):
        content = AnswerReceipt(
            issued=place_of(number).with_code(code),
            answer=number,
            model=ROOT,
            rests_on=RestsOn(answers=number // 2, age_s=3 * number),
            tokenizer=tokenizer,
            query=salted_artifact(commitment(b"query%d" % number)),
            response=salted_artifact(commitment(b"response%d" % number)),
            decoding=Value(source=Source.REPORTED, value=decoding),
            generators=Generators(
                since="begin" if number % 2 else "last", before=commitment(b"1"), after=commitment(b"2")
            ),
            trace=trace,
            history_before=sha256_digest(b"before"),
            history=sha256_digest(b"history"),
        )
        payload = filled(blank, content, place_of(number))
        assert payload == receipt.encode_content(content)
        assert receipt.decode_content(payload) == content
