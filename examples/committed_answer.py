"""Commit to what a language model computes while it answers; then show one token in one layer.

    python examples/committed_answer.py FOLDER
    palm-torch check FOLDER/token.palm-opening.json --context FOLDER/answer.palm-trace.json --root ROOT

The second line, which the first one prints with its root, needs neither the model nor torch. The lines that
palm-torch asks for are marked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers

import palm_torch


def main(folder: Path) -> None:
    """Answers two prompts of unequal length with a small model of random weights."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(  # rows of 1 KiB: narrower ones would be shown several at a time
        vocab_size=256, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4
    )
    model: Any = transformers.LlamaForCausalLM(config)
    model.eval()
    prompts = torch.tensor([[0, 0, 17, 4], [9, 21, 3, 5]])
    words = {"attention_mask": (prompts > 0).long(), "pad_token_id": 0, "max_new_tokens": 8}

    with palm_torch.commit(model, keep="memory") as proof:  # 1: around whatever calls the model
        answers = model.generate(prompts, **words, do_sample=False)

    opening = proof.open("model.layers.2", tokens=6, batch=1)  # 2: the seventh token of the second sequence
    proof.save(folder / "answer.palm-trace.json")
    opening.save(folder / "token.palm-opening.json")

    print("answers:", answers[:, prompts.shape[1] :].tolist())
    print("seen:", ", ".join(f"{one.module} {one.fired} of {one.expected}" for one in proof.coverage))
    print(
        f"palm-torch check {folder}/token.palm-opening.json "
        f"--context {folder}/answer.palm-trace.json --root {proof.root}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
