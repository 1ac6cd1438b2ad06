"""One request is answered twice, or one run is sold to one verifier as two."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import stamping
import workshop
from workshop import NOW, put

from palm_torch import verification
from palm_torch.cvm import timestamp
from palm_torch.errors import BindingError, FreshnessError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

    from palm_torch.evidence import Bundle
    from palm_torch.result import AttestationResult


class Desk:
    """A verifier with its policy, its request and its memory, in one folder."""

    def __init__(self, folder: Path, good: GoodRun) -> None:
        self.folder = folder
        self.good = good
        self.store = folder / "seen"
        (folder / "policy.yaml").write_bytes(good.policy_text())
        (folder / "request.json").write_bytes(good.request)

    def shown(self, bundle: Bundle, *, request: bool = True, **options: Any) -> AttestationResult:
        path = self.folder / "shown.palm.json"
        path.write_bytes(bundle.encode())
        return verification.verify(
            path,
            policy=self.folder / "policy.yaml",
            request=self.folder / "request.json" if request else None,
            **({"at": NOW, "seen": self.store} | options),
        )


@pytest.fixture
def desk(tmp_path: Path, good: GoodRun) -> Desk:
    return Desk(tmp_path, good)


def second_answer(good: GoodRun) -> Bundle:
    """Seals the same training once more, as another run, in answer to the same request."""
    run_id = "77" * 16
    begin = put(good.begin, "run_id", run_id).encode()
    end = put(good.end, "run.run_id", run_id).encode()
    bundle = put(put(put(good.bundle, "run_id", run_id), "begin.statement", begin), "end.statement", end)
    return good.resealed(bundle)


def test_a_second_answer_to_one_request(desk: Desk, good: GoodRun) -> None:
    """Best of two: the request was drawn once, and both answers are sealed well."""
    assert good.verify(second_answer(good)).checks
    assert desk.shown(good.bundle).freshness == "challenged"
    with pytest.raises(FreshnessError, match="this request was answered before, by other evidence") as caught:
        desk.shown(second_answer(good))
    assert caught.value.checks
    with pytest.raises(FreshnessError, match="answered before"):
        desk.shown(second_answer(good), again=True)


def test_the_same_answer_again(desk: Desk, good: GoodRun) -> None:
    desk.shown(good.bundle)
    with pytest.raises(FreshnessError, match="this very evidence was accepted before, at 2026-11-21T12:00"):
        desk.shown(good.bundle)
    assert desk.shown(good.bundle, again=True).checks


def test_the_same_run_in_another_wrapping(desk: Desk, good: GoodRun) -> None:
    """A time-stamp token may be added to evidence later: it stays the same evidence."""
    desk.shown(good.bundle)
    authority = stamping.make_authority()
    raw = authority.token(good.bundle.digest_to_stamp().value)
    token = timestamp.normalised(raw, root=authority.root.certificate)
    with pytest.raises(FreshnessError, match="accepted before"):
        desk.shown(dataclasses.replace(good.bundle, timestamp=token))


def test_an_unchallenged_run_is_shown_twice(tmp_path: Path) -> None:
    run = workshop.make_good_run(tmp_path / "keys", challenge=None)
    desk = Desk(tmp_path, run)
    desk.shown(run.bundle, request=False)
    with pytest.raises(FreshnessError, match="accepted before"):
        desk.shown(run.bundle, request=False)


def test_what_is_rejected_is_not_recorded(desk: Desk, good: GoodRun) -> None:
    forged = good.with_end(put(good.end, "claims.steps.taken", lambda taken: taken + 1).encode())
    with pytest.raises(BindingError, match="report data"):
        desk.shown(forged)
    assert desk.shown(good.bundle).checks


def test_a_memory_that_cannot_be_trusted_accepts_nothing(desk: Desk, good: GoodRun) -> None:
    desk.store.write_bytes(b"never seen anything")
    with pytest.raises(InputError, match="seen"):
        desk.shown(good.bundle)
    desk.store.chmod(0o600)
    with pytest.raises(InputError, match="not a database"):
        desk.shown(good.bundle)


def test_twin_a_verifier_without_memory_accepts_both(desk: Desk, good: GoodRun) -> None:
    for bundle in (good.bundle, second_answer(good), good.bundle):
        assert desk.shown(bundle, seen=None).checks
