"""Old evidence in new bytes: a signature respelled, so that a store of seen files would not know it again.

An ECDSA signature (r, s) is as good as (r, n − s), and whoever holds a bundle can write the other one. The
bundle then verifies, as it must: it claims exactly what it did. It is known again by its run and its request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workshop import NOW, put

from palm_torch.appraisal import seen
from palm_torch.cvm import quote
from palm_torch.errors import BindingError, FreshnessError

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

    from palm_torch.evidence import Bundle

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve P-256."""


def respelled(raw: bytes) -> bytes:
    """Returns a quote with the other of its two signatures."""
    signature = quote.parse_quote(raw).signature
    s = int.from_bytes(signature[32:], "big")
    return raw.replace(signature, signature[:32] + (ORDER - s).to_bytes(32, "big"))


def without_zero(raw: bytes) -> bytes:
    """Returns a quote without the zero byte at its end; no signature covers the sizes around it."""
    for at in range(len(raw) - 4):
        rest = len(raw) - at - 4
        if raw[at : at + 4] == rest.to_bytes(4, "little"):
            raw = raw[:at] + (rest - 1).to_bytes(4, "little") + raw[at + 4 :]
    return raw[:-1]


def certified_anew(raw: bytes) -> bytes:
    """Returns a quote with another signature over the report on its quoting enclave."""
    signature = quote.parse_quote(raw).qe_report_signature
    s = int.from_bytes(signature[32:], "big")
    return raw.replace(signature, signature[:32] + (ORDER - s).to_bytes(32, "big"))


def record(store: Path, bundle: Bundle) -> None:
    with seen.open_store(store) as opened:
        opened.check_and_record(bundle.challenge.nonce, bundle.digest_to_stamp(), bundle.run_id, NOW)


@pytest.mark.parametrize("spell", [respelled, certified_anew, without_zero])
def test_evidence_in_other_bytes_is_known_again(good: GoodRun, tmp_path: Path, spell: object) -> None:
    assert callable(spell)
    again = put(good.bundle, "end.quote", spell)
    assert again != good.bundle
    assert again.digest_to_stamp() != good.bundle.digest_to_stamp()
    assert good.verify(again).claims == good.verify().claims
    (tmp_path / "mine").mkdir(mode=0o700)
    record(tmp_path / "mine" / "seen", good.bundle)
    with pytest.raises(FreshnessError, match="answered before"):
        record(tmp_path / "mine" / "seen", again)


@pytest.mark.parametrize("spell", [respelled, certified_anew, without_zero])
def test_the_begin_quote_cannot_be_respelled_under_the_end_quote(good: GoodRun, spell: object) -> None:
    with pytest.raises(BindingError):
        good.verify(put(good.bundle, "begin.quote", spell))
