"""Sites, calls, groups and the context that a trace root binds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import traces
from traces import DECODING

from palm_torch.commit import merkle, trace, trace_gathering, trace_schemes
from palm_torch.commit.trace import Calls, Group, ModuleCoverage, Site
from palm_torch.commit.trace_gathering import Captured
from palm_torch.commit.tree_context import Context
from palm_torch.digest import TAGGED_SHA256, Digest, sha256_digest, tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import DataError, EvidenceError

ROOT = Digest(TAGGED_SHA256, bytes(32))


def group(**changes: Any) -> Group:
    fields: dict[str, Any] = {
        "sites": (Site("a"), Site("b", "0")),
        "dtype": "float32",
        "channels": 4,
        "tile": (64, 4),
        "schedule": DECODING,
        "root": ROOT,
    }
    return Group(**{**fields, **changes})


def made() -> traces.MadeUp:
    wide = ((Site("head"),), "float32", 5000, (Calls(0, 1, (2,)),))
    return traces.MadeUp((traces.layers(3), "bfloat16", 48, DECODING), wide)


@pytest.mark.parametrize(
    ("dtype", "channels", "tile"),
    [
        ("float32", 768, (1, 768)),
        ("float32", 256, (1, 256)),
        ("float32", 255, (2, 255)),
        ("bfloat16", 48, (16, 48)),
        ("bool", 1, (1024, 1)),
        ("float32", 4096, (1, 4096)),
        ("float32", 4097, (1, 4096)),
        ("float64", 30_000, (1, 2048)),
        ("int8", 0, (1, 1)),
    ],
)
def test_tiles_have_a_kibibyte_or_more_and_sixteen_at_most(
    dtype: str, channels: int, tile: tuple[int, int]
) -> None:
    assert trace.tiling(dtype, channels) == tile


def test_what_a_site_is_called() -> None:
    assert (str(Site("a.b")), str(Site("", "x.0"))) == ("a.b", "the model itself (output x.0)")
    assert (Site("a", "b|c").tree_id, Site("").tree_id) == ("a|b|c", "|")


@pytest.mark.parametrize(
    ("module", "output", "message"),
    [
        ("a|b", "", "without '|'"),
        ("a" * 4097, "", "module: expected a path of at most 4096 bytes, got 4097"),
        ("", "é" * 2049, "output: expected a path of at most 4096 bytes, got 4098"),
        ("\ud800", "", "not valid Unicode"),
    ],
)
def test_a_site_without_a_plain_name_is_refused(module: str, output: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Site(module, output)


@pytest.mark.parametrize(
    ("shape", "batch", "tokens", "rows"),
    [
        (None, 1, 1, 1),
        ((), 1, 1, 1),
        ((7,), 1, 7, 7),
        ((2, 7), 2, 7, 14),
        ((2, 3, 7), 6, 7, 42),
        ((3, 0), 3, 0, 0),
    ],
)
def test_sequences_tokens_and_rows_of_a_call(
    shape: tuple[int, ...] | None, batch: int, tokens: int, rows: int
) -> None:
    calls = Calls(3, 2, shape)
    assert (calls.end, calls.batch, calls.tokens, calls.rows) == (5, batch, tokens, rows)


@pytest.mark.parametrize(
    "calls", [(-1, 1, ()), (0, 0, ()), (2**53 - 1, 1, ()), (0, 1, (-1,)), (0, 1, (2**53,)), (0, 1, (1,) * 64)]
)
def test_calls_out_of_range_are_refused(calls: Any) -> None:
    with pytest.raises(DataError, match="calls: "):
        Calls(*calls)


def test_a_group_counts_its_rows_and_tiles() -> None:
    assert (group().rows, group().grid().counts) == (18, (2, 1, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sites": ()}, "one or more different sites"),
        ({"sites": (Site("a"), Site("a"))}, "one or more different sites"),
        ({"dtype": "float33"}, "dtype: unknown: 'float33'"),
        ({"channels": -1}, "channels: out of range: -1"),
        ({"channels": 2**51}, "channels: out of range"),
        ({"tile": (32, 4)}, r"tile: expected \(64, 4\), got \(32, 4\)"),
        ({"schedule": ()}, "at least one call"),
        ({"schedule": (Calls(0, 2, ()), Calls(1, 1, (1,)))}, "call 1 comes after call 1"),
        ({"schedule": (Calls(0, 2, None),)}, "a tensor without dimensions has one channel, not 4"),
        ({"schedule": (Calls(0, 2, ()), Calls(2, 1, ()))}, "calls 0 and 2 are one run"),
        ({"root": sha256_digest(b"")}, "expected a palm-sha256 root"),
        ({"schedule": (Calls(0, 2, (2**52,)),)}, "grid: "),
    ],
)
def test_a_group_that_no_trace_has_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        group(**changes)


def test_sites_of_equal_schedules_share_a_tree() -> None:
    tree = made()
    first, second = tree.context.groups
    assert [site.module for site in first.sites] == ["layers.0", "layers.1", "layers.2"]
    assert (first.rows, first.grid().counts, second.grid().counts) == (18, (3, 2, 1), (1, 2, 2))
    held = tree.trees[0]
    leaves = b"".join(map(held.leaf, range(len(held))))
    over = Context(trace_schemes.TREE_ID, "bfloat16", first.grid(), "hash")
    assert first.root.value == over.root(merkle.root(leaves))


def test_leaves_of_another_number_are_refused() -> None:
    with pytest.raises(DataError, match="a: expected 1 leaves, got 64 bytes of them"):
        trace_gathering.gather([Captured(Site("a"), "float32", 4, DECODING, bytes(64))])


def test_a_context_is_written_and_read() -> None:
    tree = made()
    assert trace.decode(tree.encoded, what="context") == tree.context
    assert trace.root(tree.encoded) == tagged_digest("palm-torch/trace/v1", tree.encoded)


def test_equal_tensors_have_one_digest_whatever_else_a_run_was() -> None:
    context = made().context
    other = dataclasses.replace(context, environment={"torch": "3"}, coverage=())
    assert other.encode() != context.encode()
    assert other.activations() == context.activations()
    fewer = dataclasses.replace(context, groups=context.groups[:1])
    assert fewer.activations() != context.activations()


def test_a_site_may_have_tensors_of_two_kinds_in_different_calls() -> None:
    site, other = Site("a"), Site("b")
    wide = dataclasses.replace(
        made().context,
        groups=(
            group(sites=(site, other), schedule=(Calls(0, 1, ()), Calls(2, 1, ()))),
            group(sites=(site,), channels=8, tile=(32, 8), schedule=(Calls(1, 1, ()), Calls(3, 5, ()))),
        ),
    )
    assert len(wide.groups) == 2
    with pytest.raises(EvidenceError, match="two of them have the same call of a"):
        dataclasses.replace(wide, groups=(wide.groups[0], group(sites=(site,), channels=8, tile=(32, 8))))


def test_sites_that_share_their_groups_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sites times calls would be work without end for whoever reads a file of some megabytes."""
    sites = tuple(Site(f"m{number}") for number in range(20_000))
    even = tuple(Calls(number, 1, ()) for number in range(0, 40_000, 2))
    odd = tuple(Calls(number, 1, ()) for number in range(1, 4, 2))
    both = (group(sites=sites, schedule=even), group(sites=sites, channels=8, tile=(32, 8), schedule=odd))
    context = dataclasses.replace(made().context, groups=both)
    assert context.groups == both
    runs = len(even) + len(odd)
    monkeypatch.setattr(trace, "MAX_SHARED_RUNS", runs)
    dataclasses.replace(context, groups=both)
    monkeypatch.setattr(trace, "MAX_SHARED_RUNS", runs - 1)
    with pytest.raises(EvidenceError, match=f"expected at most {runs - 1} runs of calls.*, got {runs}"):
        dataclasses.replace(context, groups=both)


def test_a_name_that_could_be_read_as_more_is_quoted() -> None:
    assert str(Site("model.layers.3", "hidden_states.0")) == "model.layers.3 (output hidden_states.0)"
    assert str(Site("")) == "the model itself"
    assert str(Site("the model itself")) == "'the model itself'"
    assert str(Site("a (output b)", "c d")) == "'a (output b)' (output 'c d')"


def test_another_version_is_refused() -> None:
    with pytest.raises(EvidenceError, match="media_type: expected 'application/vnd"):
        dataclasses.replace(made().context, media_type="application/json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{}", "missing key"),
        (b"{ }", "not in canonical form"),
        (b"[]", "expected an object"),
        (b"\xff", "not a JSON document"),
    ],
)
def test_what_is_no_context_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        trace.decode(data, what="context")


def test_a_message_names_the_field() -> None:
    context = made().context
    changed = context.encode().replace(b'"channels":48', b'"channels":49')
    with pytest.raises(EvidenceError, match=r"^context\.groups\[0\]\.tile: expected \(16, 49\)"):
        trace.decode(changed, what="context")


def test_an_unknown_scheme_is_refused() -> None:
    value = made().encoded.replace(b'"scheme":"hash"', b'"scheme":"pst"')
    with pytest.raises(EvidenceError, match="expected one of 'hash'"):
        trace.decode(value, what="context")


def test_coverage_is_bound() -> None:
    context = made().context
    more = dataclasses.replace(context, coverage=(ModuleCoverage("layers.0", "each call", 5, 6),))
    assert trace.root(more.encode()) != trace.root(context.encode())
    assert encode_json("each call") in more.encode()
    assert isinstance(trace.root(b""), Digest)
