"""A classifier trained by a Trainer: arguments, callbacks, stock loaders, evaluation, checkpoints, resuming.

An ordinary script that knows nothing of palm-torch, in the manner of trainer frameworks.
"""

# An ordinary script, without annotations and with print, as people write them.
# ruff: noqa: ANN001, ANN201, ANN204, T201

import argparse
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class TrainingArguments:
    output_dir: str = "out"
    train_file: str = "train.jsonl"
    eval_file: str = "eval.jsonl"
    epochs: int = 2
    batch_size: int = 8
    learning_rate: float = 0.01
    warmup_steps: int = 2
    save_steps: int = 5
    num_workers: int = 0
    seed: int = 7
    resume_from_checkpoint: str = ""


class Lines(Dataset):
    """Rows of a file of JSON lines with the keys ``x`` (numbers) and ``label``."""

    def __init__(self, path):
        self.rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def collate(rows):
    inputs = torch.tensor([row["x"] for row in rows])
    return {"inputs": inputs, "labels": torch.tensor([row["label"] for row in rows])}


class Callback:
    """Hears of what the trainer does."""

    def on_step_end(self, trainer): ...

    def on_evaluate(self, trainer, metrics): ...


class History(Callback):
    def __init__(self):
        self.metrics = []

    def on_evaluate(self, trainer, metrics):
        self.metrics.append({"step": trainer.step, **metrics})


class Saver(Callback):
    def on_step_end(self, trainer):
        if trainer.step % trainer.args.save_steps == 0:
            trainer.save(Path(trainer.args.output_dir) / f"checkpoint-{trainer.step}")


class Trainer:
    def __init__(self, model, args, train, evaluation, callbacks):
        self.model, self.args, self.train_set, self.eval_set = model, args, train, evaluation
        self.callbacks = callbacks
        self.step = 0
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
        total = args.epochs * -(-len(train) // args.batch_size)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min(1.0, (step + 1) / args.warmup_steps) * max(0.0, (total - step) / max(1, total)),
        )

    def loader(self, dataset, *, shuffle, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return DataLoader(
            dataset,
            batch_size=self.args.batch_size,
            shuffle=shuffle,
            generator=generator,
            collate_fn=collate,
            num_workers=self.args.num_workers,
        )

    def training_step(self, batch):
        self.model.train()
        loss = nn.functional.cross_entropy(self.model(batch["inputs"]), batch["labels"])
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def train(self):
        done = self.step
        for epoch in range(self.args.epochs):
            loader = self.loader(self.train_set, shuffle=True, seed=self.args.seed + epoch)
            for number, batch in enumerate(loader, epoch * len(loader)):
                if number < done:
                    continue
                self.training_step(batch)
                self.step += 1
                for callback in self.callbacks:
                    callback.on_step_end(self)
            metrics = self.evaluate()
            for callback in self.callbacks:
                callback.on_evaluate(self, metrics)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        right = total = 0
        for batch in self.loader(self.eval_set, shuffle=False):
            right += (self.model(batch["inputs"]).argmax(-1) == batch["labels"]).sum().item()
            total += len(batch["labels"])
        return {"accuracy": right / total}

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        state = {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}
        torch.save(self.model.state_dict(), folder / "model.pt")
        torch.save({**state, "step": self.step, "rng": torch.get_rng_state()}, folder / "trainer.pt")
        (folder / "arguments.json").write_text(json.dumps(asdict(self.args)), encoding="utf-8")

    def resume(self, folder):
        self.model.load_state_dict(torch.load(folder / "model.pt"))
        state = torch.load(folder / "trainer.pt")
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.step = state["step"]
        torch.set_rng_state(state["rng"])


def main():
    parser = argparse.ArgumentParser()
    for field in fields(TrainingArguments):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    args = TrainingArguments(**vars(parser.parse_args()))
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
    history = History()
    trainer = Trainer(model, args, Lines(args.train_file), Lines(args.eval_file), [history, Saver()])
    if args.resume_from_checkpoint:
        trainer.resume(Path(args.resume_from_checkpoint))
    trainer.train()
    trainer.save(Path(args.output_dir) / "final")
    print(json.dumps(history.metrics))


if __name__ == "__main__":
    main()
