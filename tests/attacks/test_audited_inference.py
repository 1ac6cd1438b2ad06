"""What was tampered with does not pass an audit at the places that the tampering touches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import audited_models
import pytest
import torch

from palm_torch.errors import BindingError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.audit.findings import AuditResult

TOKEN = 8
EDITS = {
    "model.embed_tokens": ("embedding", "token embedding"),
    "model.layers.1.input_layernorm": ("model.layers.1", "attention norm"),
    "model.layers.1.self_attn.q_proj": ("model.layers.1", "query"),
    "model.layers.1.self_attn.k_proj": ("model.layers.1", "key"),
    "model.layers.1.self_attn.v_proj": ("model.layers.1", "value"),
    "model.layers.1.self_attn.o_proj": ("model.layers.1", "attention out"),
    "model.layers.1.post_attention_layernorm": ("model.layers.1", "mlp norm"),
    "model.layers.1.mlp.gate_proj": ("model.layers.1", "gate"),
    "model.layers.1.mlp.up_proj": ("model.layers.1", "up"),
    "model.layers.1.mlp.down_proj": ("model.layers.1", "down"),
    "model.layers.1": ("model.layers.1", "output"),
    "model.norm": ("head", "norm"),
    "lm_head": ("head", "logits"),
}


def accused(found: AuditResult) -> set[tuple[str, str, int]]:
    """Returns part, operation and token of everything found inconsistent."""
    return {
        (finding.part, finding.operation, -1 if finding.place is None else finding.place.token)
        for finding in found.inconsistent
    }


@pytest.mark.parametrize(
    ("module", "dtype"),
    [
        *((module, torch.float32) for module in sorted(EDITS)),
        ("model.layers.1.self_attn.o_proj", torch.bfloat16),
        ("model.layers.1", torch.bfloat16),
    ],
)
def test_attack_96_one_number_of_one_activation(module: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """The model goes on with the edited number, so that everything after it is consistent with it."""
    made = audited_models.model("llama", dtype)
    calls = 0

    def edit(_module: object, _given: object, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != TOKEN - 5:  # the prefill has tokens 0 to 6
            return None
        changed = output.clone()
        changed[0, 0, 5] += 0.25
        return changed

    made.get_submodule(module).register_forward_hook(edit)
    run = audited_models.run(made, tmp_path)
    part, operation = EDITS[module]
    number = {"embedding": 0, "model.layers.1": 2, "head": 3}[part]
    found = run.audit(run.ask(queries=300, weights=[1 + 999 * (at == number) for at in range(4)]))
    assert accused(found) == {(part, operation, TOKEN)}
    assert not found.consistent
    (first, *_) = found.inconsistent
    assert first.place is not None
    assert first.place.sequence == 0
    if dtype is torch.float32:
        assert first.margin is None or first.margin > 100
    assert "channel 5" in first.words
    if part == "model.layers.1":
        asked = next(
            asked
            for asked in (run.ask(seed, queries=0, whole=1) for seed in range(9))
            if _whole(run, asked) == 2
        )
        whole = run.audit(asked)
        assert (part, operation, -1) in accused(whole)
        assert "sequence 0, token 8" in whole.inconsistent[0].words


def _whole(run: audited_models.Run, asked: Any) -> int:
    from palm_torch.challenge import challenge
    from palm_torch.commit import trace

    return challenge.asked(asked, trace.decode(run.context, what="context")).whole[0]


@pytest.mark.parametrize("kind", sorted(audited_models.KINDS))
def test_attack_97_other_weights(kind: str, tmp_path: Path) -> None:
    """What is computed is consistent in itself, but not with the weights that are claimed."""
    served, claimed = audited_models.model(kind, seed=1), audited_models.model(kind, seed=0)
    run = audited_models.run(served, tmp_path, named=claimed)
    found = run.audit(run.ask(queries=40, whole=1))
    touched = {finding.place for finding in found.findings if finding.verdict == "inconsistent"}
    assert touched >= {place for place in found.places if place.part in {1, 2, 3}}
    assert None in touched
    opened = run.audit(run.ask(queries=40, whole=1, coordinates=4), at_hand=False)
    assert not opened.consistent


def test_attack_97_weights_of_eight_bits(tmp_path: Path) -> None:
    claimed, served = audited_models.model("llama"), audited_models.model("llama")
    with torch.no_grad():
        for name, parameter in served.named_parameters():
            if name.endswith("proj.weight"):
                step = parameter.abs().amax(dim=1, keepdim=True) / 127
                parameter.copy_((parameter / step).round() * step)
    run = audited_models.run(served, tmp_path, named=claimed)
    found = run.audit(run.ask(queries=40))
    touched = {finding.place for finding in found.inconsistent}
    assert touched == {place for place in found.places if place.part in {1, 2}}


def test_attack_97_swapped_layers(tmp_path: Path) -> None:
    claimed, served = audited_models.model("llama"), audited_models.model("llama")
    first, second = served.model.layers
    served.model.layers[0], served.model.layers[1] = second, first
    first.self_attn.layer_idx, second.self_attn.layer_idx = 1, 0
    run = audited_models.run(served, tmp_path, named=claimed)
    found = run.audit(run.ask(queries=40))
    touched = {finding.place for finding in found.inconsistent}
    assert touched == {place for place in found.places if place.part in {1, 2}}


def test_attack_98_another_token_than_the_logits_gave(tmp_path: Path) -> None:
    """The ids that are bound have one generated token exchanged: another was fed, and the logits had it."""
    run = audited_models.run(audited_models.model("llama"), tmp_path)
    ids = torch.tensor(_ids(run))
    ids[0, TOKEN] = (ids[0, TOKEN] + 1) % audited_models.VOCABULARY
    edited = audited_models.run(audited_models.model("llama"), tmp_path, bind=ids)
    found = edited.audit(edited.ask(queries=500, weights=(9, 1, 1, 9)), decoding=audited_models.GREEDY)
    assert accused(found) == {("embedding", "token embedding", TOKEN), ("head", "token", TOKEN - 1)}


def test_attack_98_another_prompt(tmp_path: Path) -> None:
    run = audited_models.run(audited_models.model("gpt2"), tmp_path)
    ids = torch.tensor(_ids(run))
    ids[0, 2] = (ids[0, 2] + 1) % audited_models.VOCABULARY
    edited = audited_models.run(audited_models.model("gpt2"), tmp_path, bind=ids)
    found = edited.audit(edited.ask(queries=500, weights=(9, 1, 1, 9)), decoding=audited_models.GREEDY)
    assert accused(found) == {("embedding", "token embedding", 2)}


def test_attack_98_tokens_that_were_hidden_from_the_attention(tmp_path: Path) -> None:
    """The model did not see the first two tokens of a prompt that is claimed to be whole."""
    ids, _ = audited_models.prompt(batch=1, padded=0)
    hidden = torch.ones_like(ids)
    hidden[0, :2] = 0
    run = audited_models.run(audited_models.model("llama"), tmp_path, ids=ids, mask=hidden, bind=False)
    found = run.audit(run.ask(queries=300))
    assert {operation for _, operation, _ in accused(found)} == {"attention out"}


def test_attack_99_numbers_from_which_nothing_follows(tmp_path: Path) -> None:
    """A key that is infinite would keep every later attention from being checked: that is no consistency."""
    made = audited_models.model("llama")

    def edit(_module: object, _given: object, output: torch.Tensor) -> torch.Tensor | None:
        if output.shape[1] == 1:
            return None
        changed = output.clone()
        changed[0, 1, 3] = float("inf")
        return changed

    made.model.layers[1].self_attn.k_proj.register_forward_hook(edit)
    run = audited_models.run(made, tmp_path)
    found = run.audit(run.ask(queries=12, weights=(1, 1, 1000, 1)))
    assert not found.consistent
    assert {finding.operation for finding in found.blind} >= {"attention out"}


def test_generated_tokens_that_are_said_to_be_padding(tmp_path: Path) -> None:
    """Nobody looks at what is computed for padding: it cannot be whatever the prover calls so."""
    run = audited_models.run(audited_models.model("llama"), tmp_path)
    ids = torch.tensor(_ids(run))
    mask = torch.ones_like(ids)
    mask[0, TOKEN] = 0
    hidden = audited_models.run(audited_models.model("llama"), tmp_path, bind=ids, bound_mask=mask)
    with pytest.raises(BindingError, match="token 8 was generated, and is bound as padding"):
        hidden.audit(hidden.ask())


def _ids(run: audited_models.Run) -> list[list[int]]:
    from palm_torch.challenge import tokens

    shown = run.answer(run.ask()).tokens
    return [list(row) for row in tokens.verify(shown, run.proof.trace.facts[tokens.FACT]).rows]
