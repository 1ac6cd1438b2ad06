"""Collecting evidence of the machine's GPUs with ``nvattest``, NVIDIA's command line tool.

Not run on a GPU in confidential mode: tested with a stand-in for the tool that serves evidence of real GPUs.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import child_process, collected_gpu, gpu_state, nvml_collector
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch.evidence import GpuEvidence

PROGRAM: Final = "nvattest"
TIMEOUT_S: Final = 120.0
"""How long the tool may take for one nonce, in seconds."""


class NvattestCollector:
    """A `gpu_collector.GpuCollector` that runs ``nvattest collect-evidence``; no verdict is asked for.

    The tool says nothing about the state of the GPUs, so that the driver is asked for it.
    """

    def __init__(
        self,
        *,
        program: str = PROGRAM,
        read_state: Callable[[], tuple[gpu_state.GpuState, ...]] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Looks for the tool.

        Args:
            program: Its name, looked up on PATH, or its path.
            read_state: Returns the state of the GPUs; from NVML by default.
            timeout_s: How long the tool may take for one nonce, in seconds.

        Raises:
            AttesterError: If it is not installed.
        """
        found = shutil.which(program)
        if found is None:
            raise AttesterError(
                f"{program}: no such program: install the package nvattest of NVIDIA's attestation SDK, or "
                f"collect with 'nvml'"
            )
        self._program, self._timeout_s = found, timeout_s
        self._read_state = read_state or nvml_collector.NvmlCollector().state

    @property
    def name(self) -> str:
        """How the evidence is collected."""
        return "nvattest"

    def state(self) -> tuple[gpu_state.GpuState, ...]:
        """Returns the state of each GPU, in the driver's order, as `NvmlCollector.state` does."""
        return self._read_state()

    def collect(self, nonces: Sequence[bytes]) -> tuple[GpuEvidence, ...]:
        """Returns each GPU's report over its own nonce, with its certificates; runs once for each nonce.

        Args:
            nonces: One for each GPU, 32 bytes, in the driver's order.

        Raises:
            AttesterError: If the GPUs are in no state to attest, or the tool fails, hangs, writes too much,
                or answers something else than it was asked.
            MissingExtraError: If ``nvidia-ml-py``, which reads the state, is not installed.
        """
        gpu_state.check_confidential(self.state())
        return collected_gpu.one_each(self._ask, nonces, what=PROGRAM)

    def _ask(self, nonce: bytes) -> tuple[GpuEvidence, ...]:
        command = [self._program, "collect-evidence", "--device", "gpu", "--nonce", nonce.hex()]
        finished = child_process.run(
            [*command, "--format", "json"],
            what=PROGRAM,
            timeout_s=self._timeout_s,
            max_bytes=collected_gpu.MAX_JSON_BYTES,
        )
        if finished.code != 0:
            raise AttesterError(f"{PROGRAM}: failed with status {finished.code}: {finished.complaint}")
        answer = collected_gpu.read_json(finished.output, what=PROGRAM)
        if answer.get("result_code", 0) != 0:
            raise AttesterError(
                f"{PROGRAM}: failed with {answer['result_code']!r}: {answer.get('result_message')!r:.200}"
            )
        return collected_gpu.read_list(answer.get("evidences"), nonce=nonce, what=PROGRAM)
