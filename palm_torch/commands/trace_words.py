"""What is said of a trace, in words: its ranges, its facts, and what of the run it does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from palm_torch.commit.trace import Context
    from palm_torch.commit.trace_rows import Question

_SHOWN: Final = 4


def outputs(context: Context, module: str) -> tuple[str, ...]:
    """Returns the outputs of a module that a trace has, in order, each once."""
    sites = (site for group in context.groups for site in group.sites)
    return tuple(dict.fromkeys(site.output for site in sites if site.module == module))


def ranges(question: Question) -> str:
    """Returns what is asked for of a site: ``call 2, batch 0:1, tokens 3:4, channels 0:768``."""
    call = "" if question.call is None else f"call {question.call}, "
    spans = (("batch", question.batch), ("tokens", question.tokens), ("channels", question.channels))
    return call + ", ".join(f"{name} {first}:{last}" for name, (first, last) in spans)


def numbers(answers: Sequence[int]) -> str:
    """Returns numbers of answers: ``3`` or ``3, 5``."""
    return ", ".join(map(str, answers))


def of_context(context: Context, *, known: Collection[str] = ()) -> Iterator[str]:
    """Yields lines about a run, as its trace's context tells it.

    Args:
        context: The context.
        known: Names of facts that were compared with what the caller knows.
    """
    from palm_torch.commit.trace_groups import plain, spelled

    yield f"model     {context.model or 'not named'}"
    for name, digest in sorted(context.facts.items()):
        yield f"fact      {plain(name)} {digest}{', as you expect' if name in known else ''}"
    if not context.facts:
        yield "fact      none: the trace says of no question or answer that it is theirs"
    yield f"coverage  {_coverage(context)}"
    for item in context.not_captured[:_SHOWN]:
        yield f"left out  {spelled(item.module, item.output)}: {item.kind}"
    if more := len(context.not_captured[_SHOWN:]):
        yield f"left out  {more} more outputs; --json lists them"


def _coverage(context: Context) -> str:
    modules = context.coverage
    gaps = [one for one in modules if one.fired != one.expected]
    said = f"{len(modules)} modules, {sum(one.fired for one in modules)} calls"
    if not gaps:
        return f"{said}, each seen as often as it had to be, as the trace says"
    first = gaps[0]
    such = f"{first.module!r}: {first.fired} of {first.expected} (expected {first.rule!r})"
    return f"{said}; as the trace says, {len(gaps)} modules not as often as expected, such as {such}"
