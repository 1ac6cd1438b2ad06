"""Attacks on what is claimed of datasets: on the way in, on the way out, on the way to the verifier."""

# ruff: noqa: PT012, SIM117 (a session is opened and left inside of what must raise)

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import TYPE_CHECKING, Any, Self

import dataset_runs
import pytest
import torch.utils.data
from dataset_runs import LENGTH

import palm_torch
from palm_torch.commit import manifest_file
from palm_torch.data.measure import check, measure
from palm_torch.data.shard_writer import ShardWriter
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import (
    ArtifactError,
    BindingError,
    ClaimError,
    MeasurementError,
    PalmTorchError,
    RecordError,
    SessionError,
)
from palm_torch.roles import Source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = dataset_runs.raw(tmp_path)
    measure(path, record_length=LENGTH)
    return path


def anything(operation: str, **known: Any) -> dict[str, Any]:
    roles = {
        "bind": ("manifest",),
        "preprocess": ("data", "function", "arguments", "produced"),
        "distribute": ("data", "function", "arguments", "distribution"),
    }[operation]
    return {"property": operation, **{role: ["any"] for role in roles}, **known}


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


# On the way out ---------------------------------------------------------------------------------------------


def test_a_shard_rewritten_before_the_seal_is_not_what_the_evidence_names(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with palm_torch.attested("preprocess", attester="simulated") as run:
        source = palm_torch.AttestedMmapDataset(raw)
        apply = run.function(dataset_runs.double)
        with ShardWriter(out) as writer:
            writer.write_all(map(apply, run.records(source)))
        honest = out.joinpath("shard-00000.bin").read_bytes()
        overwrite(out / "shard-00000.bin")  # by the host, before anything is sealed
    manifest = {"produced": out / "manifest.palm-manifest"}
    dataset_runs.verify(run, tmp_path, files=manifest, **anything("preprocess"))
    produced = dataset_runs.end_of(run).claims.produced["out"]  # type: ignore[union-attr]  # of preprocessing
    with pytest.raises(RecordError, match="record 0"):
        palm_torch.AttestedMmapDataset(out)[0]
    with pytest.raises(RecordError):
        check(out)
    out.joinpath("shard-00000.bin").write_bytes(honest)
    assert check(out).digest == produced.digest


def test_a_manifest_rewritten_before_the_seal_is_another_one(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with palm_torch.attested("preprocess", attester="simulated") as run:
        source = palm_torch.AttestedMmapDataset(raw)
        apply = run.function(dataset_runs.double)
        with ShardWriter(out) as writer:
            writer.write_all(map(apply, run.records(source)))
        overwrite(out / "shard-00000.bin")
        measure(out, record_length=LENGTH)  # the host makes data and manifest agree
    with pytest.raises(ArtifactError, match="is not the produced of the evidence"):
        dataset_runs.verify(
            run, tmp_path, files={"produced": out / "manifest.palm-manifest"}, **anything("preprocess")
        )


def test_shards_rewritten_while_they_are_written(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with palm_torch.attested("preprocess", attester="simulated") as run:
        source = palm_torch.AttestedMmapDataset(raw)
        apply = run.function(dataset_runs.double)
        with ShardWriter(out, shard_bytes=64) as writer:
            for at in range(len(source)):
                writer.write(apply(source[at]))
                for shard in tmp_path.glob(".out.*/shard-*.bin"):
                    overwrite(shard)
    assert dataset_runs.end_of(run).claims.produced["out"].digest == writer.manifest.digest  # type: ignore[union-attr]
    with pytest.raises(RecordError):
        palm_torch.AttestedMmapDataset(out)[0]


def test_the_digests_that_wait_are_rewritten(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "out") as writer:
        writer.write_all([[at] for at in range(100)])
        writer._close_shard()
        writer._manifest._spool.seek(0)
        writer._manifest._spool.write(bytes(64))
    with pytest.raises(PalmTorchError):
        manifest_file.read(tmp_path / "out" / "manifest.palm-manifest")


# On the way in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["preprocess", "distribute"])
def test_a_source_changed_while_it_is_read_leaves_no_evidence(
    raw: Path, tmp_path: Path, operation: str
) -> None:
    with pytest.raises(SessionError, match="no evidence") as caught:
        with palm_torch.attested(operation, attester="simulated") as run:
            source = palm_torch.AttestedMmapDataset(raw)
            run.function(dataset_runs.double)
            with _writer(operation, tmp_path) as writer:
                for at in range(len(source)):
                    if at == 10:
                        overwrite(raw)
                    try:
                        record = source[at]
                    except RecordError:
                        continue  # a script that swallows it
                    writer.write(record)
            if operation == "distribute":
                run.result({"records": at})
    assert isinstance(caught.value.__cause__, RecordError)


class _Nothing:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, record: object) -> None:
        pass


def _writer(operation: str, folder: Path) -> Any:
    return ShardWriter(folder / "out") if operation == "preprocess" else _Nothing()


def test_a_source_changed_between_two_bindings_is_another_dataset(raw: Path, tmp_path: Path) -> None:
    expected = manifest_file.read(tmp_path / "raw.bin.palm-manifest").digest
    overwrite(raw)
    run = dataset_runs.bound(raw)
    with pytest.raises(ClaimError, match="manifest: the policy demands"):
        dataset_runs.verify(run, tmp_path, **anything("bind", manifest=[str(expected)]))


def test_records_left_out_are_seen(raw: Path, tmp_path: Path) -> None:
    with palm_torch.attested("preprocess", attester="simulated") as run:
        source = palm_torch.AttestedMmapDataset(raw)
        apply = run.function(dataset_runs.double)
        with ShardWriter(tmp_path / "out") as writer:
            writer.write_all(apply(source[at]) for at in range(len(source) - 1))
    with pytest.raises(ClaimError, match="times that each record was read: the policy demands >= 1"):
        dataset_runs.verify(run, tmp_path, **anything("preprocess", exact=False))


def test_whoever_stops_early_was_not_given_what_was_read_ahead(raw: Path, tmp_path: Path) -> None:
    with palm_torch.attested("preprocess", attester="simulated") as run:
        apply = run.function(dataset_runs.double)
        with ShardWriter(tmp_path / "out") as writer:
            writer.write(apply(next(run.records(palm_torch.AttestedMmapDataset(raw)))))
    with pytest.raises(ClaimError, match="the policy demands exact counts"):
        dataset_runs.verify(run, tmp_path, **anything("preprocess"))


def test_records_read_twice_are_seen(raw: Path, tmp_path: Path) -> None:
    with palm_torch.attested("distribute", attester="simulated") as run:
        source = palm_torch.AttestedMmapDataset(raw)
        run.statistic(source, "record-length")
        source[3]
    with pytest.raises(ClaimError, match="times that each record was read"):
        dataset_runs.verify(run, tmp_path, **anything("distribute", exact=False))


class Doctored(palm_torch.AttestedMmapDataset):
    def __getitems__(self, indices: Any) -> Any:
        return [record * 0 for record in super().__getitems__(indices)]


@pytest.mark.parametrize(
    "handed_on",
    [
        lambda _: [[7] * 100] * 24,
        lambda data: torch.utils.data.Subset(data, range(12)),
        lambda data: palm_torch.DataLoader(data, batch_size=4),
        lambda data: Doctored(data.info.path),
        lambda _: palm_torch.AttestedDataset([1, 2], encode=lambda _: b"all the same"),
        lambda data: palm_torch.AttestedWindows(data.info.path, 1, stride=8, manifest=None),
    ],
)
def test_a_statistic_of_other_records_than_those_that_were_hashed(raw: Path, handed_on: Any) -> None:
    with pytest.raises(MeasurementError, match="expected an attested dataset itself"):
        with palm_torch.attested("distribute", attester="simulated") as run:
            data = palm_torch.AttestedMmapDataset(raw)
            for at in range(len(data)):
                data[at]
            run.statistic(handed_on(data), "record-length")


def test_pairs_are_no_records(raw: Path) -> None:
    with pytest.raises(MeasurementError, match="leave out targets=True"):
        with palm_torch.attested("distribute", attester="simulated") as run:
            run.statistic(palm_torch.AttestedMmapDataset(raw, targets=True), "record-length")


@pytest.mark.parametrize("other", [True, False])
def test_a_statistic_of_part_of_what_was_read_is_not_measured(
    raw: Path, tmp_path: Path, *, other: bool
) -> None:
    with palm_torch.attested("distribute", attester="simulated") as run:
        data = palm_torch.AttestedMmapDataset(raw)
        run.statistic(data, "record-length")
        if other:
            data = palm_torch.AttestedMmapDataset(
                dataset_runs.raw(tmp_path / "b", seed=1), record_length=LENGTH
            )
        for at in range(len(data)):
            data[at]
    assert dataset_runs.end_of(run).claims.distribution.source is Source.REPORTED  # type: ignore[union-attr]
    with pytest.raises(ClaimError, match="one of palm-torch itself"):
        dataset_runs.verify(run, tmp_path, **anything("distribute", multiplicity={"least": 1}, exact=False))


def test_records_that_a_collate_function_dropped(raw: Path, tmp_path: Path) -> None:
    with palm_torch.attested("preprocess", attester="simulated") as run:
        loader: Any = palm_torch.DataLoader(
            palm_torch.AttestedMmapDataset(raw), batch_size=6, collate_fn=lambda items: torch.stack(items[:1])
        )
        apply = run.function(dataset_runs.double)
        with ShardWriter(tmp_path / "out") as writer:
            for batch in loader:
                writer.write_all(apply(record) for record in batch)
    with pytest.raises(ClaimError, match="the policy demands exact counts"):
        dataset_runs.verify(run, tmp_path, **anything("preprocess"))
    result = dataset_runs.verify(run, tmp_path, **anything("preprocess", exact=False))
    assert any("may have dropped records" in reservation.reason for reservation in result.reservations)


# A binding --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"processes": 2}, {"processes": True}, {"ranks": object()}, {"incremental": True}]
)
def test_a_binding_believes_nobody_else(raw: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SessionError, match=rf"run\.bind\({next(iter(options))}=.*leave it out"):
        with palm_torch.attested("bind", attester="simulated") as run:
            run.bind(raw, record_length=LENGTH, **options)


def test_a_file_that_is_not_read_with_its_records_is_not_said_to_be_theirs(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"t": 1}\n{"t": 2}\n')
    with palm_torch.attested("bind", attester="simulated") as run:
        assert run.bind(lines).shards[0].sha256 is not None
    claims: Any = dataset_runs.end_of(run).claims
    assert (claims.files, claims.records) == ({}, 2)


# The function -----------------------------------------------------------------------------------------------


def honest(record: Any) -> Any:
    """What was reviewed."""
    return record


def evil(record: Any) -> Any:
    """What nobody reviewed."""
    return record * 0


@pytest.fixture
def restored() -> Any:
    before = honest.__code__
    yield
    honest.__code__ = before


def test_code_put_into_the_function_that_was_named(raw: Path, tmp_path: Path, restored: None) -> None:
    del restored
    with pytest.raises(MeasurementError, match="its code was replaced inside the block"):
        with palm_torch.attested("preprocess", attester="simulated") as run:
            source = palm_torch.AttestedMmapDataset(raw)
            apply = run.function(honest)
            honest.__code__ = evil.__code__
            with ShardWriter(tmp_path / "out") as writer:
                writer.write_all(map(apply, run.records(source)))


def test_a_name_rebound_after_the_function_was_named(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with palm_torch.attested("preprocess", attester="simulated") as run:
        source = palm_torch.AttestedMmapDataset(raw)
        apply = run.function(honest)
        monkeypatch.setattr(sys.modules[__name__], "honest", evil)
        with ShardWriter(tmp_path / "out") as writer:
            writer.write_all(map(apply, run.records(source)))
    assert palm_torch.AttestedMmapDataset(tmp_path / "out")[0].tolist() == source[0].tolist()


def test_another_function_has_another_digest(raw: Path, tmp_path: Path) -> None:
    def function_of(made: Any, folder: str) -> str:
        with palm_torch.attested("preprocess", attester="simulated") as run:
            source = palm_torch.AttestedMmapDataset(raw)
            apply = run.function(made)
            with ShardWriter(tmp_path / folder) as writer:
                writer.write_all(map(apply, run.records(source)))
        runs.append(run)
        return str(dataset_runs.end_of(run).claims.function.digest)  # type: ignore[union-attr]

    runs: list[Any] = []
    reviewed = function_of(honest, "1")
    assert function_of(evil, "2") != reviewed
    assert function_of(functools.partial(honest), "3") == reviewed
    with pytest.raises(ClaimError, match="function: the policy demands"):
        dataset_runs.verify(runs[1], tmp_path, **anything("preprocess", function=[reviewed]))
    dataset_runs.verify(runs[0], tmp_path, **anything("preprocess", function=[reviewed]))


# Between evidence and verifier ------------------------------------------------------------------------------


def test_the_manifest_of_another_dataset_is_presented(raw: Path, tmp_path: Path) -> None:
    other = dataset_runs.raw(tmp_path / "other", seed=1)
    measure(other, record_length=LENGTH)
    run = dataset_runs.bound(raw)
    dataset_runs.verify(run, tmp_path, files={"manifest": manifest_file.path_beside(raw)}, **anything("bind"))
    with pytest.raises(ArtifactError, match="is not the manifest of the evidence"):
        dataset_runs.verify(
            run, tmp_path, files={"manifest": manifest_file.path_beside(other)}, **anything("bind")
        )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("arguments", "value"), {"by": 4}),
        (("function", "digest"), "palm-sha256:" + "00" * 32),
        (("produced", "out", "digest"), "sha256:" + "00" * 32),
        (("data", "dataset1", "uses", "read", "counts", "least"), 2),
    ],
)
def test_edited_claims_are_not_what_was_sealed(
    raw: Path, tmp_path: Path, path: tuple[str, ...], value: Any
) -> None:
    run = dataset_runs.preprocessed(raw, tmp_path / "out")
    bundle = run.evidence.bundle
    document: Any = decode_json(bundle.end.statement, what="statement", max_bytes=1 << 24)
    part = document["predicate"]["property"]
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    if path[0] == "produced":
        for subject in document["subject"]:
            subject["digest"] = {"sha256": "00" * 32}
    edited = dataclasses.replace(bundle, end=dataclasses.replace(bundle.end, statement=encode_json(document)))
    with pytest.raises(BindingError):
        dataset_runs.verify_bundle(edited, run, **anything("preprocess"))
