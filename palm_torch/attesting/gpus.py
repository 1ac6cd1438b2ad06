"""The machine's GPUs in a session: evidence of them at both ends, or the reason why there is none.

Either all GPUs compute confidentially, and both quotes seal a report of each; or there is no evidence of any,
and a run that steps tensors on one is refused before they move.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from palm_torch.cvm import binding, certificates, gpu_collector, gpu_state, rim, simulated_gpu
from palm_torch.cvm.certificates import TrustAnchor
from palm_torch.errors import AttesterError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.cvm.gpu_collector import GpuCollector
    from palm_torch.cvm.gpu_state import GpuState
    from palm_torch.evidence import GpuEndorsements, GpuEvidence
    from palm_torch.statement import Device

SIMULATED: Final = "simulated-gpu"
"""The attester that a simulated GPU belongs to."""

NO_COLLECTOR: Final = f"this machine shows no driver of NVIDIA's (/{gpu_collector.DRIVER})"


class SessionGpus:
    """The GPUs of one session.

    Args:
        collector: The way to them; None where there are none.
        endorsements: What their maker says of them, to travel with the evidence; without any, a verifier has
            to bring its own.
    """

    def __init__(
        self, collector: GpuCollector | None = None, *, endorsements: GpuEndorsements | None = None
    ) -> None:
        self._collector = collector
        self._given = endorsements
        self._why = NO_COLLECTOR
        self._states: tuple[GpuState, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether they are a simulation. For file names; a verifier decides for itself."""
        return isinstance(self._collector, simulated_gpu.SimulatedGpus)

    def at_begin(self) -> tuple[dict[str, Any], ...]:
        """Looks at the GPUs when a session begins: this decides whether there will be evidence of them.

        Returns:
            What the driver says about each, for the begin statement; nothing if there will be no evidence.

        Raises:
            AttesterError: If manifests were given, and there will be no evidence that they could serve, or
                one that a GPU needs is not among them.
            InputError: If a manifest does not parse.
            RejectedError: If it is not one of NVIDIA's.
        """
        self._states, self._why = self._look()
        if self._given is not None:
            self._check_rims(self._given.rims)
        return self._said(self._states)

    def at_end(self) -> tuple[dict[str, Any], ...]:
        """Looks at them when the run has ended; returns as `at_begin`.

        Raises:
            AttesterError: If the driver does not answer, or says something else than at begin.
        """
        if not self._states or self._collector is None:
            return ()
        now = self._collector.state()
        if now != self._states:
            raise AttesterError(
                f"GPUs: the driver said something else of them when the run began: expected "
                f"{self._said(self._states)}, got {self._said(now)}"
            )
        return self._said(now)

    def collect(self, ctx: bytes) -> tuple[GpuEvidence, ...]:
        """Returns evidence of each GPU, in the driver's order; nothing if `at_begin` found none to attest.

        Args:
            ctx: What the nonces derive from, 32 bytes; see `palm_torch.sessions.seals.context`.

        Raises:
            AttesterError: If a GPU does not attest.
        """
        if not self._states or self._collector is None:
            return ()
        return self._collector.collect([binding.gpu_nonce(ctx, index) for index in range(len(self._states))])

    def endorsements(self) -> GpuEndorsements | None:
        """Returns what the maker says of the GPUs, as it travels with the evidence; None for nothing."""
        if self._states and isinstance(self._collector, simulated_gpu.SimulatedGpus):
            return self._collector.endorsements()
        return self._given

    def simulated_root(self) -> TrustAnchor | None:
        """Returns the root that simulated GPUs lead to; None for others."""
        if not isinstance(self._collector, simulated_gpu.SimulatedGpus):
            return None
        return TrustAnchor.from_certificate(
            self._collector.root_certificate(), name="this machine's simulated GPU root"
        )

    def why_unattested(self, device: Device) -> str | None:
        """Returns why no evidence vouches for a device; None if some does, or none is needed."""
        if device.type == "cpu":
            return None
        if device.type != "cuda":
            return f"devices of type {device.type!r} do not attest, only GPUs of NVIDIA do"
        if not self._states:
            return self._why
        attested = [state.uuid for state in self._states]
        if device.uuid in attested:
            return None
        return f"{device.name} {device.uuid} is none of the GPUs that attest: {', '.join(attested)}"

    def _look(self) -> tuple[tuple[GpuState, ...], str]:
        if self._collector is None:
            return (), NO_COLLECTOR
        try:
            states = self._collector.state()
            gpu_state.check_confidential(states)
        except (AttesterError, MissingExtraError) as error:
            return (), str(error)
        return states, ""

    def _check_rims(self, manifests: Sequence[bytes]) -> None:
        """Checks now what a verifier would refuse after the run: manifests of others, or for nothing here."""
        if not self._states:
            raise AttesterError(
                f"rims: manifests were given, but there will be no evidence of GPUs: {self._why}"
            )
        if self.simulated:
            raise AttesterError("rims: simulated GPUs bring manifests of their own; give none")
        running = {("driver", state.driver) for state in self._states}
        running |= {("vbios", state.vbios) for state in self._states}
        products = dict[tuple[str, str], list[str]]()
        for number, xml in enumerate(manifests):
            what = f"rims[{number}]"
            found = rim.verify_rim(
                xml, anchors=(certificates.NVIDIA_CORIM_ROOT,), now=datetime.now(UTC), what=what
            )
            if (found.kind, found.version) not in running:
                raise AttesterError(
                    f"{what}: a manifest of {found.kind} {found.version}, which no GPU here runs: expected "
                    f"{' or '.join(sorted(f'{kind} {version}' for kind, version in running))}"
                )
            products.setdefault((found.kind, found.version), []).append(found.product)
        for number, state in enumerate(self._states if manifests else ()):
            _check_pair(number, state, products)

    @staticmethod
    def _said(states: Sequence[GpuState]) -> tuple[dict[str, Any], ...]:
        return tuple(state.to_json() for state in states)


def _check_pair(number: int, state: GpuState, products: Mapping[tuple[str, str], Sequence[str]]) -> None:
    """Checks that one manifest of the driver and one of the firmware, of one chip, are for a GPU."""
    drivers = products.get(("driver", state.driver), ())
    images = products.get(("vbios", state.vbios), ())
    for kind, version, found in (("driver", state.driver, drivers), ("vbios", state.vbios, images)):
        if not found:
            raise AttesterError(
                f"rims: none is of {kind} {version}, which GPU {number} ({state.name}) runs: give that one "
                "as well, or none at all"
            )
        if len(set(found)) != len(found):
            raise AttesterError(f"rims: two are of {kind} {version} for one chip: give one")
    if not set(drivers) & set(images):
        raise AttesterError(
            f"rims: that of driver {state.driver} is for {', '.join(drivers)}, that of vbios {state.vbios} "
            f"for {', '.join(images)}: GPU {number} ({state.name}) needs two for its own chip"
        )


def collector_for(attester: str, kind: str = "auto") -> GpuCollector | None:
    """Returns the way to the GPUs that belong to an attester: one simulated GPU, or those of this machine.

    Args:
        attester: As in `palm_torch.attested`.
        kind: As `gpu_collector` in `palm_torch.attested`.

    Raises:
        AttesterError: If the kind is unknown, or asked for where the GPU is simulated; if the simulated one's
            keys cannot be kept; or if `gpu_collector.select` fails.
    """
    if attester != SIMULATED:
        return gpu_collector.select(kind)
    if kind != "auto":
        raise AttesterError(
            f"GPU collector: {kind[:40]!r} asks GPUs of this machine, and attester {SIMULATED!r} simulates "
            "one: leave one of them out"
        )
    return simulated_gpu.SimulatedGpus()
