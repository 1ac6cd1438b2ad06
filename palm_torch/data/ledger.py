"""The account of one dataset: how often each record was delivered, in which order, for which use.

A checkpoint carries the accounts of its run; the run that goes on from it finds their datasets again by
identity, not by path. Specification: docs/spec/40-data.md, sections 3 and 4.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_torch.data.account import Account, LedgerSummary
from palm_torch.digest import Digest
from palm_torch.errors import CoverageError, EvidenceError
from palm_torch.receipt import DatasetAccount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_torch.data.open_datasets import DatasetInfo
    from palm_torch.recorder import Reads


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one dataset from another, whatever machine it lies on; fields as in `roles.Dataset`."""

    format: str
    manifest: Digest | None
    records: int | None
    record_bytes: int | None
    layout: str

    @classmethod
    def of(cls, info: DatasetInfo) -> Identity:
        """Returns the identity of an open dataset."""
        manifest = info.manifest.digest if info.manifest else None
        return cls(info.layout.format, manifest, info.records, info.layout.record_bytes, info.layout.said)

    def resembles(self, other: Identity) -> bool:
        """Says whether two datasets look alike but for the manifest that authenticates them."""
        return dataclasses.replace(self, manifest=other.manifest) == other


class Ledger:
    """The running account of one dataset.

    Args:
        dataset: The dataset, or what tells it from others while it is not open.

    Attributes:
        info: The dataset, as it was opened last; None while one of a checkpoint has not been opened again.
        identity: What tells it from others.
    """

    __slots__ = ("_uids", "_uses", "identity", "info")

    def __init__(self, dataset: DatasetInfo | Identity) -> None:
        self.info: DatasetInfo | None = None
        self.identity = dataset if isinstance(dataset, Identity) else Identity.of(dataset)
        self._uids: set[str] = set()
        self._uses: dict[str, Account] = {}
        if not isinstance(dataset, Identity):
            self.take_up(dataset)

    @classmethod
    def resumed(cls, held: DatasetAccount, counts: Mapping[str, bytes]) -> Ledger:
        """Goes on from what `held` returned; `take_up` tells which open dataset it is.

        Args:
            held: What a receipt says of the dataset.
            counts: The map of multiplicities by use; none for a stream.

        Raises:
            EvidenceError: If the counts are not those the receipt speaks of.
        """
        ledger = cls(Identity(held.format, held.manifest, held.records, held.record_bytes, held.layout))
        expected = [] if held.records is None else sorted(held.uses)
        if sorted(counts) != expected:
            raise EvidenceError(f"checkpoint: expected counts of {expected}, got those of {sorted(counts)}")
        ledger._uses.update(
            {
                use: Account.resumed(held.records, account, counts.get(use), multiplies=held.manifest is None)
                for use, account in held.uses.items()
            }
        )
        return ledger

    def take_up(self, info: DatasetInfo) -> None:
        """Goes on with this dataset, which has the same identity; what was opened before it still counts."""
        self.info = info
        self._uids.add(info.uid)

    def add(self, reads: Reads, use: str) -> None:
        """Counts the records of one delivered batch.

        Raises:
            CoverageError: If the reads are of another dataset, or do not fit it.
        """
        if reads.dataset not in self._uids:
            expected = ", ".join(sorted(self._uids)) or None
            raise CoverageError(f"{self._where}: expected reads of dataset {expected}, got {reads.dataset}")
        self.add_held(reads, use)

    def add_held(self, reads: Reads, use: str) -> None:
        """Counts a batch that was delivered before the checkpoint, whatever the dataset is called now.

        Raises:
            CoverageError: If the reads do not fit the dataset.
        """
        account = self._uses.get(use)
        if account is None:
            multiplies = self.identity.manifest is None
            account = self._uses[use] = Account(self.identity.records, multiplies=multiplies)
        account.add(reads, self._where)

    def claim(self) -> dict[str, LedgerSummary]:
        """Returns what was delivered so far, by use; the ledger can go on.

        Raises:
            CoverageError: If the dataset of a checkpoint was not opened again, and its manifest is needed.
            ManifestError: If the manifest was rewritten since it was opened.
        """
        return {use: account.summary(self.info, self._where) for use, account in sorted(self._uses.items())}

    def held(self) -> tuple[DatasetAccount, dict[str, bytes]]:
        """Returns what a checkpoint has to remember: the accounts, and the multiplicities by use, if any."""
        accounts = {use: account.held() for use, account in sorted(self._uses.items())}
        found = self.identity
        return (
            DatasetAccount(
                format=found.format,
                manifest=found.manifest,
                records=found.records,
                record_bytes=found.record_bytes,
                layout=found.layout,
                uses={use: account for use, (account, _) in accounts.items()},
            ),
            {use: counts for use, (_, counts) in accounts.items() if counts is not None},
        )

    @property
    def _where(self) -> str:
        return "a dataset of the checkpoint" if self.info is None else str(self.info.path)
