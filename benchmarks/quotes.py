"""How long verifying a TDX quote with its collateral takes, beside dcap-qvl alone in the same process.

quote of version 4, 5   `palm_torch.cvm.tdx.verify_quote` on a simulated quote, everything from its bytes and
                        the JSON of its collateral on, dcap-qvl's second opinion included     bar 10 ms
the same, real          of the third-party vectors, where PALM_TORCH_VECTORS names their folder
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from palm_torch import codec
from palm_torch.cvm import certificates, collateral, dcap, quote, simulated, simulated_quote, tdx
from palm_torch.encoding import decode_json, encode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BAR_S = 0.010
CALLS = 200
MAX_BYTES = 1 << 22
VERSIONS: tuple[simulated_quote.Version, ...] = (4, 5)
REAL = (
    ("real quote of version 4", "tdx/dcap-qvl/tdx_quote", "tdx_quote", 1750332747),
    ("real quote of version 5", "tdx/go-tdx-guest/quote_v5_sample.dat", "tdx_quote_outdated", 1771459200),
)


def main() -> int:
    """Prints a line for each quote; returns 1 if one missed the bar."""
    missed = False
    for name, raw, endorsements, anchor, root, now in (*_simulated(), *_real()):
        document = encode_json(codec.to_json(endorsements))

        def ours(
            raw: bytes = raw,
            document: bytes = document,
            anchor: certificates.TrustAnchor = anchor,
            now: datetime = now,
        ) -> None:
            found = collateral.from_json(decode_json(document, what="collateral", max_bytes=MAX_BYTES))
            tdx.verify_quote(raw, found, anchors=[anchor], now=now)

        def theirs(
            raw: bytes = raw,
            found: collateral.Collateral = endorsements,
            root: bytes = root,
            now: datetime = now,
        ) -> None:
            dcap.verify(raw, found, root=root, now=now)

        whole, alone = _median_s(ours), _median_s(theirs)
        missed |= whole > BAR_S
        print(
            f"{name}: {whole * 1e3:.2f} ms (bar {BAR_S * 1e3:.0f} ms); dcap-qvl alone {alone * 1e3:.2f} ms, "
            f"ratio {whole / alone:.1f}"
        )
    return int(missed)


Case = tuple[str, bytes, collateral.Collateral, certificates.TrustAnchor, bytes, datetime]


def _simulated() -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as folder:
        for version in VERSIONS:
            tee = simulated.SimulatedTdx(directory=Path(folder) / "keys", version=version)
            root = tee.root_certificate()
            anchor = certificates.TrustAnchor.from_certificate(root, name="simulated")
            name = f"simulated quote of version {version}"
            yield name, tee.quote(bytes(64)), tee.collateral(), anchor, root, datetime.now(UTC)


def _real() -> Iterator[Case]:
    named = os.environ.get("PALM_TORCH_VECTORS", "none")
    if named in ("", "none"):
        return
    folder = Path(named)
    root = (folder / "tdx/dcap-qvl/TrustedRootCA.der").read_bytes()
    for name, path, endorsements, at in REAL:
        text = (folder / f"tdx/dcap-qvl/{endorsements}_collateral.json").read_text(encoding="utf-8")
        raw = quote.canonical((folder / path).read_bytes())
        found = collateral.from_json(json.loads(text))
        yield name, raw, found, certificates.INTEL_SGX_ROOT, root, datetime.fromtimestamp(at, UTC)


def _median_s(call: Callable[[], None]) -> float:
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
