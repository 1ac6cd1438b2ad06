"""Receipts of answers without their closing evidence: what they leave open, and what cannot be."""

from __future__ import annotations

import answering
import pytest
from answering import chat, check, content, signed_by

from palm_torch import receipt
from palm_torch.appraisal import answer_receipts
from palm_torch.attesting.attested import attested
from palm_torch.errors import BindingError
from palm_torch.roles import Artifact, Source

pytestmark = pytest.mark.usefixtures("fresh_process", "few_sources")


def test_what_a_policy_waves_through_is_told_of_a_receipt_as_well() -> None:
    found = chat(1)
    alone = " ".join(check(found.receipts[0].receipt, found.run).not_checked)
    for words in ("model: the policy accepts any", "decoding: any", "whether this one is revoked", "salted"):
        assert words in alone
    assert "initial weights" not in alone
    strict = check(
        found.receipts[0].receipt,
        found.run,
        model=[str(content(found.receipts[0]).model)],
        choices={"do_sample": [True]},
    )
    assert "accepts any" not in " ".join(strict.not_checked)
    assert "decoding: any" not in " ".join(strict.not_checked)


def test_a_receipt_of_files_out_of_a_session_of_answers_says_that_it_is_of_no_answer() -> None:
    with attested("session", attester="simulated") as run:
        model = answering.Talker()
        run.model(model)
        answering.ask(run, model, 0)
        signed = run.receipt(response=b"no")
    assert any("of no answer" in line for line in check(signed.receipt, run).not_checked)


@pytest.mark.parametrize(("answer", "size"), [((1 << 32) - 1, 3), (3, 3), (0, 100_001)])
def test_a_number_that_no_log_has_room_for_is_refused(answer: int, size: int) -> None:
    found = chat(1)
    issued = receipt.Issued(
        **{name: getattr(content(found.receipts[0]).issued, name) for name in receipt.Issued.__slots__}
        | {"log_size": size}
    )
    bent = signed_by(found.run, found.receipts[0], answer=answer, issued=issued)
    with pytest.raises(BindingError, match=f"answer {answer}: expected that many answers"):
        check(bent, found.run)


def test_receipts_of_one_session_name_one_tokenizer() -> None:
    found = chat(2)
    first, second = map(content, found.receipts)
    other = Artifact(source=Source.MEASURED, kind="bytes", digest=first.history)
    bent = signed_by(found.run, found.receipts[1], tokenizer=other)
    said = receipt.decode_content(bent.envelope.payload)
    assert isinstance(said, receipt.AnswerReceipt)
    answer_receipts.check_order([first, second])
    with pytest.raises(BindingError, match="of different tokenizers, none and"):
        answer_receipts.check_order([first, said])
