"""Bundles: limits, strict decoding, and files that are written whole or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from workshop import put

from palm_torch import evidence
from palm_torch.digest import sha256_digest
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import DataError, EncodingError, EvidenceError, SealError
from palm_torch.evidence import (
    Bundle,
    Challenge,
    Evidence,
    GpuEndorsements,
    GpuEvidence,
    Phase,
    ReferenceManifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay import ResumedRun
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


@pytest.mark.parametrize(
    ("kind", "most", "most_bytes"),
    [("rims", 16, 256 << 10), ("ocsp", 64, 16 << 10), ("crls", 16, 1 << 20)],
)
def test_endorsements_of_gpus_have_limits_and_may_reach_them(kind: str, most: int, most_bytes: int) -> None:
    none: dict[str, Any] = {"rims": (), "ocsp": (), "crls": ()}

    def made(*files: bytes) -> GpuEndorsements:
        rims = tuple(ReferenceManifest(id=None, xml=data) for data in files)
        return GpuEndorsements(**none | {kind: rims if kind == "rims" else files})

    small = tuple(bytes([number]) for number in range(most + 1))
    assert made(*small[1:])
    assert made(bytes(most_bytes))
    for files, message in (
        (small, f"^{kind}: expected at most {most} files, got {most + 1}"),
        ((bytes(most_bytes + 1),), f"^{kind}: expected at most {most_bytes} bytes each"),
        ((b"one", b"one"), f"^{kind}: one file is there twice"),
    ):
        with pytest.raises(EncodingError, match=message):
            made(*files)
    with pytest.raises(EncodingError, match="GPU endorsements: expected at least one, or null"):
        GpuEndorsements(**none)


def test_manifests_that_travel_have_names(good: GoodRun) -> None:
    rims = (ReferenceManifest(id="a", xml=b"<a/>"), ReferenceManifest(id=None, xml=b"<b/>"))
    named, both = (GpuEndorsements(rims=rims[:number], ocsp=(), crls=()) for number in (1, 2))
    assert put(good.bundle, "gpu_endorsements", named).gpu_endorsements == named
    with pytest.raises(EncodingError, match="rims: expected the name under which each of them is kept"):
        put(good.bundle, "gpu_endorsements", both)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_nonce_has_32_bytes(length: Any) -> None:
    with pytest.raises(EncodingError, match=f"nonce: expected 32 bytes, got {length}"):
        Challenge(kind="challenged", nonce=bytes(length))


def test_an_empty_log_is_within_limits(good: GoodRun) -> None:
    assert put(good.bundle, "log", ()).log == ()
    assert Phase(statement=b"", quote=b"", gpus=()).gpus == ()


# Files --------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("simulated", [False, True])
@pytest.mark.parametrize("path", ["", ".", "..", "/", "a\0b", "x" * 300])
def test_a_path_that_names_no_file(
    good: GoodRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    simulated: bool,  # noqa: FBT001 (a parameter)
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SealError):
        sealed(good, simulated=simulated, data=lambda path: path.write_text("map")).save(path)
    assert list(tmp_path.iterdir()) == []


def test_it_prints_in_one_line(good: GoodRun) -> None:
    assert repr(sealed(good)) == f"<Evidence of run {good.bundle.run_id}, simulated>"


def test_reading_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.palm.json"
    path.write_bytes(b"12345")
    assert evidence.read(path) == b"12345"
    monkeypatch.setattr(evidence, "MAX_BUNDLE_BYTES", 4)
    with pytest.raises(EvidenceError, match="at most 4 bytes"):
        evidence.read(path)
    with pytest.raises(EvidenceError, match="cannot read the evidence"):
        evidence.read(tmp_path)


# bundles at their limits, and what saving leaves behind when it fails


GPU = GpuEvidence(evidence=b"", chain=b"")


def refusal(value: Any, path: str, new: Any) -> str:
    with pytest.raises(EncodingError) as caught:
        put(value, path, new)
    return str(caught.value)


def test_what_is_too_much_is_said_in_its_unit(good: GoodRun) -> None:
    for path, new, message in (
        ("session_key", bytes(257), "session_key: expected at most 256 bytes, got 257"),
        ("timestamp", bytes((64 << 10) + 1), "timestamp: expected at most 65536 bytes, got 65537"),
        ("boot_log", bytes((1 << 20) + 1), "boot_log: expected at most 1048576 bytes, got 1048577"),
        (
            "register_log",
            (bytes(48),) * 200_001,
            "register_log: expected at most 200000 digests, got 200001",
        ),
        ("register_log", (bytes(48), bytes(47)), "register_log: expected digests of 48 bytes each"),
        ("log", (b"",) * 100_001, "log: expected at most 100000 entries, got 100001"),
        (
            "log",
            (b"", bytes((1 << 20) + 1), b""),
            "a log entry: expected at most 1048576 bytes, got 1048577",
        ),
        ("end.quote", bytes((16 << 10) + 1), "quote: expected at most 16384 bytes, got 16385"),
        ("end.statement", bytes((16 << 20) + 1), "statement: expected at most 16777216 bytes, got 16777217"),
        ("end.gpus", (GPU,) * 65, "gpus: expected at most 64 GPUs, got 65"),
    ):
        assert refusal(good.bundle, path, new) == message
    for path, new in (("timestamp", bytes(64 << 10)), ("timestamp", b""), ("timestamp", None), ("log", ())):
        put(good.bundle, path, new)


def test_segments_have_limits_of_their_own(resumed: ResumedRun) -> None:
    (one, _) = resumed.bundle.segments
    assert len(put(resumed.bundle, "segments", (one,) * 1_000).segments) == 1_000
    assert refusal(resumed.bundle, "segments", (one,) * 1_001) == (
        "segments: expected at most 1000 segments, got 1001"
    )
    assert refusal(one, "log", (b"",) * 100_001) == "log: expected at most 100000 entries, got 100001"
    assert refusal(one, "session.session_key", bytes(257)) == (
        "session_key: expected at most 256 bytes, got 257"
    )
    assert put(one, "session.session_key", bytes(256)).session.session_key == bytes(256)


def test_eighty_characters_of_a_foreign_media_type_are_shown(good: GoodRun) -> None:
    assert refusal(good.bundle, "media_type", "x" * 81) == (
        f"this version reads {evidence.MEDIA_TYPE!r}, the bundle says {'x' * 80!r}"
    )


def test_a_time_stamp_is_over_everything_but_itself(good: GoodRun) -> None:
    stamped = put(good.bundle, "timestamp", b"token")
    assert good.bundle.timestamp is None
    assert stamped.digest_to_stamp() == good.bundle.digest_to_stamp() == sha256_digest(good.data)
    assert put(stamped, "run_id", "another").digest_to_stamp() != stamped.digest_to_stamp()


def saved(good: GoodRun, *, simulated: bool = False, **sidecars: Callable[[Path], None]) -> Evidence:
    return Evidence(
        bundle=good.bundle,
        simulated=simulated,
        sidecars={f".{name}.coverage": write for name, write in sidecars.items()},
    )


def test_evidence_of_hardware_names_its_platform(good: GoodRun) -> None:
    assert repr(saved(good)) == f"<Evidence of run {good.bundle.run_id}, tdx>"


def test_a_path_that_names_no_file_is_shown(good: GoodRun, tmp_path: Path) -> None:
    for path in ("", "a\0b", str(tmp_path)):
        with pytest.raises(SealError) as caught:
            saved(good).save(path)
        assert str(caught.value) == (
            f"{path!r}: expected the path of a file to write, such as 'train.palm.json'"
        )


def test_what_lay_there_before_survives_a_failure_and_what_is_new_does_not(
    good: GoodRun, tmp_path: Path
) -> None:
    def leave(_path: Path) -> None:
        """Writes nothing: the file is there."""

    def write(path: Path) -> None:
        path.write_text("new")

    def refuse(_path: Path) -> None:
        raise DataError("no map")

    (tmp_path / "train.a.coverage").write_text("old")
    with pytest.raises(DataError, match="no map"):
        saved(good, a=leave, b=write, c=refuse).save(tmp_path / "train.palm.json")
    assert {path.name for path in tmp_path.iterdir()} == {"train.a.coverage"}
    assert (tmp_path / "train.a.coverage").read_text() == "old"


def test_the_type_of_the_file_carries_its_version() -> None:
    assert evidence.MEDIA_TYPE == "application/vnd.palm-torch.evidence+json;version=1"


def test_what_opened_the_session_is_part_of_the_bundle(good: GoodRun) -> None:
    bundle = good.bundle
    assert bundle.opening == evidence.Opening(
        attester="tdx",
        run_id=bundle.run_id,
        session_key=bundle.session_key,
        challenge=bundle.challenge,
        register_log=bundle.register_log,
        begin=bundle.begin,
        collateral=bundle.collateral,
    )


def test_logs_of_the_machine_may_be_as_long_as_the_limits(good: GoodRun) -> None:
    bundle = put(good.bundle, "boot_log", bytes(evidence.MAX_BOOT_LOG_BYTES))
    assert put(bundle, "register_log", (bytes(48),) * 200_000).opening.register_log[-1] == bytes(48)
    assert put(bundle, "register_log", ()).opening.register_log == ()
    with pytest.raises(EncodingError, match=r"^register_log: expected digests of 48 bytes each$"):
        put(bundle.opening, "register_log", (bytes(49),))
