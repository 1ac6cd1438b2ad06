"""A time-stamp token is borrowed, bent or bought from an authority of one's own, to look older."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import stamping
import workshop
from stamping import STAMPED, Authority
from workshop import NOW

from palm_torch.cvm import timestamp
from palm_torch.errors import (
    BindingError,
    EvidenceError,
    FreshnessError,
    PalmTorchError,
    SignatureError,
    TrustAnchorError,
)

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.evidence import Bundle
    from palm_torch.result import AttestationResult

YEARS = timedelta(days=900)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return stamping.make_authority()


def stamped(good: GoodRun, authority: Authority, root: Any = None, **bent: Any) -> Bundle:
    """Returns the good run's bundle with a token of an authority, bent as asked."""
    raw = authority.token(good.bundle.digest_to_stamp().value, **bent)
    token = timestamp.normalised(raw, root=(root or authority.root).certificate)
    return dataclasses.replace(good.bundle, timestamp=token)


def verify(good: GoodRun, bundle: Bundle, authority: Authority, **options: Any) -> AttestationResult:
    return good.verify(bundle, timestamp_root=authority.root.pem, **options)


def test_the_honest_token_is_accepted(good: GoodRun, authority: Authority) -> None:
    result = verify(good, stamped(good, authority), authority, at=None)
    assert STAMPED.isoformat() in result.time
    assert "CN=TSA" in result.time


def test_the_token_of_another_bundle(good: GoodRun, authority: Authority, tmp_path_factory: Any) -> None:
    older = workshop.make_good_run(tmp_path_factory.mktemp("machine") / "keys")
    token = stamped(older, authority).timestamp
    with pytest.raises(BindingError, match="time-stamp token: it is over"):
        verify(good, dataclasses.replace(good.bundle, timestamp=token), authority, at=None)


def test_a_token_does_not_outlive_a_change_of_the_bundle(good: GoodRun, authority: Authority) -> None:
    changed = workshop.put(stamped(good, authority), "log", lambda log: log[:-1])
    with pytest.raises(BindingError, match="time-stamp token"):
        verify(good, changed, authority, at=None)


def test_another_time_is_written_into_a_token(good: GoodRun, authority: Authority) -> None:
    bundle = stamped(good, authority)
    token = (bundle.timestamp or b"").replace(b"20261121123000Z", b"20241121123000Z")
    with pytest.raises(PalmTorchError) as caught:
        verify(good, dataclasses.replace(bundle, timestamp=token), authority, at=None)
    assert isinstance(caught.value, (SignatureError, TrustAnchorError))
    token = (bundle.timestamp or b"").replace(b"20261121123000Z", b"20261121122959Z")
    with pytest.raises(SignatureError, match="hash was signed"):
        verify(good, dataclasses.replace(bundle, timestamp=token), authority, at=None)


def test_an_authority_dates_before_its_certificate(good: GoodRun, authority: Authority) -> None:
    for shift in (-YEARS, YEARS):
        bent = stamped(good, authority, info={"gen_time": STAMPED + shift})
        with pytest.raises(TrustAnchorError, match="≤"):
            verify(good, bent, authority, at=None)


def test_a_certificate_for_something_else_stamps(good: GoodRun, authority: Authority) -> None:
    issuing = authority.chain[1]
    server = stamping.issue("Server", issuing, extensions=[stamping.SIGNS])
    bent = Authority(authority.root, (server, issuing))
    with pytest.raises(TrustAnchorError, match="timeStamping and no other"):
        verify(good, stamped(good, bent), authority, at=None)


def test_a_root_of_ones_own_travels_in_the_token(good: GoodRun, authority: Authority) -> None:
    own = stamping.make_authority()
    bundle = stamped(good, own, certificates=[*own.chain, own.root])
    with pytest.raises((SignatureError, TrustAnchorError)):
        verify(good, bundle, authority, at=None)
    assert verify(good, bundle, own, at=None).checks, "the twin: whoever chose that root would accept it"


def test_a_root_with_the_right_name_and_another_key(good: GoodRun, authority: Authority) -> None:
    assert stamping.make_authority().root.certificate.subject == authority.root.certificate.subject
    own = stamping.make_authority()
    with pytest.raises(SignatureError, match="not signed by the next certificate"):
        verify(good, stamped(good, own), authority, at=None)


def test_a_token_is_taken_away_or_not_looked_at(good: GoodRun, authority: Authority) -> None:
    with pytest.raises(FreshnessError, match="no token"):
        verify(good, good.bundle, authority, at=None)
    result = good.verify(stamped(good, authority))
    assert any("time-stamp token" in item for item in result.not_checked)


def test_a_time_before_the_token_is_asserted(good: GoodRun, authority: Authority) -> None:
    assert NOW < STAMPED
    with pytest.raises(FreshnessError, match="before the time stamp"):
        verify(good, stamped(good, authority), authority, at=NOW)
    assert verify(good, stamped(good, authority), authority, at=STAMPED).checks


def test_a_late_answer_is_late_by_its_token(good: GoodRun, authority: Authority) -> None:
    """The request had expired when the authority first saw the evidence."""
    late = stamped(good, authority, info={"gen_time": STAMPED + timedelta(hours=12)})
    with pytest.raises(FreshnessError, match="expired at 2026-11-22T00:00:00Z"):
        verify(good, late, authority, at=None)


def test_rubbish_for_a_token(good: GoodRun, authority: Authority) -> None:
    for token in (b"", b"\x30\x00", bytes(1000)):
        with pytest.raises(EvidenceError, match="time-stamp token"):
            verify(good, dataclasses.replace(good.bundle, timestamp=token), authority, at=None)
