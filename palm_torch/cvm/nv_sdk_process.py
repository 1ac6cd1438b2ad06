"""The process in which ``nv-attestation-sdk`` runs: it collects evidence, writes it to a file, and ends.

Importing the SDK writes log files into the working directory, takes over standard output and keeps state for
the whole process; so it gets a process and a directory of its own. Its verdicts and tokens are never asked
for: it signs them with a key that everybody knows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palm_torch import extras
from palm_torch.errors import MissingExtraError


def collect(nonce: str) -> Any:  # noqa: ANN401 (what the SDK says; the other process reads it)
    """Returns the evidence of all GPUs over a nonce in hex, as the SDK serialises it.

    Raises:
        MissingExtraError: If the SDK is not installed.
    """
    with extras.needed("nv-sdk", for_what="collecting GPU evidence with NVIDIA's SDK"):
        from nv_attestation_sdk import attestation  # noqa: PLC0415 (see above)
    client = attestation.Attestation()
    client.set_nonce(nonce)
    client.add_verifier(attestation.Devices.GPU, attestation.Environment.REMOTE, "", "")
    return client.get_evidence(options={"ppcie_mode": False})  # True would refuse protected PCIe


def main(nonce: str, path: str) -> None:
    """Writes ``{"evidences": …}``, or ``{"missing": …}`` if the SDK is not installed, to a file."""
    try:
        answer = {"evidences": collect(nonce)}
    except MissingExtraError as error:
        answer = {"missing": str(error)}
    Path(path).write_text(json.dumps(answer), encoding="utf-8")
