"""Named digests and tagged hashes, against hashlib spelled out by hand."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from palm_torch import digest
from palm_torch.errors import EncodingError

GROUPS = {
    group["group"]: group["tests"]
    for group in json.loads((Path(__file__).parents[1] / "vectors" / "encoding.json").read_text())[
        "testGroups"
    ]
}


def naive_tagged_hash(tag: str, parts: list[bytes]) -> bytes:
    hasher = hashlib.sha256()
    hasher.update(tag.encode())
    for part in parts:
        hasher.update(bytes([len(part) >> 24, len(part) >> 16 & 255, len(part) >> 8 & 255, len(part) & 255]))
        hasher.update(part)
    return hasher.digest()


def cases(group: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{case['tcId']}-{case['comment'].replace(' ', '-')}") for case in GROUPS[group]
    ]


@pytest.mark.parametrize("case", cases("tagged hash"))
def test_tagged_hash_vectors(case: dict[str, Any]) -> None:
    parts = [bytes.fromhex(part) for part in case["parts"]]
    value = digest.tagged_hash(case["tag"], *parts)
    assert value.hex() == case["expected"] == naive_tagged_hash(case["tag"], parts).hex()
    assert digest.tagged_digest(case["tag"], *parts) == digest.Digest("palm-sha256", value)


def test_all_tagged_hashes_of_the_vectors_differ() -> None:
    values = [case["expected"] for case in GROUPS["tagged hash"]]
    assert len(set(values)) == len(values) >= 5


def test_a_long_part() -> None:
    part = bytes(range(256)) * 1024
    assert digest.tagged_hash("palm-torch/example/v1", part) == naive_tagged_hash(
        "palm-torch/example/v1", [part]
    )


def test_the_worked_example_of_the_specification() -> None:
    (case,) = GROUPS["worked example"]
    document = bytes.fromhex(case["bytes"])
    assert str(digest.sha256_digest(document)) == case["sha256"]
    assert case["sha256"] == "sha256:" + hashlib.sha256(document).hexdigest()
    assert case["expected"] == naive_tagged_hash("palm-torch/example/v1", [document, b""]).hex()
    page = (Path(__file__).parents[2] / "docs" / "spec" / "10-encoding.md").read_text(encoding="utf-8")
    for value in (case["bytes"], case["sha256"].removeprefix("sha256:"), case["expected"]):
        assert value in page.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("case", cases("digest"))
def test_digest_vectors(case: dict[str, Any]) -> None:
    if case["result"] == "valid":
        assert str(digest.Digest.parse(case["text"])) == case["text"]
    else:
        with pytest.raises(EncodingError):
            digest.Digest.parse(case["text"])


def test_a_message_names_the_digest() -> None:
    with pytest.raises(EncodingError, match=r"^subject\[0\]: expected 'algorithm:hex', got 'abc'$"):
        digest.Digest.parse("abc", what="subject[0]")
    with pytest.raises(EncodingError, match=r"^subject\[0\]: not hexadecimal"):
        digest.Digest.parse("sha256:xyz", what="subject[0]")


@pytest.mark.parametrize("algorithm", digest.LENGTHS_BYTES)
def test_a_digest_has_the_length_of_its_algorithm(algorithm: str) -> None:
    length = digest.LENGTHS_BYTES[algorithm]
    assert digest.Digest(algorithm, bytes(length)).value == bytes(length)
    for wrong in (0, length - 1, length + 1):
        with pytest.raises(EncodingError, match=f"{algorithm}: expected {length} bytes, got {wrong}"):
            digest.Digest(algorithm, bytes(wrong))


def test_digests_of_one_value_under_two_names_differ() -> None:
    assert digest.Digest("sha256", bytes(32)) != digest.Digest("palm-sha256", bytes(32))


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (2 << 20) + 1])
def test_the_digest_of_a_file(size: int, tmp_path: Path) -> None:
    data = bytes(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    assert digest.sha256_file(path) == digest.sha256_digest(data)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest.sha256_file(tmp_path / "missing")


# digests: what a message says, and how much memory a file needs


def refusal(text: str) -> str:
    with pytest.raises(EncodingError) as caught:
        digest.Digest.parse(text)
    return str(caught.value)


def test_an_unnamed_digest_is_called_a_digest() -> None:
    assert refusal("0" * 81) == f"digest: expected 'algorithm:hex', got {'0' * 80!r}"


def test_an_unknown_algorithm_is_named_by_its_first_forty_characters() -> None:
    assert refusal("x" * 41 + ":00") == f"digest: unknown digest algorithm {'x' * 40!r}"


def test_the_first_colon_ends_the_algorithm() -> None:
    assert refusal("sha256:ab:cd") == "digest: not hexadecimal: 'ab:cd'"


def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as stream:
        stream.truncate(16 << 20)
    tracemalloc.start()
    try:
        found = digest.sha256_file(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.value == hashlib.sha256(bytes(16 << 20)).digest()
    assert peak_bytes < 4 << 20
