"""Small models that no audit describes, what they compute under a commitment, and replays of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import palm_torch
from palm_torch.hooks import tap_targets
from palm_torch.hooks import weights as weights_roots
from palm_torch.replaying import answering, blocks, request

if TYPE_CHECKING:
    from palm_torch.challenge.answer import AuditAnswer
    from palm_torch.replaying.request import ReplayRequest
    from palm_torch.replaying.result import ReplayResult

VOCABULARY = 61
_CONFIG = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}


class Block(nn.Module):
    """A block that nobody else has: it adds what a mask lets it mix of the tokens before."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.mix, self.out = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, *, hidden: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Returns the sum, and a place for what other blocks return."""
        scores = (self.mix(self.norm(hidden)) @ hidden.mT).masked_fill(mask, float("-inf"))
        return hidden + self.out(scores.softmax(-1) @ hidden), None


class Plain(nn.Module):
    """A language model of such blocks, causal by a mask that it makes itself."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 32)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(32, VOCABULARY)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns logits."""
        hidden = self.embed(ids)
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
        for block in self.blocks:
            hidden, _ = block(hidden=hidden, mask=mask)
        return self.head(hidden)


def model(kind: str, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Any:
    """Returns a small model with random weights."""
    torch.manual_seed(seed)
    made = Plain() if kind == "plain" else _pretrained(kind)
    return made.to(dtype).eval()


def _pretrained(kind: str) -> Any:
    import transformers  # takes seconds, and most tests do without

    if kind == "mixtral":
        config = transformers.MixtralConfig(**_CONFIG, num_local_experts=4, num_experts_per_tok=2)
        return transformers.MixtralForCausalLM(config)
    return transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**_CONFIG, head_dim=8, sliding_window=4))


@dataclass
class Run:
    """What a model computed, as a prover has it."""

    proof: Any
    names: tuple[str, ...]

    @property
    def context(self) -> bytes:
        return self.proof.context  # type: ignore[no-any-return]

    def ask(self, seed: int = 0, **options: Any) -> ReplayRequest:
        options = {"claims": None, "queries": 12, **options}
        names = options.pop("blocks", self.names)
        return request.draw(self.context, names, nonce=seed.to_bytes(32, "big"), **options)

    def answer(self, asked: ReplayRequest) -> AuditAnswer:
        return answering.answer(asked, self.proof._kept_trace())

    def replay(self, asked: ReplayRequest, own: Any, **options: Any) -> ReplayResult:
        return blocks.check(asked, self.context, self.answer(asked), own, **options)


def run(
    made: Any, *, batch: int = 1, bind: bool = True, named: Any = None, new: int = 4, padded: int = 0
) -> Run:
    """Lets a model compute under a commitment: a generation, or one pass of what cannot generate."""
    ids = torch.randint(1, VOCABULARY, (batch, 9), generator=torch.Generator().manual_seed(7))
    mask = torch.ones_like(ids)
    mask[-1, :padded] = 0
    generates = hasattr(made, "generate")
    with palm_torch.commit(made, layers="blocks", keep="memory") as proof, torch.no_grad():
        if generates:
            options = {"do_sample": False, "max_new_tokens": new, "pad_token_id": 0}
            full = made.generate(ids, attention_mask=mask, **options)
        else:
            made(ids)
            full = ids
    if named is not None:
        proof.add_facts({}, model=root(named))
    if bind:
        proof.bind_tokens(full, mask)
    names = tuple(target.place.path for target in tap_targets.select(made, "blocks").targets)
    return Run(proof, names)


def root(made: Any) -> Any:
    return weights_roots.WeightsMeter().measure(weights_roots.canonical_tensors(made)).root


def plain() -> Any:
    """Returns the plain model, as ``--model replayed_models:plain`` names it."""
    return model("plain")


def another() -> Any:
    """Returns it with other weights."""
    return model("plain", seed=1)
