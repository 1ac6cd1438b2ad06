"""Evidence bundles and receipt files, and what looks at them without believing them."""

from __future__ import annotations

import zlib

from laws import REFUSED, accepted, ours

from palm_torch import evidence, inspection, receipt
from palm_torch.appraisal import policy_template
from palm_torch.evidence import Bundle
from palm_torch.policies import policy
from palm_torch.receipt import Receipt

JSON = True
ONE_IN = 8
"""How often the slow part, a policy written and read, is tried: it depends on nothing but the input."""


def one_input(data: bytes) -> None:
    bundle = accepted(data, evidence.decode, Bundle.encode)
    if bundle is not REFUSED:
        ours(inspection.inspect, data)
        assert bundle.digest_to_stamp().value
        assert bundle.opening.begin == bundle.begin
        if zlib.crc32(data) % ONE_IN == 0:
            starting_policy(data)
    accepted(data, receipt.decode, Receipt.encode)


def starting_policy(data: bytes) -> None:
    """Whatever evidence says, the policy written from it does not trust the evidence's own root."""
    text = ours(policy_template.starting_policy, data)
    if text is not REFUSED:
        written = ours(policy.parse, text.encode("utf-8"))
        assert written is REFUSED or written.platform.simulated_root is None
