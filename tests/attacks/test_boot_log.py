"""Attack: registers with a story that does not lead to them."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import boot_log
import booted as machines
import pytest
from workshop import put

from palm_torch.cvm import eventlog, quote
from palm_torch.digest import sha256_digest
from palm_torch.errors import BindingError, EvidenceError, PalmTorchError

if TYPE_CHECKING:
    from booted import BootedRun
    from snp_run import SnpRun
    from workshop import GoodRun

Vectors = Callable[[str], bytes]
Machine = tuple[bytes, quote.TdReport]

GUEST = "tdx/go-tdx-guest/ccel"
ZERO = bytes(48)


@pytest.fixture
def machine(vectors: Vectors) -> Machine:
    """Returns a real guest's boot log, and the report of its quote."""
    log = eventlog.trim(gzip.decompress(vectors(f"{GUEST}/ccel_data.dat.gz")))
    quoted = quote.parse_quote(quote.canonical(vectors(f"{GUEST}/cos-113-tdx-quote.dat"))).td_report
    return log, quoted


def records(log: bytes) -> list[bytes]:
    """Cuts a log into its records, the header first."""
    sizes = [66 + len(event.data) for event in eventlog.parse(log)]
    cuts = [len(log) - sum(sizes[place:]) for place in range(len(sizes) + 1)]
    return [log[: cuts[0]], *(log[start:end] for start, end in itertools.pairwise(cuts))]


def test_attack_16_the_log_of_a_guest_replays_only_as_it_was_written(machine: Machine) -> None:
    log, quoted = machine
    assert eventlog.check_boot_log(log, quoted) == ()
    header, *events = records(log)
    assert b"".join([header, *events]) == log

    for place in range(len(events)):
        left_out = [*events[:place], *events[place + 1 :]]
        twice = [*events[:place], events[place], *events[place:]]
        for changed in (left_out, twice):
            with pytest.raises(BindingError, match="replays to"):
                eventlog.check_boot_log(b"".join([header, *changed]), quoted)


def test_attack_16_events_of_one_register_cannot_change_places(machine: Machine) -> None:
    log, quoted = machine
    header, *events = records(log)
    swapped = 0
    for place in range(len(events) - 1):
        first, second = events[place : place + 2]
        changed = b"".join([header, *events[:place], second, first, *events[place + 2 :]])
        digests_differ = first[14:62] != second[14:62]
        if first[:4] == second[:4] and digests_differ:
            swapped += 1
            with pytest.raises(BindingError, match="replays to"):
                eventlog.check_boot_log(changed, quoted)
    assert swapped > 20


def test_attack_16_no_bit_of_a_digest_register_or_length_can_change(machine: Machine) -> None:
    log, quoted = machine
    header, *events = records(log)
    start = len(header)
    tried = 0
    for event in events:
        for position in (*range(4), *range(8, 66)):
            for bit in (0, 7):
                changed = bytearray(log)
                changed[start + position] ^= 1 << bit
                with pytest.raises((BindingError, EvidenceError)):
                    eventlog.check_boot_log(bytes(changed), quoted)
                tried += 1
        start += len(event)
    assert tried == len(events) * 62 * 2


def test_attack_16_a_runtime_register_that_no_log_explains(vectors: Vectors) -> None:
    raw = bytes.fromhex(vectors("tdx/dcap-qvl/tdx-quote.hex").decode().strip().removeprefix("0x"))
    runtime = quote.parse_quote(quote.canonical(raw)).td_report.rtmr3

    assert runtime != ZERO
    with pytest.raises(BindingError, match="no log explains it"):
        eventlog.check_runtime_register(runtime, [])


def test_attack_16_a_log_of_another_guest(machine: Machine, vectors: Vectors) -> None:
    log, _ = machine
    other = quote.parse_quote(quote.canonical(vectors("tdx/dcap-qvl/tdx_quote"))).td_report

    with pytest.raises(PalmTorchError, match=r"RTMR\[0\] replays to"):
        eventlog.check_boot_log(log, other)


# A session vouches for the wrong log --------------------------------------------------------------


def test_attack_16_a_session_that_vouches_for_another_boot(booted: BootedRun) -> None:
    """The program names the log and the hardware seals that; the registers know better."""
    assert booted.verify(booted.with_boot_log(machines.LOG)).checks
    *image, by_loader = machines.EVENTS
    for number, event in enumerate(image):
        others = [boot_log.event(number + 1, b"another") if item is event else item for item in image]
        with pytest.raises(BindingError, match=rf"boot log: RTMR\[{number}\] replays to"):
            booted.verify(booted.with_boot_log(boot_log.log([*others, by_loader])))
    for log in (boot_log.log([]), boot_log.log([by_loader])):
        with pytest.raises(BindingError, match=r"boot log: RTMR\[0\] replays to"):
            booted.verify(booted.with_boot_log(log))
    for log in (b"", machines.LOG[:-1], machines.LOG + b"\xff"):
        with pytest.raises(EvidenceError, match="boot log: "):
            booted.verify(booted.with_boot_log(log))


def test_attack_16_what_the_boot_did_to_the_runtime_register_is_told_by_its_log(booted: BootedRun) -> None:
    *image, by_loader = machines.EVENTS
    said = "the register log does not begin with what the boot extended"
    for runtime in ([by_loader, by_loader], [boot_log.event(4, b"something else")]):
        with pytest.raises(BindingError, match=said):
            booted.verify(booted.with_boot_log(boot_log.log([*image, *runtime])))
    without = put(booted.bundle, "register_log", booted.bundle.register_log[1:])
    with pytest.raises(BindingError, match=r"begin quote is not the one the begin statement names"):
        booted.verify(booted.resealed(without))


def test_attack_16_the_log_of_a_boot_that_the_begin_statement_does_not_name(booted: BootedRun) -> None:
    said = "names another boot log than the one it travels with"
    for log in (None, b"", boot_log.log([])):
        with pytest.raises(BindingError, match=said):
            booted.verify(put(booted.bundle, "boot_log", log))
    unnamed = booted.resealed(booted.with_begin(put(booted.begin, "boot_log", None).encode()))
    with pytest.raises(BindingError, match=said):
        booted.verify(unnamed)
    assert booted.verify(put(unnamed, "boot_log", None)).checks  # a machine may have none


def test_attack_16_an_earlier_session_that_the_register_knows_of_is_left_out(good: GoodRun) -> None:
    for log, said in (
        ((), "is not zero, and no log explains it"),
        ((bytes(48),), "its log replays to"),
        ((*good.bundle.register_log, bytes(48)), "its log replays to"),
    ):
        with pytest.raises(BindingError, match=said):
            good.verify(put(good.bundle, "register_log", log))


def test_attack_16_a_machine_without_registers_has_no_logs(guest: SnpRun) -> None:
    named = put(guest.begin, "boot_log", sha256_digest(machines.LOG))
    logged = put(guest.with_begin(named.encode()), "boot_log", machines.LOG)
    with pytest.raises(BindingError, match="a machine of this kind has no registers that it could lead to"):
        guest.verify(guest.resealed(logged))
    with pytest.raises(BindingError, match="a runtime register is spoken of"):
        guest.verify(guest.resealed(put(guest.bundle, "register_log", (bytes(48),))))
