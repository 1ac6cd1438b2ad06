"""Between crash and resumption the checkpoint lies on the host's disk, and its receipt is edited there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import relay
from workshop import put

from palm_torch import receipt
from palm_torch.digest import Digest
from palm_torch.errors import BindingError, SignatureError

if TYPE_CHECKING:
    from relay import ResumedRun

FEWER = {
    "steps.taken": 0,
    "model": Digest("palm-sha256", bytes(32)),
    "state": Digest("sha256", bytes(32)),
    "data.dataset1.uses.train.delivered": 0,
    "optimizers": (),
    "issued.sequence": 0,
}


@pytest.mark.parametrize("path", FEWER)
def test_an_edited_receipt_is_not_the_one_that_was_signed(resumed: ResumedRun, path: str) -> None:
    for index in (0, 1):
        content = receipt.decode_content(resumed.bundle.segments[index].receipt.payload)
        edited = receipt.encode_content(put(content, path, FEWER[path]))
        with pytest.raises(
            SignatureError, match=f"^segment {index + 1}: receipt: the signature does not verify"
        ):
            resumed.verify(put(resumed.bundle, f"segments.{index}.receipt.payload", edited))


def test_edited_and_signed_by_the_session_itself_it_is_not_the_one_resumed_from(resumed: ResumedRun) -> None:
    """Even whoever holds the old session's key cannot change what the next session named when it began."""
    session = resumed.sessions[0]
    content = receipt.decode_content(resumed.bundle.segments[0].receipt.payload)
    edited = relay.signed(put(content, "steps.taken", 0), session).envelope
    with pytest.raises(
        BindingError, match=r"segment 2: it goes on from sha256:.*, but the segment before it is"
    ):
        resumed.verify(put(resumed.bundle, "segments.0.receipt", edited))


def test_the_log_before_the_checkpoint_is_edited(resumed: ResumedRun) -> None:
    log = resumed.bundle.segments[0].log
    edited = (log[0], log[1].replace(b'"number":1', b'"number":2'), *log[2:])
    assert edited != log
    with pytest.raises(BindingError, match="segment 1: an event log of 3 entries, root"):
        resumed.verify(put(resumed.bundle, "segments.0.log", edited))


def test_another_model_is_loaded_than_the_checkpoint_left(resumed: ResumedRun) -> None:
    """The resumed session measures what was loaded and logs it; that has to be the receipt's root."""
    other = b"palm-sha256:" + b"00" * 32

    def load(log: tuple[bytes, ...]) -> tuple[bytes, ...]:
        at = log[0].index(b"palm-sha256:")
        return (log[0][:at] + other + log[0][at + len(other) :], *log[1:])

    for number, what in ((2, "segment 2"), (3, "the sealed session")):
        bent: Any = resumed.bent(relay.only("log", number, load))
        with pytest.raises(BindingError, match=f"^{what}: event log: expected .* got .*{other.decode()}"):
            resumed.verify(bent)
