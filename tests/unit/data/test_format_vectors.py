"""The golden files of tests/vectors/formats.json are read as they say, whole and through a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recording import recording

from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.errors import DataError

CASES = json.loads((Path(__file__).parents[2] / "vectors" / "formats.json").read_text("utf-8"))["cases"]


def cases(result: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in CASES if case["result"] == result]


def written(case: dict[str, Any], folder: Path) -> Path:
    for name, content in case["files"].items():
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes.fromhex(content))
    return folder / "data"


@pytest.mark.parametrize("case", cases("valid"))
def test_records_of_golden_files(tmp_path: Path, case: dict[str, Any]) -> None:
    folder = written(case, tmp_path)
    measured = measure.measure(folder, **case["arguments"])
    expected = [bytes.fromhex(record["digest"]) for record in case["records"]]
    data = AttestedMmapDataset(folder, dtype=None)
    assert (len(data), measured.records) == (len(expected), len(expected))
    assert data.info.table.group(0) == b"".join(expected)
    for number, record in enumerate(case["records"]):
        with recording() as session:
            try:
                item = data[number]
            except DataError:
                assert "not JSON" in case["name"]
                continue
        assert session.batches[0][0].digests == expected[number]
        if isinstance(item, dict) and "content" in item:
            assert record["bytes"].startswith((item["content"] + item["name"].encode()).hex())
        elif hasattr(item, "numpy"):
            assert np.asarray(item).tobytes() == bytes.fromhex(record["bytes"])
        else:
            assert json.loads(bytes.fromhex(record["bytes"])) == item


@pytest.mark.parametrize("case", cases("malformed"))
def test_golden_files_that_are_refused(tmp_path: Path, case: dict[str, Any]) -> None:
    folder = written(case, tmp_path)
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(DataError):
        measure.measure(folder, **case["arguments"])
    assert {path.name for path in folder.iterdir()} == before
    with pytest.raises(DataError):
        AttestedMmapDataset(folder, **case["arguments"])
