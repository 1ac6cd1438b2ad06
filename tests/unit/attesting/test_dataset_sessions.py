"""Sessions that bind, preprocess and distribute: what they claim, and what they refuse."""

# ruff: noqa: PT012, SIM117 (a session is opened and left inside of what must raise)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dataset_runs
import numpy as np
import pytest
from dataset_runs import LENGTH, RECORDS

import palm_torch
from palm_torch.attesting.attested import attested
from palm_torch.attesting.session import Session
from palm_torch.commit import manifest_file
from palm_torch.data.measure import measure
from palm_torch.data.shard_writer import ShardWriter
from palm_torch.digest import sha256_file
from palm_torch.errors import CoverageError, EncodingError, MeasurementError, SessionError
from palm_torch.hooks import functions
from palm_torch.properties import Bind, Distribute, Preprocess
from palm_torch.roles import FUNCTION, MANIFEST, SHARD, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return dataset_runs.raw(tmp_path)


def session(operation: str) -> Session:
    found = attested(operation, attester="simulated")
    assert isinstance(found, Session)
    return found


# Bind -------------------------------------------------------------------------------------------------------


def test_a_binding_says_what_measuring_says(raw: Path) -> None:
    run = dataset_runs.bound(raw)
    claims = dataset_runs.end_of(run).claims
    expected = measure(raw, record_length=LENGTH)
    assert isinstance(claims, Bind)
    assert claims.manifest.kind == MANIFEST
    assert claims.manifest.digest == expected.digest
    assert claims.files["raw.bin"].kind == SHARD
    assert claims.files["raw.bin"].digest == sha256_file(raw)
    assert claims.multiset == expected.multiset
    assert claims.records_root == expected.digests_root
    assert claims.records == RECORDS
    assert claims.framing.value["record_shape"] == [LENGTH]
    assert dataset_runs.end_of(run).subjects() == {"manifest": expected.digest}


def test_a_session_binds_one_dataset(raw: Path) -> None:
    with pytest.raises(CoverageError, match="nothing was bound"), session("bind"):
        pass
    with pytest.raises(SessionError, match="binds one dataset"), session("bind") as run:
        run.bind(raw, record_length=LENGTH)
        run.bind(raw, record_length=LENGTH)


def test_a_binding_delivers_nothing(raw: Path) -> None:
    measure(raw, record_length=LENGTH)
    data = palm_torch.AttestedMmapDataset(raw)
    with pytest.raises(SessionError, match="delivers no records"), session("bind"):
        data[0]


# Preprocess -------------------------------------------------------------------------------------------------


def test_what_was_read_applied_and_written(raw: Path, tmp_path: Path) -> None:
    measure(raw, record_length=LENGTH)
    run = dataset_runs.preprocessed(raw, tmp_path / "out" / "train", by=3, shard_bytes=100)
    claims = dataset_runs.end_of(run).claims
    assert isinstance(claims, Preprocess)
    source = claims.data["dataset1"]
    assert source.manifest == manifest_file.read(tmp_path / "raw.bin.palm-manifest").digest
    read = source.uses["read"]
    assert source.uses.keys() == {"read"}
    assert read.counts is not None
    assert (read.delivered, read.counts.least, read.counts.greatest) == (RECORDS, 1, 1)
    made = manifest_file.read(tmp_path / "out" / "train" / "manifest.palm-manifest")
    produced = claims.produced["train"]
    assert (produced.digest, produced.records, produced.multiset) == (made.digest, RECORDS, made.multiset)
    assert produced.records_root == made.digests_root
    assert len(produced.files) == 4
    for name, artifact in produced.files.items():
        assert artifact.digest == sha256_file(tmp_path / "out" / "train" / name)
    assert claims.function.kind == FUNCTION
    assert claims.function.digest == functions.function_identity(dataset_runs.double).digest
    assert claims.arguments.value == {"by": 3}
    data = palm_torch.AttestedMmapDataset(tmp_path / "out" / "train")
    original = palm_torch.AttestedMmapDataset(raw)
    assert all((data[at] == 3 * original[at]).all() for at in range(RECORDS))
    assert list(run.evidence.sidecars) == [".dataset1.read.coverage"]


def test_several_products_are_told_apart_by_name(raw: Path, tmp_path: Path) -> None:
    with session("preprocess") as run:
        apply = run.function(dataset_runs.double)
        data = palm_torch.AttestedMmapDataset(raw, record_length=LENGTH)
        with ShardWriter(tmp_path / "train") as train, ShardWriter(tmp_path / "x", name="val") as val:
            for at in range(len(data)):
                (train if at % 3 else val).write(apply(data[at]))
    claims = dataset_runs.end_of(run).claims
    assert isinstance(claims, Preprocess)
    assert {name: made.records for name, made in claims.produced.items()} == {"train": 16, "val": 8}
    assert dataset_runs.end_of(run).subjects().keys() == {"produced.train", "produced.val"}


def reading(raw: Path) -> Any:
    data = palm_torch.AttestedMmapDataset(raw, record_length=LENGTH)
    return [data[at] for at in range(len(data))]


def test_what_is_missing_is_told(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(CoverageError, match="nothing was written"), session("preprocess") as run:
        run.function(dataset_runs.double)
        reading(raw)
    with pytest.raises(CoverageError, match="no function was named"), session("preprocess") as run:
        with ShardWriter(tmp_path / "a") as writer:
            writer.write_all(reading(raw))
    with pytest.raises(CoverageError, match="no record was read"), session("preprocess") as run:
        run.function(dataset_runs.double)
        with ShardWriter(tmp_path / "b") as writer:
            writer.write([1, 2])


def test_a_writer_that_is_not_finished_leaves_no_evidence(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(CoverageError, match="'a' was begun inside the session and not finished"):
        with session("preprocess") as run:
            run.function(dataset_runs.double)
            writer = ShardWriter(tmp_path / "a").__enter__()
            writer.write_all(reading(raw))
            with ShardWriter(tmp_path / "b") as other:
                other.write([1])
    writer.__exit__(ValueError, ValueError(), None)
    assert not (tmp_path / "a").exists()


def test_one_name_stands_for_one_product(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="'a' was written before"), session("preprocess"):
        for folder in ("1", "2"):
            with ShardWriter(tmp_path / folder / "a") as writer:
                writer.write([1])


@pytest.mark.parametrize("operation", ["bind", "distribute", "train"])
def test_other_sessions_write_no_datasets(operation: str, tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="has no place for a dataset"), session(operation):
        ShardWriter(tmp_path / "a").__enter__()
    assert list(tmp_path.glob("*a*")) == []


# Functions --------------------------------------------------------------------------------------------------


def test_arguments_are_those_said_whatever_becomes_of_them(raw: Path, tmp_path: Path) -> None:
    table = [2]

    with session("preprocess") as run:
        apply = run.function(scaled, table=table)
        table[0] = 5
        with ShardWriter(tmp_path / "out") as writer:
            writer.write_all(apply(record) for record in reading(raw))
    claims = dataset_runs.end_of(run).claims
    assert isinstance(claims, Preprocess)
    assert claims.arguments.value == {"table": [2]}
    assert palm_torch.AttestedMmapDataset(tmp_path / "out")[1].tolist() == (2 * reading(raw)[1]).tolist()


def scaled(record: Any, *, table: list[int]) -> Any:
    return record * table[0]


def test_what_is_no_function_to_name() -> None:
    with session_left("preprocess") as run:
        with pytest.raises(EncodingError):
            run.function(dataset_runs.double, by=object())
        with pytest.raises(MeasurementError, match="cannot be called like this"):
            run.function(dataset_runs.double, other=1)
        with pytest.raises(MeasurementError, match="expected a function, got int"):
            run.function(3)  # type: ignore[arg-type]  # the mistake
        with pytest.raises(MeasurementError, match="has no digest"):
            run.function(made_at_run_time())
        run.function(dataset_runs.double)
        with pytest.raises(MeasurementError, match="applies one function"):
            run.function(dataset_runs.double)


def made_at_run_time() -> Callable[..., Any]:
    names: dict[str, Any] = {"__name__": "nowhere"}
    exec("def made(x): return x", names)  # noqa: S102 (what is tried)
    return names["made"]  # type: ignore[no-any-return]


class session_left:  # noqa: N801 (it stands where a function would)
    """A session whose block raises at its end, so that nothing is sealed."""

    def __init__(self, operation: str) -> None:
        self.run = session(operation)

    def __enter__(self) -> Session:
        return self.run.__enter__()

    def __exit__(self, *_: object) -> None:
        self.run.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


# Distribute -------------------------------------------------------------------------------------------------


def test_a_statistic_of_ours_is_measured(raw: Path) -> None:
    run = dataset_runs.distributed(raw, "token-frequency")
    claims = dataset_runs.end_of(run).claims
    assert isinstance(claims, Distribute)
    assert claims.distribution.source is Source.MEASURED
    tokens, times = np.unique(np.fromfile(raw, np.uint16), return_counts=True)
    assert claims.distribution.value == {
        "records": RECORDS,
        "tokens": RECORDS * LENGTH,
        "distinct": len(tokens),
        "counts": {str(token): int(count) for token, count in zip(tokens, times, strict=True)},
    }
    counts = claims.data["dataset1"].uses["read"].counts
    assert counts is not None
    assert counts.least == counts.greatest == 1


def test_what_a_script_computes_is_reported(raw: Path) -> None:
    with session("distribute") as run:
        mean = run.function(mean_of, places=2)
        run.result({"mean": mean(reading(raw))})
    claims = dataset_runs.end_of(run).claims
    assert isinstance(claims, Distribute)
    assert claims.distribution.source is Source.REPORTED
    assert claims.arguments.value == {"places": 2}


def mean_of(items: Any, *, places: int) -> float:
    return round(float(np.mean([np.asarray(item) for item in items])), places)


def test_what_a_distribution_lacks_is_told(raw: Path) -> None:
    with pytest.raises(CoverageError, match="there is no distribution"), session("distribute") as run:
        reading(raw)
    with pytest.raises(CoverageError, match="no function was named"), session("distribute") as run:
        reading(raw)
        run.result({"a": 1})
    with session_left("distribute") as run:
        with pytest.raises(MeasurementError, match="expected values by name"):
            run.result([1])  # type: ignore[arg-type]  # the mistake
        with pytest.raises(EncodingError):
            run.result({"a": float("nan")})
        with pytest.raises(MeasurementError, match="expected one of record-length, token-frequency"):
            run.statistic([], "median")
        run.result({"a": 1})
        with pytest.raises(MeasurementError, match="has a result already"):
            run.result({"a": 1})


# What belongs to other operations ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("train", lambda run: run.function(dataset_runs.double)),
        ("train", lambda run: run.bind("x")),
        ("preprocess", lambda run: run.result({})),
        ("preprocess", lambda run: run.statistic([], "histogram")),
        ("distribute", lambda run: run.bind("x")),
        ("bind", lambda run: run.function(dataset_runs.double)),
        ("bind", lambda run: run.output(model=None, a=b"") or run.output(model={})),
        ("bind", lambda run: run.state_dict()),
    ],
)
def test_calls_of_other_operations(operation: str, call: Callable[[Any], Any]) -> None:
    with session_left(operation) as run, pytest.raises(SessionError, match=repr(operation)):
        call(run)


def test_roles_of_the_property_are_not_the_scripts_to_name() -> None:
    with session_left("preprocess") as run:
        run.input(tokenizer=b"vocabulary")  # a role of training, and an input here
        with pytest.raises(MeasurementError, match="'function' is not named by the script"):
            run.input(function=b"code")


def test_a_receipt_can_be_signed_while_data_is_written(raw: Path, tmp_path: Path) -> None:
    with session("preprocess") as run:
        apply = run.function(dataset_runs.double)
        with ShardWriter(tmp_path / "out") as writer:
            writer.write_all(map(apply, reading(raw)))
        signed = run.receipt(manifest=tmp_path / "out" / "manifest.palm-manifest")
    assert signed.receipt.session.run_id == run.run_id
