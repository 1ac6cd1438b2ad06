"""Openings of a trace: made, written, read, checked; and everything about them that is refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import traces
from traces import DECODING

from palm_torch.commit import trace, trace_opening, trace_question, trace_rows
from palm_torch.commit.trace import Calls, Site
from palm_torch.commit.trace_rows import Question
from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.digest import TAGGED_SHA256, Digest, sha256_digest
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from pathlib import Path

HEAD, MIXED, PAIR = Site("head"), Site("mixed"), Site("pair", "1")


@pytest.fixture(scope="module")
def made() -> traces.MadeUp:
    return traces.MadeUp(
        (traces.layers(3), "bfloat16", 48, DECODING),
        ((HEAD,), "float32", 5000, DECODING),
        ((MIXED,), "int8", 7, (Calls(0, 2, (3,)), Calls(3, 1, (3, 2, 2)))),
        ((MIXED,), "int8", 1, (Calls(2, 1, None), Calls(4, 2, (0,)))),
        ((Site("pair", "0"), PAIR), "float64", 3, (Calls(0, 1, ()),)),
    )


def ask(made: traces.MadeUp, site: Site, **ranges: Any) -> Question:
    return trace_question.ask(made.context, site, **ranges)


def rows(made: traces.MadeUp, site: Site, dtype: str, channels: int) -> Any:
    """The site's bytes as rows of elements, each element a row of bytes."""
    data = np.frombuffer(made.data[site, dtype, channels], np.uint8)
    return data.reshape(-1, channels, ITEM_BYTES[dtype])


def shown(made: traces.MadeUp, question: Question, dtype: str, channels: int) -> trace_opening.Shown:
    opening = trace_opening.decode(made.open(question, dtype, channels).encode(), what="opening")
    return trace_opening.verify(made.root, made.encoded, question, opening)


@pytest.mark.parametrize("dtype,channels,site", [("bfloat16", 48, Site("layers.1")), ("float32", 5000, HEAD)])  # noqa: PT006
@pytest.mark.parametrize("tokens", [slice(None), slice(3, 7), 0, 8, -1, slice(5, 6), slice(-3, -1)])
@pytest.mark.parametrize("batch", [None, 1, slice(0, 1)])
def test_tokens_count_through_calls(
    made: traces.MadeUp, dtype: str, channels: int, site: Site, tokens: Any, batch: Any
) -> None:
    question = ask(made, site, tokens=tokens, batch=batch, channels=slice(2, channels - 1))
    result = shown(made, question, dtype, channels)
    # rows of the prefill: 2 × 5; then two for each step
    table = rows(made, site, dtype, channels)
    whole = np.concatenate(
        [table[:10].reshape(2, 5, channels, -1), table[10:].reshape(4, 2, channels, -1).swapaxes(0, 1)],
        axis=1,
    )
    (a, b), (c, d), (e, f) = question.batch, question.tokens, question.channels
    expected = whole[a:b, c:d, e:f]
    assert result.shape == expected.shape[:3]
    assert result.values == expected.tobytes()
    assert (result.dtype, result.root, result.question) == (dtype, made.root, question)


def test_tokens_count_within_a_call_that_is_named(made: traces.MadeUp) -> None:
    result = shown(made, ask(made, HEAD, call=2, channels=slice(4095, 4097)), "float32", 5000)
    table = rows(made, HEAD, "float32", 5000)
    assert (result.shape, result.values) == ((2, 1, 2), table[12:14, 4095:4097].tobytes())


def test_a_site_whose_tensors_changed_their_width(made: traces.MadeUp) -> None:
    with pytest.raises(DataError, match="mixed: its calls had tensors of 2 kinds; name one call"):
        ask(made, MIXED)
    narrow = shown(made, ask(made, MIXED, call=3, batch=4, tokens=1), "int8", 7)
    assert narrow.values == rows(made, MIXED, "int8", 7)[6 + 4 * 2 + 1].tobytes()
    scalar = shown(made, ask(made, MIXED, call=2), "int8", 1)
    assert (scalar.shape, scalar.values) == ((1, 1, 1), made.data[MIXED, "int8", 1])
    with pytest.raises(DataError, match="the trace has no call 6 of it"):
        ask(made, MIXED, call=6)


def test_calls_of_different_batches_need_a_batch() -> None:
    tree = traces.MadeUp(((HEAD,), "uint8", 4, (Calls(0, 1, (3, 2)), Calls(1, 1, (0,)), Calls(2, 2, (2, 1)))))
    with pytest.raises(DataError, match="batch: the calls with these tokens have 2 to 3 sequences"):
        ask(tree, HEAD)
    assert shown(tree, ask(tree, HEAD, batch=slice(0, 2)), "uint8", 4).shape == (2, 4, 4)
    assert ask(tree, HEAD, tokens=slice(0, 2)).batch == (0, 3)
    with pytest.raises(DataError, match=r"batch: expected a range within \[0, 2\)"):
        ask(tree, HEAD, batch=2)
    beyond = Question(site=HEAD, call=None, batch=(0, 3), tokens=(1, 3), channels=(0, 1))
    with pytest.raises(
        DataError, match="batch: these calls have 2 sequences, expected a range within, got 3"
    ):
        trace_rows.locate(tree.context, beyond)


def test_a_module_by_its_name(made: traces.MadeUp) -> None:
    assert trace_question.site_of(made.context, "head", None) == HEAD
    assert trace_question.site_of(made.context, "pair", "1") == PAIR
    assert trace_question.site_of(made.context, "mixed", None) == MIXED
    with pytest.raises(DataError, match="pair: expected one of its outputs, which are '0', '1': say output="):
        trace_question.site_of(made.context, "pair", None)
    unknown = trace_question.site_of(made.context, "tail", None)
    with pytest.raises(
        DataError, match=r"tail: no tensor of it is in this trace; its sites are layers\.0, .* 7 in"
    ):
        ask(made, unknown)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"tokens": slice(0, 10)}, r"tokens: expected a range within \[0, 9\)"),
        ({"tokens": slice(3, 3)}, "tokens: expected a range"),
        ({"tokens": slice(0, 4, 2)}, "tokens: expected a range without steps"),
        ({"tokens": -10}, "tokens: expected a range"),
        ({"channels": "3"}, "channels: expected a slice or a whole number, got '3'"),
        ({"channels": slice(0.5, 1)}, "channels: expected a slice or a whole number"),
        ({"channels": slice(0, 5001)}, r"\[0, 5000\)"),
        ({"batch": 2}, r"batch: expected a range within \[0, 2\)"),
    ],
)
def test_ranges_that_there_are_not(made: traces.MadeUp, ranges: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ask(made, HEAD, **ranges)


def question(**changes: Any) -> Question:
    fields: dict[str, Any] = {"call": None, "batch": (0, 1), "tokens": (0, 1), "channels": (0, 1)}
    return Question(**{"site": HEAD, **fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": (8, 10)}, "tokens: head has 9, expected a range within, got 10"),
        ({"tokens": (0, 2), "call": 1}, "tokens: head has 1, expected a range within, got 2"),
        ({"channels": (0, 5001)}, "channels: head has 5000, expected a range within, got 5001"),
        ({"batch": (0, 3)}, "batch: these calls have 2 sequences"),
        ({"batch": (0, 2**20), "tokens": (0, 2)}, "at most 1048576 rows in one opening, got 2097152"),
    ],
)
def test_a_question_beyond_the_trace_has_no_place(
    made: traces.MadeUp, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        trace_rows.locate(made.context, question(**changes))


@pytest.mark.parametrize(
    ("dtype", "channels", "count", "message"),
    [
        ("uint8", 1024, 2**17, "at most 65536 tiles in one opening, got 131072"),
        ("uint8", 16384, 2**13, "at most 67108864 bytes of tiles in one opening, got 134217728"),
    ],
)
def test_what_is_too_much_for_one_opening(dtype: str, channels: int, count: int, message: str) -> None:
    group = trace.Group(
        sites=(HEAD,),
        dtype=dtype,
        channels=channels,
        tile=trace.tiling(dtype, channels),
        schedule=(Calls(0, 1, (count,)),),
        root=Digest(TAGGED_SHA256, bytes(32)),
    )
    context = dataclasses.replace(traces.MadeUp().context, groups=(group,))
    with pytest.raises(DataError, match=message):
        trace_rows.locate(context, question(tokens=(0, count), channels=(0, channels)))


@pytest.mark.parametrize(
    "changes",
    [{"call": -1}, {"batch": (1, 1)}, {"tokens": (-1, 1)}, {"channels": (0, 1, 2)}, {"channels": ()}],
)
def test_a_question_that_asks_for_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"^(call|batch|tokens|channels): expected"):
        question(**changes)


def test_a_question_in_words() -> None:
    assert str(question()) == "head, batch 0 to 0, tokens 0 to 0, channels 0 to 0"
    assert (
        str(question(call=3, tokens=(1, 5))) == "head of call 3, batch 0 to 0, tokens 1 to 4, channels 0 to 0"
    )


def test_a_file_and_its_limits(made: traces.MadeUp, tmp_path: Path) -> None:
    asked = ask(made, HEAD, tokens=8, batch=0)
    opening = made.open(asked, "float32", 5000)
    opening.save(tmp_path / "a.json")
    assert trace_opening.read(tmp_path / "a.json") == opening
    with pytest.raises(DataError, match="cannot write"):
        opening.save(tmp_path / "missing" / "a.json")
    with pytest.raises(EvidenceError, match="cannot read the opening"):
        trace_opening.read(tmp_path / "b.json")
    for data, message in ((b"{}", "missing key"), (b"nothing", "not a JSON document")):
        with pytest.raises(EvidenceError, match=message):
            trace_opening.decode(data, what="opening")


def test_another_version_or_root_is_refused(made: traces.MadeUp) -> None:
    opening = made.open(ask(made, HEAD, tokens=8, batch=0), "float32", 5000)
    with pytest.raises(EvidenceError, match="media_type"):
        dataclasses.replace(opening, media_type="x")
    with pytest.raises(EvidenceError, match="expected a palm-sha256 root"):
        dataclasses.replace(opening, root=sha256_digest(b""))


def test_each_fault_has_its_step(made: traces.MadeUp) -> None:
    asked = ask(made, Site("layers.1"), tokens=4)
    opening = made.open(asked, "bfloat16", 48)
    other = traces.MadeUp(((HEAD,), "uint8", 4, DECODING))

    def verify(**changes: Any) -> None:
        fields = {"root": made.root, "context": made.encoded, "question": asked, "opening": opening}
        trace_opening.verify(**{**fields, **changes})

    verify()
    with pytest.raises(BindingError, match="it is of another trace"):  # 1
        verify(context=other.encoded)
    with pytest.raises(EvidenceError, match="trace context: not a JSON document"):  # 2
        verify(context=b"no JSON", root=trace.root(b"no JSON"))
    with pytest.raises(BindingError, match="expected it under the root"):  # 3
        verify(opening=dataclasses.replace(opening, root=other.root))
    with pytest.raises(BindingError, match=r"expected an answer to layers\.1, batch 0 to 1, tokens 5 to 5"):
        verify(question=ask(made, Site("layers.1"), tokens=5))
    beyond = dataclasses.replace(asked, tokens=(4, 10))
    with pytest.raises(DataError, match="tokens: "):  # 4
        verify(question=beyond, opening=dataclasses.replace(opening, question=beyond))
    with pytest.raises(EvidenceError, match="expected tiles of 1536 bytes, got 1535"):  # 5
        verify(opening=dataclasses.replace(opening, tiles=opening.tiles[:-1]))
    with pytest.raises(EvidenceError, match="expected a proof of"):  # 6
        verify(opening=dataclasses.replace(opening, proof=opening.proof + bytes(32)))
    elsewhere = dataclasses.replace(asked, site=Site("layers.0"))
    with pytest.raises(BindingError, match="not the leaves under root"):
        verify(question=elsewhere, opening=dataclasses.replace(opening, question=elsewhere))


def test_bytes_that_were_not_captured_are_not_opened(made: traces.MadeUp) -> None:
    read = made.reader(Site("layers.0"), "bfloat16", 48)
    with pytest.raises(DataError, match="not those that were captured"):
        trace_opening.make(made.root, made.context, made.trees, ask(made, Site("layers.1")), read)


def test_sites_are_looked_up_as_going_through_all_of_them_finds_them(made: traces.MadeUp) -> None:
    sites = trace_rows.Sites(made.context)
    for number, group in enumerate(made.context.groups):
        assert sites.number(group) == number
        for site in group.sites:
            call = group.schedule[0].first
            assert sites.find(site, call) == (group, group.sites.index(site))
            assert trace_rows.find(made.context, site, call)[0] is group
