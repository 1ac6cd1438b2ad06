"""The confidential-computing state that NVIDIA's driver reports of a GPU, and whether it is fit to attest.

A GPU signs none of this: the driver runs in the guest and says it. It goes into the statements of a run,
which are sealed, and is worth as much as the measured guest that read it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from palm_torch import codec
from palm_torch.errors import AttesterError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Switch = Literal["on", "off"]
Environment = Literal["unavailable", "sim", "prod", "unknown"]
MultiGpuMode = Literal["none", "ppcie", "nvle", "unknown"]

_SWITCH_ON: Final = "nvidia_gpu_tools.py --set-cc-mode=on --reset-after-cc-mode-switch"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemState:
    """What the driver says about all GPUs of the machine together.

    Attributes:
        driver: Version of the driver.
        cc_mode: Whether confidential computing is on.
        devtools: Whether debuggers may look inside: such a GPU keeps no secrets.
        environment: What the keys are worth: "prod", or "sim" of a simulation.
        ready: Whether the GPUs take work; in confidential mode somebody has to say that they may.
        multi_gpu_mode: "none" for GPUs on their own, "ppcie" for protected PCIe, where links between GPUs are
            in the clear, "nvle" for encrypted links; "unknown" if this driver cannot tell.
    """

    driver: str
    cc_mode: Switch
    devtools: bool
    environment: Environment
    ready: bool
    multi_gpu_mode: MultiGpuMode

    @property
    def switched_on(self) -> bool:
        """Whether confidential computing is on: by its own mode, or by protected PCIe without it."""
        return self.cc_mode == "on" or self.multi_gpu_mode == "ppcie"

    @property
    def confidential(self) -> bool:
        """Whether confidential computing is on, and in the production environment."""
        return self.switched_on and self.environment == "prod"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState(SystemState):
    """What the driver says about one GPU.

    Attributes:
        uuid: The driver's name for it, "GPU-…".
        name: Its model.
        vbios: Version of the firmware that it was started with.
    """

    uuid: str
    name: str
    vbios: str

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON object, as statements carry them."""
        return dataclasses.asdict(self)


def from_json(fields: Mapping[str, Any], *, what: str) -> GpuState:
    """Reads a state, accepting exactly what `GpuState.to_json` makes.

    Args:
        fields: The JSON object.
        what: Name of the GPU and of where it stands, for messages.

    Raises:
        EvidenceError: If a field is missing, unknown, or has a value that it cannot have.
    """
    return codec.from_json(GpuState, dict(fields), what=what, error=EvidenceError)


def check_confidential(states: Sequence[GpuState]) -> None:
    """Refuses GPUs that cannot attest, or whose attestation would be worth nothing.

    Raises:
        AttesterError: If there are none, or one of them does not compute confidentially, lets debuggers in,
            or takes no work; the message says what to switch.
    """
    if not states:
        raise AttesterError("GPU: the driver knows none: see nvidia-smi -L")
    for number, state in enumerate(states):
        what = f"GPU {number} ({state.name[:80]}, {state.uuid[:80]})"
        if not state.switched_on:
            raise AttesterError(
                f"{what}: confidential computing is off, so it cannot attest: the host switches it on before "
                f"the guest starts ({_SWITCH_ON}), on Hopper or newer; in a cloud, start a machine that is "
                f"offered as confidential together with its GPU"
            )
        if state.devtools:
            raise AttesterError(
                f"{what}: confidential computing with DevTools, which lets debuggers look inside: have the "
                f"host switch from devtools to on ({_SWITCH_ON}), and start the guest anew"
            )
        if state.environment != "prod":
            raise AttesterError(
                f"{what}: expected the production environment, got {state.environment!r}: evidence of any "
                f"other is signed by no production key; use a production GPU with its production driver"
            )
        if not state.ready:
            raise AttesterError(
                f"{what}: confidential computing is on, but the GPUs take no work yet: "
                f"nvidia-smi conf-compute -srs 1"
            )
