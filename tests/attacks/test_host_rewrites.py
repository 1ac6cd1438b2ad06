"""Another process rewrites the files of a dataset between any two reads: detected, or without effect.

Every file that the library reads is listed here by its format. Each is rewritten, alone and together with
others, at every moment that a reader leaves open: before it opens a file, between two of the files it opens,
on the way to a worker, between two records, between copying and hashing, hashing and comparing, reading and
claiming. Whatever happens, the loop gets an error that says what is wrong, or exactly the records that the
evidence speaks of.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Final

import every_format
import naive
import pytest
from host import Host, RestlessHost, watching
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tampering import (
    CASES,
    FILES,
    MOMENTS,
    SUBSTITUTED,
    THOROUGH,
    Once,
    Place,
    Reading,
    interleave,
    outcome,
)

from palm_torch.data.formats import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as process:
        yield process


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, host: Host) -> Callable[[str], Place]:
    return functools.cache(lambda name: Place(name, tmp_path_factory.mktemp(name), host))


def test_the_table_names_every_format_and_every_file(places: Callable[[str], Place]) -> None:
    assert set(FILES) == set(table.FORMATS) == set(every_format.MAKERS)
    for name, kinds in FILES.items():
        place = places(name)
        assert sorted(place.of(*kinds, "manifest")) == sorted(place.honest), name


@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "no manifest"])
@pytest.mark.parametrize(("name", "targets", "variant"), CASES, ids=str)
def test_between_two_reads(
    places: Callable[[str], Place], name: str, targets: tuple[str, ...], variant: str, *, manifest: bool
) -> None:
    place = places(name)
    found = {}
    ways = ("in place", "as new files") if THOROUGH or variant == "twin" else ("in place",)
    for moment in MOMENTS:
        for way in ways:
            strike = Once(place, moment, place.changes(targets, variant), way)
            found[moment, way] = outcome(place, strike, manifest=manifest)
            assert strike.struck or found[moment, way] == "detected"
    if len(ways) > 1:  # what is open stays what it was
        assert found["before the claim", "as new files"] == "without effect"
    if not manifest and targets == ("manifest",):
        assert set(found.values()) == {"without effect"}
    if manifest and variant == "twin" and set(targets) == {*FILES[name], "manifest"}:
        assert found["before it is opened", "in place"] == "other records, told as what they are"
    if manifest and variant == "twin" and "manifest" not in targets and name != "parquet":
        expected = "without effect" if _alike(place, targets) else "detected"
        assert found["after 9 records", "in place"] == expected


def _alike(place: Place, targets: tuple[str, ...]) -> bool:
    """Tells whether these files of the twin are those of the dataset, but for what says how old they are."""
    return place.name != "files" and set(targets) <= {"state", "index"}


# ---------------------------------------------------------------------------------------------------------
# the moments inside one opening, and inside one read


class Nth:
    """Steps in when the n-th file is opened, mapped or listed."""

    def __init__(self, place: Place, number: int, changes: dict[Path, bytes]) -> None:
        self.place, self.left, self.changes = place, number, changes

    def __call__(self) -> None:
        if self.left == 0:
            self.place.host.write(self.changes)
        self.left -= 1


@pytest.mark.parametrize(("name", "targets", "variant"), SUBSTITUTED, ids=str)
def test_between_two_files_that_are_opened(
    places: Callable[[str], Place], name: str, targets: tuple[str, ...], variant: str
) -> None:
    place = places(name)
    for number in range(60):
        struck = Nth(place, number, place.changes(targets, variant))
        try:
            with contextlib.ExitStack() as watched:
                strike = functools.partial(_watch_openings, watched, struck)
                Reading(place, strike, manifest=number % 5 != 4).run()
        finally:
            place.restore()
        if struck.left >= 0:  # there are not so many moments
            assert number > 2 or name == "parquet"
            break
    else:
        pytest.fail("expected fewer than 60 moments")


def _watch_openings(watched: contextlib.ExitStack, struck: Callable[[], None], moment: str) -> None:
    """Watches from the moments on that are followed by an opening."""
    watched.close()
    if moment in ("before it is opened", "on the way to a worker"):
        watched.enter_context(watching(struck))


INSIDE: Final = ("between copy and hash", "between hash and manifest", "between hash and item")


@pytest.mark.parametrize("moment", INSIDE)
@pytest.mark.parametrize(("name", "targets", "variant"), CASES, ids=str)
def test_inside_one_read(
    places: Callable[[str], Place],
    name: str,
    targets: tuple[str, ...],
    variant: str,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = places(name)
    for manifest in (True, False):
        strike = Once(place, moment, place.changes(targets, variant))
        with monkeypatch.context() as patch:
            interleave(patch, strike)
            Reading(place, lambda _moment: None, manifest=manifest).run()
        assert strike.struck or (moment == INSIDE[1] and not manifest)
        place.restore()


# ---------------------------------------------------------------------------------------------------------
# any bytes, at any moment; and all the time


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=500 if THOROUGH else 15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.data(), moment=st.sampled_from(MOMENTS), manifest=st.booleans())
def test_any_bytes_at_any_moment(
    places: Callable[[str], Place], name: str, drawn: st.DataObject, moment: str, *, manifest: bool
) -> None:
    place = places(name)
    paths = drawn.draw(st.lists(st.sampled_from(sorted(place.honest)), min_size=1, max_size=3))
    changes = {}
    for path in paths:
        content = bytearray(place.honest[path])
        for at, new in drawn.draw(
            st.lists(
                st.tuples(st.integers(0, len(content) - 1), st.binary(min_size=1, max_size=8)), max_size=3
            )
        ):
            content[at : at + len(new)] = new[: len(content) - at]
        changes[path] = bytes(content)
    outcome(place, Once(place, moment, changes), manifest=manifest)


@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "no manifest"])
@pytest.mark.parametrize("name", FILES)
def test_all_the_time(places: Callable[[str], Place], name: str, *, manifest: bool) -> None:
    """A host that never rests: every pass is detected, or its evidence is of what it handed on."""
    place = places(name)
    outcomes = []
    try:
        with RestlessHost({path: (place.honest[path], place.twin[path]) for path in place.honest}):
            reading = Reading(place, lambda _moment: None, manifest=manifest)
            outcomes.extend(reading.run() for _ in range(400 if THOROUGH else 12))
    finally:
        place.restore()
    assert Reading(place, lambda _moment: None, manifest=manifest).run() == "without effect"
    assert len(outcomes) >= 12


def test_twin_what_is_not_copied_first_would_show(places: Callable[[str], Place], host: Host) -> None:
    """The tests above can fail: a reader that hashes the mapping and hands out the mapping is caught."""
    place = places("bin")
    data = place.made.open(manifest=False)
    mapped = data._items.reader._buffers[0]
    digest = naive.digest(mapped[:10])
    host.write(place.changes(("shards",), "twin"))
    try:
        assert naive.digest(bytes(mapped[:10])) != digest
    finally:
        place.restore()
