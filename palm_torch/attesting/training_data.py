"""The data of a training run: which batches were delivered, for which use, of which datasets.

A batch delivered with gradients on waits until an optimizer has stepped, and then was for training; one
delivered with gradients off, or that no step followed, was for evaluation.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from palm_torch.attesting.training_state import in_order, name_of
from palm_torch.commit import coverage
from palm_torch.data import open_datasets
from palm_torch.data.ledger import Identity, Ledger
from palm_torch.data.shares import CountMap
from palm_torch.errors import CoverageError, EvidenceError
from palm_torch.roles import Dataset, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from palm_torch.data.account import LedgerSummary
    from palm_torch.data.open_datasets import DatasetInfo
    from palm_torch.digest import Digest
    from palm_torch.receipt import DatasetAccount
    from palm_torch.recorder import Reads
    from palm_torch.roles import Use


class TrainingData:
    """The accounts of one run's datasets, in the order of their first use.

    Attributes:
        carried: Batches that waited for a step at the checkpoint which the run went on from, and for which
            one came then: what was computed from them lies in gradients, which no checkpoint holds.
    """

    def __init__(self) -> None:
        self._ledgers: list[Ledger] = []
        self._by_uid: dict[str, Ledger] = {}
        self._waiting: list[Ledger] = []
        self._resumed: tuple[Identity, ...] = ()
        self._spare: list[DatasetInfo] = []
        self._held: list[tuple[tuple[Ledger, Reads], ...]] = []
        self._pending: list[Sequence[Reads]] = []
        self._delivered: dict[str, dict[str, LedgerSummary]] = {}
        self.carried = 0

    @property
    def any(self) -> bool:
        """Whether a record was delivered."""
        return bool(self._ledgers)

    def resume(
        self,
        data: dict[str, DatasetAccount],
        counts: Mapping[str, Mapping[str, bytes]],
        pending: Sequence[Sequence[Reads]],
        carried: int,
    ) -> None:
        """Goes on from a checkpoint.

        Args:
            data: What `held` returned: accounts by name.
            counts: Likewise: multiplicities by name and use.
            pending: Likewise: batches that wait for a step, datasets by name.
            carried: What the attribute was then.

        Raises:
            EvidenceError: If these do not belong together.
            DataError: If a multiset hash is out of range.
        """
        by_name = {name: Ledger.resumed(held, counts.get(name, {})) for name, held in in_order(data)}
        unknown = {reads.dataset for batch in pending for reads in batch} - by_name.keys()
        if unknown:
            raise EvidenceError(f"checkpoint: batches of {min(unknown)!r} are pending, which is not there")
        self._ledgers, self._waiting = list(by_name.values()), list(by_name.values())
        self.carried = carried
        self._resumed = tuple(ledger.identity for ledger in self._ledgers)
        self._held = [tuple((by_name[reads.dataset], reads) for reads in batch) for batch in pending]

    def look(self) -> None:
        """Remembers what is open; to be called when the first batch arrives."""
        self._spare = [item.info for item in open_datasets.opened() if self._waiting]

    def open(self, reads: Sequence[Reads]) -> None:
        """Opens the accounts of a batch's datasets now, for a dataset may be gone before the step.

        Raises:
            CoverageError: If a dataset is another one than before the checkpoint, could be one of several,
                or is not open.
        """
        for item in reads:
            if item.dataset not in self._by_uid:
                self._by_uid[item.dataset] = self._ledger_of(open_datasets.info_of(item.dataset))

    def wait(self, reads: Sequence[Reads]) -> None:
        """Keeps a batch until it shows what it was for."""
        self._pending.append(reads)

    def count(self, batch: Sequence[Reads], use: Use) -> None:
        """Counts a batch.

        Raises:
            CoverageError: If it does not fit its dataset.
        """
        for reads in batch:
            self._by_uid[reads.dataset].add(reads, use)

    def settle(self, use: Use) -> None:
        """Counts the batches that waited to learn what they were for."""
        self.carried += len(self._held) if use == "train" else 0
        for batch in self._held:
            for ledger, reads in batch:
                ledger.add_held(reads, use)
        self._held.clear()
        for pending in self._pending:
            self.count(pending, use)
        self._pending.clear()

    def held(
        self,
    ) -> tuple[dict[str, DatasetAccount], dict[str, dict[str, bytes]], tuple[tuple[Reads, ...], ...]]:
        """Returns what a checkpoint has to remember: accounts, multiplicities, batches that wait."""
        accounts = [ledger.held() for ledger in self._ledgers]
        names = {id(ledger): name_of(number) for number, ledger in enumerate(self._ledgers, 1)}
        waiting = [
            *self._held,
            *(tuple((self._by_uid[reads.dataset], reads) for reads in batch) for batch in self._pending),
        ]
        return (
            {name_of(number): account for number, (account, _) in enumerate(accounts, 1)},
            {name_of(number): uses for number, (_, uses) in enumerate(accounts, 1)},
            tuple(
                tuple(dataclasses.replace(reads, dataset=names[id(ledger)]) for ledger, reads in batch)
                for batch in waiting
            ),
        )

    def claim(self) -> dict[str, Dataset]:
        """Names datasets by their order of first use, since paths are the machine's own business.

        Raises:
            CoverageError: If a dataset of the checkpoint is needed again and not open.
            ManifestError: If a manifest was rewritten since it was opened.
        """
        known = [*self._spare, *(item.info for item in open_datasets.opened())]
        described = {}
        for number, ledger in enumerate(self._ledgers, 1):
            name, identity = name_of(number), ledger.identity
            if ledger.info is None:  # not used since the checkpoint
                ledger.info = next((info for info in known if Identity.of(info) == identity), None)
            self._delivered[name] = ledger.claim()
            described[name] = Dataset(
                source=Source.MEASURED,
                format=identity.format,
                manifest=identity.manifest,
                records=identity.records,
                record_bytes=identity.record_bytes,
                layout=identity.layout,
                uses={use: summary.claim for use, summary in self._delivered[name].items()},
            )
        return described

    def sidecars(self) -> dict[str, Callable[[Path], None]]:
        """Returns the coverage maps: file suffix → what writes the file."""
        return {
            f".{name}.{use}.coverage": partial(_write_coverage, summary.counts, summary.itemsize)
            for name, uses in self._delivered.items()
            for use, summary in uses.items()
            if summary.counts is not None
        }

    def maps(self) -> dict[tuple[str, str], CountMap]:
        """Returns how often each record was delivered, by dataset and use; none for streams."""
        return {
            (name, use): CountMap(summary.counts, summary.itemsize)
            for name, uses in self._delivered.items()
            for use, summary in uses.items()
            if summary.counts is not None
        }

    def same(self) -> dict[str, Digest]:
        """Returns what proves to other ranks of this machine that datasets are of the same files, by name."""
        return {
            name_of(number): ledger.info.same
            for number, ledger in enumerate(self._ledgers, 1)
            if ledger.info is not None and ledger.info.same is not None
        }

    def _ledger_of(self, info: DatasetInfo) -> Ledger:
        """Returns the account of a dataset: that of the checkpoint, or a new one.

        One with a manifest is the same dataset, however often it is opened: else a record that is delivered
        through two openings would count once in each, and after a checkpoint none could tell them apart.
        """
        found = Identity.of(info)
        if found.manifest is None:
            self._require_only(found, info.path)
        else:
            for ledger in self._ledgers:
                if ledger.identity == found and ledger not in self._waiting:
                    ledger.take_up(info)
                    return ledger
        for ledger in self._waiting:
            if ledger.identity == found:
                self._waiting.remove(ledger)
                ledger.take_up(info)
                return ledger
        for ledger in self._waiting:
            if ledger.identity.resembles(found):
                raise CoverageError(
                    f"{info.path} is not {name_of(self._ledgers.index(ledger) + 1)} of the checkpoint: "
                    f"expected manifest {ledger.identity.manifest}, got {found.manifest}; go on with the "
                    "data that the run began with"
                )
        ledger = Ledger(info)
        self._ledgers.append(ledger)
        return ledger

    def _require_only(self, found: Identity, path: Path) -> None:
        """Checks, after resuming, that a dataset without a manifest cannot be taken for another.

        Raises:
            CoverageError: If the checkpoint has several like it, or one and several places were open.
        """
        held = sum(identity == found for identity in self._resumed)
        seen = {ledger.info.path for ledger in self._ledgers if ledger.info and ledger.identity == found}
        alive = {item.info.path for item in open_datasets.opened() if Identity.of(item.info) == found}
        number = max(held, len({path} | seen | alive))
        if held and number > 1:
            if found.records is None:
                raise CoverageError(
                    f"{number} streams are open or in the checkpoint, and nothing tells which of them it "
                    "speaks of: expected one stream in a run that is to be resumed; give the others an index "
                    "(palm_torch.AttestedDataset, AttestedMmapDataset), and begin a new run"
                )
            raise CoverageError(
                f"{number} datasets of {found.records} records of {found.record_bytes} bytes have no "
                "manifest, so that nothing tells which of them the checkpoint speaks of: expected one; "
                "write manifests with `palm-torch measure PATH` or AttestedDataset.measure, and begin a "
                "new run"
            )


def _write_coverage(counts: memoryview, itemsize: int, path: Path) -> None:
    coverage.write_sidecar(path, counts, itemsize)
