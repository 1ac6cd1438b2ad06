"""Collateral, and the two JSON texts in it that somebody else signed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from laws import REFUSED, accepted, ours

from palm_torch import codec, encoding
from palm_torch.cvm import collateral

if TYPE_CHECKING:
    from palm_torch.cvm.collateral import Collateral

MAX_BYTES = 1 << 22
JSON = True


def one_input(data: bytes) -> None:
    endorsements = accepted(data, decode, lambda found: encoding.encode_json(codec.to_json(found)))
    if endorsements is not REFUSED:
        for name in ("tcb_info", "qe_identity"):
            assert endorsements.signed_text(name) == getattr(endorsements, name).encode("utf-8")
    tcb_info = ours(collateral.read_tcb_info, data)
    if tcb_info is not REFUSED:
        assert tcb_info[0].body == json.loads(data)
    identity = ours(collateral.read_qe_identity, data)
    if identity is not REFUSED:
        assert identity.body == json.loads(data)


def decode(data: bytes) -> Collateral:
    return collateral.from_json(encoding.decode_json(data, what="collateral", max_bytes=MAX_BYTES))
