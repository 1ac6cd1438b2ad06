"""What ranks have to agree on, with what one real run says bent a little for the second rank."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import loops
import pytest
import torch

from palm_torch import codec, statement
from palm_torch.attesting import ranks_agreement, ranks_facts, ranks_machines, ranks_merge, ranks_share
from palm_torch.attesting.attested import attested
from palm_torch.attesting.ranks_share import RankShare
from palm_torch.data.loader import DataLoader
from palm_torch.data.shares import CountMap
from palm_torch.digest import SHA256, TAGGED_SHA256, Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import CoverageError
from palm_torch.roles import Artifact, Source, Value
from palm_torch.statement import CodeSource, Device, SourceFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.properties import Train
    from palm_torch.statement import Run

ROOT = Digest(TAGGED_SHA256, bytes(32))


class Net(loops.Net):
    """A model with a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(2))


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> RankShare:
    folder = loops.corpus(tmp_path_factory.mktemp("agree") / "corpus", records=4)
    net = Net()
    with attested("train", attester="simulated") as run:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        loops.train(net, optimizer, DataLoader(loops.opened(folder), batch_size=2))
        run.log(loss=1.0)
        run.config(depth=2)
        run.output(report=b"fine")
    measured: Any = run._measured
    end = statement.decode(run.evidence.bundle.end.statement)
    return RankShare(rank=0, end=end, maps=measured.maps(), buffers=("seen",), parted=False, same={})


def bent(share: RankShare, **changes: Any) -> RankShare:
    """Returns the share of rank 1, with roles of its property changed."""
    claims = dataclasses.replace(share.train, **changes)
    return dataclasses.replace(share, rank=1, end=dataclasses.replace(share.end, claims=claims))


def in_run(share: RankShare, **changes: Any) -> RankShare:
    run = dataclasses.replace(share.end.run, **changes)
    return dataclasses.replace(share, rank=1, end=dataclasses.replace(share.end, run=run))


def configured(share: RankShare, change: Callable[[dict[str, Any]], object]) -> RankShare:
    value = json.loads(encode_json(share.train.configuration.value))
    change(value)
    return bent(share, configuration=Value(source=Source.MEASURED, value=value))


def merged(*shares: RankShare) -> tuple[Run, Train, ranks_merge.Together]:
    found = ranks_merge.merge(shares, why_unattested=lambda device: None if device.type == "cpu" else "none")
    claims: Any = found.end.claims
    return found.end.run, claims, found


def weights_with(share: RankShare, role: str, name: str) -> RankShare:
    held = getattr(share.train, role)
    tensors = tuple(
        dataclasses.replace(tensor, root=ROOT) if tensor.name == name else tensor for tensor in held.tensors
    )
    return bent(share, **{role: dataclasses.replace(held, tensors=tensors)})


def test_ranks_that_say_the_same_are_one(share: RankShare) -> None:
    run, claims, found = merged(share, bent(share))
    use = claims.data["dataset1"].uses["train"]
    assert (use.delivered, len(use.order), found.differing) == (8, 2, ())
    assert sorted(run.reported) == ["loss", "loss#rank1"]
    assert sorted(run.outputs) == ["report"]
    assert claims.configuration.value["config"]["value"] == {"depth": 2}
    assert claims.seeds.value["ranks"] == [share.train.seeds.value]
    assert claims.configuration.value["steps_without_new_records"] == 0
    assert found.end.encode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda value: value["optimizers"][0]["groups"][0]["options"]["lr"].update(last=0.2),
            "optimizers[0].groups[0].options.lr.last: expected 0.1, as in rank 0, got 0.2",
        ),
        (lambda value: value["optimizers"][0].update(steps=9), "optimizers[0].steps: expected 2"),
        (lambda value: value["optimizers"].append({}), "optimizers: expected 1 of them, as in rank 0, got 2"),
        (
            lambda value: value["optimizers"][0].update(begun_with=str(ROOT)),
            "optimizer state before the first step[0]: expected none",
        ),
        (lambda value: value["scalers"].append({"lowered": 1}), "scalers: expected 0 of them"),
        (lambda value: value["extra_state"].append("a"), "modules that keep state of their own: expected 0"),
    ],
)
def test_other_settings_are_named(
    share: RankShare, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    with pytest.raises(CoverageError) as raised:
        merged(share, configured(share, change))
    assert str(raised.value).startswith(f"rank 1: {says}")


def test_another_model_is_named(share: RankShare) -> None:
    other = dataclasses.replace(share.train.architecture, digest=ROOT)
    with pytest.raises(CoverageError, match="rank 1: architecture: expected 'palm-sha256:"):
        merged(share, bent(share, architecture=other))
    with pytest.raises(
        CoverageError, match="rank 1: parts of parameters: expected 'none', as in rank 0, got 'some'"
    ):
        merged(share, dataclasses.replace(bent(share), parted=True))
    named = dataclasses.replace(weights_with(share, "model", "dec.bias"), buffers=("dec.bias", "seen"))
    with pytest.raises(CoverageError, match="rank 1: buffers: expected 1 of them, as in rank 0, got 2"):
        merged(share, named)
    steps = dataclasses.replace(share.train.steps, taken=7)
    with pytest.raises(CoverageError, match=r"rank 1: steps\.taken: expected 2, as in rank 0, got 7"):
        merged(share, bent(share, steps=steps))


@pytest.mark.parametrize(("role", "when"), [("initial", "before the first step"), ("model", "at the end")])
def test_a_replica_that_differs_is_named_and_a_buffer_listed(share: RankShare, role: str, when: str) -> None:
    with pytest.raises(
        CoverageError, match=rf"rank 1: tensor dec\.bias {when}: expected float32 \[16\] palm"
    ):
        merged(share, weights_with(share, role, "dec.bias"))
    _, claims, found = merged(share, weights_with(share, role, "seen"))
    assert found.differing == ("seen",)
    assert claims.model == share.train.model
    held = getattr(share.train, role)
    rest = tuple(tensor for tensor in held.tensors if tensor.name != "enc.weight")
    fewer = bent(share, **{role: dataclasses.replace(held, tensors=rest)})
    with pytest.raises(CoverageError, match=r"tensor enc\.weight .*: expected it to be there"):
        merged(share, fewer)
    with pytest.raises(CoverageError, match=r"tensor enc\.weight .*: expected none of this name"):
        merged(fewer, share)


def test_code_is_the_union_and_no_module_has_two_digests(share: RankShare) -> None:
    code = share.end.run.code
    more = SourceFile(module="zz.logger", digest=Digest(SHA256, bytes(32)), reason=None)
    run, _, _ = merged(share, in_run(share, code=dataclasses.replace(code, files=(*code.files, more))))
    assert run.code.files[-1] == more
    assert run.code.digest != code.digest
    first = dataclasses.replace(code.files[0], digest=Digest(SHA256, bytes(32)), reason=None)
    edited = dataclasses.replace(code, files=(first, *code.files[1:]))
    with pytest.raises(CoverageError, match=f"rank 1: the code of module '{first.module}' is another"):
        merged(share, in_run(share, code=edited))
    how = dataclasses.replace(code, source=CodeSource.IMPORTED)
    with pytest.raises(CoverageError, match="start all ranks alike"):
        merged(share, in_run(share, code=how))


def test_code_of_others_than_the_first_does_not_clash_either(share: RankShare) -> None:
    code = share.end.run.code

    def with_helper(rank: int, byte: int) -> RankShare:
        helper = SourceFile(module="zz.helper", digest=Digest(SHA256, bytes([byte]) * 32), reason=None)
        found = in_run(share, code=dataclasses.replace(code, files=(*code.files, helper)))
        return dataclasses.replace(found, rank=rank)

    with pytest.raises(
        CoverageError, match=r"rank 2: the code of module 'zz\.helper' is another than in rank 1"
    ):
        merged(share, with_helper(1, 1), with_helper(2, 2))
    run, _, _ = merged(share, with_helper(1, 1), with_helper(2, 1))
    assert [file.module for file in run.code.files].count("zz.helper") == 1


def test_environments_agree_but_for_packages_and_own_devices(share: RankShare) -> None:
    value = share.end.run.environment.value
    package = {"name": "aa", "version": "1", "record": None, "reason": "x"}
    variables = {**value["variables"], "CUDA_VISIBLE_DEVICES": "1"}
    other = {**value, "packages": [*value["packages"], package], "variables": variables}
    run, _, _ = merged(share, in_run(share, environment=Value(source=Source.MEASURED, value=other)))
    assert run.environment.value["packages"][-1] == package
    threads = {**value, "threads": {**value["threads"], "intra_op": 99}}
    with pytest.raises(
        CoverageError, match=r"rank 1: environment\.threads\.intra_op: expected \d+, as in rank 0, got 99"
    ):
        merged(share, in_run(share, environment=Value(source=Source.MEASURED, value=threads)))


def test_what_is_said_otherwise_keeps_the_number_of_its_rank(share: RankShare) -> None:
    report = Artifact(source=Source.MEASURED, kind="bytes", digest=Digest(SHA256, bytes(32)))
    run, _, _ = merged(share, in_run(share, outputs={"report": report, "more": report}))
    assert sorted(run.outputs) == ["more", "report", "report#rank1"]
    assert run.outputs["report#rank1"] == report


def test_one_tokenizer_for_all_that_name_one(share: RankShare) -> None:
    words = [
        Artifact(source=Source.MEASURED, kind="bytes", digest=Digest(SHA256, bytes([n]) * 32)) for n in (1, 2)
    ]
    _, claims, _ = merged(share, bent(share, tokenizer=words[0]))
    assert claims.tokenizer == words[0]
    with pytest.raises(CoverageError, match=r"rank 1: run\.input\(tokenizer=\.\.\.\): expected sha256:0101"):
        merged(bent(share, tokenizer=words[0]), bent(share, tokenizer=words[1]))
    third = dataclasses.replace(bent(share, tokenizer=words[1]), rank=2)
    with pytest.raises(CoverageError, match=r"rank 2: run\.input\(tokenizer.*as in rank 1, got sha256:0202"):
        merged(share, bent(share, tokenizer=words[0]), third)


def test_a_device_without_evidence_is_refused(share: RankShare) -> None:
    gpu = Device("cuda", "H100", "GPU-1")
    with pytest.raises(CoverageError, match="rank 1: steps tensors on 'cuda', of which there is no evidence"):
        merged(share, in_run(share, devices=(gpu,)))


def test_states_of_parts_are_one_state(share: RankShare) -> None:
    def begun(state: Digest) -> RankShare:
        found = configured(share, lambda value: value["optimizers"][0].update(begun_with=str(state)))
        return dataclasses.replace(found, parted=True)

    _, claims, _ = merged(begun(ROOT), begun(Digest(TAGGED_SHA256, bytes([1]) * 32)))
    state = claims.configuration.value["optimizers"][0]["begun_with"]
    assert state not in (str(ROOT), None)
    assert merged(begun(ROOT), begun(ROOT))[1].configuration.value["optimizers"][0]["begun_with"] == str(ROOT)


# Shares on the way ---------------------------------------------------------------------------------------


def test_a_share_arrives_as_it_was(share: RankShare) -> None:
    parts = [bytes(part) for part in ranks_share.encode(share)]
    found = ranks_share.decode(0, parts)
    assert found.end == share.end
    assert {key: bytes(item.counts) for key, item in found.maps.items()} == {
        key: bytes(item.counts) for key, item in share.maps.items()
    }
    for wrong in (parts[:1], parts[:2], [*parts, b""], [b"{}", *parts[1:]], [parts[0], b"{}", *parts[2:]]):
        with pytest.raises(CoverageError, match="rank 5: what it tells of its run cannot be read"):
            ranks_share.decode(5, wrong)


def test_counts_that_do_not_fit_the_statement_are_refused(share: RankShare) -> None:
    ((key, _),) = share.maps.items()
    with pytest.raises(CoverageError, match="does not fit together: coverage of dataset1, train"):
        merged(share, dataclasses.replace(bent(share), maps={key: CountMap(b"\1\1\1\2", 1)}))


# The first step ------------------------------------------------------------------------------------------


def facts(share: RankShare, **more: Any) -> dict[str, Any]:
    run = share.end.run
    told: dict[str, Any] = {"architecture": "a", "parameters": {"w": "1"}, "optimizer": {"lr": 0.1}}
    return ranks_facts.of({**told, **more}, code=run.code, environment=run.environment)


def test_ranks_compare_before_the_first_step(share: RankShare) -> None:
    own = facts(share)
    assert ranks_facts.read(1, [encode_json(own)]) == own
    ranks_facts.check({0: own, 1: facts(share)})
    for name, other, says in (
        ("architecture", "b", "architecture: expected 'a', as in rank 0, got 'b'"),
        ("parameters", {"w": "2"}, "parameters.w: expected '1', as in rank 0, got '2'"),
        ("optimizer", {"lr": 0.2}, "optimizer.lr: expected 0.1, as in rank 0, got 0.2"),
        ("environment", {}, "environment."),
    ):
        with pytest.raises(CoverageError) as raised:
            ranks_facts.check({0: own, 4: {**own, name: other}})
        assert str(raised.value).startswith(f"rank 4, at the first step: {says}")
    edited = [{**own, "code": {**own["code"], "helper": digest}} for digest in ("x", "y")]
    with pytest.raises(CoverageError, match="rank 2: the code of module 'helper' is another than in rank 1"):
        ranks_facts.check({0: own, 1: edited[0], 2: edited[1]})
    for wrong in ([], [b"[]"], [b"{ }"]):
        with pytest.raises(CoverageError, match="rank 3, at the first step"):
            ranks_facts.read(3, wrong)
    with pytest.raises(CoverageError, match="expected digests of modules"):
        ranks_facts.check({0: own, 1: {**own, "code": [1]}})


def test_machines_compare_before_the_first_step(share: RankShare) -> None:
    own = ranks_facts.digests(facts(share)).encode()
    ranks_facts.check_machines([own, own])
    other = ranks_facts.digests(facts(share, parameters={"w": "2"})).encode()
    with pytest.raises(CoverageError, match="machine 1, at the first step: parameters: expected sha256"):
        ranks_facts.check_machines([own, other])
    helper = ranks_facts.digests({**facts(share), "code": {"helper": "x"}}).encode()
    another = ranks_facts.digests({**facts(share), "code": {"helper": "y"}}).encode()
    with pytest.raises(CoverageError, match=r"machine 2, at the first step: module 'helper': .* machine 1"):
        ranks_facts.check_machines([own, helper, another])


# Machines ------------------------------------------------------------------------------------------------


def agreed(share: RankShare) -> ranks_machines.Agreed:
    return ranks_machines.agreed(merged(share)[2], share)


def told(share: RankShare, **changes: Any) -> bytes:
    return encode_json(codec.to_json(dataclasses.replace(agreed(share), **changes)))


def test_machines_agree_on_the_model_and_list_buffers(share: RankShare) -> None:
    own = agreed(share)
    assert ranks_machines.check([told(share)] * 2, own) == ()
    assert ranks_machines.check([told(share), told(weights_with(share, "model", "seen"))], own) == ("seen",)
    for other, says in (
        (weights_with(share, "model", "dec.bias"), "model"),
        (weights_with(share, "initial", "dec.bias"), "initial"),
        (bent(share, steps=dataclasses.replace(share.train.steps, taken=7)), "optimizers"),
    ):
        with pytest.raises(CoverageError, match=f"machine 1: {says}: expected .*, as on machine 0, got"):
            ranks_machines.check([told(share), told(other)], own)
    with pytest.raises(CoverageError, match="machine 1: what it says of the run"):
        ranks_machines.check([told(share), b"{}"], own)


def test_the_first_difference_is_named() -> None:
    assert ranks_agreement.difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == (".a[1].b", "2", "3")
    assert ranks_agreement.difference({"a": None}, {}) == (".a", "none", "none")
    assert ranks_agreement.difference({"a": 1}, {"a": 1}) is None
