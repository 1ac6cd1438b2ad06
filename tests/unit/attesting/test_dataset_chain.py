"""From raw bytes to a model: real evidence of each step, linked by digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dataset_runs
import loops
import pytest
import torch

import palm_torch
from palm_torch.appraisal import chain, claims
from palm_torch.appraisal.chain import Label, Member
from palm_torch.attesting.session import Session
from palm_torch.chain_verification import _tier
from palm_torch.policies import policy
from palm_torch.result import Tier

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.result import Strength


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Session]:
    folder = tmp_path_factory.mktemp("chain")
    raw = dataset_runs.raw(folder)
    made = {"bind": dataset_runs.bound(raw)}
    made["preprocess"] = dataset_runs.preprocessed(raw, folder / "tokens", by=1)
    made["distribute"] = dataset_runs.distributed(folder / "tokens")
    made["train"] = trained(folder / "tokens")
    made["train on raw"] = trained(raw)
    return made


def trained(path: Path) -> Session:
    torch.manual_seed(0)
    net = loops.Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with palm_torch.attested("train", attester="simulated") as run:
        data = palm_torch.AttestedMmapDataset(path, targets=True)
        loops.train(net, optimizer, palm_torch.DataLoader(data, batch_size=6))
    assert isinstance(run, Session)
    return run


def member(name: str, run: Session, strength: Strength = "simulated", **named: list[str]) -> Member:
    end = dataset_runs.end_of(run)
    rules = policy.parse(loops.policy_text(run, **named)).claims if named else None
    return Member(
        name=name,
        statement=end,
        strength=strength,
        reserved=False,
        named={} if rules is None else claims.named(rules),
    )


def test_every_step_names_the_one_before(runs: dict[str, Session]) -> None:
    names = ["train", "distribute", "preprocess", "bind"]
    built = chain.build([member(name, runs[name]) for name in names])
    links = {(link.producer, link.role_out, link.consumer, link.role_in) for link in built.links}
    assert links == {
        ("bind", "manifest", "preprocess", "data.dataset1"),
        ("preprocess", "produced.tokens", "distribute", "data.dataset1"),
        ("preprocess", "produced.tokens", "train", "data.dataset1"),
        (None, None, "train", "initial"),
    }
    assert [node.name for node in built.nodes][:2] == ["bind", "preprocess"]
    assert built.loose == ()


def test_a_binding_and_a_training_can_be_affirming_under_a_policy(runs: dict[str, Session]) -> None:
    train = dataset_runs.end_of(runs["train on raw"]).claims
    initial = str(train.initial.digest)  # type: ignore[union-attr]  # of training
    bound = member("bind", runs["bind"], "hardware")
    for named, label in ((["any"], Label.MISSING), ([initial], Label.NAMED)):
        built = chain.build([bound, member("train", runs["train on raw"], "hardware", initial=named)])
        found = {link.role_in: link.label for link in built.links}
        assert found == {"data.dataset1": Label.HARDWARE, "initial": label}
        assert _tier({}, built) is (Tier.AFFIRMING if label is Label.NAMED else Tier.WARNING)


def test_a_digest_named_for_another_role_says_nothing(runs: dict[str, Session]) -> None:
    train = dataset_runs.end_of(runs["train on raw"]).claims
    initial = str(train.initial.digest)  # type: ignore[union-attr]  # of training
    built = chain.build([member("train", runs["train on raw"], "hardware", data=[initial])])
    assert {link.role_in: link.label for link in built.links} == {
        "data.dataset1": Label.MISSING,
        "initial": Label.MISSING,
    }


def test_data_of_another_binding_is_missing(runs: dict[str, Session], tmp_path: Path) -> None:
    other = dataset_runs.bound(dataset_runs.raw(tmp_path, seed=5))
    built = chain.build([member("bind", other), member("train", runs["train on raw"])])
    assert {link.label for link in built.links} == {Label.MISSING}
    assert set(built.loose) == {"bind", "train"}
