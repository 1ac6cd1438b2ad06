"""Ids of tokens bound to a run, and audits of models answered from what was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import palm_torch
from palm_torch.challenge import answer as audit_answer
from palm_torch.challenge import challenge, geometry, questions, request
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.challenge.tokens import Tokens
from palm_torch.commit import trace_opening
from palm_torch.committing import bound_tokens
from palm_torch.errors import BindingError, DataError, RequestError, SessionError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.committing.proof import Proof

IDS = torch.tensor([[3, 4, 5], [6, 7, 8]])
MASK = torch.tensor([[0, 1, 1], [1, 1, 1]])


def test_ids_and_padding() -> None:
    assert bound_tokens.bind(IDS, None).tokens == Tokens(((3, 4, 5), (6, 7, 8)))
    longer = torch.cat([IDS, torch.tensor([[1], [2]])], dim=1)
    for mask in (MASK, MASK.bool(), MASK.float()):
        assert bound_tokens.bind(longer, mask).tokens == Tokens(((-1, 4, 5, 1), (6, 7, 8, 2)))
    bound = bound_tokens.bind(IDS, MASK)
    assert audit_tokens.verify(bound.opening(), bound.digest) == bound.tokens
    assert bound_tokens.bind(IDS, MASK).digest != bound.digest


@pytest.mark.parametrize(
    ("ids", "mask", "says"),
    [
        (IDS.tolist(), None, r"expected a tensor int64 \[sequences, tokens\], got list"),
        (IDS.int(), None, r"got int32 \[2, 3\]"),
        (IDS[0], None, r"got int64 \[3\]; of an output with fields, pass its `sequences`"),
        (-IDS, None, "expected ids from 0 on"),
        (IDS[:, :0], None, "expected sequences of one length"),
        (IDS, MASK.tolist(), "attention_mask: expected a tensor"),
        (IDS, MASK[0], "attention_mask: expected a tensor"),
        (IDS, MASK.double(), "attention_mask: expected a tensor"),
        (IDS, MASK[:1], r"attention_mask: expected 2 sequences of at most 3 tokens, got \[1, 3\]"),
        (IDS, torch.ones(2, 4), r"got \[2, 4\]"),
        (IDS, MASK * 2, "attention_mask: expected 0 and 1 alone"),
    ],
)
def test_what_are_no_ids(ids: Any, mask: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        bound_tokens.bind(ids, mask)


def llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=63)
    return GPT2LMHeadModel(config).eval()


def generated(model: Any, *, keep: Any = "memory", bind: bool = True) -> tuple[Proof, torch.Tensor]:
    with palm_torch.commit(model, layers="audit", keep=keep) as proof:
        out = model.generate(IDS, attention_mask=MASK, max_new_tokens=4, do_sample=False, pad_token_id=0)
    if bind:
        proof.bind_tokens(out, MASK)
    return proof, out


def check(proof: Proof, drawn: request.AuditRequest, found: audit_answer.AuditAnswer) -> None:
    asked = challenge.asked(drawn, proof.trace)
    wanted = questions.questions(drawn, proof.trace, asked)
    audit_answer.check_asked(found, drawn, wanted, proof.trace)
    for opening, question in zip(found.openings, wanted, strict=True):
        trace_opening.verify(proof.root, proof.context, question, opening)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_an_audit_of_a_model(make: Any, tmp_path: Path) -> None:
    model = make()
    proof, out = generated(model)
    said = geometry.from_config(model.config.to_dict(), what="config.json")
    drawn = request.draw(proof.context, said, claims=None, whole=1)
    drawn.save(tmp_path / "r.json")
    found = proof.answer(tmp_path / "r.json", decoding={"do_sample": False})
    check(proof, drawn, found)
    assert found.decoding == {"do_sample": False}
    assert found.tokens is not None
    ids = audit_tokens.verify(found.tokens, proof.trace.facts["tokens"])
    assert ids.rows[1] == tuple(out[1].tolist())
    assert ids.rows[0][:2] == (-1, 4)
    asked = challenge.asked(drawn, proof.trace)
    ids.require_fit(asked.extents.batch, asked.extents.tokens)
    assert proof.answer(drawn, decoding={"do_sample": False}) == found
    proof.save_trace(tmp_path / "trace")
    assert (tmp_path / "trace" / "tensors.bin").exists()


def test_a_forward_pass(tmp_path: Path) -> None:
    model = llama()
    with torch.no_grad(), palm_torch.commit(model, layers="audit", keep=tmp_path) as proof:
        model(IDS, attention_mask=MASK)
    proof.bind_tokens(IDS, MASK)
    said = geometry.from_config(model.config.to_dict(), what="config.json")
    drawn = request.draw(proof.context, said, claims=None)
    check(proof, drawn, proof.answer(drawn))


def test_ids_of_another_run_are_refused_before_the_root() -> None:
    proof, out = generated(llama(), bind=False)
    with pytest.raises(DataError, match="got 2 sequences of 3: the tensors that were captured have"):
        proof.bind_tokens(IDS)
    with pytest.raises(DataError, match="got 1 sequences of 7"):
        proof.bind_tokens(out[:1])
    proof.bind_tokens(out)
    with pytest.raises(SessionError, match="the fact 'tokens' was bound before, to another digest"):
        proof.bind_tokens(out)
    assert "tokens" in proof.trace.facts
    with pytest.raises(SessionError, match="facts are bound before the root is asked for"):
        proof.bind_tokens(out)


def test_ids_may_be_bound_before_anything_is_captured() -> None:
    model = llama()
    with torch.no_grad(), palm_torch.commit(model, layers="audit", keep="memory") as proof:
        proof.bind_tokens(IDS)
        model(IDS)
    assert "tokens" in proof.trace.facts


def test_nothing_was_kept(tmp_path: Path) -> None:
    proof, _ = generated(llama(), keep=None)
    said = geometry.from_config(llama().config.to_dict(), what="config.json")
    drawn = request.draw(proof.context, said, claims=None)
    with pytest.raises(DataError, match="nothing was kept to open"):
        proof.answer(drawn)
    with pytest.raises(DataError, match="nothing was kept to open"):
        proof.save_trace(tmp_path / "trace")


def test_requests_that_are_none_or_of_another_trace(tmp_path: Path) -> None:
    proof, _ = generated(llama())
    with pytest.raises(RequestError, match="cannot read the request"):
        proof.answer(tmp_path / "no.json")
    said = geometry.from_config(llama().config.to_dict(), what="config.json")
    other, _ = generated(llama())
    with pytest.raises(BindingError, match="request: expected one about the trace"):
        proof.answer(request.draw(other.context, said, claims=None))
