"""Bundles: limits, strict decoding, and files that are written whole or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from workshop import put

from palm_torch import evidence
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import EncodingError, EvidenceError, SealError
from palm_torch.evidence import Bundle, Challenge, Evidence, GpuEvidence, Phase

if TYPE_CHECKING:
    from workshop import GoodRun


def document(good: GoodRun, **changes: Any) -> bytes:
    value = decode_json(good.data, what="bundle", max_bytes=len(good.data))
    assert isinstance(value, dict)
    return encode_json({**value, **changes})


# There and back -----------------------------------------------------------------------------------


def test_there_and_back(good: GoodRun) -> None:
    assert evidence.decode(good.data) == good.bundle
    assert evidence.decode(good.data).encode() == good.data


def test_one_document_and_nothing_around_it(good: GoodRun) -> None:
    for data in (good.data + b"\n", b" " + good.data, good.data + good.data, good.data[:-1], good.data[1:]):
        with pytest.raises(EvidenceError):
            evidence.decode(data)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Bundle)])
def test_every_key_is_mandatory(good: GoodRun, field: Any) -> None:
    value = decode_json(good.data, what="bundle", max_bytes=len(good.data))
    assert isinstance(value, dict)
    del value[field]
    with pytest.raises(EvidenceError, match=f"^evidence: missing key '{field}'$"):
        evidence.decode(encode_json(value))


def test_malformed_documents(good: GoodRun) -> None:
    for changes, message in (
        ({"media_type": "application/json"}, "this version reads .* the bundle says 'application/json'"),
        ({"media_type": evidence.MEDIA_TYPE.replace("=1", "=2")}, "this version reads"),
        ({"attester": "simulated"}, "one of 'tdx', 'snp'"),
        ({"simulated": False}, "unknown key 'simulated'"),
        ({"challenge": {"kind": "fresh", "nonce": ""}}, "expected one of"),
        ({"challenge": {"kind": "challenged", "nonce": "AAAA"}}, "nonce: expected 32 bytes, got 3"),
        ({"session_key": "AB=="}, "base64"),
        ({"log": [""] * (evidence.MAX_LOG_ENTRIES + 1)}, "log: expected at most 100000 entries"),
        ({"collateral": {"tcb_info": 1}}, "expected str"),
    ):
        with pytest.raises(EvidenceError, match=message):
            evidence.decode(document(good, **changes))
    with pytest.raises(EvidenceError, match=r"run\.palm\.json: not a JSON document"):
        evidence.decode(b"", what="run.palm.json")
    with pytest.raises(EvidenceError, match="expected an object"):
        evidence.decode(b"[]")


def test_a_file_that_is_too_long() -> None:
    with pytest.raises(EvidenceError, match="expected at most 67108864 bytes, got 67108865"):
        evidence.decode(bytes(evidence.MAX_BUNDLE_BYTES + 1))


# Limits -------------------------------------------------------------------------------------------

LIMITS = {
    "session_key": ("session_key", bytes(evidence.MAX_SESSION_KEY_BYTES)),
    "log": ("log", (b"",) * evidence.MAX_LOG_ENTRIES),
    "a log entry": ("log", (b"", bytes(evidence.MAX_LOG_ENTRY_BYTES))),
    "quote": ("end.quote", bytes(evidence.MAX_QUOTE_BYTES)),
    "statement": ("begin.statement", bytes(16 << 20)),
    "gpus": ("end.gpus", (GpuEvidence(evidence=b"", chain=b""),) * evidence.MAX_GPUS),
}


@pytest.mark.parametrize("name", LIMITS)
def test_each_part_has_a_limit_and_may_reach_it(good: GoodRun, name: str) -> None:
    path, most = LIMITS[name]
    put(good.bundle, path, most)
    one_more = (*most[:-1], most[-1] + b"x") if name == "a log entry" else most + most[:1]
    with pytest.raises(EncodingError, match=f"^{name}: expected at most"):
        put(good.bundle, path, one_more)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_nonce_has_32_bytes(length: Any) -> None:
    with pytest.raises(EncodingError, match=f"nonce: expected 32 bytes, got {length}"):
        Challenge(kind="challenged", nonce=bytes(length))


def test_an_empty_log_is_within_limits(good: GoodRun) -> None:
    assert put(good.bundle, "log", ()).log == ()
    assert Phase(statement=b"", quote=b"", gpus=()).gpus == ()


# Files --------------------------------------------------------------------------------------------


def test_reading_a_file_of_limited_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert evidence.read_bounded(path, max_bytes=5, what="evidence") == b"12345"
    with pytest.raises(EvidenceError, match="evidence is larger than 4 bytes"):
        evidence.read_bounded(path, max_bytes=4, what="evidence")
    with pytest.raises(EvidenceError, match="cannot read evidence: No such file"):
        evidence.read_bounded(tmp_path / "missing", max_bytes=4, what="evidence")
    with pytest.raises(EvidenceError, match="cannot read evidence: Is a directory"):
        evidence.read_bounded(tmp_path, max_bytes=4, what="evidence")


def sealed(good: GoodRun, *, simulated: bool = True, **sidecars: Any) -> Evidence:
    return Evidence(
        bundle=good.bundle,
        simulated=simulated,
        sidecars={f".{name}.coverage": write for name, write in sidecars.items()},
    )


@pytest.mark.parametrize(
    ("asked", "simulated", "hardware"),
    [
        ("train.palm.json", "train.simulated.palm.json", "train.palm.json"),
        ("train.simulated.palm.json", "train.simulated.palm.json", "train.simulated.palm.json"),
        ("train.json", "train.simulated.palm.json", "train.json"),
        ("train", "train.simulated.palm.json", "train"),
        (".palm.json", ".simulated.palm.json", ".palm.json"),
    ],
)
def test_the_name_tells_simulated_evidence(
    good: GoodRun, tmp_path: Path, asked: Any, simulated: Any, hardware: Any
) -> None:
    assert sealed(good).save(tmp_path / asked) == tmp_path / simulated
    assert sealed(good, simulated=False).save(str(tmp_path / asked)) == tmp_path / hardware
    assert (tmp_path / simulated).read_bytes() == good.data


def test_sidecars_lie_beside_it(good: GoodRun, tmp_path: Path) -> None:
    written = sealed(good, data=lambda path: path.write_text("map")).save(tmp_path / "train.palm.json")
    assert written.name == "train.simulated.palm.json"
    assert (tmp_path / "train.data.coverage").read_text() == "map"
    sealed(good, simulated=False, data=lambda path: path.write_text("m")).save(tmp_path / "real.palm.json")
    assert (tmp_path / "real.data.coverage").exists()


def test_a_place_that_cannot_be_written_leaves_nothing_and_another_can_be_tried(
    good: GoodRun, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    for path in (tmp_path / "missing" / "a.palm.json", blocked / "a.palm.json", Path("/proc/a.palm.json")):
        with pytest.raises(SealError, match="cannot write here"):
            sealed(good).save(path)
    (tmp_path / "folder.simulated.palm.json").mkdir()
    with pytest.raises(SealError, match="expected the path of a file"):
        sealed(good).save(tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.simulated.palm.json"]
    assert sealed(good).save(tmp_path / "a").exists()


def test_it_prints_in_one_line(good: GoodRun) -> None:
    assert repr(sealed(good)) == f"<Evidence of run {good.bundle.run_id}, simulated>"
