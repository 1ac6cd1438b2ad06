"""A manifest at hand against what evidence says was delivered: which records, and how often each.

Whole epochs follow from the multiset hash of the dataset, raised to their number. Everything else follows
from the coverage map: its root is the sealed one, and the product of the records' elements, each as often as
the map says, is the sealed multiset hash. Manifest and maps are read once, side by side, a piece at a time.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.appraisal.dataset_reading import Mapped, Reading
from palm_torch.commit import coverage, coverage_file, deliveries, manifest_file, multiset
from palm_torch.errors import ArtifactError, ClaimError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.appraisal import coverage_maps
    from palm_torch.appraisal.at_hand import Held
    from palm_torch.commit.deliveries import Deliveries
    from palm_torch.commit.manifest import Manifest
    from palm_torch.commit.multiset import MultisetHash
    from palm_torch.roles import Counts, Dataset, Delivered

BY_HEADER: Final = (
    "whether the multiset hash in {path} is that of its records: whoever measured them computed it; "
    "--recompute computes it from the records"
)
NO_MAP: Final = (
    "which records of {role} were delivered for {use}: the coverage map is not at hand ({place}), so the "
    "sealed multiset hash was not compared"
)


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison established, and what it could not.

    Attributes:
        detail: What was established, in words.
        left_open: What was not, each without a full stop.
    """

    detail: str
    left_open: tuple[str, ...] = ()


def compare(role: str, name: str, held: Held, dataset: Dataset, maps: coverage_maps.Maps) -> Compared:
    """Compares a manifest with what a statement says of a dataset.

    Algorithm:
        1. The manifest is the one that the evidence names; where it names none, the record digests count,
           and nothing in the header does. *(Stops: another dataset, a made-up header.)*
        2. Manifest and maps are read once. Records at hand are hashed again and compared with the manifest.
           *(Stops: data that changed since.)*
        3. Each map's root is the sealed one, and it says what the evidence says. *(Stops: another map.)*
        4. The product over all deliveries is the sealed one. *(Stops: records left out, or put in.)*

    Args:
        role: Role of the dataset, for messages.
        name: Name of the dataset, which its maps have too.
        held: What is at hand.
        dataset: What the statement says.
        maps: Coverage maps at hand.

    Raises:
        ArtifactError: If the manifest, a map or a record is another one.
        ClaimError: If a map shows that the statement contradicts itself.
        DataError: If a file is malformed or cannot be read, or records are to be hashed again and nothing
            says which were delivered.
        EvidenceError: If a map is malformed or cannot be read.
    """
    path = held.path
    if path.is_dir():
        raise DataError(f"{path}: a folder; its manifest is {path / 'manifest.palm-manifest'}")
    header = manifest_file.read_header(path)
    _check_header(role, path, header, dataset)  # 1
    by_header = dataset.manifest is not None and held.records is None
    computed = multiset.MultisetHash()
    with contextlib.ExitStack() as stack:
        mapped = {
            use: Mapped(stack.enter_context(coverage_file.opened(found)), made)
            for use, delivered in dataset.uses.items()
            if (found := _map_of(name, use, delivered, maps)) is not None
            for made in [_starting(delivered, header if by_header else None)]
        }
        for one in mapped.values():
            if one.file.records != header.records:
                raise ArtifactError(
                    f"{one.file.path}: expected counts of {header.records} records, got {one.file.records}"
                )
        alike = [use for use, delivered in dataset.uses.items() if use not in mapped and _whole(delivered)]
        if held.records is not None and not mapped and not alike:
            raise DataError(
                f"{role}: nothing at hand says which records were delivered: give --coverage FILE"
            )
        reading = Reading(
            held,
            tuple(mapped.values()),
            computed if alike and not by_header else None,
            every=bool(alike),
        )
        if manifest_file.read(path, each=reading.take) != header:  # 2
            raise ArtifactError(f"{path}: the manifest was rewritten while it was read")
        said = {use: _by_map(f"{role}, {use}", one, dataset.uses[use]) for use, one in mapped.items()}  # 3, 4
    whole = _stated(header) if by_header else computed
    said |= {use: _by_power(f"{path}", role, use, whole, dataset.uses[use]) for use in alike}
    established = [said[use] for use in dataset.uses if said.get(use)]
    if dataset.manifest is None and not established:
        raise ArtifactError(
            f"{path}: cannot be compared with {role}: the evidence names no manifest and no whole epoch of "
            "it, and no coverage map is at hand"
        )
    named = "is the manifest" if dataset.manifest is not None else "has the records"
    if held.records is not None:
        established.append(f"{reading.again} records were read and hashed again")
    left_open = [
        NO_MAP.format(role=role, use=use, place=maps.place(name, use) or "--coverage FILE")
        for use, delivered in dataset.uses.items()
        if not said.get(use) and delivered.delivered
    ]
    if by_header and said:
        left_open.append(BY_HEADER.format(path=path))
    return Compared("; ".join([f"{path} {named} of {role}", *established]), tuple(left_open))


def _check_header(role: str, path: Path, header: Manifest, dataset: Dataset) -> None:
    if dataset.manifest is None and header.salted:
        raise ArtifactError(f"{path}: a salted manifest, which the evidence does not name, proves nothing")
    if dataset.manifest is not None and header.digest != dataset.manifest:
        raise ArtifactError(
            f"{path} is not the manifest of {role}: expected {dataset.manifest}, got {header.digest}"
        )
    stream = dataset.records is None
    if not stream and (header.records, header.record_bytes) != (dataset.records, dataset.record_bytes):
        raise ArtifactError(
            f"{path}: {header.records} records of {header.record_bytes} bytes, not those of {role}"
        )
    if header.layout != dataset.layout:
        raise ArtifactError(
            f"{path}: its records are {header.layout}, and the run read those of {role} as {dataset.layout}"
        )


def _map_of(name: str, use: str, delivered: Delivered, maps: coverage_maps.Maps) -> Path | None:
    counts = delivered.counts
    if counts is None or counts.least == counts.greatest:
        return None
    return maps.find(name, use, counts.coverage)


def _whole(delivered: Delivered) -> bool:
    """Whether every record may have been delivered alike often, and at all: whole epochs, or a stream."""
    counts = delivered.counts
    return bool(delivered.delivered) and (counts is None or counts.least == counts.greatest)


def _starting(delivered: Delivered, header: Manifest | None) -> Deliveries:
    """Returns a multiset hash in the making; with a header that counts, from the most likely count on."""
    if header is None:
        return deliveries.Deliveries()
    return deliveries.Deliveries(
        base=(2 * delivered.delivered + header.records) // (2 * header.records), whole=_stated(header)
    )


def _stated(header: Manifest) -> MultisetHash:
    return multiset.MultisetHash.from_state(bytes.fromhex(header.multiset.state), header.multiset.count)


def _by_map(what: str, one: Mapped, delivered: Delivered) -> str:
    """Checks a map that was read to its end, and what it made of the record digests."""
    read, path = one.file.finish(), one.file.path
    counts: Counts | None = delivered.counts
    if counts is None or read.root != counts.coverage:
        expected = counts and counts.coverage
        raise ArtifactError(
            f"{path}: expected the coverage map of {what} with root {expected}, got {read.root}"
        )
    claimed = coverage.Summary(delivered.delivered, counts.distinct, counts.least, counts.greatest)
    if read.summary != claimed:
        raise ClaimError(f"{what}: the evidence says {claimed}, its own coverage map {read.summary}")
    if one.made.total().state.hex() != delivered.multiset.state:
        raise ArtifactError(
            f"{what}: the records that the coverage map {path} counts are not those of the sealed multiset "
            "hash"
        )
    return (
        f"{what.rpartition(', ')[2]}: {delivered.delivered} deliveries of {counts.distinct} records, each as "
        f"often as {path} says, are those of the sealed multiset hash"
    )


def _by_power(path: str, role: str, use: str, whole: MultisetHash, delivered: Delivered) -> str:
    """Checks whole epochs: of a dataset with an index, or of a stream that may have been some."""
    epochs, over = divmod(delivered.delivered, whole.count)
    expected = whole.copy()
    expected.power(epochs)
    if over or expected.state.hex() != delivered.multiset.state:
        if delivered.counts is None:
            return ""
        raise ArtifactError(f"{path}: {epochs} whole epochs of it are not what {role} delivered for {use}")
    return f"{use}: {epochs} whole epochs"
