"""Boot event logs: what is read, what is refused, and what they must replay to."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.cvm import eventlog, quote, simulated_quote
from palm_torch.errors import BindingError, EvidenceError
from tests.support import boot_log

Vectors = Callable[[str], bytes]

GUEST = "tdx/go-tdx-guest/ccel"
ZERO = bytes(48)
EVENTS = (
    boot_log.event(1, b"firmware volume"),
    boot_log.event(2, b"boot loader"),
    boot_log.event(2, b"kernel"),
    boot_log.event(3, b"command line", digest=hashlib.sha384(b"without its prefix").digest()),
    boot_log.event(4, b"only said", kind=eventlog.EV_NO_ACTION),
)


def register(*digests: bytes) -> bytes:
    value = ZERO
    for digest in digests:
        value = hashlib.sha384(value + digest).digest()
    return value


def measured(*data: bytes) -> bytes:
    return register(*(hashlib.sha384(item).digest() for item in data))


def report(**registers: bytes) -> quote.TdReport:
    made = simulated_quote.make_td_report(bytes(64))
    return quote.TdReport(**{name: getattr(made, name) for name in made.__slots__} | registers)


def test_a_log_of_a_real_guest_replays_to_all_registers_of_its_quote(vectors: Vectors) -> None:
    area = gzip.decompress(vectors(f"{GUEST}/ccel_data.dat.gz"))
    table = eventlog.parse_ccel_table(vectors(f"{GUEST}/ccel_table.dat"))
    log = eventlog.trim(area)
    events = eventlog.parse(log)
    quoted = quote.parse_quote(quote.canonical(vectors(f"{GUEST}/cos-113-tdx-quote.dat"))).td_report

    assert table.area_bytes == len(area)
    assert (len(log), len(events)) == (18_101, 43)
    assert eventlog.replay(events) == quoted.rt_mrs
    assert eventlog.check_boot_log(log, quoted) == ()
    assert quoted.report_data == vectors(f"{GUEST}/nonce.dat")


def test_data_is_vouched_for_only_where_the_digest_is_over_it(vectors: Vectors) -> None:
    events = eventlog.parse(eventlog.trim(gzip.decompress(vectors(f"{GUEST}/ccel_data.dat.gz"))))
    vouched = {event.type for event in events if event.data_is_measured}

    assert vouched == {0x80000001, 4, 0x80000006, 0x80000007, 0x800000E0}
    assert not any(event.data_is_measured for event in events if event.data.startswith(b"grub_cmd"))


def test_registers_follow_their_events() -> None:
    events = eventlog.parse(boot_log.log(EVENTS))

    assert [event.register for event in events] == [1, 2, 2, 3, 4]
    assert [event.data_is_measured for event in events] == [True, True, True, False, True]
    assert eventlog.replay(events) == (
        measured(b"firmware volume"),
        measured(b"boot loader", b"kernel"),
        register(hashlib.sha384(b"without its prefix").digest()),
        ZERO,
    )


def test_the_boot_s_own_extensions_of_the_runtime_register_are_handed_on() -> None:
    said = boot_log.event(4, b"only said", kind=eventlog.EV_NO_ACTION)
    log = boot_log.log([boot_log.event(4, b"application"), said])
    quoted = report(rtmr0=ZERO, rtmr1=ZERO, rtmr2=ZERO)

    assert eventlog.check_boot_log(log, quoted) == (hashlib.sha384(b"application").digest(),)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_image_register_is_compared(number: int) -> None:
    log = boot_log.log([])
    registers = {"rtmr0": ZERO, "rtmr1": ZERO, "rtmr2": ZERO}
    eventlog.check_boot_log(log, report(**registers))
    registers[f"rtmr{number}"] = b"\x01".ljust(48, b"\x00")

    with pytest.raises(BindingError, match=rf"RTMR\[{number}\] replays to 0000"):
        eventlog.check_boot_log(log, report(**registers))


def test_filler_is_cut_off() -> None:
    log = boot_log.log(EVENTS)

    assert eventlog.trim(log + b"\xff" * 100) == log
    assert eventlog.trim(log) == log


@pytest.mark.parametrize("tail", [b"\xff" * 8 + b"\x00", b"\xff" * 4 + b"\x01\xff", b"\xff\xff"])
def test_other_filler_is_refused(tail: bytes) -> None:
    with pytest.raises(EvidenceError, match="boot log: "):
        eventlog.trim(boot_log.log(EVENTS) + tail)


def test_a_log_with_its_filler_is_not_a_log() -> None:
    with pytest.raises(EvidenceError, match="expected a register 0 to 4, got 4294967295"):
        eventlog.parse(boot_log.log(EVENTS) + b"\xff" * 100)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (b"", "header register needs 4 bytes at 0, 0 are left"),
        (boot_log.header(register=2), "belongs to register 0 or 1"),
        (boot_log.header().replace(b"\x03\x00\x00\x00", b"\x04\x00\x00\x00", 1), "header type: expected 0x3"),
        (boot_log.header().replace(b"\x00Spec"[1:], b"Tpec"), "signature"),
        (boot_log.header()[:8] + b"\x01" + boot_log.header()[9:], "header digest: expected 0x0"),
        (boot_log.header(algorithm=0x000B), "digest algorithm: expected 0xc, got 0xb"),
        (boot_log.header(count=2), "number of digest algorithms: expected 0x1, got 0x2"),
        (boot_log.header()[:-1] + b"\x01" + b"v", "the header record ends at byte"),
        (boot_log.header() + EVENTS[0][:-1], "data needs 15 bytes"),
        (
            boot_log.header() + EVENTS[0].replace(b"\x01\x00\x00\x00\x0c", b"\x02\x00\x00\x00\x0c"),
            "number of d",
        ),
        (bytes((1 << 20) + 1), "expected at most 1048576 bytes, got 1048577"),
        (boot_log.header() + boot_log.event(1, b"") * 4097, "at most 4096 events"),
    ],
    ids=str,
)
def test_what_is_no_log_is_refused(log: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        eventlog.parse(log)


def test_vendor_data_and_either_number_of_the_first_record_are_read() -> None:
    assert (
        eventlog.parse(boot_log.header(register=0, vendor=b"vendor") + EVENTS[0])[0].data
        == b"firmware volume"
    )


def test_no_event_extends_what_was_measured_before_the_first() -> None:
    with pytest.raises(EvidenceError, match="MRTD"):
        eventlog.replay(eventlog.parse(boot_log.log([boot_log.event(0, b"late")])))


def test_the_runtime_register_must_be_explained() -> None:
    first, second = hashlib.sha384(b"1").digest(), hashlib.sha384(b"2").digest()

    eventlog.check_runtime_register(ZERO, [])
    eventlog.check_runtime_register(register(first, second), [first, second])
    with pytest.raises(BindingError, match="not zero, and no log explains it"):
        eventlog.check_runtime_register(register(first), [])
    for digests in ([second, first], [first], [first, second, second]):
        with pytest.raises(BindingError, match="its log replays to"):
            eventlog.check_runtime_register(register(first, second), digests)


@pytest.mark.parametrize("position", [0, 4, 8, 9, 36, 37, 38])
def test_every_byte_of_the_table_counts(position: int) -> None:
    table = bytearray(b"CCEL" + (56).to_bytes(4, "little") + bytes(28) + b"\x02" + bytes(19))
    table[9] = -sum(table) % 256
    assert eventlog.parse_ccel_table(bytes(table)).area_bytes == 0
    table[position] ^= 1

    with pytest.raises(EvidenceError, match="CCEL table"):
        eventlog.parse_ccel_table(bytes(table))


@pytest.mark.parametrize("change", [(36, 1), (37, 1), (38, 1), (4, 1)])
def test_a_right_check_sum_makes_no_right_table(change: tuple[int, int]) -> None:
    table = bytearray(b"CCEL" + (56).to_bytes(4, "little") + bytes(28) + b"\x02" + bytes(19))
    table[change[0]] ^= change[1]
    table[9] = -sum(table) % 256

    with pytest.raises(EvidenceError, match="CCEL table"):
        eventlog.parse_ccel_table(bytes(table))


@given(st.binary(max_size=200), st.integers(0, 400))
def test_bytes_of_any_kind_meet_one_error(junk: bytes, at: int) -> None:
    whole = boot_log.log(EVENTS)
    for data in (junk, whole[:at] + junk, whole[:at] + junk + whole[at:]):
        try:
            events = eventlog.parse(data)
        except EvidenceError:
            continue
        assert eventlog.trim(data) == data
        assert len(events) <= eventlog.MAX_EVENTS
