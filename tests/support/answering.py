"""Small sessions of inference: a model that answers, its evidence and receipts checked by the verifier."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import loops
import torch
import yaml
from torch import nn

from palm_torch import dsse, receipt, statement
from palm_torch.appraisal import receipts, verifier
from palm_torch.attesting.attested import attested
from palm_torch.commit import answers
from palm_torch.hooks import source
from palm_torch.policies import policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.attesting.session import Session
    from palm_torch.attesting.signed_answer import SignedAnswer
    from palm_torch.commit.answers import Account
    from palm_torch.policies.policy import Policy
    from palm_torch.result import AttestationResult
    from palm_torch.statement import Statement

VOCABULARY = 16
DECODING = {"temperature": 0.5, "do_sample": True}


@contextlib.contextmanager
def few_sources() -> Iterator[None]:
    """Lets sessions list some of this process's modules: nothing is asked here of the thousand others."""
    listed = source.loaded_sources()
    some = tuple(item for item in listed if item.module == "__main__" or "answering" in item.module)
    with mock.patch.object(source, "loaded_sources", return_value=some):
        yield


class Talker(nn.Module):
    """A model that answers tokens with tokens; its weights fill two tiles."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.enc = nn.Parameter(torch.randn(VOCABULARY, 8, generator=generator))
        self.wide = nn.Parameter(torch.randn(300, 300, generator=generator))
        self.dec = nn.Parameter(torch.randn(8, VOCABULARY, generator=generator))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.enc[tokens] @ self.dec * self.scale

    @torch.no_grad()
    def reply(self, tokens: torch.Tensor) -> torch.Tensor:
        return self(tokens).argmax(-1)


class Chat(NamedTuple):
    """A sealed session with the receipts of its answers."""

    run: Session
    receipts: list[SignedAnswer]

    @property
    def end(self) -> Statement:
        return statement.decode(self.run.evidence.bundle.end.statement)

    @property
    def account(self) -> Account:
        return answers.account_of(self.end.claims.decoding.value)

    @property
    def closing(self) -> bytes:
        return self.run.evidence.bundle.encode()


def question(number: int) -> torch.Tensor:
    return (torch.arange(5) + number) % VOCABULARY


def ask(run: Session, model: Talker, number: int, **options: Any) -> SignedAnswer:
    """Lets the model answer, and the session sign."""
    asked = question(number)
    return run.answer(query=asked, response=model.reply(asked), decoding=DECODING, **options)


def chat(turns: int = 3, *, operation: str = "session", model: Talker | None = None, **options: Any) -> Chat:
    """Gives some answers."""
    model = model or Talker()
    with attested(operation, attester="simulated") as run:
        run.model(model, **options)
        given = [ask(run, model, number) for number in range(turns)]
    return Chat(run, given)


def rules(run: Session, **claims: Any) -> Policy:
    """Returns a policy for a session's machine: any model, no tokenizer, unless said otherwise."""
    required = {"property": run.operation, "model": ["any"], "tokenizer": ["none"]}
    document = {**yaml.safe_load(loops.policy_text(run)), "claims": {**required, **claims}}
    return policy.parse(yaml.safe_dump(document).encode())


def verify(run: Session, **claims: Any) -> AttestationResult:
    """Lets the verifier judge a session's evidence."""
    data = run.evidence.bundle.encode()
    return verifier.verify(data, policy=rules(run, **claims), at=datetime.now(UTC))


def check(
    found: receipt.Receipt, run: Session, *, closing: bytes | None = None, **claims: Any
) -> AttestationResult:
    """Lets the verifier judge a receipt, encoded and decoded, on the machine of a session."""
    again = receipt.decode(found.encode())
    return receipts.verify(again, policy=rules(run, **claims), at=datetime.now(UTC), closing=closing)


def content(found: SignedAnswer) -> receipt.AnswerReceipt:
    """Returns what a receipt says."""
    said = receipt.decode_content(found.receipt.envelope.payload)
    assert isinstance(said, receipt.AnswerReceipt)
    return said


def signed_by(run: Session, found: SignedAnswer, **changes: Any) -> receipt.Receipt:
    """Returns a receipt with other content under the session's own key, as attested code never would."""
    payload = receipt.encode_content(dataclasses.replace(content(found), **changes))
    key = run._sealer._key
    return receipt.Receipt(
        envelope=dsse.sign(payload, payload_type=dsse.IN_TOTO_PAYLOAD, key=key), session=found.receipt.session
    )


def resealed(run: Session, **changes: Any) -> bytes:
    """Returns evidence of a session whose statement claims something else, sealed anew by its machine."""
    bundle = run.evidence.bundle
    end = statement.decode(bundle.end.statement)
    bent = dataclasses.replace(end, claims=dataclasses.replace(end.claims, **changes))
    return run._sealer.end(bent.encode()).encode()


def verify_data(data: bytes, run: Session, **claims: Any) -> AttestationResult:
    """Lets the verifier judge evidence as if it were a session's own."""
    return verifier.verify(data, policy=rules(run, **claims), at=datetime.now(UTC))
