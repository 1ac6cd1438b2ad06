"""A small language model trained by the Trainer of transformers, with evaluation and checkpoints.

An ordinary script: all it takes from palm-torch is its data.
"""

# An ordinary script, without annotations and with print, as people write them.
# ruff: noqa: ANN001, ANN201, T201

import argparse
import json

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

import palm_torch


def collate(rows):
    tokens = torch.stack(rows)
    return {"input_ids": tokens, "labels": tokens}


def build(train, evaluation, options):
    config = GPT2Config(
        vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    set_seed(7)
    args = TrainingArguments(
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=7,
        **options,
    )
    return Trainer(
        model=GPT2LMHeadModel(config),
        args=args,
        train_dataset=train,
        eval_dataset=evaluation,
        data_collator=collate,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train")
    parser.add_argument("--eval")
    parser.add_argument("--options", type=json.loads, default={})
    given = parser.parse_args()
    train, evaluation = (
        palm_torch.AttestedMmapDataset(given.train),
        palm_torch.AttestedMmapDataset(given.eval),
    )
    trainer = build(train, evaluation, given.options)
    trainer.train()
    print(json.dumps([row.get("loss", row.get("eval_loss")) for row in trainer.state.log_history]))


if __name__ == "__main__":
    main()
