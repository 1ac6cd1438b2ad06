"""Collateral, and the two JSON texts in it that somebody else signed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from laws import REFUSED, accepted, ours

from palm_torch import codec, encoding
from palm_torch.cvm import collateral, pcs, tcb_documents

if TYPE_CHECKING:
    from palm_torch.cvm.collateral import Collateral

MAX_BYTES = 1 << 22
JSON = True


def one_input(data: bytes) -> None:
    endorsements = accepted(data, decode, lambda found: encoding.encode_json(codec.to_json(found)))
    if endorsements is not REFUSED:
        for name in ("tcb_info", "qe_identity"):
            assert endorsements.signed_text(name) == getattr(endorsements, name).encode("utf-8")
    tcb_info = ours(tcb_documents.read_tcb_info, data)
    if tcb_info is not REFUSED:
        assert len(tcb_info.levels) == len(json.loads(data)["tcbLevels"])
    identity = ours(tcb_documents.read_qe_identity, data)
    if identity is not REFUSED:
        assert identity.isv_prod_id == json.loads(data)["isvprodid"]
    for key in (pcs.TCB_INFO_KEY, pcs.QE_IDENTITY_KEY):
        answer = ours(lambda body, key=key: pcs.cut(body, key), data)
        if answer is not REFUSED:
            assert json.loads(answer[0]) == json.loads(data)[key]


def decode(data: bytes) -> Collateral:
    return collateral.from_json(encoding.decode_json(data, what="collateral", max_bytes=MAX_BYTES))
