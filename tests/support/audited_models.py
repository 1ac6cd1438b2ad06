"""Small language models, what they compute under a commitment, and audits of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import palm_torch
from palm_torch.audit import checking
from palm_torch.challenge import geometry, request
from palm_torch.challenge.geometry import Geometry
from palm_torch.hooks import weights as weights_roots

if TYPE_CHECKING:
    from palm_torch.audit.findings import AuditResult
    from palm_torch.challenge.request import AuditRequest

VOCABULARY = 97
GREEDY = {"do_sample": False, "pad_token_id": 0}
_LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
KINDS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_LLAMA)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_LLAMA, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**_LLAMA, head_dim=16)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**_GPT2)),
}


def model(kind: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """Returns a small model with random weights, biases among them."""
    torch.manual_seed(seed)
    made = KINDS[kind]()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
            if "norm" in name or "ln_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return made.to(dtype).eval()


def prompt(batch: int = 2, length: int = 7, padded: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ids and attention mask of a prompt whose last sequence begins with padding."""
    ids = torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(7))
    mask = torch.ones_like(ids)
    mask[-1, :padded] = 0
    return ids, mask


@dataclass
class Run:
    """What a model computed, as a prover has it, and what a verifier knows of it."""

    proof: Any
    geometry: Geometry
    weights: Path

    @property
    def context(self) -> bytes:
        return self.proof.context  # type: ignore[no-any-return]

    def ask(self, seed: int = 0, **options: Any) -> AuditRequest:
        options.setdefault("claims", None)
        return request.draw(self.context, self.geometry, nonce=seed.to_bytes(32, "big"), **options)

    def answer(self, asked: AuditRequest, **options: Any) -> Any:
        return self.proof.answer(asked, **options)

    def audit(
        self, asked: AuditRequest, *, decoding: Any = None, at_hand: bool = True, weights: Path | None = None
    ) -> AuditResult:
        own = self.weights if asked.coordinates else None
        answer = self.answer(asked, decoding=decoding, weights=own)
        read = None
        if at_hand:
            read = checking.weights_at_hand(asked, self.context, [weights or self.weights])
        return checking.check(asked, self.context, answer, weights=read)


def run(  # noqa: PLR0913 (what a run may be)
    made: Any,
    folder: Path,
    *,
    generate: bool = True,
    ids: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    named: Any = None,
    bind: torch.Tensor | bool = True,
    bound_mask: torch.Tensor | None = None,
    new: int = 5,
    name_weights: bool = True,
    facts: Any = None,
    **options: Any,
) -> Run:
    """Lets a model compute under a commitment.

    Args:
        made: The model that runs.
        folder: Where weights are saved.
        generate: Whether it generates, or is called once.
        ids: The prompt.
        mask: Its attention mask.
        named: The model that the prover names; the one that runs if None.
        bind: Whether the ids are bound, or other ids to bind.
        bound_mask: The attention mask that they are bound with; that of the prompt if None.
        new: How many tokens are generated.
        name_weights: Whether the trace names the weights.
        facts: Other facts of the trace.
        options: For `generate`.
    """
    if ids is None:
        ids, mask = prompt()
    said = made if named is None else named
    said.save_pretrained(folder)
    with palm_torch.commit(made, layers="audit", keep="memory") as proof, torch.no_grad():
        if generate:
            torch.manual_seed(3)
            options = {"do_sample": False, "max_new_tokens": new, "pad_token_id": 0, **options}
            full = made.generate(ids, attention_mask=mask, **options)
        else:
            made(ids, attention_mask=mask)
            full = ids
    measured = weights_roots.WeightsMeter().measure(weights_roots.canonical_tensors(said))
    proof.add_facts(facts or {}, model=measured.root if name_weights else None)
    if bind is not False:
        proof.bind_tokens(full if bind is True else bind, mask if bound_mask is None else bound_mask)
    described = geometry.from_config(said.config.to_dict(), what="config.json")
    return Run(proof, described, folder)
