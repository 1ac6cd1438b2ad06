"""Going on from a checkpoint: what is sealed then, and what is refused."""

# ruff: noqa: PT012 (the whole block of a session is under test)
from __future__ import annotations

import gc
import hashlib
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import loops
import pytest
import torch
from resumable import Killed, finished, opened, saved, script
from torch import nn

from palm_torch import recorder
from palm_torch.attesting import checkpoint
from palm_torch.attesting.attested import attested
from palm_torch.attesting.training import Training
from palm_torch.data.loader import DataLoader
from palm_torch.digest import sha256_digest
from palm_torch.errors import CoverageError, EvidenceError, MeasurementError, SessionError
from palm_torch.hooks import importing
from palm_torch.recorder import Reads

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.attesting.session import Session
    from palm_torch.data.dataset import AttestedMmapDataset
    from palm_torch.statement import Statement

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_process")]

PENDING = Reads("dataset7", bytes(8), bytes(32), b"")
CLAIMS = ("architecture", "data", "configuration", "tokenizer", "initial", "model", "steps")


@pytest.fixture(scope="module")
def file(data: Path) -> bytes:
    """A checkpoint after three steps."""
    return saved(data)


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Statement:
    with attested("train") as run:
        script(data).train(run, 6)
    return loops.check(run, tmp_path_factory.mktemp("unbroken")).end


def events(run: Session, kind: str) -> list[Any]:
    entries = [json.loads(entry) for entry in run.evidence.bundle.log]
    return [entry["payload"] for entry in entries if entry["type"] == kind]


def same(one: Statement, other: Statement, *, but: tuple[str, ...] = ()) -> None:
    for role in CLAIMS:
        if role not in but:
            assert getattr(one.claims, role) == getattr(other.claims, role), role
    assert one.run.reported == other.run.reported


# What is sealed -----------------------------------------------------------------------------------------


def test_resumed_run_seals_what_the_unbroken_run_seals(
    data: Path, file: bytes, unbroken: Statement, tmp_path: Path
) -> None:
    run = finished(data, file)
    same(loops.check(run, tmp_path).end, unbroken)
    (segment,) = run.evidence.bundle.segments
    (event,) = events(run, "resumed")
    assert event["receipt"] == f"sha256:{_digest(segment.receipt.payload)}"
    assert events(run, "initial weights") == []  # those of the first session hold
    assert segment.session.collateral is None  # the bundle's own serves


def test_resumed_twice(data: Path, file: bytes, unbroken: Statement, tmp_path: Path) -> None:
    again = saved(data, steps=1, resume=file)
    run = finished(data, again, steps=2)
    same(loops.check(run, tmp_path).end, unbroken)
    assert len(run.evidence.bundle.segments) == 2


def test_nothing_left_to_do_after_resuming(data: Path, tmp_path: Path) -> None:
    with attested("train") as whole:
        script(data).train(whole, 3)
    file = opened(saved(data))
    with attested("train", resume=file["palm"]) as run:
        one = script(data).load(file)
    assert one.step == 3
    same(loops.check(run, tmp_path).end, loops.check(whole, tmp_path).end)
    assert len(events(run, "resumed")) == 1


def test_checkpoint_right_after_resuming_is_worth_the_same(
    data: Path, file: bytes, unbroken: Statement, tmp_path: Path
) -> None:
    same(loops.check(finished(data, saved(data, steps=0, resume=file)), tmp_path).end, unbroken)


def test_nothing_left_to_do_and_no_model_loaded(data: Path, file: bytes) -> None:
    gc.collect()  # a model that another test left behind would do
    with (
        pytest.raises(CoverageError, match="no live module has these weights"),
        attested("train", resume=opened(file)["palm"]),
    ):
        one = script(data)
    assert one.step == 0


def test_tensors_by_name_go_on(data: Path, tmp_path: Path) -> None:
    """Nothing steps them after resuming: they are found because the script names them again."""

    def loop(run: Session, weight: torch.Tensor, optimizer: torch.optim.Optimizer, steps: int) -> None:
        run.output(model={"weight": weight})
        for _ in range(steps):
            list(DataLoader(loops.opened(data), batch_size=24))
            weight.square().sum().backward()
            optimizer.step()

    def named() -> tuple[torch.Tensor, torch.optim.Optimizer]:
        weight = torch.ones(3, requires_grad=True)
        return weight, torch.optim.SGD([weight], lr=0.1)

    with pytest.raises(Killed), attested("train") as run:
        weight, optimizer = named()
        loop(run, weight, optimizer, 2)
        state = run.state_dict()
        raise Killed
    for steps in (0, 1):
        with attested("train", resume=state) as run:
            kept = loops.opened(data)
            again, optimizer = named()
            again.data.copy_(weight)
            loop(run, again, optimizer, steps)
        assert loops.check(run, tmp_path).claims.steps.taken == 2 + steps
        assert len(kept) == 24
    with (
        pytest.raises(CoverageError, match="the tensors of the checkpoint since it was loaded"),
        attested("train", resume=state) as run,
    ):
        kept = loops.opened(data)
        loop(run, *named(), 0)


def test_older_checkpoint_is_accepted_and_shows(data: Path, file: bytes, tmp_path: Path) -> None:
    saved(data, steps=2, resume=file)  # newer, and thrown away
    result = loops.check(finished(data, file), tmp_path).result
    (detail,) = [check.detail for check in result.checks if check.name == "segments"]
    assert "from step 3" in detail


def test_batches_that_wait_for_their_step_wait_on(data: Path, tmp_path: Path) -> None:
    """Gradients over two batches, and the checkpoint between them."""

    def half(one: Any, batch: int) -> None:
        (items,) = DataLoader(
            torch.utils.data.Subset(one.data, range(4 * batch, 4 * batch + 4)), batch_size=4
        )
        loops.loss_of(one.net, items).backward()

    def step(one: Any) -> None:
        one.optimizer.step()
        one.optimizer.zero_grad()

    with attested("train") as whole:
        one = script(data)
        for batch in range(3):
            half(one, batch)
            if batch != 1:
                step(one)
    one = script(data)
    with pytest.raises(Killed), attested("train") as run:
        half(one, 0)
        step(one)
        half(one, 1)
        grads = [parameter.grad for parameter in one.net.parameters()]
        checkpoint = opened(one.save(run))
        raise Killed
    with attested("train", resume=checkpoint["palm"]) as run:
        one = script(data).load(checkpoint)
        for parameter, grad in zip(one.net.parameters(), grads, strict=True):
            parameter.grad = grad
        half(one, 2)
        step(one)
    found = loops.check(run, tmp_path)
    same(found.end, loops.check(whole, tmp_path).end, but=("configuration",))
    carried = found.claims.configuration.value["batches_carried_over"]
    assert carried == 1  # that the script kept their gradients is its own business: see in the code
    assert found.uses() == {"train": (12, 12, 0, 1)}


def test_two_models_and_two_optimizers_of_one_class(data: Path, tmp_path: Path) -> None:
    """After resuming the second steps first; each is found again by what it is."""

    def build() -> Any:
        torch.manual_seed(1)
        nets = [loops.Net(), loops.Net()]
        return nets, [
            torch.optim.SGD(net.parameters(), lr=lr) for net, lr in zip(nets, (0.1, 0.2), strict=True)
        ]

    def step(nets: Any, optimizers: Any, which: int, dataset: Any) -> None:
        for batch in DataLoader(torch.utils.data.Subset(dataset, range(4)), batch_size=4):
            loops.loss_of(nets[which], batch).backward()
            optimizers[which].step()
            optimizers[which].zero_grad()

    dataset = loops.opened(data)
    with attested("train") as whole:
        nets, optimizers = build()
        for which in (0, 1, 1, 0):
            step(nets, optimizers, which, dataset)
    nets, optimizers = build()
    with pytest.raises(Killed), attested("train") as run:
        for which in (0, 1):
            step(nets, optimizers, which, dataset)
        checkpoint = opened(_file({"nets": [net.state_dict() for net in nets], "palm": run.state_dict()}))
        raise Killed
    with attested("train", resume=checkpoint["palm"]) as run:
        nets, optimizers = build()
        for net, state in zip(nets, checkpoint["nets"], strict=True):
            net.load_state_dict(state)
        for which in (1, 0):
            step(nets, optimizers, which, dataset)
    # optimizers without state look alike: the order of their first step is all there is to tell them
    same(loops.check(run, tmp_path).end, loops.check(whole, tmp_path).end, but=("configuration",))


def test_a_scaler_goes_on_counting(data: Path, tmp_path: Path) -> None:
    def step(one: Any, scaler: Any, number: int) -> None:
        start = 4 * number
        for batch in DataLoader(torch.utils.data.Subset(one.data, range(start, start + 4)), batch_size=4):
            scaler.scale(loops.loss_of(one.net, batch) * 16).backward()
            scaler.step(one.optimizer)
            scaler.update()
            one.optimizer.zero_grad()

    def scaled() -> Any:
        return torch.amp.GradScaler("cpu", init_scale=2.0**126, growth_interval=2)

    def whole() -> Statement:
        with attested("train") as run:
            one, scaler = script(data), scaled()
            for number in range(6):
                step(one, scaler, number)
        return loops.check(run, tmp_path).end

    def begun() -> Any:
        try:
            with attested("train") as run:
                one, scaler = script(data), scaled()
                for number in range(4):
                    step(one, scaler, number)
                file = _file({"all": opened(one.save(run)), "scaler": scaler.state_dict()})
                raise Killed  # noqa: TRY301 (as a kill would)
        except Killed:
            return opened(file)

    expected = whole()
    gc.collect()  # a scaler that is still alive would count
    checkpoint = begun()
    gc.collect()
    with attested("train", resume=checkpoint["all"]["palm"]) as run:
        one, scaler = script(data).load(checkpoint["all"]), scaled()
        scaler.load_state_dict(checkpoint["scaler"])
        for number in range(4, 6):
            step(one, scaler, number)
    end = loops.check(run, tmp_path).end
    same(end, expected)
    assert end.claims.steps.skipped > 0  # type: ignore[union-attr]


def test_inputs_settings_and_outputs_go_on(data: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed), attested("train") as run:
        run.input(tokenizer=b"words", recipe=b"bread")
        run.config(depth=2)
        run.output(note=b"half")
        one = script(data)
        one.train(run, 2)
        run.log(rare=float("nan"))
        checkpoint = opened(one.save(run))
        raise Killed
    with attested("train", resume=checkpoint["palm"]) as run:
        with pytest.raises(MeasurementError, match="as before the checkpoint"):
            run.input(recipe=b"cake")
        run.input(recipe=b"bread")
        run.config(width=3)
        script(data).load(checkpoint).train(run, 1)
        run.log(rare=2)
    with attested("train") as whole:
        whole.input(tokenizer=b"words", recipe=b"bread")
        whole.config(depth=2, width=3)
        whole.output(note=b"half")
        script(data).train(whole, 3)
        whole.log(rare=float("nan"))
        whole.log(rare=2)
    rules = {"tokenizer": ["any"]}
    one, other = (loops.check(item, tmp_path, **rules).end for item in (run, whole))
    same(one, other)
    assert (one.run.inputs, one.run.outputs) == (other.run.inputs, other.run.outputs)


def test_dataset_that_is_not_read_again_is_kept(data: Path, tmp_path: Path) -> None:
    """Evaluation before the checkpoint alone: its manifest has to be open when the run ends."""
    other = loops.corpus(tmp_path / "other", records=8, seed=4)

    def evaluate(folder: Path) -> AttestedMmapDataset:
        dataset = loops.opened(folder)
        with torch.no_grad():
            list(DataLoader(dataset, batch_size=4))
        return dataset

    with pytest.raises(Killed), attested("train") as run:
        evaluate(other)
        one = script(data)
        one.train(run, 2)
        file = one.save(run)
        raise Killed
    checkpoint = opened(file)  # anew each time: an optimizer goes on in the very tensors that it loads
    with (
        pytest.raises(CoverageError, match="open it again"),
        attested("train", resume=checkpoint["palm"]) as run,
    ):
        script(data).load(checkpoint).train(run, 1)
    checkpoint = opened(file)
    with attested("train", resume=checkpoint["palm"]) as run:
        kept = loops.opened(other)
        script(data).load(checkpoint).train(run, 1)
    found = loops.check(run, tmp_path)
    assert found.uses("dataset1") == {"eval": (len(kept), 8, 1, 1)}
    assert found.uses("dataset2") == {"train": (12, 12, 0, 1)}


def test_with_checkpoints_the_run_is_bit_identical(data: Path) -> None:
    def trained(*, every: int) -> tuple[list[bytes], list[Any]]:
        one = script(data)
        with attested("train") as run:
            for _ in range(4):
                one.train(run, 1)
                if every:
                    one.save(run)
        moments = [tensor for state in one.optimizer.state.values() for tensor in state.values()]
        tensors = [*one.net.state_dict().values(), *moments, torch.rand(1)]
        return [tensor.detach().numpy().tobytes() for tensor in tensors], [torch.get_rng_state().tolist()]

    assert trained(every=1) == trained(every=0)


@pytest.mark.filterwarnings("ignore:torch.distributed is")  # one process is what is meant
def test_distributed_checkpoints_keep_the_state(data: Path, file: bytes, tmp_path: Path) -> None:
    from torch.distributed import checkpoint as distributed
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    state = opened(file)["palm"]
    distributed.save({"palm": state}, checkpoint_id=str(tmp_path / "shards"))
    dcp_to_torch_save(str(tmp_path / "shards"), tmp_path / "whole.pt")
    kept = torch.load(tmp_path / "whole.pt", weights_only=True)["palm"]
    assert kept.keys() == state.keys()
    with attested("train", resume=kept) as run:
        script(data).load(opened(file)).train(run, 1)
    loops.check(run, tmp_path)


# What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before the first step", "inside a step"])
def test_state_is_taken_between_steps(data: Path, when: str) -> None:
    class Saving(torch.optim.SGD):
        run: Any = None

        def step(self, closure: Any = None) -> Any:
            self.run.state_dict()
            return super().step(closure)

    torch.manual_seed(1)
    net = loops.Net()
    if when == "inside a step":
        optimizer = Saving(net.parameters(), lr=0.1)
        with pytest.raises(SessionError, match="inside optimizer"), attested("train") as run:
            optimizer.run = run
            loops.train(net, optimizer, DataLoader(loops.opened(data), batch_size=8))
    else:
        with pytest.raises(CoverageError, match="after the first step"), attested("train") as run:
            run.state_dict()


def test_state_of_a_session_that_is_not_open_raises(data: Path) -> None:
    with attested("train") as run:
        script(data).train(run, 1)
    with pytest.raises(SessionError, match=r"run\.state_dict: the session is sealed"):
        run.state_dict()
    with pytest.raises(SessionError, match=r"run\.receipt: the session is sealed"):
        run.receipt(note=b"x")


def test_state_after_a_failure_that_was_swallowed_raises(data: Path) -> None:
    with pytest.raises(SessionError, match="no evidence"), attested("train") as run:
        script(data).train(run, 1)
        recorder.failed(CoverageError("a hole"))
        for ask in (run.state_dict, lambda: run.receipt(note=b"x")):
            with pytest.raises(SessionError, match="a hole"):
                ask()


def test_code_that_was_identified_in_another_way_is_refused(
    data: Path, file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "saw_entry", lambda: True)
    with pytest.raises(MeasurementError, match="self_reported before the checkpoint and would be imported"):
        finished(data, file)


@pytest.mark.parametrize(
    ("bend", "told"),
    [
        (lambda state: replace(state, fed=(1, 2)), "expected 1 numbers of batches fed, got 2"),
        (lambda state: replace(state, pending=((PENDING,),)), "batches of 'dataset7' are pending"),
    ],
)
def test_state_that_contradicts_itself_is_refused(file: bytes, bend: Any, told: str) -> None:
    """Nobody but a genuine session can sign one; it is checked all the same."""
    found = checkpoint.from_tensors(opened(file)["palm"])
    training = Training(lambda *_: None)
    with pytest.raises(EvidenceError, match=told):
        training.resume(bend(found.state.training), found.content.data, found.counts, {})
    with pytest.raises(EvidenceError, match=r"expected datasets \['dataset1'\]"):
        training.resume(found.state.training, {"other": found.content.data["dataset1"]}, {}, {})


def change(script: Any, what: str) -> None:
    with torch.no_grad():
        if what == "values":
            script.net.dec.bias[3] += 1e-3
        elif what == "shape":
            script.net.dec = nn.Linear(8, 17)
        elif what == "dtype":
            script.net.double()
        elif what == "missing":
            script.net.dec = nn.Linear(8, 16, bias=False)
        elif what == "more":
            script.net.more = nn.Linear(8, 16)
        else:
            script.net.enc.register_buffer("more", torch.zeros(1))
    script.optimizer = torch.optim.AdamW(script.net.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("values", r"tensor dec\.bias has other values"),
        ("shape", r"tensor dec\.bias: expected float32 \[16\], got float32 \[17\]"),
        ("dtype", r"tensor dec\.bias: expected float32 \[16\], got float64 \[16\]"),
        ("missing", r"tensor dec\.bias is missing in Net"),
        ("more", r"tensor more\.bias is not in the checkpoint"),
        ("buffer", r"tensor enc\.more is not in the checkpoint"),
    ],
)
def test_another_model_is_refused_before_it_moves(data: Path, what: str, told: str) -> None:
    class Plain(torch.optim.SGD):
        """Has no state: whatever is refused is the model."""

    def plain() -> Any:
        one = script(data)
        one.optimizer = Plain(one.net.parameters(), lr=0.1)
        return one

    with pytest.raises(Killed), attested("train") as run:
        one = plain()
        one.train(run, 1)
        checkpoint = opened(one.save(run))
        raise Killed
    one = plain().load(checkpoint)
    change(one, what)
    one.optimizer = Plain(one.net.parameters(), lr=0.1)
    before = [parameter.detach().clone() for parameter in one.net.parameters()]
    with pytest.raises(CoverageError, match=told), attested("train", resume=checkpoint["palm"]) as run:
        run.output(model=one.net)
        (batch,) = DataLoader(torch.utils.data.Subset(one.data, range(4)), batch_size=4)
        parameters = list(one.net.parameters())
        sum(parameter.sum() for parameter in parameters).backward()  # type: ignore[union-attr]
        one.optimizer.step()
    assert len(batch) == 2
    assert all(map(torch.equal, before, one.net.parameters()))


def test_another_architecture_is_refused(data: Path, file: bytes) -> None:
    class Net(loops.Net):
        def extra_repr(self) -> str:
            return "another one"

    checkpoint = opened(file)
    with (
        pytest.raises(CoverageError, match="architecture"),
        attested("train", resume=checkpoint["palm"]) as run,
    ):
        one = script(data)
        one.net = Net()
        one.optimizer = torch.optim.AdamW(one.net.parameters(), lr=0.1)
        one.load(checkpoint).train(run, 1)


def test_optimizer_that_was_not_loaded_is_refused(data: Path, file: bytes) -> None:
    checkpoint = opened(file)
    with (
        pytest.raises(CoverageError, match=r"load it with optimizer\.load_state_dict"),
        attested("train", resume=checkpoint["palm"]) as run,
    ):
        one = script(data)
        one.net.load_state_dict(checkpoint["model"])
        one.train(run, 1)


def test_twin_a_schedule_may_set_the_options_between(data: Path, file: bytes, tmp_path: Path) -> None:
    checkpoint = opened(file)
    with attested("train", resume=checkpoint["palm"]) as run:
        one = script(data).load(checkpoint)
        one.optimizer.param_groups[0]["lr"] = 0.01
        one.train(run, 1)
    loops.check(run, tmp_path, arguments={"lr": {"least": 0.01, "greatest": 0.1}})


def test_a_new_optimizer_after_one_that_was_dropped_is_seen(data: Path, tmp_path: Path) -> None:
    checkpoint = opened(without_optimizer(data))
    with attested("train", resume=checkpoint["palm"]) as run:
        one = script(data)
        one.net.load_state_dict(checkpoint["model"])
        one.optimizer = torch.optim.SGD(one.net.parameters(), lr=0.1)
        one.train(run, 1)
    optimizers = loops.check(run, tmp_path).claims.configuration.value["optimizers"]
    assert [(item["class"].rpartition(".")[2], item["steps"]) for item in optimizers] == [
        ("AdamW", 3),
        ("SGD", 1),
    ]


def without_optimizer(data: Path) -> bytes:
    """Returns a checkpoint after three steps, saved when their optimizer was gone."""
    try:
        with attested("train") as run:
            one = script(data)
            one.train(run, 3)
            one.optimizer = torch.optim.SGD(one.net.parameters(), lr=0.1)  # has not stepped: not in it
            gc.collect()
            file = one.save(run)
            raise Killed  # noqa: TRY301 (as a kill would)
    except Killed:
        return file


def test_other_data_of_the_same_form_is_refused(file: bytes, tmp_path: Path) -> None:
    other = loops.corpus(tmp_path / "other", seed=9)
    with pytest.raises(CoverageError, match="is not dataset1 of the checkpoint"):
        finished(other, file)


def test_weights_written_by_hand_after_resuming_are_refused(data: Path) -> None:
    """At the checkpoint too: what it says would be believed by the session that goes on."""
    checkpoint = opened(without_optimizer(data))
    with (
        pytest.raises(CoverageError, match="changed, but no optimizer"),
        attested("train", resume=checkpoint["palm"]) as run,
    ):
        one = script(data)
        one.net.load_state_dict(checkpoint["model"])
        one.optimizer = torch.optim.SGD([one.net.enc.weight, one.net.dec.weight], lr=0.1)  # not the bias
        one.train(run, 1)
        with torch.no_grad():
            one.net.dec.bias += 1
        run.state_dict()


def test_changed_code_is_refused(data: Path, file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from palm_torch.hooks import source
    from palm_torch.statement import SourceFile

    listed = source.loaded_sources()

    def edited() -> tuple[SourceFile, ...]:
        return tuple(
            SourceFile(module=one.module, digest=sha256_digest(b"another"), reason=None)
            if one.module == "loops"
            else one
            for one in listed
        )

    monkeypatch.setattr(source, "loaded_sources", edited)
    with pytest.raises(MeasurementError, match="source file of loops changed"):
        finished(data, file)


def test_changed_code_that_is_loaded_late_is_refused(
    data: Path, file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from palm_torch.hooks import source
    from palm_torch.statement import SourceFile

    listed = source.loaded_sources()
    changed = next(one for one in listed if one.module == "resumable")
    later = [*(one for one in listed if one is not changed)]
    monkeypatch.setattr(source, "loaded_sources", lambda: tuple(later))
    checkpoint = opened(file)
    with (
        pytest.raises(MeasurementError, match="source file of resumable changed"),
        attested("train", resume=checkpoint["palm"]) as run,
    ):
        script(data).load(checkpoint).train(run, 1)
        later.append(SourceFile(module="resumable", digest=sha256_digest(b"another"), reason=None))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _file(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()
