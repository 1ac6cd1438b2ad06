"""An operator passes off somebody else's work as the earlier part of his run."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import relay
import workshop
from workshop import put

from palm_torch.cvm import simulated_quote
from palm_torch.errors import BindingError, FreshnessError, PlatformError, TrustAnchorError
from palm_torch.evidence import Challenge

if TYPE_CHECKING:
    from pathlib import Path

    from relay import ResumedRun
    from workshop import GoodRun


def test_a_segment_of_another_run_of_the_same_machine(resumed: ResumedRun) -> None:
    other = relay.make(resumed.machine, resumed.request)
    assert resumed.verify(other.bundle).checks  # as good as ours, by itself
    for index in (0, 1):
        with pytest.raises(BindingError, match="goes on from"):
            resumed.verify(put(resumed.bundle, f"segments.{index}", other.bundle.segments[index]))
    with pytest.raises(BindingError, match="the sealed session: it goes on from"):
        resumed.verify(put(resumed.bundle, "segments", other.bundle.segments))


def test_a_run_that_was_never_resumed_gets_a_past(resumed: ResumedRun, good: GoodRun) -> None:
    """A short run is dressed up with the checkpoints of a long one."""
    with_a_past = put(good.bundle, "segments", resumed.bundle.segments)
    with pytest.raises(TrustAnchorError, match=r"^segment 1: "):
        good.verify(with_a_past)  # of another machine
    short = relay.make(resumed.machine, resumed.request, bend=relay.only("begin", 3, not_resumed))
    with pytest.raises(
        BindingError, match="the sealed session: it goes on from nothing, but the segment before"
    ):
        resumed.verify(short.bundle)


def not_resumed(begin: Any) -> Any:
    return put(begin, "resumes", None)


def test_the_past_of_a_resumed_run_is_left_out(resumed: ResumedRun) -> None:
    """Bad data was read before the checkpoint; the bundle is handed over without that part."""
    with pytest.raises(BindingError, match=r"the sealed session: it goes on from .* before it is missing"):
        resumed.verify(put(resumed.bundle, "segments", ()))
    with pytest.raises(BindingError, match=r"segment 1: it goes on from .* before it is missing"):
        resumed.verify(put(resumed.bundle, "segments", resumed.bundle.segments[1:]))


def test_a_segment_of_a_machine_with_another_root(resumed: ResumedRun, tmp_path: Path) -> None:
    own = workshop.machine(tmp_path / "keys")
    mixed = relay.make(resumed.machine, resumed.request, machines={1: own})
    with pytest.raises(TrustAnchorError, match=r"^segment 1: "):
        resumed.verify(mixed.bundle)


def test_a_segment_of_another_image(resumed: ResumedRun) -> None:
    """The earlier session ran in a trust domain with software of the operator's own."""
    signed = []

    def debug(what: str, number: int, value: Any) -> Any:
        if (what, number) != ("segments", 3):
            return value
        first = value[0]
        report = simulated_quote.make_td_report(
            workshop.report_data(first.session, "begin"), rtmr3=simulated_quote.RTMR_ZERO
        )
        elsewhere = dataclasses.replace(report, mr_td=bytes(48))
        signed.append(simulated_quote.sign_quote(resumed.machine._authority, elsewhere))
        return (put(first, "session.begin.quote", signed[0]), *value[1:])

    with pytest.raises(PlatformError, match="segment 1: mr_td: expected"):
        resumed.verify(resumed.bent(debug))
    assert signed


def test_old_work_is_shown_as_the_answer_to_a_new_request(resumed: ResumedRun) -> None:
    """Only the last step is made under the verifier's challenge; the rest was trained long before."""
    for kind in ("unchallenged", "challenged"):
        before = Challenge(kind=kind, nonce=b"\1" * 32)  # type: ignore[arg-type]
        old = resumed.bent(
            lambda what, number, value, before=before: before if what == "challenge" and number < 3 else value
        )
        with pytest.raises(
            FreshnessError, match=f"segment 1: the evidence answers .* this part of the run is {kind}"
        ):
            resumed.verify(old)


def test_twin_a_chain_over_two_machines_of_one_vendor_is_good(resumed: ResumedRun) -> None:
    """A run may move: what counts is that each machine is one that the policy accepts."""
    elsewhere: Any = workshop.Neighbour(resumed.machine)
    moved = relay.make(resumed.machine, resumed.request, machines={2: elsewhere})
    (detail,) = [check.detail for check in resumed.verify(moved.bundle).checks if check.name == "segments"]
    assert detail.endswith("the sessions before ran on 2 machines")
