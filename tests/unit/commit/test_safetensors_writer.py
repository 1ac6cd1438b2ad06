"""One tensor as a safetensors file, read again by other people's reader and by ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import safetensors
import safetensors.torch
import torch

from palm_torch.commit import safetensors_file, safetensors_writer
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("dtype", sorted(safetensors_file.DTYPES.values()))
def test_every_element_type(tmp_path: Path, dtype: str) -> None:
    wanted = getattr(torch, dtype)
    data = bytes(range(3 * 4 * wanted.itemsize)) if dtype != "bool" else bytes([0, 1] * 6)
    path = tmp_path / "t.safetensors"
    chunks = safetensors_writer.encode('ä."t', dtype, (3, 4), data, metadata={"root": "r"})
    path.write_bytes(b"".join(chunks))
    (found,) = safetensors_file.read_header(path)
    assert (found.spec.name, found.spec.dtype, found.spec.shape) == ('ä."t', dtype, (3, 4))
    assert (found.start - 8) % 8 == 0
    if hasattr(safetensors.torch, "_TYPES") and wanted in safetensors.torch._TYPES.values():
        tensor = safetensors.torch.load_file(path)['ä."t']
        assert tensor.dtype is wanted
        assert bytes(tensor.view(torch.uint8).flatten().tolist()) == data
        with safetensors.safe_open(path, "pt") as file:
            assert file.metadata() == {"root": "r"}


def test_a_scalar(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(b"".join(safetensors_writer.encode("s", "float32", (), b"\0\0\x80?", metadata={})))
    assert safetensors.torch.load_file(path)["s"].item() == 1.0


def test_an_element_type_without_a_word() -> None:
    with pytest.raises(DataError, match="safetensors has no element type 'complex128'"):
        safetensors_writer.encode("t", "complex128", (1,), bytes(16), metadata={})


def test_a_name_that_the_format_keeps() -> None:
    with pytest.raises(DataError, match="'__metadata__': safetensors keeps this name for itself"):
        safetensors_writer.encode("__metadata__", "float32", (), bytes(4), metadata={})
