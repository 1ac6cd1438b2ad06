"""Contexts of traces and openings: what is accepted is written the same and shows what was captured."""

from __future__ import annotations

import functools

import traces
from laws import REFUSED, accepted, ours

from palm_torch.commit import trace, trace_opening, trace_question, trace_schemes
from palm_torch.commit.trace import Calls, Site

JSON = True

SITE = Site("layers.1")


def one_input(data: bytes) -> None:
    if data.startswith(trace.START):
        context(data)
    else:
        opening(data)


def context(data: bytes) -> None:
    found = accepted(data, lambda raw: trace.decode(raw, what="context"), lambda value: value.encode())
    if found is not REFUSED:
        asked = ours(trace_question.ask, found, SITE, tokens=0, batch=0, channels=0)
        if asked is not REFUSED:
            ours(trace_opening.verify, trace.root(data), data, asked, good(found.scheme))


def opening(data: bytes) -> None:
    found = accepted(
        data, lambda raw: trace_opening.decode(raw, what="opening"), lambda value: value.encode()
    )
    if found is REFUSED:
        return
    for scheme in trace_schemes.SCHEMES:
        tree = made(scheme)
        shown = ours(trace_opening.verify, tree.root, tree.encoded, found.question, found)
        if shown is not REFUSED:
            group = tree.context.groups[0 if found.question.site != Site("head") else 1]
            assert found == tree.open(found.question, group.dtype, group.channels)


@functools.cache
def made(scheme: trace_schemes.Name = "hash") -> traces.MadeUp:
    return traces.MadeUp(
        (traces.layers(3), "bfloat16", 48, traces.DECODING),
        ((Site("head"),), "float32", 5000, (Calls(0, 1, ()), Calls(2, 3, ()))),
        scheme=scheme,
    )


@functools.cache
def good(scheme: trace_schemes.Name = "hash") -> trace_opening.TraceOpening:
    tree = made(scheme)
    return tree.open(trace_question.ask(tree.context, SITE, tokens=3, batch=1), "bfloat16", 48)
