"""Ordinary training loops of many forms, each attested without further arguments and then verified."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import loops
import pytest
import torch
from loops import Net, check, copy_of, loss_of, opened, root_of, train
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import ConcatDataset, Subset

from palm_torch.attesting import training
from palm_torch.attesting.attested import attested
from palm_torch.data.loader import DataLoader
from palm_torch.errors import CoverageError
from palm_torch.hooks import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loops.corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture(scope="module")
def other_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loops.corpus(tmp_path_factory.mktemp("data") / "other", records=10, seed=1)


@pytest.fixture(scope="module", autouse=True)
def _fresh_process() -> Iterator[None]:
    with loops.fresh_process():
        yield


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# Whose weights ------------------------------------------------------------------------------------------


def test_plain_loop_is_measured_from_initial_to_final_weights(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = copy_of(net)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    save_file(before, tmp_path / "initial.safetensors")
    files = {"model": tmp_path / "model.safetensors", "initial": tmp_path / "initial.safetensors"}
    found = check(
        run,
        tmp_path,
        files={**files, "data": data / "manifest.palm-manifest"},
        data=[str(opened(data).manifest.digest)],
        initial=[str(root_of(before))],
        epochs={"least": 1, "greatest": 1},
        steps={"least": 3, "greatest": 3},
        arguments={"lr": {"least": 0.1, "greatest": 0.1}},
    )
    assert found.claims.initial.digest == root_of(before) != found.claims.model.digest
    assert found.claims.model.digest == root_of(copy_of(net))
    assert found.claims.initial.taken == "first_delivery"
    assert found.claims.architecture.digest is not None
    assert [device.type for device in found.end.run.devices] == ["cpu"]


def test_parts_called_one_by_one_are_one_model(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        train(lambda x: net.dec(net.enc(x)), optimizer, DataLoader(opened(data), batch_size=8))
    assert check(run, tmp_path).names() == sorted(net.state_dict())


def test_criterion_module_and_frozen_teacher_are_not_the_model(data: Path, tmp_path: Path) -> None:
    net, teacher = Net(), Net().requires_grad_(requires_grad=False)
    criterion = nn.CrossEntropyLoss(weight=torch.ones(loops.VOCABULARY))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = copy_of(net)
    with attested("train") as run:
        for x, y in DataLoader(opened(data), batch_size=8):
            logits = net(x).flatten(0, 1)
            loss = criterion(logits, y.flatten()) + (logits - teacher(x).flatten(0, 1)).square().mean()
            loss.backward()
            optimizer.step()
    found = check(run, tmp_path, initial=[str(root_of(before))])
    assert found.claims.model.digest == root_of(copy_of(net))


def test_criterion_with_parameters_is_part_of_the_model(data: Path, tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, loss: torch.Tensor) -> torch.Tensor:
            return self.scale * loss

    net, criterion = Net(), Scaled()
    optimizer = torch.optim.SGD([*net.parameters(), *criterion.parameters()], lr=0.1)
    with attested("train") as run:
        for batch in DataLoader(opened(data), batch_size=8):
            criterion(loss_of(net, batch)).backward()
            optimizer.step()
    assert check(run, tmp_path).names() == sorted(
        ["Scaled.scale", *(f"Net.{name}" for name in net.state_dict())]
    )


def test_average_of_the_weights_is_not_the_model(data: Path, tmp_path: Path) -> None:
    net = Net()
    average = torch.optim.swa_utils.AveragedModel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        for batch in DataLoader(opened(data), batch_size=8):
            loss_of(net, batch).backward()
            optimizer.step()
            average.update_parameters(net)
    assert check(run, tmp_path).claims.model.digest == root_of(copy_of(net))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_model_compiled_before_the_session(data: Path, tmp_path: Path, backend: str) -> None:
    net = Net()
    before = copy_of(net)
    compiled = torch.compile(net, backend=backend)
    compiled(torch.zeros(8, loops.LENGTH - 1, dtype=torch.int64))
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
    with attested("train") as run:
        train(compiled, optimizer, DataLoader(opened(data), batch_size=8))
    found = check(run, tmp_path, initial=[str(root_of(before))])
    assert found.claims.model.digest == root_of(copy_of(net))


def test_model_that_compiled_itself(data: Path, tmp_path: Path) -> None:
    net = Net()
    net.compile(backend="eager")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
    assert check(run, tmp_path).claims.model.digest == root_of(copy_of(net))


def test_functional_call_with_the_modules_own_parameters(data: Path, tmp_path: Path) -> None:
    net = Net()
    weights = dict(net.named_parameters())
    optimizer = torch.optim.SGD(weights.values(), lr=0.1)
    with attested("train") as run:
        train(
            lambda x: torch.func.functional_call(net, weights, (x,)),
            optimizer,
            DataLoader(opened(data), batch_size=8),
        )
    assert check(run, tmp_path).claims.model.digest == root_of(copy_of(net))


def test_functional_parameters_have_to_be_named(data: Path, tmp_path: Path) -> None:
    net = Net()
    weights = {name: item.detach().clone().requires_grad_() for name, item in net.named_parameters()}
    before = {name: item.detach().clone() for name, item in weights.items()}
    optimizer = torch.optim.Adam(weights.values(), lr=0.1)

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(net, weights, (x,))

    with (
        pytest.raises(CoverageError, match=r"no live torch\.nn\.Module owns them.*run\.output\(model="),
        attested("train"),
    ):
        train(model, optimizer, DataLoader(opened(data), batch_size=8))
    assert all(torch.equal(before[name], weights[name]) for name in before)  # at the first step, before it
    with attested("train") as run:
        run.output(model=weights)
        train(model, optimizer, DataLoader(opened(data), batch_size=8))
    found = check(run, tmp_path, initial=[str(root_of(before))])
    assert found.claims.model.digest == root_of(weights)


def test_two_possible_owners_have_to_be_decided(data: Path, tmp_path: Path) -> None:
    net = Net()
    first, second = nn.Sequential(net), nn.ModuleList([net])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with (
        pytest.raises(CoverageError, match=r"(?s)several sets of modules.*write run\.output\(model="),
        attested("train"),
    ):
        train(first, optimizer, DataLoader(opened(data), batch_size=8))
    with attested("train") as run:
        run.output(model=second)
        train(first, optimizer, DataLoader(opened(data), batch_size=8))
    assert check(run, tmp_path).names() == sorted(second.state_dict())


def test_named_model_has_to_hold_everything_that_is_stepped(data: Path) -> None:
    net, other = Net(), Net()
    optimizer = torch.optim.SGD([*net.parameters(), *other.parameters()], lr=0.1)

    def loop() -> None:
        with attested("train") as run:
            run.output(model=net)
            train(net, optimizer, DataLoader(opened(data), batch_size=8))

    with pytest.raises(CoverageError, match=r"an optimizer also steps 3 parameters"):
        loop()


def test_two_networks_with_an_optimizer_each(data: Path, tmp_path: Path) -> None:
    class Generator(Net):
        pass

    class Critic(Net):
        pass

    generator, critic = Generator(), Critic()
    make = torch.optim.Adam(generator.parameters(), lr=0.01)
    judge = torch.optim.SGD(critic.parameters(), lr=0.1)
    before = {name: item.clone() for name, item in copy_of(critic).items()}
    before |= {f"Generator#2.{name}": item for name, item in copy_of(generator).items()}
    with attested("train") as run:
        for batch in DataLoader(opened(data), batch_size=8):
            for model, optimizer in ((critic, judge), (generator, make)):
                optimizer.zero_grad()
                loss_of(model, batch).backward()
                optimizer.step()
    found = check(run, tmp_path, steps={"least": 6, "greatest": 6}, initial=[str(root_of(before))])
    after = copy_of(critic) | {f"Generator#2.{name}": item for name, item in copy_of(generator).items()}
    assert found.claims.model.digest == root_of(after)
    assert found.uses()["train"] == (24, 24, 1, 1)  # two steps on one batch deliver it once
    assert found.claims.configuration.value["steps_without_new_records"] == 0
    assert [each["class"] for each in found.claims.configuration.value["optimizers"]] == [
        "torch.optim.sgd.SGD",
        "torch.optim.adam.Adam",
    ]


def test_two_networks_under_names_of_the_scripts_own(data: Path, tmp_path: Path) -> None:
    net, other = Net(), Net()
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (net, other)]
    names = {f"first.{name}" for name in net.state_dict()} | {f"second.{name}" for name in net.state_dict()}
    with attested("train") as run:
        run.output(model={"first": net, "second": other})
        for batch in DataLoader(opened(data), batch_size=8):
            (loss_of(net, batch) + loss_of(other, batch)).backward()
            for optimizer in optimizers:
                optimizer.step()
    assert check(run, tmp_path).names() == sorted(names)


def test_tied_weights_appear_once_with_their_alias(data: Path, tmp_path: Path) -> None:
    class Tied(Net):
        def __init__(self) -> None:
            super().__init__()
            self.dec.weight = self.enc.weight

    net = Tied()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
    state = net.state_dict()
    once = {name: state[name] for name in ("dec.bias", "dec.weight")}
    save_file(once, tmp_path / "once.safetensors")
    save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "twice.safetensors")
    for name in ("once", "twice"):
        found = check(run, tmp_path, files={"model": tmp_path / f"{name}.safetensors"})
    assert found.claims.model.digest == root_of(once, {"dec.weight": ("enc.weight",)})


def test_batch_norm_statistics_are_those_before_the_first_batch(data: Path, tmp_path: Path) -> None:
    class Normed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.dec(self.norm(self.enc(x).transpose(1, 2)).transpose(1, 2))

    net = Normed()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = copy_of(net)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
    assert not torch.equal(before["norm.running_mean"], net.norm.running_mean)
    found = check(run, tmp_path, initial=[str(root_of(before))])
    assert found.claims.initial.taken == "first_delivery"
    assert found.claims.model.digest == root_of(copy_of(net))


def test_model_made_after_the_first_batch_is_measured_at_the_first_step(data: Path, tmp_path: Path) -> None:
    net, optimizer, before = None, None, {}
    with attested("train") as run:
        for batch in DataLoader(opened(data), batch_size=8):
            if net is None:
                net = nn.Sequential(Net(), nn.BatchNorm1d(loops.LENGTH - 1))
                optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            loss = loss_of(net, batch)
            before = before or copy_of(net)  # after the forward pass: the statistics have moved
            loss.backward()
            optimizer.step()
    found = check(run, tmp_path, initial=[str(root_of(before))])
    assert found.claims.initial.taken == "first_step"


def test_layers_unfrozen_later_had_their_initial_weights_measured(data: Path, tmp_path: Path) -> None:
    net = Net()
    net.enc.requires_grad_(requires_grad=False)
    optimizer = torch.optim.SGD(net.dec.parameters(), lr=0.1)
    before = copy_of(net)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
        net.enc.requires_grad_(requires_grad=True)
        optimizer.add_param_group({"params": list(net.enc.parameters()), "lr": 0.01})
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
    found = check(
        run, tmp_path, initial=[str(root_of(before))], arguments={"lr": {"least": 0.01, "greatest": 0.1}}
    )
    assert not torch.equal(before["enc.weight"], net.enc.weight)
    assert found.claims.model.digest == root_of(copy_of(net))
    groups = found.claims.configuration.value["optimizers"][0]["groups"]
    assert [group["parameters"] for group in groups] == [2, 1]


def test_tensors_tied_by_memory_are_not_measured_as_a_second_model(data: Path, tmp_path: Path) -> None:
    net = Net()
    net.dec.weight = nn.Parameter(net.enc.weight.detach())  # another object in the same memory
    optimizer = torch.optim.SGD([net.enc.weight], lr=0.1)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
        optimizer.add_param_group({"params": [net.dec.weight, net.dec.bias]})
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
    assert check(run, tmp_path).names() == ["dec.bias", "dec.weight"]


def test_model_dropped_by_the_script_is_still_measured(data: Path, tmp_path: Path) -> None:
    def loop() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        net = Net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        before = copy_of(net)
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
        return before, copy_of(net)

    with attested("train") as run:
        before, after = loop()
    assert check(run, tmp_path, initial=[str(root_of(before))]).claims.model.digest == root_of(after)


# Which data ---------------------------------------------------------------------------------------------


def test_evaluation_inside_the_block_is_told_from_training(
    data: Path, other_data: Path, tmp_path: Path
) -> None:
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    loaders = {
        "train": DataLoader(opened(data), batch_size=8),
        "val": DataLoader(opened(other_data), batch_size=5),
    }

    @torch.no_grad()
    def estimate_loss() -> dict[str, float]:
        net.eval()
        means = {
            name: math.fsum(loss_of(net, batch).item() for batch in loader)
            for name, loader in loaders.items()
        }
        net.train()
        return means

    with attested("train") as run:
        for _ in range(2):
            run.log(**estimate_loss())
            train(net, optimizer, loaders["train"])
    found = check(run, tmp_path, epochs={"least": 2, "greatest": 2}, records={"least": 48, "greatest": 48})
    assert found.uses("dataset1") == {"eval": (48, 24, 2, 2), "train": (48, 24, 2, 2)}
    assert found.uses("dataset2") == {"eval": (20, 10, 2, 2)}


def test_gradient_accumulation_counts_what_a_step_followed(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        for number, batch in enumerate(DataLoader(opened(data), batch_size=5), 1):
            loss_of(net, batch).backward()
            if number % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()
    found = check(run, tmp_path, steps={"least": 2, "greatest": 2})
    assert found.uses() == {"train": (20, 20, 0, 1), "eval": (4, 4, 0, 1)}


@pytest.mark.parametrize("workers", [0, 2])
def test_counts_what_the_loop_received(data: Path, tmp_path: Path, workers: int) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    more = {"num_workers": workers, "prefetch_factor": 4} if workers else {}
    trained = torch.zeros(loops.RECORDS, dtype=torch.int64)
    dataset = opened(data)
    known = {_tokens(*record): number for number, record in enumerate(opened(data))}
    with attested("train") as run:
        loader = DataLoader(dataset, batch_size=5, shuffle=True, drop_last=True, **more)
        for epoch in range(3):
            for number, batch in enumerate(loader):
                if (epoch, number) == (2, 1):
                    break
                loss_of(net, batch).backward()
                optimizer.step()
                for x, y in zip(*batch, strict=True):
                    trained[known[_tokens(x, y)]] += 1
    found = check(run, tmp_path)
    assert trained.sum() == 45
    assert found.uses()["train"] == (45, int(trained.count_nonzero()), int(trained.min()), int(trained.max()))
    assert found.uses()["eval"][0] == 5  # the loop received the batch at which it broke off, and made no step
    sidecar = found.path.with_name(f"{found.end.run.run_id}.dataset1.train.coverage")
    assert bytes(trained.to(torch.uint8).numpy()) in sidecar.read_bytes()


def _tokens(x: torch.Tensor, y: torch.Tensor) -> tuple[int, ...]:
    return (*x.tolist(), y[-1].item())


def test_two_datasets_in_one_loop_and_part_of_one(data: Path, other_data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    both = ConcatDataset([opened(data), Subset(opened(other_data), range(4))])
    with attested("train") as run:
        train(net, optimizer, DataLoader(both, batch_size=7))
    found = check(run, tmp_path)
    assert found.uses("dataset1") == {"train": (24, 24, 1, 1)}
    assert found.uses("dataset2") == {"train": (4, 4, 0, 1)}


def test_dataset_that_is_gone_before_the_step_still_counts(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        batch = [item.unsqueeze(0) for item in opened(data)[3]]
        train(net, optimizer, [batch])
    assert check(run, tmp_path).uses() == {"train": (1, 1, 0, 1)}


# How it was stepped -------------------------------------------------------------------------------------


def test_closure_evaluated_many_times_is_one_step(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=4)
    with attested("train") as run:
        for batch in DataLoader(opened(data), batch_size=12):

            def closure(batch: object = batch) -> torch.Tensor:
                optimizer.zero_grad()
                loss = loss_of(net, batch)
                loss.backward()
                return loss

            optimizer.step(closure)
    found = check(run, tmp_path, steps={"least": 2, "greatest": 2})
    assert found.uses() == {"train": (24, 24, 1, 1)}


@pytest.mark.parametrize("fused", [False, True])
def test_steps_skipped_by_a_gradient_scaler(data: Path, tmp_path: Path, fused: bool) -> None:  # noqa: FBT001 (pytest passes by name)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = copy_of(net)
    with attested("train") as run:
        for number, batch in enumerate(DataLoader(opened(data), batch_size=8)):
            loss = scaler.scale(loss_of(net, batch) * (math.inf if number == 0 else 1))
            optimizer.zero_grad()
            loss.backward()
            scaler.step(optimizer)
            scaler.update()
    found = check(run, tmp_path, initial=[str(root_of(before))])
    assert (found.claims.steps.taken, found.claims.steps.skipped) == (2, 1)
    scalers = found.claims.configuration.value["scalers"]
    (counts,) = (each for each in scalers if each["lowered"])  # others may be alive in this process
    assert (counts["initial"], counts["last"], counts["lowered"]) == (1024, 512, 1)


def test_learning_rate_schedule_is_recorded(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.4, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    with attested("train") as run:
        for batch in DataLoader(opened(data), batch_size=8):
            train(net, optimizer, [batch])
            schedule.step()
    found = check(
        run, tmp_path, arguments={"lr": {"least": 0.1, "greatest": 0.4}, "momentum": {"least": 0.9}}
    )
    rate = found.claims.configuration.value["optimizers"][0]["groups"][0]["options"]["lr"]
    assert [rate[key] for key in ("first", "last", "least", "greatest", "changes")] == [0.4, 0.1, 0.1, 0.4, 2]


def test_learning_rate_may_be_a_tensor(data: Path, tmp_path: Path) -> None:
    net = Net()
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, foreach=False)
    with attested("train") as run:
        for batch in DataLoader(opened(data), batch_size=8):
            train(net, optimizer, [batch])
            rate.mul_(0.5)
    options = check(run, tmp_path).claims.configuration.value["optimizers"][0]["groups"][0]["options"]
    assert (options["lr"]["first"], options["lr"]["last"]) == (0.5, 0.125)


def test_learning_rate_set_by_the_optimizers_own_hook_is_recorded(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rates = iter((0.2, 0.3, 5.0))

    def warm_up(optimizer: torch.optim.Optimizer, *_: object) -> None:
        optimizer.param_groups[0]["lr"] = next(rates)

    optimizer.register_step_pre_hook(warm_up)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
    options = check(run, tmp_path).claims.configuration.value["optimizers"][0]["groups"][0]["options"]
    assert (options["lr"]["last"], options["lr"]["greatest"]) == (5.0, 5.0)


@pytest.mark.parametrize("form", ["foreach", "fused"])
def test_forms_of_adamw(data: Path, tmp_path: Path, form: str) -> None:
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, **{form: True})
    before = copy_of(net)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
    found = check(run, tmp_path, initial=[str(root_of(before))], steps={"least": 3, "greatest": 3})
    assert found.claims.model.digest == root_of(copy_of(net))
    assert found.claims.configuration.value["optimizers"][0]["groups"][0]["options"][form]["first"] is True


def test_model_optimizer_and_checkpoint_can_be_copied_inside(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
        copy.deepcopy(net)
        torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint")
        run.output(checkpoint=tmp_path / "checkpoint")
    check(run, tmp_path, files={"checkpoint": tmp_path / "checkpoint"})


def test_weights_changed_after_the_last_step_are_the_final_ones(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
        net.enc.weight.data.numpy()[0, 0] = 7.0  # past torch's version counter
    assert check(run, tmp_path).claims.model.digest == root_of(copy_of(net))


# What cannot be known raises early ----------------------------------------------------------------------


def test_step_without_any_record_raises_before_anything_moved() -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = copy_of(net)
    net.dec.weight.grad = torch.ones_like(net.dec.weight)
    with pytest.raises(CoverageError, match=r"SGD\.step\(\).*palm_torch\.DataLoader"), attested("train"):
        optimizer.step()
    assert root_of(copy_of(net)) == root_of(before)


def test_records_seen_without_gradients_alone_are_nothing_to_train_on(data: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    @torch.no_grad()
    def fetched() -> list[object]:
        return list(DataLoader(opened(data), batch_size=8))

    with pytest.raises(CoverageError, match=r"torch\.no_grad\(\)"), attested("train"):
        train(net, optimizer, fetched())


def _update_counted(net: nn.Module) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.sub_(0.1 * parameter.grad)


def _update_uncounted(net: nn.Module) -> None:
    for parameter in net.parameters():
        parameter.data -= 0.1 * parameter.grad


@pytest.mark.parametrize("update", [_update_counted, _update_uncounted])
def test_hand_written_update_raises_at_the_second_batch(
    data: Path, update: Callable[[nn.Module], None]
) -> None:
    net = Net()
    batches = []

    def loop() -> None:
        for batch in DataLoader(opened(data), batch_size=4):
            batches.append(batch)
            loss_of(net, batch).backward()
            update(net)

    with pytest.raises(CoverageError, match=r"parameters of Net changed.*torch\.optim"), attested("train"):
        loop()
    assert len(batches) == 1


def test_gradients_without_a_step_raise_at_the_end(data: Path) -> None:
    net = Net()

    def loop() -> None:
        for batch in DataLoader(opened(data), batch_size=4):
            loss_of(net, batch).backward()

    with (
        pytest.raises(CoverageError, match=r"no torch\.optim optimizer stepped") as caught,
        attested("train"),
    ):
        loop()
    assert "session: 6 batches were delivered with gradients on, and a hand-written" in str(caught.value)


def test_evaluation_alone_is_no_training_and_the_error_says_so(data: Path) -> None:
    with pytest.raises(CoverageError) as caught, attested("train"), torch.no_grad():
        list(DataLoader(opened(data), batch_size=4))
    assert str(caught.value) == (
        "no torch.optim optimizer stepped inside the session: no batch was delivered with gradients on; what "
        "was delivered under torch.no_grad() counts as evaluation; fetch training batches outside of it"
    )


def test_stepping_elsewhere_than_on_the_cpu_raises_at_once(data: Path) -> None:
    net = Net()
    elsewhere = torch.optim.SGD(Net().to("meta").parameters(), lr=0.1)

    def loop() -> None:
        train(net, torch.optim.SGD(net.parameters(), lr=0.1), DataLoader(opened(data), batch_size=8))
        elsewhere.step()

    with pytest.raises(CoverageError, match="steps tensors on 'meta'"), attested("train"):
        loop()


def test_device_that_the_model_left_is_remembered() -> None:
    measured = training.Training(lambda *_: None)
    measured._note_places([torch.empty(1, device="meta"), torch.empty(1)])
    assert [device.type for device in environment.devices(measured.tensors())] == ["cpu", "meta"]


def test_session_without_data_raises(data: Path) -> None:
    with pytest.raises(CoverageError, match="no record was delivered"), attested("train"):
        opened(data)


def test_model_named_after_the_first_step_raises(data: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=8))
        with pytest.raises(CoverageError, match="name the model before it"):
            run.output(model=net)


@pytest.mark.parametrize("model", ["model.safetensors", {"net": "Net"}, [nn.Linear(1, 1)]])
def test_model_of_another_kind_raises_at_once(model: object) -> None:
    with pytest.raises(CoverageError, match=r"expected a (torch|module)"), attested("train") as run:
        run.output(model=model)
