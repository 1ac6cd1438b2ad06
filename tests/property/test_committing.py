"""Random calls: the root is that of ten plain lines, and openings show what was captured and nothing else."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import tapped
import torch
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.commit import trace_opening
from palm_torch.commit.trace import Site
from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.committing import capture as captures
from palm_torch.committing import lanes
from palm_torch.committing.capture import Capture
from palm_torch.committing.proof import Proof
from palm_torch.committing.spill import Kept
from palm_torch.errors import DataError, PalmTorchError

DTYPES = ("bfloat16", "float16", "float32", "float64", "int8", "int64", "bool")
LEADING = st.one_of(
    st.none(),  # no dimensions at all
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
)


@dataclasses.dataclass
class Run:
    """What one site returned, call by call."""

    site: Site
    dtype: str
    channels: int
    calls: dict[int, torch.Tensor]


def drawn(shape: tuple[int, ...], dtype: str, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (*shape, 8), generator=generator, dtype=torch.uint8)
    if dtype == "bool":
        return values[..., 0] > 128
    item = ITEM_BYTES[dtype]
    whole: torch.Tensor = values[..., :item].contiguous().view(getattr(torch, dtype))[..., 0]
    if seed % 3 == 0 and len(shape) > 1:  # not in order of memory, with the same values
        return whole.transpose(0, -1).contiguous().transpose(0, -1)
    return whole


@st.composite
def runs(draw: st.DrawFn) -> list[Run]:
    """Sites in the order of their first call, some of which are alike."""
    kinds = draw(
        st.lists(
            st.tuples(
                st.sampled_from(DTYPES),
                st.one_of(st.integers(0, 40), st.sampled_from([256, 512, 2048, 4099])),
                st.lists(LEADING, min_size=1, max_size=5),
                st.lists(st.integers(1, 2), min_size=5, max_size=5),
            ),
            min_size=1,
            max_size=3,
        )
    )
    found = []
    for number, (dtype, channels, leading, steps) in enumerate(kinds):
        for twin in range(draw(st.integers(1, 3))):
            call, calls = -1, {}
            for index, shape in enumerate(leading):
                call += steps[index]
                width = channels if shape is not None else None
                whole = () if width is None else (*(shape or ()), width)
                if width is None and channels != 1:
                    continue
                calls[call] = drawn(whole, dtype, 1000 * number + 100 * twin + index)
            if calls:
                found.append(Run(Site(f"m.{number}", str(twin)), dtype, channels, calls))
    return found


class NoTaps:
    coverage = not_captured = ()

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def committed(found: list[Run], *, threads: int | None, buffer_bytes: int) -> Proof:
    kept = None if threads == 0 else Kept(limit_bytes=1 << 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes.Lane.__init__, "__kwdefaults__", {"buffer_bytes": buffer_bytes})
        patch.setattr(captures, "AT_ONCE_BYTES", buffer_bytes // 2)
        capture = Capture(threads=threads, kept=kept)
    with Proof(NoTaps(), capture, kept) as proof:  # type: ignore[arg-type]
        for run in found:
            capture.capture(run.site, next(iter(run.calls.values())), next(iter(run.calls)))
        for call in range(1, 20):
            for run in found:
                if call in list(run.calls)[1:]:
                    capture.capture(run.site, run.calls[call], call)
    return proof


def naive_groups(found: list[Run]) -> list[tuple[list[str], bytes]]:
    alike: dict[Any, list[Run]] = {}
    for run in found:
        shapes = tuple((call, tuple(one.shape), one.dim()) for call, one in run.calls.items())
        alike.setdefault((run.dtype, run.channels, shapes), []).append(run)
    return [
        (
            [str(run.site) for run in members],
            tapped.naive_group(
                [
                    leaf
                    for run in members
                    for leaf in tapped.naive_leaves(run.site.tree_id, run.dtype, list(run.calls.values()))
                ],
                members[0].dtype,
                len(members),
                list(members[0].calls.values()),
            ),
        )
        for members in alike.values()
    ]


@given(runs(), st.sampled_from([200, 1000, 1 << 20]))
def test_the_roots_are_those_of_ten_plain_lines(found: list[Run], buffer_bytes: int) -> None:
    if not found:
        return
    proofs = [committed(found, threads=threads, buffer_bytes=buffer_bytes) for threads in (None, 0, 1, 2)]
    groups = [([str(site) for site in group.sites], group.root.value) for group in proofs[0].trace.groups]
    assert groups == naive_groups(found)
    assert len({proof.root for proof in proofs}) == 1


def naive_tokens(run: Run) -> torch.Tensor | None:
    """All calls as sequences × tokens × channels, or None if their batches differ."""
    parts = []
    for one in run.calls.values():
        leading = one.shape[:-1] if one.dim() else ()
        if 0 not in leading[-1:]:
            parts.append(one.reshape(math.prod(leading[:-1]), leading[-1] if leading else 1, run.channels))
    if not parts or len({len(part) for part in parts}) != 1 or not len(parts[0]):
        return None
    return torch.cat(parts, dim=1)


@given(runs(), st.data())
def test_openings_are_what_was_captured(found: list[Run], data: st.DataObject) -> None:
    if not found:
        return
    proof = committed(found, threads=1, buffer_bytes=1000)
    run = data.draw(st.sampled_from(found))
    whole = naive_tokens(run)
    if whole is None or not whole.numel():
        return
    spans = []
    for extent in whole.shape:
        start = data.draw(st.integers(0, extent - 1))
        spans.append(slice(start, data.draw(st.integers(start + 1, extent))))
    batch, tokens, channels = spans
    try:
        opening = proof.open(run.site, tokens=tokens, batch=batch, channels=channels)
    except DataError as error:
        assert "name one call" in str(error)  # noqa: PT017 (drawn sites may have tensors of two kinds)
        return
    opening = trace_opening.decode(opening.encode(), what="opening")
    shown = trace_opening.verify(proof.root, proof.context, opening.question, opening)
    expected = whole[batch, tokens, channels]
    assert (shown.dtype, shown.shape) == (run.dtype, tuple(expected.shape))
    assert shown.values == tapped.row_bytes(expected)
    given_tensors = proof.open(run.site, tokens=tokens, batch=batch, channels=channels, tensors=run.calls)
    assert given_tensors == opening


@given(runs(), st.data())
def test_an_opening_with_a_changed_byte_is_refused(found: list[Run], data: st.DataObject) -> None:
    found = [run for run in found if sum(one.numel() for one in run.calls.values())]
    if not found:
        return
    proof = committed(found, threads=None, buffer_bytes=1 << 20)
    run = data.draw(st.sampled_from(found))
    call = data.draw(st.sampled_from([call for call, one in run.calls.items() if one.numel()]))
    opening = proof.open(run.site, call=call, tokens=0, batch=0, channels=0)
    encoded, context, root = opening.encode(), proof.context, proof.root
    where = data.draw(st.sampled_from(["opening", "context", "root"]))
    flip = 1 << data.draw(st.integers(0, 7))

    def flipped(original: bytes) -> bytes:
        at = data.draw(st.integers(0, len(original) - 1))
        return original[:at] + bytes([original[at] ^ flip]) + original[at + 1 :]

    if where == "opening":
        encoded = flipped(encoded)
    elif where == "context":
        context = flipped(context)
    else:
        root = dataclasses.replace(root, value=flipped(root.value))
    with pytest.raises(PalmTorchError):
        trace_opening.verify(root, context, opening.question, trace_opening.decode(encoded, what="opening"))
