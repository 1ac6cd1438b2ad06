from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import gmpy2
import numpy as np
import pytest
from recording import LENGTH, RECORDS, recording

from palm_torch.commit import coverage, multiset, records
from palm_torch.commit.manifest_file import ManifestFile
from palm_torch.data import account, ledger, measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.group_table import GroupTable
from palm_torch.data.loader import DataLoader
from palm_torch.digest import Digest, sha256_digest
from palm_torch.encoding import length_prefixed
from palm_torch.errors import CoverageError, EvidenceError, ManifestError
from palm_torch.recorder import Reads

if TYPE_CHECKING:
    from pathlib import Path


def reads_of(data: AttestedMmapDataset, numbers: list[int]) -> Reads:
    with recording() as session:
        data.__getitems__(numbers)
    return session.batches[0][0]


def naive(rows: np.ndarray, batches: list[list[int]]) -> tuple[multiset.MultisetHash, list[int], bytes]:
    """What the ledger must say, in plain loops."""
    digests = [records.record_digest(row.tobytes()) for row in rows]
    product = multiset.MultisetHash()
    counts = [0] * len(rows)
    order = bytes(32)
    for batch in batches:
        for number in batch:
            product.add(digests[number])
            counts[number] += 1
        joined = b"".join(digests[number] for number in batch)
        order = hashlib.sha256(
            b"palm-torch/order/v1" + length_prefixed(order) + length_prefixed(joined)
        ).digest()
    return product, counts, order


def check(claim: Any, rows: np.ndarray, batches: list[list[int]]) -> None:
    product, counts, order = naive(rows, batches)
    assert (claim.delivered, claim.counts.distinct) == (sum(counts), sum(map(bool, counts)))
    assert (claim.counts.least, claim.counts.greatest) == (min(counts), max(counts))
    assert claim.multiset.scheme == "mset-mu-3072"
    assert claim.multiset.count == sum(counts)
    assert claim.multiset.state == product.state.hex()
    assert claim.order == (Digest("palm-sha256", order),)
    assert claim.counts.coverage == coverage.coverage_root(np.array(counts, "<u4").tobytes(), 4)


@pytest.mark.parametrize("with_manifest", [False, True])
@pytest.mark.parametrize(
    "batches",
    [
        [[5]],
        [[0, 1, 2], [2, 2, 122], [64, 63]],
        [list(range(RECORDS))],
        [list(range(RECORDS)), list(range(RECORDS)), [7, 7, 8]],
        [list(range(RECORDS - 1))],
    ],
    ids=["one", "few", "epoch", "two epochs and more", "one left out"],
)
def test_claims_are_those_of_a_plain_loop(
    tokens: Path, rows: np.ndarray, batches: list[list[int]], *, with_manifest: bool
) -> None:
    if with_manifest:
        measure.measure(tokens, record_length=LENGTH)
    data = AttestedMmapDataset(tokens, record_length=LENGTH)
    account = ledger.Ledger(data.info)
    for batch in batches:
        account.add(reads_of(data, batch), "train")
    check(account.claim()["train"].claim, rows, batches)
    account.add(reads_of(data, [1]), "train")  # a claim is not the end
    check(account.claim()["train"].claim, rows, [*batches, [1]])


def test_uses_are_apart(tokens: Path, rows: np.ndarray) -> None:
    data = AttestedMmapDataset(tokens, record_length=LENGTH)
    account = ledger.Ledger(data.info)
    account.add(reads_of(data, [1, 2]), "train")
    account.add(reads_of(data, [3]), "eval")
    claims = account.claim()
    assert list(claims) == ["eval", "train"]
    check(claims["train"].claim, rows, [[1, 2]])
    check(claims["eval"].claim, rows, [[3]])


def test_nothing_delivered_is_nothing_claimed(tokens: Path) -> None:
    assert ledger.Ledger(AttestedMmapDataset(tokens, record_length=LENGTH).info).claim() == {}


def test_record_left_out_shows(tokens: Path) -> None:
    measure.measure(tokens, record_length=LENGTH)
    data = AttestedMmapDataset(tokens)
    account = ledger.Ledger(data.info)
    with recording() as session:
        for _ in DataLoader(data, batch_size=8, sampler=[n for n in range(RECORDS) if n != 77]):
            pass
    for batch in session.batches:
        account.add(batch[0], "train")
    summary = account.claim()["train"]
    assert (summary.claim.counts.least, summary.claim.counts.distinct) == (0, RECORDS - 1)
    assert bytes(summary.counts)[77] == 0
    assert summary.claim.multiset.state != data.manifest.multiset.state


def test_whole_epochs_need_no_multiplication(tokens: Path) -> None:
    measured = measure.measure(tokens, record_length=LENGTH)
    data = AttestedMmapDataset(tokens)
    account = ledger.Ledger(data.info)
    for _ in range(3):
        account.add(reads_of(data, list(range(RECORDS))), "train")
    claimed = account.claim()["train"].claim.multiset
    expected = multiset.MultisetHash.from_state(bytes.fromhex(measured.multiset.state), RECORDS)
    expected.power(3)
    assert (claimed.state, claimed.count) == (expected.state.hex(), 3 * RECORDS)


@pytest.mark.parametrize(("times", "itemsize"), [(255, 1), (256, 2), (65_535, 2), (65_536, 4)])
def test_counters_grow_when_they_must(tmp_path: Path, times: int, itemsize: int) -> None:
    np.arange(8, dtype=np.uint16).tofile(tmp_path / "a.bin")
    measure.measure(tmp_path / "a.bin", record_length=2)
    data = AttestedMmapDataset(tmp_path / "a.bin")
    account = ledger.Ledger(data.info)
    one = reads_of(data, [3])
    step = 255
    many = Reads(one.dataset, one.indices * step, one.digests * step, b"")
    for _ in range(times // step):
        account.add(many, "train")
    for _ in range(times % step):
        account.add(one, "train")
    summary = account.claim()["train"]
    counts = summary.claim.counts
    assert (counts.greatest, counts.least, summary.itemsize) == (times, 0, itemsize)
    element = gmpy2.mpz(multiset.MSET_MU_3072.element(one.digests))
    assert int(summary.claim.multiset.state, 16) == pow(element, times, multiset.MSET_MU_3072.modulus)
    coverage.write_sidecar(tmp_path / "map", summary.counts, summary.itemsize)
    assert coverage.read_sidecar(tmp_path / "map", counts.coverage) == (
        bytes(summary.counts),
        itemsize,
    )


def test_too_often_to_count(tokens: Path) -> None:
    data = AttestedMmapDataset(tokens, record_length=LENGTH)
    account = ledger.Ledger(data.info)
    account.add(reads_of(data, [3]), "train")
    account.claim()
    account._uses["train"]._counts = np.full(RECORDS, 2**32 - 1, "<u4")
    account.add(reads_of(data, [3]), "train")
    with pytest.raises(CoverageError, match="too often"):
        account.claim()


def test_reads_that_do_not_fit(tokens: Path) -> None:
    data = AttestedMmapDataset(tokens, record_length=LENGTH)
    good = reads_of(data, [3])
    cases = {
        "expected reads of dataset": ("someone", good.indices, good.digests),
        "expected one index per record, got 2 for 1 records": (data.uid, good.indices * 2, good.digests),
        "records below": (data.uid, np.array([RECORDS], "<i8").tobytes(), good.digests),
        "expected 32-byte record digests, got 0 bytes": (data.uid, b"", b""),
        "got others": (data.uid, np.array([-1], "<i8").tobytes(), good.digests),
    }
    for says, (uid, indices, digests) in cases.items():
        account = ledger.Ledger(data.info)
        with pytest.raises(CoverageError, match=says):
            _take_in(account, Reads(uid, indices, digests, good.product))


def _take_in(account: ledger.Ledger, reads: Reads) -> None:
    account.add(reads, "train")
    account.claim()


def test_manifest_rewritten_before_the_claim(tokens: Path) -> None:
    measure.measure(tokens, record_length=LENGTH)
    data = AttestedMmapDataset(tokens)
    account = ledger.Ledger(data.info)
    account.add(reads_of(data, [0, 1]), "train")
    path = tokens / "manifest.palm-manifest"
    content = bytearray(path.read_bytes())
    content[-RECORDS * 32] ^= 1
    with path.open("r+b") as stream:
        stream.write(content)
    with pytest.raises(ManifestError, match="rewritten"):
        account.claim()


def test_manifest_with_an_impossible_multiset(tokens: Path) -> None:
    from dataclasses import replace

    measure.measure(tokens, record_length=LENGTH)
    data = AttestedMmapDataset(tokens)
    header = data.manifest
    bad = replace(header, multiset=replace(header.multiset, state="00" * 384))
    file, groups = data.info.table.file, data.info.table.groups
    table = GroupTable(ManifestFile(file.path, bad, file.mapping, file.offset), groups)
    account = ledger.Ledger(replace(data.info, table=table))
    account.add_held(reads_of(data, [0]), "train")
    with pytest.raises(ManifestError, match="multiset"):
        account.claim()


# A checkpoint ---------------------------------------------------------------------------------------------


def accounts(tokens: Path, *, manifest: bool) -> tuple[AttestedMmapDataset, ledger.Ledger]:
    if manifest:
        measure.measure(tokens, record_length=LENGTH)
    data = AttestedMmapDataset(tokens, record_length=LENGTH, manifest="auto" if manifest else None)
    return data, ledger.Ledger(data.info)


@pytest.mark.parametrize("manifest", [False, True])
def test_account_goes_on_where_it_was(tokens: Path, *, manifest: bool) -> None:
    data, whole = accounts(tokens, manifest=manifest)
    part = ledger.Ledger(data.info)
    for number in range(300):
        whole.add(reads_of(data, [1, number % RECORDS]), "train")
        part.add(reads_of(data, [1, number % RECORDS]), "train")
        if number == 100:
            part = ledger.Ledger.resumed(*part.held())
            part.take_up(data.info)
    assert part.claim()["train"].claim == whole.claim()["train"].claim
    assert part.held() == whole.held()


def test_account_without_its_dataset(tokens: Path) -> None:
    data, bare = accounts(tokens, manifest=False)
    bare.add(reads_of(data, [1]), "eval")
    assert ledger.Ledger.resumed(*bare.held()).claim()["eval"].claim == bare.claim()["eval"].claim
    data, made = accounts(tokens, manifest=True)
    made.add(reads_of(data, [1]), "eval")
    resumed = ledger.Ledger.resumed(*made.held())
    with pytest.raises(CoverageError, match="open it again"):
        resumed.claim()
    with pytest.raises(CoverageError, match="a dataset of the checkpoint: expected reads of dataset None"):
        resumed.add(reads_of(data, [1]), "eval")


@pytest.mark.parametrize(
    ("bend", "told"),
    [
        (lambda held, _: (held, {}), r"expected counts of \['train'\]"),
        (lambda held, counts: (held, {"train": counts["train"][:-1]}), "counters of 1, 2 or 4 bytes"),
        (lambda held, counts: (held, {"train": counts["train"] * 3}), "counters of 1, 2 or 4 bytes"),
        (lambda held, _: (held, {"train": bytes(2 * RECORDS)}), "expected counters of 1 bytes"),
        (lambda held, counts: (held, {"train": counts["train"][::-1]}), "not those its receipt"),
        (
            lambda held, counts: (dataclasses.replace(held, manifest=sha256_digest(b"")), counts),
            "no manifest",
        ),
    ],
)
def test_account_of_other_counts_is_refused(tokens: Path, bend: Any, told: str) -> None:
    data, account = accounts(tokens, manifest=False)
    account.add(reads_of(data, [0, 1, 1]), "train")
    held, counts = account.held()
    with pytest.raises(EvidenceError, match=told):
        ledger.Ledger.resumed(*bend(held, counts))


def test_what_tells_datasets_apart(tokens: Path) -> None:
    bare, made = (accounts(tokens, manifest=manifest)[1].identity for manifest in (False, True))
    assert bare != made
    assert bare.resembles(made)
    assert not bare.resembles(dataclasses.replace(made, records=1))


def test_a_dataset_that_has_lost_its_manifest_is_named(tokens: Path) -> None:
    measure.measure(tokens, record_length=LENGTH)
    data = AttestedMmapDataset(tokens, record_length=LENGTH)
    reads = reads_of(data, [1])
    one = account.Account(RECORDS, multiplies=False)
    one.add(reads, "corpus")
    without = dataclasses.replace(data.info, table=None)
    with pytest.raises(ManifestError, match=f"{tokens.name}.*: has no manifest now"):
        one.summary(without, "corpus")
