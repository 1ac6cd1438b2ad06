"""A host that rewrites the files of a dataset at chosen moments, and what has to be true of every reading."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final

import every_format
import hypothesis
import naive
from recording import recording

from palm_torch.commit import manifest_file, records
from palm_torch.data import authentic, reader
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.ledger import Ledger
from palm_torch.errors import DataError, ManifestError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from host import Host

THOROUGH = hypothesis.settings().max_examples > 100
BATCH: Final = 9

FILES: Final[dict[str, dict[str, str]]] = {
    "arrow": {"shards": "*.arrow", "state": "state.json"},
    "bin": {"shards": "*.bin"},
    "chunks": {"file": "a.bin"},
    "files": {"files": "class*/*"},
    "jsonl": {"shards": "*.jsonl", "index": "*.palm-index"},
    "mds": {"shards": "*.mds", "index": "index.json"},
    "megatron": {"shards": "*.bin", "index": "*.idx"},
    "npy": {"shards": "*.npy"},
    "parquet": {"shards": "*.parquet"},
    "safetensors": {"shards": "*.safetensors"},
}
"""Format → the files that a host can rewrite, by what they are; beside these there is the manifest."""
MANIFEST: Final = "*.palm-manifest"


class Place:
    """A dataset with its manifest, the files that may take its place, and a host.

    Attributes:
        made: The dataset.
        honest: Path → content.
        twin: Path → content of another dataset of the same form.
        written: Digest of a manifest → the records that it speaks of.
    """

    def __init__(self, name: str, folder: Path, host: Host) -> None:
        self.name, self.folder, self.host = name, folder / "data", host
        self.made = every_format.make(name, self.folder).measure()
        other = every_format.make(name, folder / "twin", seed=1).measure()
        headers = [one.open().info.manifest for one in (self.made, other)]  # which makes indices, too
        self.written = {
            found.digest: one.written for found, one in zip(headers, (self.made, other), strict=True) if found
        }
        self.honest = self._contents(self.folder)
        self.twin = {
            self.folder / path.relative_to(folder / "twin"): content
            for path, content in self._contents(folder / "twin").items()
        }
        assert {path: len(content) for path, content in self.honest.items()} == {
            path: len(content) for path, content in self.twin.items()
        }

    def _contents(self, folder: Path) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    def of(self, *targets: str) -> list[Path]:
        """Returns the files that are meant."""
        globs = {**FILES[self.name], "manifest": MANIFEST}
        return [path for target in targets for path in sorted(self.folder.glob(globs[target]))]

    def changes(self, targets: tuple[str, ...], variant: str) -> dict[Path, bytes]:
        """Returns what is written over the files."""
        if variant == "twin":
            return {path: self.twin[path] for path in self.of(*targets)}
        return {path: VARIANTS[variant](self.honest[path]) for path in self.of(*targets)}

    def restore(self) -> None:
        self.host.write(self.honest)


def scrambled(content: bytes) -> bytes:
    return bytes(byte ^ (at % 7 == 3) for at, byte in enumerate(content))


def turned(content: bytes) -> bytes:
    """Returns a file whose second half is moved on by eight bytes: what lies there lies elsewhere."""
    half = len(content) // 2
    rest = content[half:]
    return content[:half] + rest[8:] + rest[:8]


VARIANTS: Final = {"scrambled": scrambled, "turned": turned}


def combinations(name: str) -> list[tuple[str, ...]]:
    """Returns which files are rewritten together: each kind alone, with the manifest, and all."""
    kinds = list(FILES[name])
    found = [(kind,) for kind in kinds] + [("manifest",)] + [(kind, "manifest") for kind in kinds]
    return list(dict.fromkeys([*found, (*kinds, "manifest"), tuple(kinds)]))


CASES = [
    (name, targets, variant)
    for name in FILES
    for targets in combinations(name)
    for variant in ("twin", *VARIANTS)
    if THOROUGH or variant == "twin" or (len(targets) == 1 and (variant == "scrambled" or "index" in targets))
]
SUBSTITUTED = [case for case in CASES if THOROUGH or case[2] == "twin"]


class Reading:
    """One pass over a dataset, batch by batch, that a host may step into.

    Args:
        place: The dataset.
        manifest: Whether it is opened with its manifest.
        strike: Called with the name of a moment, whenever there is one.
    """

    def __init__(self, place: Place, strike: Callable[[str], None], *, manifest: bool) -> None:
        self.place, self.strike, self.manifest = place, strike, manifest

    def run(self) -> str:
        """Reads all; returns what became of it, once that was found right."""
        try:
            items, claim, header = self._read()
        except (DataError, ManifestError, RecordError) as error:
            assert str(self.place.folder) in str(error)  # noqa: PT017 (both outcomes are right)
            return "detected"
        made = self.place.made
        batches = [[made.told(item) for item in batch] for batch in items]
        received = [record for batch in batches for record in batch]
        digests = [[naive.digest(record, made.kind) for record in batch] for batch in batches]
        joined = [one for batch in digests for one in batch]
        assert claim.order[0].value == naive.chain(digests)
        assert (claim.delivered, claim.counts.least, claim.counts.greatest) == (len(received), 1, 1)
        if self.manifest and header.digest not in self.place.written:
            # A header that nobody wrote, of pieces of two: evidence names it, and no policy knows that name.
            # What it says of the multiset is its own; the records are those that its root stands for.
            groups = records.group_digests(b"".join(joined))
            assert manifest_file.groups_root(groups) == header.digests_root
            assert claim.multiset.state == header.multiset.state
            return "a manifest that nobody knows"
        if self.manifest:
            assert received == self.place.written[header.digest]  # no other records, and no other order
        assert claim.multiset.state == naive.product(joined)
        return "without effect" if received == made.written else "other records, told as what they are"

    def _read(self) -> tuple[list[list[Any]], Any, Any]:
        self.strike("before it is opened")
        data = self.place.made.open(manifest=self.manifest)
        self.strike("once it is open")
        sent = pickle.dumps(data)
        self.strike("on the way to a worker")
        data = pickle.loads(sent)  # noqa: S301 (what a worker gets)
        account, items = Ledger(data.info), []
        with recording() as session:
            for start in range(0, len(data), BATCH):
                numbers = range(start, min(start + BATCH, len(data)))
                items.append(list(data.__getitems__(list(numbers))))
                self.strike(f"after {numbers.stop} records")
        for batch in session.batches:
            for reads in batch:
                account.add(reads, "train")
        self.strike("before the claim")
        return items, account.claim()["train"].claim, data.info.manifest


class Once:
    """A host that steps in at one moment, the n-th one of a name."""

    def __init__(self, place: Place, moment: str, changes: dict[Path, bytes], way: str = "in place") -> None:
        self.place, self.moment, self.changes, self.way = place, moment, changes, way
        self.struck = False

    def __call__(self, moment: str) -> None:
        if moment == self.moment and not self.struck:
            self.struck = True
            self.place.host.write(self.changes, way=self.way)


def outcome(place: Place, strike: Once, *, manifest: bool) -> str:
    try:
        return Reading(place, strike, manifest=manifest).run()
    finally:
        place.restore()


def interleave(patch: pytest.MonkeyPatch, strike: Callable[[str], None]) -> None:
    """Makes the reader's own steps moments."""
    hashing, check, opening = reader._hash, authentic.check, AttestedMmapDataset.__setstate__

    def hashed(work: Any, count: int, digests: list[bytes]) -> None:
        strike("between copy and hash")
        hashing(work, count, digests)
        strike("between hash and item")

    def checked(*arguments: Any) -> None:
        strike("between hash and manifest")
        check(*arguments)

    def opened(self: AttestedMmapDataset, state: dict[str, Any]) -> None:
        opening(self, state)
        items: Any = self._items
        if hasattr(items, "_item"):
            decode, together, views = items._item, items._items_of, items.reader._views
            items._item = lambda content: (strike("between hash and item"), decode(content))[1]
            if together is not None:
                items._items_of = lambda contents: (strike("between hash and item"), together(contents))[1]
            views[:] = [_Copying(view, strike) for view in views]

    patch.setattr(reader, "_hash", hashed)
    patch.setattr(authentic, "check", checked)
    patch.setattr(AttestedMmapDataset, "__setstate__", opened)


class _Copying:
    """Rows whose copies are followed by a moment."""

    def __init__(self, view: Any, strike: Callable[[str], None]) -> None:
        self.view, self.strike = view, strike
        self.records, self.where = view.records, view.where

    def copy(self, number: int) -> bytes:
        content: bytes = self.view.copy(number)
        self.strike("between copy and hash")
        return content


MOMENTS: Final = (
    "before it is opened",
    "once it is open",
    "on the way to a worker",
    "after 9 records",
    "after 63 records",
    "before the claim",
)
