"""What a request binds of sealed evidence and of receipts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import answers_at_hand

from palm_torch import receipt, statement
from palm_torch.challenge import sealed
from palm_torch.cvm import binding
from palm_torch.sessions import seals

if TYPE_CHECKING:
    from workshop import GoodRun


def test_evidence_is_named_by_what_its_last_quote_commits_to(good: GoodRun) -> None:
    found = sealed.of_evidence(good.bundle)
    context = seals.context(
        good.bundle.challenge, run_id=good.bundle.run_id, phase="end", claims_root=found.value
    )
    assert context == seals.end_context(good.bundle)
    assert found.algorithm == "palm-sha256"
    assert len(found.value) == binding.HASH_BYTES


def test_a_receipt_is_named_by_the_bytes_that_are_signed(good: GoodRun) -> None:
    issued = receipt.Issued(
        run_id=good.bundle.run_id,
        begin=answers_at_hand.ROOT,
        sequence=0,
        log_root=answers_at_hand.ROOT,
        log_size=1,
        code=receipt.CodeSoFar(
            source=statement.CodeSource.IMPORTED, digest=statement.code_digest(()), since=()
        ),
    )
    content = answers_at_hand.receipt_of(issued)
    found = sealed.of_receipt(content)
    assert str(found) == "sha256:" + hashlib.sha256(receipt.encode_content(content)).hexdigest()
