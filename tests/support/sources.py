"""Every kind of attested dataset, as a loop meets it: what it loads, and what its items say was delivered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import any_data
import every_format
import numpy as np
from torch.utils.data import Dataset

from palm_torch.data import items, measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.generic import AttestedDataset
from palm_torch.data.memmap import memmap
from palm_torch.data.stream import AttestedIterableDataset
from palm_torch.data.windows import AttestedWindows

if TYPE_CHECKING:
    from pathlib import Path

LENGTH, STRIDE = 900, 1500
"""Elements of a window, and from one to the next."""


@dataclass(frozen=True)
class Source:
    """A dataset that is open.

    Attributes:
        loaded: What is given to the loader.
        attested: What the session knows.
        told: Returns the canonical bytes of the records that an item was made of, in the order read.
        written: Those of all records; None for a stream.
        kind: What gives them their meaning.
        apart: Divides what torch's default collate function made into items; None where it takes no items.
    """

    loaded: Any
    attested: Any
    told: Callable[[Any], list[bytes]]
    written: list[bytes] | None
    kind: str
    apart: Callable[[Any], list[Any]] | None = None


class Slices(Dataset[Any]):
    """What scripts write around a memmap."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return (len(self.data) - LENGTH) // STRIDE + 1

    def __getitem__(self, number: int) -> Any:
        start = number % len(self) * STRIDE
        return self.data[start : start + LENGTH].astype(np.int64)


def opener(name: str, folder: Path) -> Callable[..., Source]:
    """Writes what a source needs and returns a function that opens it; ``manifest`` says whether with one."""
    if name in every_format.MAKERS:
        return partial(_of_format, every_format.make(name, folder).measure())
    return _OTHERS[name](folder)


def _of_format(made: every_format.Made, *, manifest: bool) -> Source:
    data = made.open(manifest=manifest)
    apart = list if made.stacks else None
    return Source(data, data, lambda item: [made.told(item)], made.written, made.kind, apart)


def _rows_at_hand(folder: Path) -> Callable[..., Source]:
    import datasets

    made = every_format.make("arrow", folder).measure()
    parts = [datasets.Dataset.from_file(str(path)) for path in sorted(folder.glob("*.arrow"))]
    whole = datasets.concatenate_datasets(parts)
    order = [*range(69, 0, -3), *range(1, 20, 3)]
    beside = folder / "manifest.palm-manifest"

    def opened(*, manifest: bool) -> Source:
        """With the manifest of the files that all rows came from; without, only some of them."""
        data = (
            AttestedMmapDataset(whole, manifest=beside)
            if manifest
            else AttestedMmapDataset(whole.select(order))
        )
        written = made.written if manifest else [made.written[at] for at in order]
        return Source(data, data, lambda item: [made.told(item)], written, made.kind)

    return opened


def spelled(item: Any) -> bytes:
    """Returns the canonical spelling of an item."""
    spelling = items.Spelling()
    spelling.take(item)
    return b"".join(spelling.parts())


def own_spelling(item: dict[str, Any]) -> bytes:
    return b"%d:" % item["y"] + item["x"].numpy().tobytes()


def _items(
    folder: Path, inner: type[any_data.Mapped], encode: Callable[[Any], bytes] | None
) -> Callable[..., Source]:
    folder.mkdir()
    place = folder / "items.palm-manifest"
    AttestedDataset(inner(), encode=encode).measure(place)
    spell = encode or spelled
    written = [spell(any_data.item(number)) for number in range(any_data.ITEMS)]

    def opened(*, manifest: bool) -> Source:
        data: Any = AttestedDataset(inner(), encode=encode, manifest=place if manifest else None)
        kind = "items" if encode is None else "encoded"
        return Source(data, data, lambda item: [spell(item)], written, kind, any_data.apart)

    return opened


def _stream(_folder: Path, encode: Callable[[Any], bytes] | None) -> Callable[..., Source]:
    spell = encode or spelled

    def opened(*, manifest: bool) -> Source:
        del manifest  # a stream has none
        data: Any = AttestedIterableDataset(any_data.Stream(), encode=encode)
        kind = "items" if encode is None else "encoded"
        return Source(data, data, lambda item: [spell(item)], None, kind, any_data.apart)

    return opened


def _by_chunks(folder: Path, *, windows: bool) -> Callable[..., Source]:
    folder.mkdir()
    path = folder / "tokens.bin"
    found = np.random.default_rng(3).integers(0, 60_000, 40_000).astype("<u2")
    found.tofile(path)
    measure.measure(path, format="chunks")
    whole = found.tobytes()
    chunks = [whole[at : at + 4096] for at in range(0, len(whole), 4096)]
    starts = {
        found[start : start + LENGTH].tobytes(): start for start in range(0, len(found) - LENGTH + 1, STRIDE)
    }

    def told(item: Any) -> list[bytes]:
        start = 2 * starts[np.asarray(item).astype("<u2").tobytes()]
        return chunks[start // 4096 : (start + 2 * LENGTH - 1) // 4096 + 1]

    def opened(*, manifest: bool) -> Source:
        way = "auto" if manifest else None
        if windows:
            data: Any = AttestedWindows(path, LENGTH, stride=STRIDE, manifest=way)
            return Source(data, data, told, chunks, "", list)
        mapped = memmap(path, np.uint16, manifest=way)
        return Source(Slices(mapped), mapped._file, told, chunks, "", list)

    return opened


_OTHERS: dict[str, Callable[[Path], Callable[..., Source]]] = {
    "datasets.Dataset": _rows_at_hand,
    "AttestedDataset": lambda folder: _items(folder, any_data.Mapped, None),
    "AttestedDataset, at once": lambda folder: _items(folder, any_data.AtOnce, None),
    "AttestedDataset, encode": lambda folder: _items(folder, any_data.Mapped, own_spelling),
    "AttestedIterableDataset": lambda folder: _stream(folder, None),
    "AttestedIterableDataset, encode": lambda folder: _stream(folder, own_spelling),
    "AttestedWindows": lambda folder: _by_chunks(folder, windows=True),
    "memmap": lambda folder: _by_chunks(folder, windows=False),
}

STREAMS = ("AttestedIterableDataset", "AttestedIterableDataset, encode")
NAMES = (*every_format.MAKERS, *_OTHERS)
"""Every format, and every class that is no format."""
