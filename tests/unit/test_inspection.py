"""What a bundle says of itself: every part of it is shown, and nothing is believed."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import stamping
from rich.console import Console
from workshop import put

from palm_torch import inspection, terminal
from palm_torch.cvm import timestamp
from palm_torch.errors import EvidenceError

if TYPE_CHECKING:
    from composite_run import CompositeRun
    from relay import ResumedRun
    from workshop import GoodRun

    from palm_torch.evidence import Bundle


def stamped(bundle: Bundle) -> Bundle:
    authority = stamping.make_authority()
    raw = authority.token(bundle.digest_to_stamp().value)
    token = timestamp.normalised(raw, root=authority.root.certificate)
    return dataclasses.replace(bundle, timestamp=token)


def shown(bundle: Bundle) -> str:
    out = Console(file=io.StringIO(), width=400, highlight=False, markup=False, emoji=False)
    terminal.show_inspected(out, inspection.inspect(bundle.encode()), Path("shown"))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_segments_are_shown(resumed: ResumedRun) -> None:
    segments = inspection.inspect(resumed.data).document["segments"]
    assert isinstance(segments, list)
    for segment, session in zip(segments, resumed.sessions, strict=False):
        assert isinstance(segment, dict)
        assert segment["run_id"] == session.opening.run_id
        assert isinstance(segment["receipt"], dict)
        assert segment["receipt"]["predicateType"] == "https://palm-torch/predicate/segment/v1"
        assert len(segment["log"] if isinstance(segment["log"], list) else ()) == len(session.log)
    text = shown(resumed.bundle)
    for number, session in enumerate(resumed.sessions[:-1], 1):
        assert f"segment {number} begin mr_td" in text
        assert f"run {session.opening.run_id}, receipt after {number} steps" in text


def test_twin_a_run_in_one_piece_has_none(good: GoodRun) -> None:
    document = inspection.inspect(good.data).document
    assert (document["segments"], document["timestamp"]) == ([], None)
    assert "segment 1" not in shown(good.bundle)


def test_a_time_stamp_is_shown(good: GoodRun) -> None:
    bundle = stamped(good.bundle)
    assert inspection.inspect(bundle.encode()).document["timestamp"] == {
        "time": "2026-11-21T12:30:00+00:00",
        "accuracy": "accurate to 1.5 s",
        "serial": "7",
        "over": str(good.bundle.digest_to_stamp()),
        "over_this_file": True,
        "bytes": len(bundle.timestamp or b""),
    }
    assert "2026-11-21T12:30:00+00:00, accurate to 1.5 s, over this file; by whom is not checked" in shown(
        bundle
    )


def test_a_token_over_something_else_is_shown_as_that(good: GoodRun, resumed: ResumedRun) -> None:
    moved = dataclasses.replace(resumed.bundle, timestamp=stamped(good.bundle).timestamp)
    assert f"over ANOTHER file, {good.bundle.digest_to_stamp()}" in shown(moved)
    assert shown(good.bundle).count("time stamp") == 1
    with pytest.raises(EvidenceError, match="time-stamp token"):
        inspection.inspect(dataclasses.replace(good.bundle, timestamp=b"0").encode())


def test_gpus_are_shown(pair: CompositeRun, good: GoodRun) -> None:
    document = inspection.inspect(pair.data).document
    for name in ("begin", "end"):
        phase = document[name]
        assert isinstance(phase, dict)
        assert isinstance(phase["gpus"], list)
        for chip, gpu in zip(pair.chip_ids, phase["gpus"], strict=True):
            assert isinstance(gpu, dict)
            assert gpu.keys() == {"chip", "driver", "vbios", "mode", "nonce"}
            assert (gpu["chip"], gpu["driver"], gpu["vbios"]) == (chip, "550.90.07", "96.00.9F.00.01")
    assert document["gpu_endorsements"] == {
        "rims": ["NV_GPU_DRIVER_GH100_550.90.07", "NV_GPU_VBIOS_SIM0_0200_882_96009F0001"],
        "ocsp": 5,
        "crls": 0,
    }
    text = shown(pair.bundle)
    for number, chip in enumerate(pair.chip_ids):
        assert f"begin GPU {number}" in text
        assert f"{chip}, driver 550.90.07, VBIOS 96.00.9F.00.01, mode spt" in text
    assert "2 RIMs, 5 OCSP answers, 0 revocation lists" in text
    assert inspection.inspect(good.data).document["gpu_endorsements"] is None
    assert "GPU 0" not in shown(good.bundle)


def test_a_report_that_does_not_parse_is_named(pair: CompositeRun) -> None:
    cut = put(pair.bundle, "end.gpus.1.evidence", lambda report: report[:-1])
    with pytest.raises(EvidenceError, match=r"^end: GPU 1: "):
        inspection.inspect(cut.encode())
