"""What belongs to answers: openings of salted commitments, salts, receipts, accounts, logs of a session."""

from __future__ import annotations

import answers_at_hand as at_hand
from laws import REFUSED, accepted, ours

from palm_torch import receipt
from palm_torch.commit import answers, salted
from palm_torch.encoding import decode_json, encode_json


def one_input(data: bytes) -> None:
    if data.startswith(b'{"content"'):
        openings(data)
    elif data.startswith(b'{"run_id"'):
        accepted(data, salted.decode_salts, salted.SaltsFile.encode)
    elif data.startswith(b'{"_type"'):
        accepted(data, receipt.decode_content, receipt.encode_content)
    elif data.startswith(b'{"answers"'):
        accounts(data)
    else:
        logs(data)


def openings(data: bytes) -> None:
    found = accepted(data, salted.decode, salted.SaltedOpening.encode)
    if found is not REFUSED and ours(salted.verify, found, at_hand.TURN.query) is not REFUSED:
        assert (found.form, found.content, found.salt) == ("text", b"yes or no?", at_hand.SALTS.query)


def accounts(data: bytes) -> None:
    value = ours(decode_json, data, what="account", max_bytes=len(data))
    if value is not REFUSED and isinstance(value, dict):
        accepted(data, lambda _: answers.account_of(value), lambda found: encode_json(found.to_value()))


def logs(data: bytes) -> None:
    found = ours(answers.replay, data.split(b"\n"))
    if found is not REFUSED:
        assert len(found.turns) == len(found.log_sizes)
        found.history_root()
        for span in found.revoked():
            assert span.last == len(found.turns) - 1
