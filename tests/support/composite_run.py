"""A run as `workshop.GoodRun` is one, of a simulated TDX machine with simulated GPUs.

`attested_again` has the GPUs answer, and the machine quote, whatever a test made of the evidence before.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import workshop
from workshop import NOW, put

from palm_torch import evidence, request
from palm_torch.attesting.gpus import SessionGpus
from palm_torch.attesting.sealing import Sealer
from palm_torch.cvm import binding, gpu_certificate, simulated_gpu
from palm_torch.cvm.platforms import Requirements
from palm_torch.sessions import seals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pytest

    from palm_torch.cvm.certificates import TrustAnchor
    from palm_torch.cvm.platforms import Kind
    from palm_torch.evidence import Bundle, GpuEvidence

DRIVER, VBIOS = simulated_gpu.DRIVER_VERSION, simulated_gpu.VBIOS_VERSION


def machine_gpus(folder: Path, count: int = 1) -> simulated_gpu.SimulatedGpus:
    """Returns simulated GPUs with roots of their own, kept in `folder`."""
    return simulated_gpu.SimulatedGpus(count, directory=folder, clock=lambda: NOW)


@dataclass(frozen=True)
class CompositeRun(workshop.GoodRun):
    """A run that was sealed well, with the GPUs that answered."""

    gpus: simulated_gpu.SimulatedGpus

    @property
    def chip_ids(self) -> list[str]:
        """Identities of the chips, in order."""
        leaves = [gpu_certificate.split_chain(chip.chain)[0] for chip in self.gpus._chips]
        loaded = [workshop.x509.load_der_x509_certificate(leaf) for leaf in leaves]
        return [gpu_certificate.read_device(leaf).chip_id for leaf in loaded]

    def policy_text(self, changes: dict[str, Any] | None = None, *, hardware: bool = False) -> bytes:
        """Returns the policy as YAML that the run satisfies, with parts changed by dotted path."""
        rules: dict[str, Any] = {
            "platform.gpu": {
                "count": len(self.gpus._chips),
                "min_driver_version": DRIVER,
                "min_vbios_version": VBIOS,
            },
            "platform.simulated_gpu_root": workshop.pem(self.gpus.root_certificate()),
            "platform.simulated_rim_root": workshop.pem(self.gpus.rim_root_certificate()),
        }
        both = {**rules, **(changes or {})}
        kept = {path: new for path, new in both.items() if new is not None or path not in rules}
        return super().policy_text(kept, hardware=hardware)

    def collect(self, ctx: bytes, **report: Any) -> tuple[GpuEvidence, ...]:
        """Returns what the GPUs sign over the nonces of a context; keywords bend their reports."""
        return tuple(
            evidence.GpuEvidence(
                evidence=simulated_gpu.sign_report(
                    chip.key, simulated_gpu.make_report(binding.gpu_nonce(ctx, number), **report)
                ),
                chain=chip.chain,
            )
            for number, chip in enumerate(self.gpus._chips)
        )

    def attested_again(
        self,
        bundle: Bundle,
        collect: Callable[[binding.Phase, bytes], Sequence[GpuEvidence]] | None = None,
        *,
        phases: Sequence[binding.Phase] = ("begin", "end"),
    ) -> Bundle:
        """Attests a bundle as it stands, begin before end: what GPUs answer at the end hangs on the begin.

        Args:
            bundle: Its statements, log and challenge are taken as they are.
            collect: Returns the GPUs' evidence, given phase and context; by default what they answer.
            phases: Which phases to attest anew; after "begin" there is no good "end" but a new one.
        """
        for phase in phases:
            ctx = seals.begin_context(bundle.opening) if phase == "begin" else seals.end_context(bundle)
            gpus = self.collect(ctx) if collect is None else collect(phase, ctx)
            bundle = self.resealed(put(bundle, f"{phase}.gpus", tuple(gpus)), phases=(phase,))
        return bundle

    def with_states(self, *, phases: Sequence[binding.Phase] = ("begin", "end"), **changes: Any) -> Bundle:
        """Returns validly sealed evidence in which the driver says something else of every GPU."""
        bundle, begin, end = self.bundle, self.begin, self.end
        if "begin" in phases:
            begin = put(begin, "gpu", lambda states: tuple({**state, **changes} for state in states))
        if "end" in phases:
            end = put(end, "run.gpu", lambda states: tuple({**state, **changes} for state in states))
        bundle = put(put(bundle, "begin.statement", begin.encode()), "end.statement", end.encode())
        return self.attested_again(bundle)


def make_composite_run(
    folder: Path, *, count: int = 1, gpus: simulated_gpu.SimulatedGpus | None = None
) -> CompositeRun:
    """Seals a good run with the production `Sealer`.

    Args:
        folder: Where the simulated machine keeps its keys.
        count: How many GPUs it has.
        gpus: Its GPUs; by default with keys beside the machine's.
    """
    machine = workshop.machine(folder / "machine")
    gpus = gpus or machine_gpus(folder / "gpus", count)
    asked = workshop.make_request()
    nonce = request.nonce_of(asked)
    sealer = Sealer(machine, nonce=nonce, gpus=SessionGpus(gpus))
    begin = workshop.make_begin(sealer.run_id, machine.register().hex(), nonce)
    sealer.begin(dataclasses.replace(begin, gpu=sealer.gpus.at_begin()).encode())
    for kind, payload in workshop.EVENTS:
        sealer.record(kind, payload)
    end = put(workshop.make_statement(sealer.run_id), "run.gpu", sealer.gpus.look_again())
    bundle = evidence.decode(sealer.end(end.encode()).encode())
    return CompositeRun(folder=folder, machine=machine, request=asked, bundle=bundle, gpus=gpus)


def genuine(monkeypatch: pytest.MonkeyPatch, *parts: str) -> None:
    """Lets simulated roots pass for those of hardware, to see what a result would say then."""
    anchor = Requirements.anchor

    def hardware(requirements: Requirements, kind: Kind) -> TrustAnchor:
        return dataclasses.replace(anchor(requirements, kind), simulated=False)

    if "machine" in parts:
        monkeypatch.setattr(Requirements, "anchor", hardware)
    for name in ("gpu", "rim"):
        if name not in parts:
            continue

        def root(requirements: Requirements, name: str = name) -> TrustAnchor:
            found = getattr(requirements, f"simulated_{name}_root")
            return dataclasses.replace(found, simulated=False)

        monkeypatch.setattr(Requirements, f"{name}_anchor", property(root))
