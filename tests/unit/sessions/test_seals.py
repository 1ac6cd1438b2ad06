"""What two quotes seal: log entries of one form, and a register that follows from them."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import booted as machines
import pytest
import workshop
from workshop import NOW, extended, put

from palm_torch.cvm import collateral, platforms, simulated_quote, tdx
from palm_torch.digest import SHA256, Digest, sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import BindingError, EvidenceError, PalmTorchError
from palm_torch.evidence import GpuEvidence
from palm_torch.sessions import seals

if TYPE_CHECKING:
    from booted import BootedRun
    from relay import ResumedRun
    from snp_run import SnpRun
    from workshop import GoodRun

    from palm_torch import statement
    from palm_torch.cvm.platforms import Verified
    from palm_torch.evidence import Bundle


def entry(seq: Any, **changes: Any) -> bytes:
    return encode_json({"seq": seq, "type": "epoch", "payload": {"number": 1}, **changes})


def quote_of(good: GoodRun, raw: bytes) -> tdx.VerifiedQuote:
    assert good.bundle.collateral is not None
    endorsements = collateral.from_json(dict(good.bundle.collateral))
    return tdx.verify_quote(
        raw, endorsements, anchors=(good.policy().platform.requirements().anchor("tdx"),), now=NOW
    )


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
    start = quote_of(good, good.bundle.begin.quote).runtime_register
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
        anchors=(good.policy().platform.requirements().anchor("tdx"),),
        now=NOW,
    )
    begin = seals.read_begin(bundle.opening)
    seals.check_begin(bundle.opening, begin, quote)
    return begin


def refusal(good: GoodRun, bundle: Bundle, kind: type[PalmTorchError]) -> str:
    with pytest.raises(kind) as caught:
        opened(good, bundle)
    return str(caught.value)


def test_evidence_of_gpus_is_sealed(good: GoodRun) -> None:
    gpus = (GpuEvidence(evidence=b"e", chain=b"c"),)
    said = refusal(good, put(good.bundle, "begin.gpus", gpus), BindingError)
    assert said.startswith("begin quote: report data seals other claims")


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
    assert refusal(good, good.sealed_begin("register", "11" * 48), BindingError) == (
        "RTMR[3] of the begin quote is not the one the begin statement names"
    )


def test_a_session_that_cannot_extend_the_register_names_none(good: GoodRun) -> None:
    assert opened(good, good.sealed_begin("register", None)).register is None


# GPU evidence: what travels with a quote is under its report data


def test_a_quote_seals_the_gpu_evidence_that_travels_with_it(good: GoodRun) -> None:
    gpus = (GpuEvidence(evidence=b"e", chain=b"c"),)
    bundle = good.resealed(put(put(good.bundle, "begin.gpus", gpus), "end.gpus", gpus))
    begin, end = quotes_of(good, bundle)
    seals.check_begin(bundle.opening, good.begin, begin)
    seals.check_end(bundle, end)
    for other in ((), (GpuEvidence(evidence=b"e", chain=b"d"),)):
        with pytest.raises(BindingError, match=r"^begin quote: report data"):
            seals.check_begin(put(bundle, "begin.gpus", other).opening, good.begin, begin)
        with pytest.raises(BindingError, match=r"^end quote: report data"):
            seals.check_end(put(bundle, "end.gpus", other), end)


# The runtime register, on machines that have one and on others


def quotes_of(run: GoodRun, bundle: Bundle) -> tuple[Verified, Verified]:
    """Returns both quotes of a bundle, of whatever kind of machine, verified."""
    assert bundle.collateral is not None
    kind = bundle.attester
    endorsements = platforms.read_endorsements(kind, bundle.collateral)
    requirements = run.policy().platform.requirements()
    begin, end = (
        platforms.verify(kind, part.quote, endorsements, requirements=requirements, now=NOW)
        for part in (bundle.begin, bundle.end)
    )
    return begin, end


def test_a_register_that_replays(good: GoodRun) -> None:
    said = seals.check_log(good.bundle, good.begin, quotes_of(good, good.bundle))
    assert said == "3 entries in order, RTMR[3] replays"


def test_a_register_that_went_another_way(good: GoodRun) -> None:
    shorter = put(good.bundle, "log", good.bundle.log[:-1])
    for bundle, moved in ((good.bundle, shorter), (shorter, good.bundle)):
        quotes = quotes_of(good, good.resealed(bundle, register_of=moved))
        with pytest.raises(BindingError) as caught:
            seals.check_log(bundle, good.begin, quotes)
        assert str(caught.value) == (
            "RTMR[3] of the end quote does not follow from its value at begin and the event log"
        )


def test_a_register_that_the_session_could_not_extend(good: GoodRun) -> None:
    """It has to stay as it was; following the log it could not be extended with is a change too."""
    begin = put(good.begin, "register", None)
    still = put(good.bundle, "log", ())
    quotes = quotes_of(good, good.resealed(good.bundle, register_of=still))
    assert seals.check_log(good.bundle, begin, quotes) == (
        "3 entries in order, their root sealed; the session could not extend RTMR[3], which stayed as it was"
    )
    with pytest.raises(BindingError) as caught:
        seals.check_log(good.bundle, begin, quotes_of(good, good.bundle))
    assert str(caught.value) == "RTMR[3] changed during a session that could not extend it"


def test_a_machine_without_a_register(guest: SnpRun) -> None:
    quotes = quotes_of(guest, guest.bundle)
    seals.check_begin(guest.bundle.opening, guest.begin, quotes[0])
    assert seals.check_log(guest.bundle, guest.begin, quotes) == (
        "3 entries in order, their root sealed; a machine of this kind has no runtime register"
    )
    with pytest.raises(EvidenceError, match=r"^log entry 0: "):
        seals.check_log(put(guest.bundle, "log", (b"null",)), guest.begin, quotes)


@pytest.mark.parametrize(("named", "log"), [("00" * 48, ()), (None, (bytes(48),)), ("00" * 48, (bytes(48),))])
def test_a_register_is_spoken_of_where_there_is_none(
    guest: SnpRun, named: str | None, log: tuple[bytes, ...]
) -> None:
    bundle = put(guest.sealed_begin("register", named), "register_log", log)
    begin, quote = seals.read_begin(bundle.opening), quotes_of(guest, bundle)[0]
    with pytest.raises(BindingError) as caught:
        seals.check_begin(bundle.opening, begin, quote)
    assert str(caught.value) == "a runtime register is spoken of, but a machine of this kind has none"


# The boot log: the one that the session saw, and the registers that it leads to


def test_a_boot_log_that_leads_to_both_quotes(booted: BootedRun, good: GoodRun) -> None:
    bundle = booted.bundle
    assert bundle.boot_log == machines.LOG
    assert bundle.register_log[: len(machines.BY_BOOT)] == machines.BY_BOOT != ()
    seals.check_boot_log(bundle, booted.begin, quotes_of(booted, bundle))
    assert (good.bundle.boot_log, good.begin.boot_log) == (None, None)
    seals.check_boot_log(good.bundle, good.begin, quotes_of(good, good.bundle))


def test_another_boot_log_than_the_session_saw(booted: BootedRun) -> None:
    quotes = quotes_of(booted, booted.bundle)
    unnamed = put(booted.begin, "boot_log", None)
    for begin, log in ((booted.begin, None), (booted.begin, machines.LOG + b"x"), (unnamed, machines.LOG)):
        with pytest.raises(BindingError) as caught:
            seals.check_boot_log(put(booted.bundle, "boot_log", log), begin, quotes)
        assert str(caught.value) == (
            "the begin statement names another boot log than the one it travels with"
        )


@pytest.mark.parametrize("phase", ["begin", "end"])
def test_a_boot_log_that_leads_elsewhere_than_one_of_the_quotes(booted: BootedRun, phase: Any) -> None:
    bent = booted.resealed(
        booted.bundle, phases=(phase,), report=lambda made: dataclasses.replace(made, rtmr1=bytes(48))
    )
    with pytest.raises(BindingError) as caught:
        seals.check_boot_log(bent, booted.begin, quotes_of(booted, bent))
    assert str(caught.value) == (
        f"boot log: RTMR[1] replays to {machines.REGISTERS['rtmr1'].hex()}, the quote says {'00' * 48}"
    )


def test_a_register_log_begins_with_what_the_boot_extended(booted: BootedRun) -> None:
    quotes = quotes_of(booted, booted.bundle)
    first, *rest = booted.bundle.register_log
    assert (first,) == machines.BY_BOOT
    for log in ((), tuple(rest), (*rest, first), (simulated_quote.RTMR_ZERO, *rest)):
        with pytest.raises(BindingError) as caught:
            seals.check_boot_log(put(booted.bundle, "register_log", log), booted.begin, quotes)
        assert str(caught.value) == (
            "the register log does not begin with what the boot extended RTMR[3] with"
        )


def test_a_boot_log_of_a_machine_without_registers(guest: SnpRun) -> None:
    begin = put(guest.begin, "boot_log", sha256_digest(machines.LOG))
    with pytest.raises(BindingError) as caught:
        seals.check_boot_log(
            put(guest.bundle, "boot_log", machines.LOG), begin, quotes_of(guest, guest.bundle)
        )
    assert str(caught.value) == (
        "a boot log, but a machine of this kind has no registers that it could lead to"
    )
