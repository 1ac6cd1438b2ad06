"""Collecting evidence of the machine's GPUs with ``nv-attestation-sdk``, NVIDIA's SDK for Python.

NVIDIA's support for it ended in September 2026; it is here for machines that have nothing newer. Not run on a
GPU in confidential mode: tested with a stand-in for the SDK that serves evidence of real GPUs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch import files
from palm_torch.cvm import child_process, collected_gpu, gpu_state, nvml_collector
from palm_torch.errors import AttesterError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch.evidence import GpuEvidence

WHAT: Final = "nv-attestation-sdk"
PROGRAM: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from palm_torch.cvm import nv_sdk_process as p; p.main(*sys.argv[1:])"
)
"""What the other process runs, for Python; where this package lies is its first argument."""

_PACKAGES: Final = str(Path(files.__file__).resolve().parent.parent)

TIMEOUT_S: Final = 120.0
"""How long the SDK may take for one nonce, in seconds; importing it takes some."""


class NvSdkCollector:
    """A `gpu_collector.GpuCollector` that has the SDK collect raw evidence, and nothing else.

    The SDK runs in a process of its own, in a temporary directory: see `nv_sdk_process`. The state of the
    GPUs is the driver's, through ``nvidia-ml-py``, which the SDK brings along.
    """

    def __init__(
        self,
        *,
        read_state: Callable[[], tuple[gpu_state.GpuState, ...]] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Asks nothing yet.

        Args:
            read_state: Returns the state of the GPUs; from NVML by default.
            timeout_s: How long the SDK may take for one nonce, in seconds.
        """
        self._read_state = read_state or nvml_collector.NvmlCollector().state
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        """How the evidence is collected."""
        return "nv-sdk"

    def state(self) -> tuple[gpu_state.GpuState, ...]:
        """Returns the state of each GPU, in the driver's order, as `NvmlCollector.state` does."""
        return self._read_state()

    def collect(self, nonces: Sequence[bytes]) -> tuple[GpuEvidence, ...]:
        """Returns each GPU's report over its own nonce, with its certificates; runs once for each nonce.

        Args:
            nonces: One for each GPU, 32 bytes, in the driver's order.

        Raises:
            AttesterError: If the GPUs are in no state to attest, or the SDK fails, hangs, or answers
                something else than it was asked.
            MissingExtraError: If ``nv-attestation-sdk`` or ``nvidia-ml-py`` is not installed.
        """
        gpu_state.check_confidential(self.state())
        return collected_gpu.one_each(self._ask, nonces, what=WHAT)

    def _ask(self, nonce: bytes) -> tuple[GpuEvidence, ...]:
        try:
            # what the SDK leaves there that cannot be removed is no reason to drop its answer
            made = tempfile.TemporaryDirectory(prefix="palm-torch-nv-sdk-", ignore_cleanup_errors=True)
        except OSError as error:
            raise AttesterError(
                f"{WHAT}: no temporary directory can be made: {error.strerror}; set TMPDIR to a folder that "
                "can be written to"
            ) from error
        with made as folder:
            path = Path(folder) / "evidence.json"
            finished = child_process.run(
                # -P: what lies in the working directory is not imported
                [sys.executable, "-P", "-c", PROGRAM, _PACKAGES, nonce.hex(), str(path)],
                what=WHAT,
                timeout_s=self._timeout_s,
                max_bytes=collected_gpu.MAX_JSON_BYTES,  # logs, which are dropped
                folder=Path(folder),
            )
            if finished.code != 0:
                raise AttesterError(f"{WHAT}: failed with status {finished.code}: {finished.complaint}")
            text = files.read_bounded(
                path, what="evidence", max_bytes=collected_gpu.MAX_JSON_BYTES, error=AttesterError
            )
        answer = collected_gpu.read_json(text, what=WHAT)
        if "missing" in answer:
            raise MissingExtraError(str(answer["missing"]))
        return collected_gpu.read_list(answer.get("evidences"), nonce=nonce, what=WHAT)
