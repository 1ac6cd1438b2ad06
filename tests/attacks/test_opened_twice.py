"""A dataset is opened a second time, so that what is delivered again counts as something else."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import loops
import pytest
import resumable
import torch
from torch.utils.data import ConcatDataset, Subset

from palm_torch import statement
from palm_torch.appraisal import data_rules
from palm_torch.attesting.attested import attested
from palm_torch.data.loader import DataLoader
from palm_torch.errors import ClaimError
from palm_torch.policies.policy import ClaimRules, Range

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.attesting.session import Session
    from palm_torch.roles import Dataset

pytestmark = pytest.mark.usefixtures("fresh_process")

RECORDS = 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return loops.corpus(tmp_path / "corpus", records=RECORDS)


def delivered(run: Session) -> dict[str, Dataset]:
    claims: Any = statement.decode(run.evidence.bundle.end.statement).claims
    return dict(claims.data)


class Script:
    """Reads one dataset through two openings, in turn."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.net = loops.Net()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.openings = [loops.opened(folder) for _ in range(2)]

    def train(self, *places: tuple[int, int]) -> None:
        for opening, start in places:
            part: Any = Subset(self.openings[opening], range(start, start + 2))
            loops.train(self.net, self.optimizer, DataLoader(part, batch_size=2))


def test_a_record_that_comes_through_two_openings_counts_twice(folder: Path) -> None:
    with attested("train", attester="simulated") as run:
        Script(folder).train(*((opening, start) for opening in range(2) for start in range(0, RECORDS, 2)))
    data = delivered(run)
    assert list(data) == ["dataset1"]
    counts = data["dataset1"].uses["train"].counts
    assert counts is not None
    assert (counts.distinct, counts.least, counts.greatest) == (RECORDS, 2, 2)
    once = Range(least=1, greatest=1)
    rules = ClaimRules(
        property="train", data=("any",), initial=("any",), tokenizer=("any",), multiplicity=once
    )
    with pytest.raises(ClaimError, match=r"data\.dataset1\.train, multiplicity"):
        data_rules.check(data, rules)


def test_openings_that_change_places_at_a_checkpoint_make_no_other_order(folder: Path) -> None:
    with attested("train", attester="simulated") as run:
        Script(folder).train((0, 0), (1, 2), (1, 4), (0, 6))
    unbroken = delivered(run)
    file = io.BytesIO()
    try:
        with attested("train", attester="simulated") as run:
            script = Script(folder)
            script.train((0, 0), (1, 2))
            torch.save({"net": script.net.state_dict(), "palm": run.state_dict()}, file)
            raise resumable.Killed  # noqa: TRY301 (as a kill would)
    except resumable.Killed:
        found = resumable.opened(file.getvalue())
    with attested("train", attester="simulated", resume=found["palm"]) as run:
        script = Script(folder)
        script.net.load_state_dict(found["net"])
        script.train((1, 4), (0, 6))
    assert delivered(run) == unbroken


def test_one_batch_of_two_openings_counts_whole(folder: Path) -> None:
    with attested("train", attester="simulated") as run:
        script = Script(folder)
        both: Any = ConcatDataset([Subset(opening, range(3)) for opening in script.openings])
        loops.train(script.net, script.optimizer, DataLoader(both, batch_size=6))
    (use,) = delivered(run)["dataset1"].uses.values()
    assert use.delivered == 6
    assert use.counts is not None
    assert (use.counts.distinct, use.counts.greatest) == (3, 2)
