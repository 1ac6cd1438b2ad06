"""Fingerprints of what was captured: of the tensors that a block kept, before its root is known."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from palm_torch import extras
from palm_torch.commit import trace_gathering
from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.committing.capture import Capture
from palm_torch.committing.spill import Kept
from palm_torch.errors import DataError, SessionError
from palm_torch.hooks import taps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    from torch import nn

    from palm_torch.audit.fingerprint_file import Fingerprint
    from palm_torch.commit.trace import Group, Site
    from palm_torch.committing.streams import Stream

    Streams = Mapping[tuple[Site, str, int], Stream]

_NUMBERED: Final = re.compile(r"(?:(.*)\.)?([0-9]{1,9})")
_FIRST_OUTPUTS: Final = ("", "0")
_KEEP_BYTES: Final = 4 << 30


def make(
    groups: Sequence[Group],
    streams: Streams,
    kept: Kept | None,
    sites: Sequence[Site | str] | None = None,
    *,
    seed: bytes = b"",
    top: int | None = None,
    counts: npt.NDArray[Any] | None = None,
) -> Fingerprint:
    """Returns the fingerprint of captured tensors.

    Args:
        groups: What was captured.
        streams: The same by site, element type and channels.
        kept: Where the tensors are.
        sites: Sites, or canonical paths of modules; None for two blocks: the one in the middle and the last.
        seed: As for `palm_torch.audit.fingerprint.make`.
        top: As there; None for what it takes if nothing is said.
        counts: As there.

    Raises:
        SessionError: If nothing was kept.
        DataError: If there is no such site, or its calls differ in element type or number of sequences.
        MissingExtraError: If the extra ``audit`` is not installed.
    """
    with extras.needed("audit", for_what="a fingerprint"):
        from palm_torch.audit import fingerprint  # noqa: PLC0415 (an extra)
    if kept is None:
        raise SessionError(
            "fingerprint: nothing was kept: expected palm_torch.commit(model, keep='memory') or keep=FOLDER"
        )
    chosen = default_sites(groups) if sites is None else [_site(groups, named) for named in sites]
    arrays: dict[Site | str, npt.NDArray[Any]] = {site: _rows(site, groups, streams, kept) for site in chosen}
    more = {} if top is None else {"top": top}
    return fingerprint.make(arrays, seed=seed, counts=counts, **more)


def of_run(
    model: nn.Module,
    run: Callable[[], object],
    sites: Sequence[str] | None = None,
    *,
    seed: bytes = b"",
    counts: npt.NDArray[Any] | None = None,
) -> Fingerprint:
    """Runs a model and returns the fingerprint of what it computed meanwhile.

    Args:
        model: The model.
        run: Calls it.
        sites: As for `make`.
        seed: As for `make`.
        counts: As for `make`.

    Raises:
        CoverageError: If a module cannot be tapped or was not seen.
        DataError: As for `make`.
        MissingExtraError: As for `make`.
    """
    kept = Kept(limit_bytes=_KEEP_BYTES)
    capture = Capture(threads=0, kept=kept)
    try:
        with taps.Taps(model, "blocks" if sites is None else [*sites], capture):
            run()
        captured = capture.close()
    finally:
        capture.abandon()
    groups = [group for group, _ in trace_gathering.gather(captured)]
    streams = {(stream.site, stream.dtype, stream.channels): stream for stream in capture.streams}
    return make(groups, streams, kept, sites, seed=seed, counts=counts)


def default_sites(groups: Sequence[Group]) -> list[Site]:
    """Returns the block in the middle and the last one of those that were captured; of one block, that.

    Blocks are modules that are called by a number in the list which is nearest to the model.

    Raises:
        DataError: If none were captured.
    """
    lists: dict[str, dict[int, Site]] = {}
    for site in itertools.chain.from_iterable(group.sites for group in groups):
        if (match := _NUMBERED.fullmatch(site.module)) and site.output in _FIRST_OUTPUTS:
            lists.setdefault(match[1] or "", {})[int(match[2])] = site
    if not lists:
        raise DataError("fingerprint: no numbered block was captured: say which sites=[...] to take")
    nearest = min(lists, key=lambda name: (name.count("."), -len(lists[name]), name))
    numbers = sorted(lists[nearest])
    return [
        lists[nearest][number] for number in dict.fromkeys((numbers[(len(numbers) - 1) // 2], numbers[-1]))
    ]


def _site(groups: Sequence[Group], named: Site | str) -> Site:
    """Returns the site of that name, or the one output of that module, or the first of several."""
    known = dict.fromkeys(itertools.chain.from_iterable(group.sites for group in groups))
    found = [site for site in known if named in (site, site.module)]
    first = [site for site in found if site.output in _FIRST_OUTPUTS] or found
    if len(first) != 1:
        raise DataError(
            f"fingerprint: {named}: expected one of the sites that were captured, got {len(first)} of "
            f"{len(known)}"
        )
    return first[0]


def _rows(site: Site, groups: Sequence[Group], streams: Streams, kept: Kept) -> npt.NDArray[Any]:
    """Returns what was captured at a site: sequences × tokens, counted through all calls, × channels."""
    of_site = [group for group in groups if site in group.sites]
    batches = {run.batch for group in of_site for run in group.schedule}
    if len(of_site) != 1 or len(batches) != 1:
        raise DataError(
            f"fingerprint: {site}: expected calls with one element type and as many sequences each, got "
            f"{len(of_site)} and {sorted(batches)[:4]}"
        )
    (group,), (batch,) = of_site, batches
    row_bytes = group.channels * ITEM_BYTES[group.dtype]
    data = streams[site, group.dtype, group.channels].read(kept, 0, group.rows * row_bytes)
    flat = np.frombuffer(data, _numpy_dtype(group.dtype, site)).reshape(group.rows, group.channels)
    calls, start = [], 0
    for run in group.schedule:
        shape = (run.count, batch, run.tokens, group.channels)
        rows = flat[start : start + run.count * run.rows].reshape(shape)
        calls.append(rows.swapaxes(0, 1).reshape(batch, run.count * run.tokens, group.channels))
        start += run.count * run.rows
    return np.concatenate(calls, axis=1)


def _numpy_dtype(name: str, site: Site) -> np.dtype[Any]:
    from palm_torch.audit import weights_file  # noqa: PLC0415 (an extra)

    if name not in weights_file.DTYPES:
        raise DataError(f"fingerprint: {site}: expected {', '.join(weights_file.DTYPES)}, got {name}")
    return weights_file.DTYPES[name]
