"""Contexts of traces, openings, and audits of them.

What is accepted is written the same and shows what was captured; nothing but the request can be asked about,
and nothing but its answer answers it.
"""

from __future__ import annotations

import dataclasses
import functools

import spec_audit
import traces
from laws import REFUSED, accepted, ours

from palm_torch.challenge import answer as answers
from palm_torch.challenge import challenge, questions
from palm_torch.challenge import request as requests
from palm_torch.commit import trace, trace_opening, trace_question, trace_schemes
from palm_torch.commit.trace import Calls, Site

JSON = True

SITE = Site("layers.1")
REQUEST_START = b'{"claims":'
ANSWER_START = b'{"decoding":'


def one_input(data: bytes) -> None:
    if data.startswith(trace.START):
        context(data)
    elif data.startswith(REQUEST_START):
        request(data)
    elif data.startswith(ANSWER_START):
        answer(data)
    else:
        opening(data)


def request(data: bytes) -> None:
    found = accepted(data, lambda raw: requests.decode(raw, what="request"), lambda value: value.encode())
    if found is REFUSED:
        return
    asked = ours(challenge.asked, found, spec_audit.MADE.context)
    if asked is not REFUSED:
        ours(questions.questions, found, spec_audit.MADE.context, asked)
    shown = ours(spec_audit.verify, data, spec_audit.MADE.encoded, spec_audit.ANSWER.encode())
    assert shown is REFUSED or found == spec_audit.REQUEST


def answer(data: bytes) -> None:
    found = accepted(data, lambda raw: answers.decode(raw, what="answer"), lambda value: value.encode())
    shown = ours(spec_audit.verify, spec_audit.REQUEST.encode(), spec_audit.MADE.encoded, data)
    if shown is not REFUSED:
        assert dataclasses.replace(found, decoding=None) == spec_audit.ANSWER


def context(data: bytes) -> None:
    found = accepted(data, lambda raw: trace.decode(raw, what="context"), lambda value: value.encode())
    if found is not REFUSED:
        drawn = ours(challenge.asked, spec_audit.REQUEST, found)
        if drawn is not REFUSED:
            ours(questions.questions, spec_audit.REQUEST, found, drawn)
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
