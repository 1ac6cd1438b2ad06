"""Whatever a file says, only this library's own errors come out."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.commit.safetensors_file import compare
from palm_torch.commit.weights_root import TensorSpec, tensor_root
from palm_torch.digest import Digest
from palm_torch.errors import ArtifactError, DataError
from palm_torch.roles import Tensor

DATA = bytes(range(32))
SPANS = {"a": ("F32", "float32", [2, 3], 0, 24), "b": ("BF16", "bfloat16", [4], 24, 32)}
HEADER = json.dumps(
    {name: {"dtype": d, "shape": s, "data_offsets": [at, end]} for name, (d, _, s, at, end) in SPANS.items()}
).encode()
FILE = len(HEADER).to_bytes(8, "little") + HEADER + DATA
CLAIMS = [
    Tensor(
        name=name,
        aliases=(),
        dtype=dtype,
        shape=tuple(shape),
        root=Digest("palm-sha256", tensor_root(TensorSpec(name, dtype, tuple(shape)), DATA[at:end])),
    )
    for name, (_, dtype, shape, at, end) in SPANS.items()
]


def compare_bytes(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(content)
        file.flush()
        compare(Path(file.name), CLAIMS)


def test_the_good_file_is_equal() -> None:
    compare_bytes(FILE)


@given(st.integers(0, 8 * len(FILE) - 1))
def test_a_flipped_bit_is_noticed(at: int) -> None:
    flipped = bytearray(FILE)
    flipped[at // 8] ^= 1 << at % 8
    with contextlib.ExitStack() as stack:
        # White space of the header may turn into other white space; nothing else may change.
        if bytes(flipped).translate(None, b" \t\r\n") != FILE.translate(None, b" \t\r\n"):
            stack.enter_context(pytest.raises((DataError, ArtifactError)))
        else:
            stack.enter_context(contextlib.suppress(DataError))
        compare_bytes(bytes(flipped))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__", ""]), json_values, max_size=4))
def test_any_header_is_refused_in_words(header: dict[str, object]) -> None:
    encoded = json.dumps(header).encode()
    with pytest.raises((DataError, ArtifactError)):
        compare_bytes(len(encoded).to_bytes(8, "little") + encoded + DATA)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(content: bytes) -> None:
    with pytest.raises((DataError, ArtifactError)):
        compare_bytes(content)
