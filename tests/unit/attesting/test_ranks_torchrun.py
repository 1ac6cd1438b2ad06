"""Scripts under torchrun, unchanged but for the ``with`` block: DDP, FSDP2, and two machines."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import loops
import pytest
import ranked
import torch

from palm_torch import evidence, verification
from palm_torch.attesting.attested import attested
from palm_torch.cvm import simulated
from palm_torch.data.loader import DataLoader
from palm_torch.errors import BindingError, ClaimError, EvidenceError, FreshnessError
from palm_torch.result import Tier

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

RECORDS = 10
SCRIPT = (
    ranked.MODEL
    + """
from pathlib import Path
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

kind = sys.argv[1]
dist.init_process_group("gloo")
data = palm_torch.AttestedMmapDataset("corpus", targets=True)
sampler = DistributedSampler(data, shuffle=True)
loader = palm_torch.DataLoader(data, batch_size=2, sampler=sampler, num_workers=int(kind == "ddp"))
net = seeded()
if kind == "ddp":
    model = DistributedDataParallel(net)
else:
    from torch.distributed.fsdp import fully_shard
    net.norm = nn.Identity()
    for part in (net.enc, net.dec, net):
        fully_shard(part)
    model = net
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu")
with palm_torch.attested("train") as run:
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for number, batch in enumerate(loader):
            if kind == "ddp" and number == 0:
                with model.no_sync():
                    loss_of(model, batch).backward()
                continue
            loss = loss_of(model, batch)
            (scaler.scale(loss) if kind == "ddp" else loss).backward()
            if kind == "ddp":
                scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    model.eval()
    with torch.no_grad():
        for batch in palm_torch.DataLoader(data, batch_size=4):
            loss_of(net, batch)  # DDP's own forward would give all ranks the first one's buffers
            if kind == "fsdp":
                break
    try:
        run.state_dict()
    except palm_torch.errors.SessionError as error:
        Path(f"refused{dist.get_rank()}").write_text(str(error))  # two processes share one output
state = net.state_dict()
if kind == "fsdp":
    state = {name: item.full_tensor() for name, item in state.items()}
if run.leads:
    torch.save(state, "state.pt")
    run.evidence.save("run.palm.json")
dist.destroy_process_group()
"""
)


def folder_with(made: Path, *, records: int = RECORDS, shards: int = 2) -> Path:
    made.mkdir(exist_ok=True)
    loops.corpus(made / "corpus", records=records, shards=shards)
    (made / "train.py").write_text(SCRIPT)
    return made


def alone(folder: Path, *, norm: bool) -> str:
    """Returns the initial weights root of a run of one process with the same seed."""
    names: dict[str, type[torch.nn.Module]] = {}
    exec(ranked.MODEL, names)  # noqa: S102 (the script's own model)
    net = names["seeded"]()
    if not norm:
        net.norm = torch.nn.Identity()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    with attested("train", attester="simulated") as run:
        loops.train(net, optimizer, DataLoader(loops.opened(folder / "corpus"), batch_size=5))
    path = run.evidence.save(folder / "alone.palm.json")
    return str(ranked.read(path)[1].initial.digest)


def test_ddp_is_one_run_in_one_file(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "ddp", records=9, shards=3)
    ((code, said),) = ranked.ended([ranked.torchrun(folder, folder / "train.py", "ddp")])
    assert code == 0, said
    refused = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("refused*"))]
    assert len(refused) == 2
    assert all(words.startswith("run.state_dict()") for words in refused)
    (path,) = folder.glob("*.palm.json")
    end, claims = ranked.read(path)
    ranks = end.run.ranks
    assert ranks is not None
    assert (ranks.world_size, ranks.here.count, ranks.interconnect) == (2, 2, "none")
    assert ranks.differing == ("norm.running_mean", "norm.running_var")  # each rank's own last batch
    train, evaluated = (claims.data["dataset1"].uses[use] for use in ("train", "eval"))
    assert train.counts is not None
    assert (train.delivered, train.padded, len(train.order)) == (20, 2, 2)  # 9 records make 10 a pass
    assert (train.counts.distinct, train.counts.least) == (9, 2)
    assert (evaluated.delivered, evaluated.padded) == (18, 0)
    assert claims.steps.taken == 4
    assert claims.configuration.value["writes_outside_steps"] == 0
    assert str(claims.initial.digest) == alone(folder, norm=True)
    saved = torch.load(folder / "state.pt")
    assert claims.model.digest == loops.root_of(saved)
    assert {item.name for item in folder.glob("run.*.coverage")} == {
        "run.dataset1.train.coverage",
        "run.dataset1.eval.coverage",
    }


def test_fsdp_names_the_whole_tensors(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "fsdp")
    ((code, said),) = ranked.ended([ranked.torchrun(folder, folder / "train.py", "fsdp")])
    assert code == 0, said
    end, claims = ranked.read(folder / "run.simulated.palm.json")
    assert end.run.ranks is not None
    assert end.run.ranks.differing == ()
    assert str(claims.initial.digest) == alone(folder, norm=False)
    assert claims.model.digest == loops.root_of(torch.load(folder / "state.pt"))
    assert claims.configuration.value["writes_outside_steps"] == 0
    assert (claims.steps.taken, claims.data["dataset1"].uses["train"].delivered) == (6, 20)
    assert ranked.read(folder / "alone.simulated.palm.json")[0].run.ranks is None


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Returns the evidence of two machines that trained together; one authority signs for both."""
    simulated.SimulatedTdx().root_certificate()
    folders = [folder_with(tmp_path_factory.mktemp("machine")) for _ in range(2)]
    for folder in folders:
        shutil.copytree(os.environ["XDG_STATE_HOME"], folder / "state")
    port = ranked.free_port()
    processes = [
        ranked.torchrun(folder, folder / "train.py", "ddp", ranks=1, machines=2, machine=number, port=port)
        for number, folder in enumerate(folders)
    ]
    for code, said in ranked.ended(processes):
        assert code == 0, said
    return [folder / "run.simulated.palm.json" for folder in folders]


def policy(folder: Path, part: Path, **claims: object) -> Path:
    """Writes a policy for the simulated machine that made a part."""
    bundle = evidence.decode(part.read_bytes())
    run = SimpleNamespace(evidence=SimpleNamespace(bundle=bundle))
    path = folder / "policy.yaml"
    path.write_bytes(loops.policy_text(run, **{"records": {"least": 20}, "epochs": {"least": 2}, **claims}))
    return path


def test_two_machines_make_two_parts_that_name_each_other(parts: list[Path], tmp_path: Path) -> None:
    ends = [ranked.read(part)[0].run.ranks for part in parts]
    assert [item.own for item in ends if item] == [0, 1]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].parts == ends[1].parts
    assert ends[0].differing == ends[1].differing == ("norm.running_mean", "norm.running_var")
    for given in (parts, parts[::-1]):
        result = verification.verify(given[0], policy=policy(tmp_path, parts[0]), parts=given[1:])
        said = {claim.name: claim.value for claim in result.claims}
        assert said["data dataset1, train"].startswith(
            "20 delivered to 2 ranks, 10 different ones of 10, each 2"
        )
        assert [check.name for check in result.checks][-1] == "parts"
        reasons = " ".join(result.warnings)
        assert "unprotected interconnect" in reasons
        assert "not at hand" not in reasons
    known = policy(tmp_path, parts[0], interconnect="unprotected")
    assert "interconnect" not in " ".join(
        verification.verify(parts[0], policy=known, parts=parts[1:]).warnings
    )


def test_a_part_alone_speaks_for_its_own_ranks(parts: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match="records: the policy demands >= 20, the evidence says 10"):
        verification.verify(parts[1], policy=policy(tmp_path, parts[1]))
    own = policy(tmp_path, parts[1], records={"least": 10}, epochs={"least": 0})
    result = verification.verify(parts[1], policy=own)
    assert any(
        "1 of 2 parts of the run are not at hand: the claims are about ranks 1 of 2 alone" in reason
        for reason in result.warnings
    )
    assert result.tier is Tier.WARNING


def test_parts_that_do_not_belong_together_are_refused(parts: list[Path], tmp_path: Path) -> None:
    rules = policy(tmp_path, parts[0])
    with pytest.raises(BindingError, match="are both part 0 of the run"):
        verification.verify(parts[0], policy=rules, parts=parts[:1])
    bare = tmp_path / "bare.simulated.palm.json"
    shutil.copy(parts[1], bare)
    with pytest.raises(EvidenceError, match=r"coverage of dataset1, eval: several parts received"):
        verification.verify(parts[0], policy=rules, parts=[bare])
    with attested("train", attester="simulated") as run:
        net = loops.Net()
        loader = DataLoader(loops.opened(parts[0].parent / "corpus"), batch_size=5)
        loops.train(net, torch.optim.SGD(net.parameters(), lr=0.1), loader)
    whole = run.evidence.save(tmp_path / "whole.palm.json")
    with pytest.raises(BindingError, match="a whole run, without other parts"):
        verification.verify(parts[0], policy=rules, parts=[whole])


def test_parts_answer_one_request_together(parts: list[Path], tmp_path: Path) -> None:
    rules, seen = policy(tmp_path, parts[0]), tmp_path / "seen.sqlite"
    verification.verify(parts[0], policy=rules, parts=parts[1:], seen=seen)
    with pytest.raises(FreshnessError, match="accepted before"):
        verification.verify(parts[0], policy=rules, parts=parts[1:], seen=seen)
    verification.verify(parts[0], policy=rules, parts=parts[1:], seen=seen, again=True)
