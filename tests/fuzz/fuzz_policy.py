"""What verifiers and authorities write: policies, requests, reference values, keys."""

from __future__ import annotations

from laws import REFUSED, accepted, ours

from palm_torch import codec, encoding, request
from palm_torch.appraisal import policy_summary
from palm_torch.errors import PolicyError
from palm_torch.policies import policy, reference_values, signing_keys
from palm_torch.policies.policy import Policy
from palm_torch.policies.reference_values import ReferenceValues
from palm_torch.request import Request

JSON = True


def one_input(data: bytes) -> None:
    parsed = accepted(data, policy.parse, None)
    if parsed is not REFUSED:
        assert isinstance(parsed, Policy)
        assert parsed.platform.requirements().anchor("tdx").name
        assert policy_summary.summarize(parsed)
    accepted(data, request.decode, Request.encode)
    accepted(data, reference_values.decode, lambda found: encoding.encode_json(found.to_json()))
    values = accepted(data, payload, ReferenceValues.encode)
    if values is not REFUSED:
        assert any(values.lists().values())
    ours(reference_values.parse, data)
    ours(signing_keys.load_public, data)
    ours(signing_keys.load_private, data)


def payload(data: bytes) -> ReferenceValues:
    document = encoding.decode_json(data, what="values", max_bytes=reference_values.MAX_BYTES)
    return codec.from_json(ReferenceValues, document, what="values", error=PolicyError)
