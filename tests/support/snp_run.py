"""One good piece of evidence of a simulated SEV-SNP guest, as `workshop.GoodRun` is of a trust domain."""

from __future__ import annotations

import dataclasses
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import snp_world
import workshop
from workshop import put

from palm_torch import evidence, request
from palm_torch.attesting.sealing import Sealer
from palm_torch.cvm import platforms, simulated_snp, simulated_snp_authority, snp_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch.cvm import binding
    from palm_torch.cvm.snp_endorsements import SnpEndorsements
    from palm_torch.evidence import Bundle

MEASUREMENT = simulated_snp.MEASUREMENT.hex()
TCB = dataclasses.asdict(simulated_snp_authority.TCB)


@dataclass(frozen=True)
class SnpRun(workshop.GoodRun):
    """A run that a simulated guest sealed; its policy names no other kind of machine."""

    machine: Any  # SimulatedSnp

    @functools.cached_property
    def report(self) -> snp_report.SnpReport:
        """Returns the report at end."""
        return snp_report.parse_report(self.bundle.end.quote)

    def policy_text(self, changes: dict[str, Any] | None = None, *, hardware: bool = False) -> bytes:
        """Returns the policy as YAML, with parts changed as `GoodRun.policy_text` changes them."""
        rules = {"measurement": [MEASUREMENT], "min_tcb": dict(TCB)}
        own: dict[str, Any] = {"platform.tdx": None, "platform.snp": rules}
        return super().policy_text(own | (changes or {}), hardware=hardware)

    def bent(self, **changes: Any) -> Bundle:
        """Returns validly sealed evidence with fields of both reports changed."""
        return self.resealed(self.bundle, report=lambda report: dataclasses.replace(report, **changes))

    def endorsed(self, bundle: Bundle, endorsements: SnpEndorsements) -> Bundle:
        """Returns evidence with other endorsements."""
        return put(bundle, "collateral", platforms.fields_of(endorsements))

    def by_provider(self) -> Bundle:
        """Returns validly sealed evidence whose reports a cloud provider's key signed."""
        bundle = self.bent(flags=snp_world.VLEK_FLAGS)
        return self.endorsed(bundle, snp_world.endorsements(snp_world.vlek_chain()))

    def resealed(
        self,
        bundle: Bundle,
        *,
        phases: Sequence[binding.Phase] = ("begin", "end"),
        report: Callable[[snp_report.SnpReport], snp_report.SnpReport] = lambda report: report,
        **_: Any,
    ) -> Bundle:
        """Signs a bundle as it stands, as a whole or the given phases; `report` bends what is signed."""
        authority = self.machine._authority
        for name in phases:
            data = simulated_snp.make_report(
                authority, workshop.report_data(bundle, name), report_id=self.machine._report_id
            )
            quote = simulated_snp.sign_report(authority.vcek_key, report(data))
            bundle = put(bundle, f"{name}.quote", quote)
        return bundle


def make_snp_run() -> SnpRun:
    """Seals a good run with the production `Sealer`, on the chip of `snp_world`, for the usual request."""
    asked = workshop.make_request()
    folder = Path(os.environ["XDG_STATE_HOME"]) / "snp-world"
    attester = simulated_snp.SimulatedSnp(directory=folder, clock=lambda: workshop.NOW)
    nonce = request.nonce_of(asked)
    sealer = Sealer(attester, nonce=nonce)
    begin: Any = workshop.make_begin
    sealer.begin(begin(sealer.run_id, sealer.register(), nonce).encode())
    for kind, payload in workshop.EVENTS:
        sealer.record(kind, payload)
    bundle = sealer.end(workshop.make_statement(sealer.run_id).encode())
    return SnpRun(folder=folder, machine=attester, request=asked, bundle=evidence.decode(bundle.encode()))
