"""Work that was done once is sold twice: two runs go on from one checkpoint, or one from a sealed session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import relay
import workshop
from workshop import NOW

from palm_torch import chain_verification, verification
from palm_torch.appraisal import chain_text
from palm_torch.errors import FreshnessError

if TYPE_CHECKING:
    from pathlib import Path

    from relay import ResumedRun

    from palm_torch.chain_verification import VerifiedChain


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResumedRun, ResumedRun, ResumedRun]:
    """Three runs: the second went on from the first's second session, the third began anew."""
    machine = workshop.machine(tmp_path_factory.mktemp("machine") / "keys")
    first = relay.make(machine, None)
    return first, relay.make(machine, None, before=first.sessions[:2]), relay.make(machine, None)


@pytest.fixture
def desk(tmp_path: Path, runs: tuple[ResumedRun, ...], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_bytes(runs[0].policy_text())
    for name, run in zip("abc", runs, strict=True):
        (tmp_path / f"{name}.palm.json").write_bytes(run.bundle.encode())
    return tmp_path


def shown(name: str, **options: Any) -> Any:
    return verification.verify(
        f"{name}.palm.json", policy="policy.yaml", **({"at": NOW, "seen": "seen"} | options)
    )


def chained(names: str, **options: Any) -> VerifiedChain:
    files = [f"{name}.palm.json" for name in names]
    return chain_verification.verify_chain(files, policies=["policy.yaml"], at=NOW, **options)


@pytest.mark.usefixtures("desk")
def test_the_second_run_is_refused_by_a_verifier_with_a_memory(runs: tuple[ResumedRun, ...]) -> None:
    session = runs[0].sessions[0].opening.run_id
    assert shown("a").checks
    for again in (False, True):
        with pytest.raises(FreshnessError, match=f"session {session} is part of run") as caught:
            shown("b", again=again)
        assert caught.value.checks
    assert shown("a", again=True).checks
    assert shown("c").checks, "the twin: a run of its own counts for itself"


@pytest.mark.usefixtures("desk")
def test_both_at_once_are_refused_too() -> None:
    with pytest.raises(FreshnessError, match="its steps count once"):
        chained("ab", seen="seen")
    assert shown("b").checks, "nothing was recorded"


@pytest.mark.usefixtures("desk")
def test_without_a_memory_the_chain_says_what_they_share(runs: tuple[ResumedRun, ...]) -> None:
    found = chained("abc")
    session = runs[0].sessions[1].opening.run_id
    (shared,) = found.chain.shared
    assert (shared.names, shared.session, shared.steps) == (("a.palm.json", "b.palm.json"), session, 2)
    lines = [line for line, _ in chain_text.render(found.chain, escape=str) if "shares" in line]
    said = f"shares session {session[:8]} with [%d], up to step 2: that work was done once"
    assert [line.strip() for line in lines] == [said % 2, said % 1]
    assert chained("ac").chain.shared == ()
