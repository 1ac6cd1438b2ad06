"""Several evidence files at once: each appraised, linked by digests, and recorded together or not at all."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from rich.console import Console
from workshop import NOW

from palm_torch import appraiser, chain_terminal, chain_verification, cli, collateral_file, verification
from palm_torch.appraisal.chain import Chain, Label, Link, Node
from palm_torch.chain_verification import VerifiedChain
from palm_torch.collateral_file import CollateralFile
from palm_torch.errors import (
    BindingError,
    ClaimError,
    EvidenceError,
    FreshnessError,
    InputError,
    TrustAnchorError,
)
from palm_torch.result import Tier

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.result import AttestationResult


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> GoodRun:
    """Returns a run that went on from the weights of the good one, on another machine."""
    asked = workshop.make_request(nonce="11" * 32)
    run = workshop.make_good_run(tmp_path_factory.mktemp("machine") / "keys", challenge=asked)
    began = dataclasses.replace(at_hand.MODEL, taken="first_step")
    return dataclasses.replace(run, bundle=run.sealed_end("claims.initial", began))


@pytest.fixture
def desk(tmp_path: Path, good: GoodRun, following: GoodRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder with evidence, request and policy of both runs."""
    monkeypatch.chdir(tmp_path)
    for name, run, initial in (("good", good, at_hand.INITIAL), ("next", following, at_hand.MODEL)):
        (tmp_path / f"{name}.palm.json").write_bytes(run.data)
        (tmp_path / f"{name}.json").write_bytes(run.request)
        changes = {"claims.initial": [str(initial.digest)]}
        (tmp_path / f"{name}.yaml").write_bytes(run.policy_text(changes))
    return tmp_path


FILES = ["next.palm.json", "good.palm.json"]
POLICIES = ["next.yaml", "good.yaml"]
REQUESTS = ["good.json", "next.json"]


def collateral_of(run: GoodRun) -> str:
    """Writes what a run's vendor says of its machine, and returns the file's name."""
    assert run.bundle.collateral is not None
    content = CollateralFile(type=collateral_file.TYPE, attester="tdx", collateral=run.bundle.collateral)
    path = Path(f"{run.bundle.run_id}.json")
    collateral_file.write(path, content)
    return str(path)


def check(**options: Any) -> VerifiedChain:
    given: dict[str, Any] = {"evidence": FILES, "policies": POLICIES, "requests": REQUESTS, "at": NOW}
    return chain_verification.verify_chain(**(given | options))


@pytest.mark.usefixtures("desk")
def test_what_one_run_made_the_other_used() -> None:
    found = check()
    assert list(found.results) == FILES
    assert {result.freshness for result in found.results.values()} == {"challenged"}
    assert [node.name for node in found.chain.nodes] == FILES[::-1]
    (link,) = (link for link in found.chain.links if link.producer)
    assert (link.producer, link.role_out, link.role_in) == ("good.palm.json", "model", "initial")
    assert link.label is Label.SIMULATED
    assert found.tier is Tier.WARNING


@pytest.mark.usefixtures("desk")
def test_a_chain_is_one_json_object() -> None:
    found = check()
    document = json.loads(json.dumps(found.to_json()))
    assert document["tier"] == "warning"
    assert document["results"]["good.palm.json"] == found.results["good.palm.json"].to_json()
    assert document["chain"]["loose"] == []


def test_one_policy_for_all(desk: Path, good: GoodRun) -> None:
    other = desk / "other.palm.json"
    run_id = "77" * 16
    begin = workshop.put(good.begin, "run_id", run_id).encode()
    end = workshop.put(good.end, "run.run_id", run_id).encode()
    bundle = workshop.put(good.with_begin(begin), "run_id", run_id)
    other.write_bytes(good.resealed(workshop.put(bundle, "end.statement", end)).encode())
    found = check(
        evidence=["good.palm.json", other], policies=["good.yaml"], requests=[], freshness="not_checked"
    )
    assert found.chain.loose == ("good.palm.json", str(other))


@pytest.mark.usefixtures("desk")
def test_without_at_the_clock_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        appraiser, "datetime", SimpleNamespace(now=lambda zone: asked.append(zone) or NOW.astimezone(zone))
    )
    found = check(at=None)
    assert len(asked) == 1
    assert all(result.time.endswith("(this machine's clock)") for result in found.results.values())


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"policies": POLICIES * 2}, InputError, "expected one policy, or 2, one for each file; got 4"),
        ({"policies": []}, InputError, "expected one policy, or 2"),
        ({"policies": POLICIES[::-1]}, Exception, r"^next\.palm\.json: "),
        ({"requests": REQUESTS[:1]}, FreshnessError, r"^next\.palm\.json: .*not at hand"),
        ({"evidence": FILES[1:], "policies": POLICIES[1:]}, FreshnessError, "none of the files answers"),
        ({"evidence": ["good.palm.json", "missing"]}, InputError, "missing"),
        ({"evidence": ["good.palm.json", "good.yaml"]}, InputError, "good.yaml"),
    ],
)
def test_what_does_not_fit(options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        check(**({"policies": ["good.yaml"] if "evidence" in options else POLICIES} | options))


def test_a_receipt_is_no_part_of_a_chain(desk: Path, resumed: Any) -> None:
    (desk / "a.palm-receipt.json").write_bytes(resumed.sessions[0].file.encode())
    with pytest.raises(InputError, match=r"a\.palm-receipt\.json: a receipt; verify it by itself"):
        check(evidence=["a.palm-receipt.json", "good.palm.json"], requests=[])


def test_nothing_is_recorded_unless_all_is_accepted(desk: Path, good: GoodRun, following: GoodRun) -> None:
    forged = following.with_end(
        workshop.put(following.end, "claims.steps.taken", lambda taken: taken + 1).encode()
    )
    (desk / "next.palm.json").write_bytes(forged.encode())
    order: dict[str, Any] = {"evidence": FILES[::-1], "policies": POLICIES[::-1], "seen": "seen.sqlite"}
    with pytest.raises(BindingError, match=r"^next\.palm\.json: ") as caught:
        check(**order)
    assert caught.value.checks
    (desk / "next.palm.json").write_bytes(following.data)
    assert alone("next").run_id == following.bundle.run_id
    with pytest.raises(FreshnessError, match="this very evidence was accepted before") as refused:
        check(**order)
    assert refused.value.checks
    assert alone("good").run_id == good.bundle.run_id  # the refusal of the second has not recorded the first
    assert check(**order, again=True).results


def alone(name: str) -> AttestationResult:
    return verification.verify(
        f"{name}.palm.json", policy=f"{name}.yaml", request=f"{name}.json", at=NOW, seen="seen.sqlite"
    )


HARDWARE = Link(
    producer="a",
    role_out="model",
    consumer="b",
    role_in="initial",
    digest=None,
    label=Label.HARDWARE,
    reason="",
)
NODES = tuple(Node(name=name, operation="train", run_id=name, strength="hardware") for name in "ab")
WHOLE = Chain(nodes=NODES, links=(HARDWARE,), loose=(), parts=(("a", "b"),))


@pytest.mark.parametrize("of", ["whole", "no links", "loose", "parts", "missing", "declared", "warning"])
def test_a_chain_is_affirming_if_everything_in_it_is(good: GoodRun, of: str) -> None:
    affirming = dataclasses.replace(good.verify(), tier=Tier.AFFIRMING, simulated=False, reservations=())
    results = {"a": affirming, "b": affirming}
    built = {
        "no links": dataclasses.replace(WHOLE, links=()),
        "loose": dataclasses.replace(WHOLE, loose=("b",)),
        "parts": dataclasses.replace(WHOLE, parts=(("a",), ("b",))),
        "missing": dataclasses.replace(
            WHOLE, links=(HARDWARE, dataclasses.replace(HARDWARE, producer=None, label=Label.MISSING))
        ),
        "declared": dataclasses.replace(WHOLE, links=(dataclasses.replace(HARDWARE, label=Label.DECLARED),)),
    }.get(of, WHOLE)
    if of == "warning":
        results["b"] = good.verify()
    expected = Tier.AFFIRMING if of == "whole" else Tier.WARNING
    assert chain_verification._tier(results, built) is expected


def test_runs_that_go_in_a_circle_are_refused_and_not_recorded(desk: Path, following: GoodRun) -> None:
    back = following.sealed_end("claims.model", dataclasses.replace(at_hand.INITIAL, taken="end"))
    (desk / "next.palm.json").write_bytes(back.encode())
    with pytest.raises(ClaimError, match="each used what another of them produced"):
        check(seen="seen.sqlite")
    assert not (desk / "seen.sqlite").exists()


# as it is shown


def words(*more: str) -> list[str]:
    options = [word for pair in zip(("--policy",) * 2, POLICIES, strict=True) for word in pair]
    options += [word for pair in zip(("--request",) * 2, REQUESTS, strict=True) for word in pair]
    return ["verify", *FILES, *options, "--at", NOW.isoformat(), *more]


@pytest.mark.usefixtures("desk")
def test_the_command_shows_links_and_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words()) == cli.ACCEPTED
    out = capsys.readouterr().out
    assert "initial <- [1] model (simulated, " in out
    assert out.count("ACCEPTED (warning): simulated TEE") == 2
    assert "(named, palm-sha256:" in out
    assert "no evidence given here produced it; the policy names its digest" in out
    assert " ".join(out.split()).count("comes from: the policy names its digest, and no evidence") == 3
    assert out.splitlines()[-1].startswith("ACCEPTED (warning): chain of 2 runs; links: 3 named, 1 simulated")


@pytest.mark.usefixtures("desk")
def test_what_only_the_policy_names_is_said_to_be_left_open() -> None:
    verified = check()
    named = [link for link in verified.chain.links if link.label is Label.NAMED]
    assert [f"where {link.role_in} of {link.consumer} comes from" for link in named] == [
        said.partition(":")[0] for said in verified.not_checked
    ]
    assert all(link.producer is None and link.reason for link in named)


@pytest.mark.usefixtures("desk")
def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words("--json")) == cli.ACCEPTED
    assert json.loads(capsys.readouterr().out)["tier"] == "warning"


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("more", [("--artifact", "model=good.json"), ("--closing", "good.palm.json")])
def test_what_goes_with_one_file_alone(capsys: pytest.CaptureFixture[str], more: tuple[str, str]) -> None:
    assert cli.main(words(*more)) == cli.USAGE
    assert "a single piece of evidence" in capsys.readouterr().err


def test_the_color_of_a_line_follows_its_label_and_no_name(good: GoodRun) -> None:
    evil = "(MISSING"
    nodes = (dataclasses.replace(NODES[0], name=evil), NODES[1])
    missing = dataclasses.replace(HARDWARE, producer=None, label=Label.MISSING, role_in="data.d")
    built = Chain(nodes=nodes, links=(dataclasses.replace(HARDWARE, producer=evil), missing), loose=())
    out = Console(
        file=io.StringIO(), width=200, force_terminal=True, color_system="standard", highlight=False
    )
    verified = VerifiedChain(tier=Tier.WARNING, results={evil: good.verify()}, chain=built)
    chain_terminal.show(out, verified)
    assert isinstance(out.file, io.StringIO)
    colored = [
        line for line in out.file.getvalue().splitlines() if "\x1b[33m" in line and "ACCEPTED" not in line
    ]
    assert len(colored) == 1
    assert "data.d <- (MISSING)" in colored[0]
    assert (
        chain_terminal.verdict(verified)
        == "ACCEPTED (warning): chain of 2 runs; links: 1 hardware, 1 missing"
    )


# Collateral ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("desk")
def test_collateral_once_for_all_or_once_for_each(good: GoodRun, following: GoodRun) -> None:
    for name, run in (("good", good), ("next", following)):
        Path(f"{name}.palm.json").write_bytes(workshop.put(run.bundle, "collateral", None).encode())
    each = [collateral_of(following), collateral_of(good)]
    assert check(collaterals=each).tier is Tier.WARNING
    words = [*FILES, *(word for path in POLICIES for word in ("--policy", path))]
    words += [word for path in REQUESTS for word in ("--request", path)]
    words += ["--at", "2026-11-21T12:00:00Z"]
    assert cli.main(["verify", *words, *(word for path in each for word in ("--collateral", path))]) == 0
    for wrong in (each[:1], each[1:], each[::-1]):  # the machines have different roots
        with pytest.raises(TrustAnchorError):
            check(collaterals=wrong)
    with pytest.raises(EvidenceError, match=r"next\.palm\.json: evidence: no collateral"):
        check()
    with pytest.raises(InputError, match="expected one collateral file, or 2, one for each file; got 3"):
        check(collaterals=[*each, each[0]])
    assert (
        cli.main(["verify", FILES[0], "--policy", POLICIES[0], *("--collateral", each[0]) * 2]) == cli.USAGE
    )
