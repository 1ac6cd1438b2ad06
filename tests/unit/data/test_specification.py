"""The example of docs/spec/40-data.md, section 5, is what the code computes."""

from __future__ import annotations

import re
from pathlib import Path

from palm_torch.commit import coverage, manifest, records
from palm_torch.data import account, measure
from palm_torch.digest import tagged_hash

SPECIFICATION = Path(__file__).parents[3] / "docs" / "spec" / "40-data.md"


def test_example(tmp_path: Path) -> None:
    rows = dict(re.findall(r"^\| (.+?) \| `([0-9a-f]+)` \|$", SPECIFICATION.read_text("utf-8"), re.MULTILINE))
    contents = [bytes.fromhex("01000200"), bytes.fromhex("03000400")]
    digests = [records.record_digest(content) for content in contents]
    (tmp_path / "a.bin").write_bytes(b"".join(contents))
    made = measure.measure(tmp_path / "a.bin", record_length=2)
    coverage.write_sidecar(tmp_path / "map", bytes([1, 1]), 1)
    assert rows == {
        "record key": records.record_key().hex(),
        "group key": records.GROUP_KEY.hex(),
        "first record digest": digests[0].hex(),
        "second record digest": digests[1].hex(),
        "group digest": records.group_digests(b"".join(digests)).hex(),
        "`digests_root`": made.digests_root.value.hex(),
        "multiset state begins": made.multiset.state[:32],
        "digest of the manifest": made.digest.value.hex(),
        "order, both records in one batch": tagged_hash(
            account.ORDER_TAG, account.ORDER_START, b"".join(digests)
        ).hex(),
        "coverage root, each once": coverage.coverage_root(bytes([1, 1]), 1).value.hex(),
        "coverage file": (tmp_path / "map").read_bytes().hex(),
    }
    assert len(made.encode()) == 1161
    assert manifest.path_beside(tmp_path / "a.bin").stat().st_size == 1280
