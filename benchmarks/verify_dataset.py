"""`palm-torch verify --dataset` on a large dataset: time per record, against one multiset element.

Baseline of the same run: hashing a digest to an element and multiplying it in, with plain integers, as the
verifier does (``one element``). Then, for several ways to sample, manifest and coverage map are read and the
sealed multiset hash is derived, as `palm_torch.appraisal.datasets_at_hand` does:

whole epochs        every record twice: one power of the manifest's multiset hash
one and a half      half of the records twice
with replacement    as many draws as records, so that a third is never drawn
no manifest named   the same, and nothing taken from the manifest's header: every delivered record multiplied

Printed are seconds, µs per record of the dataset, elements multiplied per record, and the ratio to what that
many elements cost alone; the bar is on the ratio. Peak memory is that of this process beyond its imports and
the benchmark's own arrays.

    python benchmarks/verify_dataset.py [--records N]
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import resource
import tempfile
from pathlib import Path

import gmpy2  # type: ignore[import-untyped]
from support.timing import processor_seconds

from palm_torch.appraisal import coverage_maps, datasets_at_hand
from palm_torch.appraisal.at_hand import Held
from palm_torch.commit import coverage, manifest, manifest_file, multiset, records
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.roles import Counts, Dataset, Delivered, Multiset, Source

RECORDS = 1_000_000
ELEMENTS = 5_000
RATIO_BAR = 1.25
EPOCHS_BAR_US = 2.0
"""Whole epochs multiply nothing: what remains is reading and hashing the manifest, in µs per record."""


def main() -> int:
    """Measures every way to sample; returns 1 if a bar was missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--records", type=int, default=RECORDS)
    size = options.parse_args().records
    draw = random.Random(0)
    digests = draw.randbytes(size * records.DIGEST_BYTES)
    replacement = bytearray(size)
    for _ in range(size):
        replacement[draw.randrange(size)] += 1
    samplings = {
        "whole epochs": bytes([2]) * size,
        "one and a half": bytes(1 + draw.randrange(2) for _ in range(size)),
        "with replacement": bytes(replacement),
    }
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        header = write(Path(folder) / "a.palm-manifest", digests)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name, counts in samplings.items():
            named = dataset(digests, counts, header.digest)
            missed += report(name, Path(folder), named, counts, base=2 if name == "whole epochs" else 1)
        unnamed = dataclasses.replace(dataset(digests, bytes(replacement), header.digest), manifest=None)
        missed += report("no manifest named", Path(folder), unnamed, bytes(replacement), base=0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"peak memory beyond the benchmark's own: {peak / 1024:.0f} MiB")
    return int(missed > 0)


def write(path: Path, digests: bytes) -> manifest.Manifest:
    """Writes a manifest of these record digests; there is no data behind it."""
    size = len(digests) // records.DIGEST_BYTES
    header = manifest.Manifest(
        version=1,
        format="bin",
        dtype="uint16",
        record_shape=(1024,),
        record_bytes=2048,
        columns=None,
        records=size,
        shards=(manifest.Shard("a.bin", size * 2048, size, None),),
        digests_root=manifest_file.groups_root(records.group_digests(digests)),
        multiset=stated(digests, bytes([1]) * size),
        salted=False,
    )
    path.write_bytes(manifest_file.head(header) + digests)
    return header


def stated(digests: bytes, counts: bytes) -> Multiset:
    """Returns the multiset hash of the records, each as often as it counts, with gmpy2."""
    made = multiset.MultisetHash(number=gmpy2.mpz)
    for count in sorted(set(counts) - {0}):
        part = multiset.MultisetHash(number=gmpy2.mpz)
        part.add_many(
            b"".join(digests[at * 32 : at * 32 + 32] for at, one in enumerate(counts) if one == count)
        )
        part.power(count)
        made.union(part)
    return Multiset(scheme=made.parameters.name, count=made.count, state=made.state.hex())


def dataset(digests: bytes, counts: bytes, named: Digest) -> Dataset:
    """Returns what evidence says after delivering the records that often."""
    summary = coverage.summary(counts, 1)
    delivered = Delivered(
        delivered=summary.delivered,
        padded=0,
        counts=Counts(
            distinct=summary.distinct,
            least=summary.least,
            greatest=summary.greatest,
            coverage=coverage.coverage_root(counts, 1),
        ),
        multiset=stated(digests, counts),
        order=(Digest(TAGGED_SHA256, bytes(32)),),
        exact=True,
    )
    return Dataset(
        source=Source.MEASURED,
        format="bin",
        manifest=named,
        records=len(counts),
        record_bytes=2048,
        layout="uint16[1024]",
        uses={"train": delivered},
    )


def report(name: str, folder: Path, found: Dataset, counts: bytes, *, base: int) -> int:
    """Compares once between two baselines and prints the figures; returns whether a bar was missed."""
    maps = coverage_maps.Maps(evidence=folder / "run.palm.json")
    coverage.write_sidecar(folder / "run.a.train.coverage", counts, 1)
    held = Held(folder / "a.palm-manifest")
    digests = held.path.read_bytes()[-ELEMENTS * records.DIGEST_BYTES :]
    first = processor_seconds(lambda: multiset.product_of(digests))
    took = processor_seconds(lambda: datasets_at_hand.compare("data.a", "a", held, found, maps))
    element = (first + processor_seconds(lambda: multiset.product_of(digests))) / 2 / ELEMENTS
    per_record = took / len(counts)
    share = sum(count != base for count in counts) / len(counts)
    said = f"{name:18} {took:6.1f} s, {per_record * 1e6:5.1f} µs per record, {share:.2f} elements per record"
    if not share:
        print(f"{said} (bar {EPOCHS_BAR_US} µs)")
        return int(per_record * 1e6 > EPOCHS_BAR_US)
    ratio = per_record / (share * element)
    print(f"{said} of {element * 1e6:.1f} µs, ratio {ratio:.2f} (bar {RATIO_BAR})")
    return int(ratio > RATIO_BAR)


if __name__ == "__main__":
    raise SystemExit(main())
