"""Canonical JSON, base64, hexadecimal and digests, against the standard library's readers."""

from __future__ import annotations

import base64
import binascii
import json

from laws import REFUSED, accepted

from palm_torch import encoding
from palm_torch.digest import Digest

MAX_BYTES = 1 << 16
JSON = True


def one_input(data: bytes) -> None:
    value = accepted(
        data, lambda raw: encoding.decode_json(raw, what="x", max_bytes=MAX_BYTES), encoding.encode_json
    )
    if value is not REFUSED:
        assert json.loads(data, parse_int=float) == value
    text = data.decode("utf-8", "surrogateescape")
    raw = accepted(
        data,
        lambda _: encoding.decode_base64(text, what="x"),
        lambda found: encoding.encode_base64(found).encode("ascii"),
    )
    if raw is not REFUSED:
        assert raw == base64.b64decode(data, validate=True)
    raw = accepted(data, lambda _: encoding.decode_hex(text, what="x"), lambda found: found.hex().encode())
    if raw is not REFUSED:
        assert raw == binascii.unhexlify(data)
    accepted(data, lambda _: Digest.parse(text), lambda found: str(found).encode("ascii"))
