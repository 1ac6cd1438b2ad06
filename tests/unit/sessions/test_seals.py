"""What two quotes seal: log entries of one form, and a register that follows from them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import workshop
from workshop import NOW, extended, put

from palm_torch.cvm import collateral, tdx
from palm_torch.digest import SHA256, Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import BindingError, EvidenceError, PalmTorchError, PlatformError
from palm_torch.evidence import GpuEvidence
from palm_torch.sessions import seals

if TYPE_CHECKING:
    from relay import ResumedRun
    from workshop import GoodRun

    from palm_torch import statement
    from palm_torch.evidence import Bundle


def entry(seq: Any, **changes: Any) -> bytes:
    return encode_json({"seq": seq, "type": "epoch", "payload": {"number": 1}, **changes})


def quote_of(good: GoodRun, raw: bytes) -> tdx.VerifiedQuote:
    assert good.bundle.collateral is not None
    endorsements = collateral.from_json(dict(good.bundle.collateral))
    return tdx.verify_quote(raw, endorsements, anchors=(good.policy().platform.anchor(),), now=NOW)


def test_a_log_is_read(good: GoodRun) -> None:
    entries = seals.read_log(good.bundle.log)
    assert [item["type"] for item in entries] == ["initial weights", "epoch", "epoch"]
    assert [item["seq"] for item in entries] == [0, 1, 2]
    assert seals.read_log(()) == ()


@pytest.mark.parametrize(
    "second",
    [
        entry(0),
        entry(2),
        entry("1"),
        entry(True),
        entry(None),
        entry(1, type=1),
        entry(1, payload=[]),
        entry(1, payload=None),
        entry(1, time="now"),
        encode_json({"seq": 1, "type": "epoch"}),
        encode_json({"type": "epoch", "payload": {}}),
        encode_json([1]),
        b"null",
    ],
)
def test_an_entry_of_another_form(second: bytes) -> None:
    assert seals.read_log((entry(0), entry(1)))
    with pytest.raises(EvidenceError, match=r"^log entry 1: expected an object with 'seq': 1, a 'type' and"):
        seals.read_log((entry(0), second))


def test_an_entry_that_is_no_json() -> None:
    for data in (b"", b"{", entry(1) + b"\n", b'{"seq": 1}'):
        with pytest.raises(EvidenceError, match=r"^log entry 1: (?!expected an object)"):
            seals.read_log((entry(0), data))


def test_a_register_follows_from_its_log(good: GoodRun) -> None:
    start = bytes(48)
    assert seals.replayed(start, ()) == start
    one = hashlib.sha384(start + hashlib.sha384(b"a").digest()).digest()
    assert seals.replayed(start, (b"a",)) == one == extended(start, b"a")
    assert seals.replayed(start, (b"a", b"b")) == extended(one, b"b") != seals.replayed(start, (b"b", b"a"))
    end = quote_of(good, good.bundle.end.quote)
    assert seals.replayed(start, good.bundle.log) == end.quote.td_report.rt_mrs[3]


def test_the_seals_of_a_good_run(good: GoodRun) -> None:
    bundle = good.bundle
    begin = seals.read_begin(bundle.opening)
    assert begin == good.begin
    seals.check_begin(bundle.opening, begin, quote_of(good, bundle.begin.quote))
    seals.check_end(bundle, quote_of(good, bundle.end.quote))


def test_each_quote_seals_its_own_phase(good: GoodRun) -> None:
    bundle = good.bundle
    begin, end = quote_of(good, bundle.begin.quote), quote_of(good, bundle.end.quote)
    with pytest.raises(BindingError, match=r"^begin quote: report data seals other claims"):
        seals.check_begin(bundle.opening, good.begin, end)
    with pytest.raises(BindingError, match=r"^end quote: report data seals other claims"):
        seals.check_end(bundle, begin)


@pytest.mark.parametrize("part", ["run_id", "session_key", "challenge.nonce", "begin.statement"])
def test_the_begin_quote_seals_every_part(good: GoodRun, part: str) -> None:
    opening = put(good.bundle.opening, part, "x" if part == "run_id" else bytes(32))
    with pytest.raises(BindingError, match=r"^begin quote: report data"):
        seals.check_begin(opening, good.begin, quote_of(good, good.bundle.begin.quote))


@pytest.mark.parametrize(
    "part", ["run_id", "session_key", "challenge.nonce", "end.statement", "log", "begin.quote"]
)
def test_the_end_quote_seals_every_part(good: GoodRun, part: str) -> None:
    new: Any = {"run_id": "x", "log": ()}.get(part, bytes(32))
    with pytest.raises(BindingError, match=r"^end quote: report data"):
        seals.check_end(put(good.bundle, part, new), quote_of(good, good.bundle.end.quote))


def test_the_segments_are_sealed_by_the_begin_statement(resumed: ResumedRun) -> None:
    """The end quote does not hash them: the chain of receipts does."""
    end = quote_of(resumed, resumed.bundle.end.quote)
    seals.check_end(put(resumed.bundle, "segments", ()), end)
    with pytest.raises(BindingError, match="the segment before it is missing"):
        resumed.verify(put(resumed.bundle, "segments", ()))


# what opened a session, in full sentences: every refusal says what was found


def opened(good: GoodRun, bundle: Bundle) -> statement.Begin:
    """Returns the begin statement of a session of which everything was checked."""
    assert bundle.collateral is not None
    quote = tdx.verify_quote(
        bundle.begin.quote,
        collateral.from_json(dict(bundle.collateral)),
        anchors=(good.policy().platform.anchor(),),
        now=NOW,
    )
    begin = seals.read_begin(bundle.opening)
    seals.check_begin(bundle.opening, begin, quote)
    return begin


def refusal(good: GoodRun, bundle: Bundle, kind: type[PalmTorchError]) -> str:
    with pytest.raises(kind) as caught:
        opened(good, bundle)
    return str(caught.value)


def test_what_cannot_be_appraised(good: GoodRun) -> None:
    assert refusal(good, put(good.bundle, "attester", "snp"), PlatformError) == (
        "attester 'snp': this version appraises 'tdx'"
    )
    gpus = (GpuEvidence(evidence=b"e", chain=b"c"),)
    assert refusal(good, put(good.bundle, "begin.gpus", gpus), PlatformError) == (
        "GPU evidence: this version cannot appraise it, and leaves nothing unchecked"
    )
    assert refusal(good, good.sealed_begin("gpu", ({"cc": "on"},)), PlatformError) == (
        "GPU state in the begin statement, and no GPU evidence that vouches for it"
    )


def test_a_begin_statement_of_another_run(good: GoodRun) -> None:
    other: Any = "x" * 99
    assert refusal(good, good.sealed_begin("run_id", other), BindingError) == (
        f"run {good.bundle.run_id!r}, but the begin statement is of {other!r:.80}"
    )


def test_a_begin_statement_that_answers_another_request(good: GoodRun, tmp_path: Any) -> None:
    message = "the begin statement names another request than the one it travels with"
    for request in (None, Digest(SHA256, bytes(32))):
        assert refusal(good, good.sealed_begin("request", request), BindingError) == message
    free = workshop.make_good_run(tmp_path / "keys", challenge=None)
    assert opened(free, free.bundle).request is None
    answering = Digest(SHA256, free.bundle.challenge.nonce)
    assert refusal(free, free.sealed_begin("request", answering), BindingError) == message


def test_a_register_that_the_begin_statement_does_not_name(good: GoodRun) -> None:
    for register in ("11" * 48, None):
        assert refusal(good, good.sealed_begin("register", register), BindingError) == (
            "RTMR[3] of the begin quote is not the one the begin statement names"
        )
