"""The examples of docs/spec/40-data.md, sections 5 and 6, are what the code computes."""

from __future__ import annotations

import re
from pathlib import Path

from palm_torch.commit import coverage, manifest_file, records
from palm_torch.data import account, measure, shards
from palm_torch.data.formats import table
from palm_torch.digest import tagged_hash

SPECIFICATION = Path(__file__).parents[3] / "docs" / "spec" / "40-data.md"


def section(title: str) -> str:
    text = SPECIFICATION.read_text("utf-8")
    return text[text.index(f"## {title}") :].partition("\n## ")[0]


def rows_of(title: str) -> dict[str, str]:
    return dict(re.findall(r"^\| (.+?) \| `([0-9a-f]+)` \|$", section(title), re.MULTILINE))


def test_example(tmp_path: Path) -> None:
    contents = [bytes.fromhex("01000200"), bytes.fromhex("03000400")]
    digests = [records.record_digest(content) for content in contents]
    (tmp_path / "a.bin").write_bytes(b"".join(contents))
    made = measure.measure(tmp_path / "a.bin", record_length=2)
    coverage.write_sidecar(tmp_path / "map", bytes([1, 1]), 1)
    assert rows_of("5 Example") == {
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
    size, header = manifest_file.path_beside(tmp_path / "a.bin").stat().st_size, len(made.encode())
    assert f"| manifest | {size:,} bytes, of which the header is {header:,} |" in section("5 Example")


def test_example_of_a_folder_of_files(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(b"one")
    (file,) = shards.open_all(tmp_path, table.Wanted(format="files"))
    record, kind = file.view.copy(0), file.view.layout.kind
    assert rows_of("6 Formats and rows") == {
        "record": record.hex(),
        "record key": records.record_key(kind=kind).hex(),
        "record digest": records.record_digest(record, kind=kind).hex(),
    }


def test_the_table_names_every_format() -> None:
    named = set(re.findall(r"^\| `([a-z]+)` \| .* \| .* \| .* \| .* \|$", section("6"), re.MULTILINE))
    assert named == set(table.FORMATS)
