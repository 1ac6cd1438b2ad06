"""The machine's GPUs in a session: evidence of them at both ends, or the reason why there is none.

Either all GPUs compute confidentially, and both quotes seal a report of each; or there is no evidence of any,
and a run that steps tensors on one is refused before they move.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from palm_torch.cvm import binding, gpu_collector, gpu_state, platforms, simulated_gpu
from palm_torch.cvm.certificates import TrustAnchor
from palm_torch.errors import AttesterError, MissingExtraError, prefixed
from palm_torch.evidence import Phase
from palm_torch.sessions import gpu_evidence
from palm_torch.sessions import gpus as verifying

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.cvm.gpu_collector import GpuCollector
    from palm_torch.cvm.gpu_state import GpuState
    from palm_torch.evidence import GpuEndorsements, GpuEvidence
    from palm_torch.statement import Device

SIMULATED: Final = "simulated-gpu"
"""The attester that a simulated GPU belongs to."""

GIVEN: Final = "manifests, answers or revocation lists were given (rims, ocsp, gpu_crls)"

NO_COLLECTOR: Final = f"this machine shows no driver of NVIDIA's (/{gpu_collector.DRIVER})"


class SessionGpus:
    """The GPUs of one session.

    Args:
        collector: The way to them; None where there are none.
        endorsements: What their maker says of them, to travel with the evidence; without any, a verifier has
            to bring its own.
        required: Whether there has to be evidence of GPUs, since somebody asked for a way to them by name.
    """

    def __init__(
        self,
        collector: GpuCollector | None = None,
        *,
        endorsements: GpuEndorsements | None = None,
        required: bool = False,
    ) -> None:
        self._collector = collector
        self._required = required
        self._given = endorsements
        self._why = NO_COLLECTOR
        self._states: tuple[GpuState, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether they are a simulation. For file names; a verifier decides for itself."""
        return self._simulator is not None

    def at_begin(self) -> tuple[dict[str, Any], ...]:
        """Looks at the GPUs when a session begins: this decides whether there will be evidence of them.

        Returns:
            What the driver says about each, for the begin statement; nothing if there will be no evidence.

        Raises:
            AttesterError: If evidence of GPUs was asked for, or something was given to travel with it, and
                there will be none, or none that it could be about.
        """
        self._states, self._why = self._look()
        if self._required and not self._states:
            raise AttesterError(f"a GPU collector was asked for, but no GPU attests: {self._why}")
        if self._given is not None and not self._states:
            raise AttesterError(f"{GIVEN}, but there will be no evidence of GPUs: {self._why}")
        if self._given is not None and self.simulated:
            raise AttesterError(f"{GIVEN}, but simulated GPUs bring their own: give none")
        return self._said(self._states)

    def look_again(self) -> tuple[dict[str, Any], ...]:
        """Looks at them at a checkpoint, and when the run has ended; returns as `at_begin`.

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

    def check(self, found: tuple[GpuEvidence, ...], ctx: bytes) -> None:
        """Verifies the first evidence of the GPUs, so that no run ends in what everybody refuses.

        Which GPUs and versions are wanted is for a verifier to say; that they are genuine, in the state the
        driver tells, and that what travels along is about them, shows now.

        Args:
            found: What `collect` returned.
            ctx: What it was asked over.

        Raises:
            InputError: If a report, or something that was given, does not parse or is about none of the GPUs.
            RejectedError: Of the class that fits, if no verifier would accept them.
        """
        if not found:
            return
        now = datetime.now(UTC)
        requirements = platforms.Requirements(
            gpu=gpu_evidence.rules_for_own(len(found)),
            simulated_gpu_root=self.simulated_root(),
            simulated_rim_root=self._simulated_rim_root(),
        )
        with prefixed("evidence of GPUs, with the files that shall travel with it"):
            at_hand = verifying.read(self.endorsements(), None, requirements=requirements, now=now)
            attested = verifying.verify(
                Phase(statement=b"", quote=b"", gpus=found),
                self._said(self._states),
                ctx,
                requirements=requirements,
                at_hand=at_hand,
                now=now,
            )
            verifying.check_all_used(at_hand, attested.gpus)

    def endorsements(self) -> GpuEndorsements | None:
        """Returns what the maker says of the GPUs, as it travels with the evidence; None for nothing."""
        if self._states and self._simulator is not None:
            return self._simulator.endorsements()
        return self._given

    def simulated_root(self) -> TrustAnchor | None:
        """Returns the root that simulated GPUs lead to; None for others."""
        if self._simulator is None:
            return None
        return TrustAnchor.from_certificate(
            self._simulator.root_certificate(), name="this machine's simulated GPU root"
        )

    @property
    def _simulator(self) -> simulated_gpu.SimulatedGpus | None:
        return self._collector if isinstance(self._collector, simulated_gpu.SimulatedGpus) else None

    def _simulated_rim_root(self) -> TrustAnchor | None:
        if self._simulator is None:
            return None
        return TrustAnchor.from_certificate(
            self._simulator.rim_root_certificate(), name="this machine's simulated signer of manifests"
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

    @staticmethod
    def _said(states: Sequence[GpuState]) -> tuple[dict[str, Any], ...]:
        return tuple(state.to_json() for state in states)


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
