"""Comparing safetensors files: what is equal, the first difference, and every malformed file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
from blake3 import blake3

from palm_torch.commit import safetensors_file
from palm_torch.commit.safetensors_file import compare, read_header, stored_tensors
from palm_torch.commit.weights_root import TensorSpec, tensor_root
from palm_torch.digest import Digest
from palm_torch.errors import ArtifactError, DataError
from palm_torch.roles import Tensor

if TYPE_CHECKING:
    from pathlib import Path

A, B = bytes(range(24)), bytes(range(100, 108))


def claim(name: str, dtype: str, shape: tuple[int, ...], data: bytes, *aliases: str) -> Tensor:
    root = tensor_root(TensorSpec(name, dtype, shape), data)
    return Tensor(name=name, aliases=aliases, dtype=dtype, shape=shape, root=Digest("palm-sha256", root))


CLAIMS = [claim("a", "float32", (2, 3), A), claim("b", "bfloat16", (4,), B, "z")]


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


GOOD: dict[str, Any] = {"a": entry("F32", [2, 3], 0, 24), "b": entry("BF16", [4], 24, 32)}


def raw(header: bytes, data: bytes = A + B) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def written(path: Path, header: dict[str, Any], data: bytes = A + B) -> Path:
    path.write_bytes(raw(json.dumps(header).encode() + b"  ", data))
    return path


def test_equal_file(tmp_path: Path) -> None:
    compare(written(tmp_path / "m.safetensors", GOOD | {"__metadata__": {"format": "pt"}}), CLAIMS)


def test_file_of_the_safetensors_library(tmp_path: Path) -> None:
    state = {
        "half": torch.randn(3, 5, dtype=torch.float16),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(-0.0),
        "big": torch.randn(300, 1000),
        "mask": torch.tensor([True, False]),
        "eight": torch.randn(4).to(torch.float8_e4m3fn),
    }
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file(state, path)
    claims = [
        claim(
            name,
            str(tensor.dtype).removeprefix("torch."),
            tuple(tensor.shape),
            tensor.reshape(-1).view(torch.uint8).numpy().tobytes(),
        )
        for name, tensor in state.items()
    ]
    compare(path, claims)
    state["scalar"] = torch.tensor(0.0)
    safetensors.torch.save_file(state, path)
    with pytest.raises(ArtifactError, match="'scalar': its bytes differ"):
        compare(path, claims)


def test_tensor_under_an_alias(tmp_path: Path) -> None:
    compare(written(tmp_path / "m.safetensors", {"a": GOOD["a"], "z": GOOD["b"]}), CLAIMS)


def test_tensor_under_both_names_must_be_equal_twice(tmp_path: Path) -> None:
    both = GOOD | {"z": entry("BF16", [4], 32, 40)}
    compare(written(tmp_path / "m.safetensors", both, A + B + B), CLAIMS)
    with pytest.raises(ArtifactError, match="'z': its bytes differ"):
        compare(written(tmp_path / "m.safetensors", both, A + B + bytes(8)), CLAIMS)


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": GOOD["a"]}, A, "tensor 'b' is missing"),
        (GOOD | {"c": entry("I8", [1], 32, 33)}, A + B + b"\0", "tensor 'c' is not among the 2"),
        (
            GOOD | {"a": entry("F32", [3, 2], 0, 24)},
            A + B,
            r"'a': expected float32 \[2, 3\], got float32 \[3, 2\]",
        ),
        (GOOD | {"a": entry("I32", [2, 3], 0, 24)}, A + B, "'a': expected float32 .* got int32"),
        (GOOD, A[:-1] + b"\xff" + B, "'a': its bytes differ"),
        (GOOD, A + B[:-1] + b"\xff", "'b': its bytes differ"),
    ],
)
def test_first_difference_is_named(tmp_path: Path, header: dict[str, Any], data: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        compare(written(tmp_path / "m.safetensors", header, data), CLAIMS)


def sharded(tmp_path: Path) -> Path:
    written(tmp_path / "one.safetensors", {"a": GOOD["a"]}, A)
    written(tmp_path / "two.safetensors", {"b": entry("BF16", [4], 0, 8)}, B)
    index = tmp_path / "model.safetensors.index.json"
    mapped = {"a": "one.safetensors", "b": "two.safetensors"}
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": mapped}))
    return index


def test_sharded_model_by_index_and_by_folder(tmp_path: Path) -> None:
    compare(sharded(tmp_path), CLAIMS)
    compare(tmp_path, CLAIMS)


def test_changed_shard(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    written(tmp_path / "two.safetensors", {"b": entry("BF16", [4], 0, 8)}, bytes(8))
    with pytest.raises(ArtifactError, match=r"two\.safetensors: tensor 'b': its bytes differ"):
        compare(index, CLAIMS)


def test_folder_with_one_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected one of"):
        compare(tmp_path, CLAIMS)
    written(tmp_path / "model.safetensors", GOOD)
    compare(tmp_path, CLAIMS)
    sharded(tmp_path)
    with pytest.raises(DataError, match="got 2"):
        compare(tmp_path, CLAIMS)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        (None, "expected a 'weight_map'"),
        ({}, "expected a 'weight_map'"),
        ({"a": "one.safetensors"}, None),
        ({"a": "one.safetensors", "b": "one.safetensors"}, "'b' is not in one.safetensors"),
        ({"b": "one.safetensors"}, "'a' is in one.safetensors, not where"),
        ({"a": "../one.safetensors"}, "plain file names"),
        ({"a": "/one.safetensors"}, "plain file names"),
        ({"a": ".."}, "plain file names"),
        ({"a": 1}, "plain file names"),
        ({"a": "\ud800.safetensors"}, "plain file names"),
        ({"a": "absent.safetensors"}, "cannot be opened"),
    ],
)
def test_malformed_indices(tmp_path: Path, weight_map: Any, message: str | None) -> None:
    index = sharded(tmp_path)
    index.write_text(json.dumps({"weight_map": weight_map}))
    if message is None:
        assert list(stored_tensors(index)) == ["a"]
        return
    with pytest.raises(DataError, match=message):
        stored_tensors(index)


def text(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


MALFORMED = {
    "empty file": (b"", "expected 8 bytes at offset 0, got 0"),
    "seven bytes": (bytes(7), "expected 8 bytes at offset 0, got 7"),
    "header beyond the file": ((100).to_bytes(8, "little") + b"{}", "header of 100 bytes in a file of 10"),
    "header of a pickle": (b"PK\x03\x04" + bytes(100), "not a safetensors file"),
    "no object": (raw(b"[]"), "begins with"),
    "leading space": (raw(b" {}"), "begins with"),
    "empty header": (raw(b""), "begins with"),
    "no JSON": (raw(b"{"), "not JSON"),
    "no UTF-8": (raw(b'{"\xff": 1}'), "not JSON"),
    "deep JSON": (raw(b'{"a":' + b"[" * 100_000), "not JSON"),
    "key twice": (raw(b'{"a": {}, "a": {}}'), "occurs twice"),
    "metadata of numbers": (raw(text(__metadata__={"a": 1})), "text values"),
    "metadata as list": (raw(text(__metadata__=[])), "text values"),
    "entry as list": (raw(text(a=[])), "'a': expected the keys"),
    "entry with a further key": (raw(text(a=GOOD["a"] | {"x": 1})), "'a': expected the keys"),
    "unknown dtype": (raw(text(a=entry("F4", [2, 3], 0, 24))), "no torch dtype for 'F4'"),
    "dtype as number": (raw(text(a=GOOD["a"] | {"dtype": 1})), "no torch dtype for '1'"),
    "negative shape": (raw(text(a=entry("F32", [-2, -3], 0, 24))), "natural numbers"),
    "boolean shape": (raw(text(a=GOOD["a"] | {"shape": [True]})), "natural numbers"),
    "shape as number": (raw(text(a=GOOD["a"] | {"shape": 6})), "natural numbers"),
    "three offsets": (raw(text(a=GOOD["a"] | {"data_offsets": [0, 1, 24]})), "natural numbers"),
    "offsets against shape": (raw(text(a=entry("F32", [2, 2], 0, 24))), r"expected bytes \[0, 16\)"),
    "gap": (raw(text(b=entry("BF16", [4], 25, 33)), A + b"\0" + B), r"'b': expected bytes \[24, 32\)"),
    "overlap": (raw(text(b=entry("BF16", [4], 20, 28))), r"'b': expected bytes \[24, 32\)"),
    "begin after end": (raw(text(b=entry("BF16", [4], 32, 24))), "'b': expected bytes"),
    "bytes after the end": (raw(text(), A + B + b"\0"), "expected a file of"),
    "bytes missing": (raw(text(), A), "expected a file of"),
    "nameless tensor": (raw(json.dumps({"": entry("I8", [0], 0, 0)}).encode(), b""), "1 to 4096 bytes"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files(tmp_path: Path, name: str) -> None:
    content, message = MALFORMED[name]
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        compare(path, CLAIMS)


def test_index_that_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "i.json").write_text("[]")
    with pytest.raises(DataError, match="expected a JSON object, got list"):
        stored_tensors(tmp_path / "i.json")


def test_headers_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, index = written(tmp_path / "m.safetensors", GOOD), sharded(tmp_path)
    monkeypatch.setattr(safetensors_file, "MAX_HEADER_BYTES", 50)
    with pytest.raises(DataError, match="header of"):
        read_header(path)
    with pytest.raises(DataError, match="at most 50 bytes"):
        stored_tensors(index)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened: No such file"):
        compare(tmp_path / "absent.safetensors", CLAIMS)


def test_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "m.safetensors", GOOD)
    tensors = read_header(path)
    os.truncate(path, path.stat().st_size - 1)
    assert tensors[0].root("a") == CLAIMS[0].root.value
    with pytest.raises(DataError, match="expected 8 bytes at offset"):
        tensors[1].root("b")


def test_tensors_are_copied_into_memory_of_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "m.safetensors", GOOD)
    first, second = read_header(path)
    memory = bytearray(first.spec.nbytes)
    digests = first.copy_into(memoryview(memory))
    assert (bytes(memory), digests) == (A, blake3(A).digest())
    with pytest.raises(DataError, match=f"expected memory of {len(A)} bytes, got {len(A) - 1}"):
        first.copy_into(memoryview(memory)[1:])
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DataError, match=f"expected {len(B)} bytes at offset .*, got {len(B) - 1}"):
        second.copy_into(memoryview(bytearray(second.spec.nbytes)))

    def fails(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(DataError, match="cannot be read: Input/output error"):
        first.copy_into(memoryview(memory))


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_header(folder)
