"""What a result says of a dataset: how much of what it holds, what identifies it, how much was delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.escaping import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.receipt import DatasetAccount
    from palm_torch.roles import Counts, Dataset, Source

_NOT_RECORDS: Final = {
    "chunks": "4 KiB chunks of a file",
    "items": "items made by code",
    "encoded": "items, as bytes made by the script's own encode=",
}
"""Format of a dataset whose parts are no records that lie in a file → what they are."""

MAX_LAYOUT_CHARACTERS: Final = 48
"""Characters of a layout that a result shows: rows may have many columns."""


def in_words(dataset: Dataset | DatasetAccount) -> str:
    """Returns how much a dataset holds, of what, read as what, and what identifies it."""
    what = _NOT_RECORDS.get(dataset.format)
    read_as = "" if what is not None and dataset.layout == dataset.format else f" ({_layout(dataset.layout)})"
    if dataset.records is None:
        return f"a stream of {what or 'records'}{read_as}, without index or manifest"
    if what is None:
        size = dataset.record_bytes
        what = "records of different lengths" if size is None else f"records of {size} bytes"
    return f"{dataset.records} {what}{read_as}, {dataset.manifest or 'no manifest'}"


def said(name: str, dataset: Dataset) -> Iterator[tuple[str, str, Source]]:
    """Yields name, words and source of the claims about a dataset: itself, then each use."""
    yield name, in_words(dataset), dataset.source
    what = "indices" if dataset.manifest is None else "ones"
    for use, delivered in sorted(dataset.uses.items()):
        words = f"{delivered.delivered} delivered"
        if len(delivered.order) > 1:
            words += f" to {len(delivered.order)} ranks"
        if delivered.padded is None:
            words += ", how many of them repeated to make ranks equal is not known"
        if delivered.padded:
            words += f", {delivered.padded} of them repeated to make ranks equal"
        if delivered.counts is not None:
            counts = delivered.counts
            words += f", {counts.distinct} different {what} of {dataset.records}, {_times(counts)}"
        yield f"{name}, {use}", words, dataset.source


def _layout(text: str) -> str:
    """Returns a layout for people: somebody else's names of columns stand in it."""
    short = text if len(text) <= MAX_LAYOUT_CHARACTERS else f"{text[:MAX_LAYOUT_CHARACTERS]}…"
    return printable(short)


def _times(counts: Counts) -> str:
    if counts.least == counts.greatest:
        return "each once" if counts.least == 1 else f"each {counts.least} times"
    return f"each {counts.least} to {counts.greatest} times"
