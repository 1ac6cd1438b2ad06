"""The example of docs/spec/40-data.md, section 8, is what the code computes."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from palm_torch.commit import coverage, coverage_proof, manifest_file, record_proof
from palm_torch.data import measure

SPECIFICATION = Path(__file__).parents[3] / "docs" / "spec" / "40-data.md"


def example() -> str:
    text = SPECIFICATION.read_text("utf-8")
    return text[text.index("## 8 ") :].partition("\n## ")[0].partition("### Example")[2]


def test_the_proofs_of_the_example(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes.fromhex("0100020003000400"))
    measure.measure(tmp_path / "a.bin", record_length=2)
    path = manifest_file.path_beside(tmp_path / "a.bin")
    shown, root = coverage.inclusion(b"\1\1", 1, 1), coverage.coverage_root(b"\1\1", 1)
    counted = coverage_proof.CoverageProof.of(
        shown, dataset="dataset1", manifest=manifest_file.read(path).digest, use="train", root=root
    ).encode()
    proof = record_proof.Search(index=1).read(path)
    assert proof is not None
    member = proof.encode()
    said = [
        (int(length), digest) for length, digest in re.findall(r"(\d+) bytes, SHA-256 `(\w+)`", example())
    ]
    assert said == [(len(data), hashlib.sha256(data).hexdigest()) for data in (counted, member)]
    assert counted.decode() == re.findall(r"```\n(.*)\n```", example())[0]
