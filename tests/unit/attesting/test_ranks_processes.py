"""Ranks that do not agree, do not come, or die: the seal fails and names them, and nobody hangs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import loops
import numpy as np
import pytest
import ranked

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SCRIPT = (
    ranked.MODEL
    + """
rank = int(os.environ["RANK"])
fault = sys.argv[1] if rank == 1 else ""
data = palm_torch.AttestedMmapDataset("corpus", targets=True)
net = seeded()
kept = []
optimizer = torch.optim.SGD(net.parameters(), lr=0.2 if fault == "lr" else 0.1)
torch.distributed.init_process_group("gloo")
if fault == "seed":
    nn.init.zeros_(net.dec.bias)
if fault == "absent":
    sys.exit(0)
try:
    with palm_torch.attested("train", ranks_deadline_s=float(sys.argv[2])) as run:
        for batch in palm_torch.DataLoader(data, batch_size=4):
            loss_of(net, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            run.log(loss=0.5 + rank)
            if fault == "raises":
                raise ValueError("no more data")
        for name in (f"own{rank}.bin", "both.bin") if fault in ("", "-") else ():
            kept.append(palm_torch.AttestedMmapDataset(name, record_length=9, targets=True))
            with torch.no_grad():
                for batch in palm_torch.DataLoader(kept[-1], batch_size=4):
                    pass
        if fault == "late":
            import time
            time.sleep(9)
        if fault == "worker":  # a child that keeps the connection open would hide that its parent has ended
            if os.fork() == 0:
                import time
                time.sleep(3)
                os._exit(0)
            os.kill(os.getpid(), 9)
        run.config(batch=4)
        run.input(tokenizer=b"words")
except palm_torch.errors.PalmTorchError as error:
    print(type(error).__name__, error)
    sys.exit(3)
if run.leads:
    run.evidence.save("run.palm.json")
else:
    print(run.state)
    for refused in (lambda: run.evidence, run.seal):
        try:
            refused()
        except palm_torch.errors.SessionError as error:
            print("refused:", error)
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranks")
    loops.corpus(made / "corpus", records=8)
    for name in ("own0.bin", "own1.bin", "both.bin"):
        np.arange(72, dtype=np.uint16).__mod__(16).tofile(made / name)
    (made / "train.py").write_text(SCRIPT)
    return made


def run(
    folder: Path, fault: str, *, deadline_s: float = 40, second: str = "train.py"
) -> list[tuple[int, str]]:
    scripts = [folder / "train.py", folder / second]
    return ranked.ended(
        ranked.by_hand(folder, scripts, fault or "-", str(deadline_s), port=ranked.free_port())
    )


def test_ranks_that_agree_make_one_file(folder: Path) -> None:
    (code, _), (other, said) = run(folder, "")
    assert (code, other) == (0, 0)
    assert "sealed by rank 0" in said
    assert said.count("refused: run.") == 2
    assert "rank 1 follows rank 0" in said
    (found,) = folder.glob("*.palm.json")
    end, claims = ranked.read(found)
    ranks = end.run.ranks
    assert ranks is not None
    assert (ranks.world_size, ranks.own, ranks.interconnect, ranks.differing) == (2, 0, "none", ())
    use = claims.data["dataset1"].uses["train"]
    assert (use.delivered, len(use.order), use.exact) == (16, 2, True)
    assert use.counts is not None
    assert (use.counts.distinct, use.counts.least, use.counts.greatest) == (8, 2, 2)
    evaluated = [item.uses["eval"] for item in claims.data.values() if "eval" in item.uses]
    numbers = [(item.delivered, item.counts.greatest) for item in evaluated if item.counts is not None]
    assert sorted(numbers) == [(8, 1), (8, 1), (16, 2)]  # each rank's own file, and one that both have read
    assert {name: series.last for name, series in end.run.reported.items()} == {
        "loss": 0.5,
        "loss#rank1": 1.5,
    }
    assert claims.configuration.value["config"]["value"] == {"batch": 4}
    assert len(claims.seeds.value["ranks"]) == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("lr", r"rank 1, at the first step: optimizer.groups[0].options.lr.chain: expected 'palm-sha256:"),
        ("seed", r"rank 1, at the first step: parameters.dec.bias: expected 'palm-sha256:"),
        ("worker", "rank 1 its process has ended, or closed its session: expected all 2 ranks at the end"),
        ("raises", "rank 1 has ended the session: the block raised ValueError: no more data"),
    ],
)
def test_a_rank_that_differs_is_named_in_all(folder: Path, fault: str, says: str) -> None:
    begun = time.monotonic()
    (code, said), (other, told) = run(folder, fault)
    assert code == 3, said
    assert f"CoverageError {says}" in said
    assert other != 0
    if fault == "lr":
        assert "rank 0 has ended the session of all ranks: rank 1, at the first step" in told
    assert time.monotonic() - begun < 60
    assert not list(folder.glob("run.*.palm.json.part"))


def test_other_code_is_named(folder: Path) -> None:
    (folder / "other.py").write_text(SCRIPT + "# another\n")
    (code, said), (other, told) = run(folder, "", second="other.py")
    assert (code, other) == (3, 3)
    assert "rank 1: the code of module '__main__' is another than in rank 0" in said
    assert "rank 0 has ended the session of all ranks" in told


@pytest.mark.parametrize(
    ("fault", "says"), [("absent", "has not opened its session"), ("late", "did not answer")]
)
def test_a_rank_that_does_not_come_in_time_is_named(folder: Path, fault: str, says: str) -> None:
    (code, said), (_, _) = run(folder, fault, deadline_s=5)
    assert code == 3
    assert f"CoverageError rank 1 {says}" in said
