"""The machine's own trusted execution environment as an attester, on a model of the kernel."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boot_log
import pytest
from fake_kernel import DOORS, Machine, Td, booted, machine

from palm_torch.cvm import (
    eventlog,
    measurements,
    quote,
    simulated_snp,
    simulated_snp_authority,
    snp_endorsements,
    snp_report,
)
from palm_torch.cvm.hardware import SnpAttester, TdxAttester
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Vendor

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
ASKED = bytes(range(64))
ZERO = bytes(48)
DIGEST = b"\x01" * 48
EVENTS = [boot_log.event(1, b"firmware"), boot_log.event(2, b"kernel"), boot_log.event(3, b"command line")]
LOG = boot_log.log(EVENTS)
FILLER = b"\xff" * 1000


@pytest.fixture(params=DOORS)
def td(request: pytest.FixtureRequest, tmp_path: Path, vendor: Vendor) -> Iterator[Machine]:
    with machine(request.param, tmp_path) as made:
        made.kernel.report = Td(vendor.authority, made.kernel)
        yield made


@pytest.fixture(params=DOORS)
def snp(request: pytest.FixtureRequest, tmp_path: Path, chip: Chip) -> Iterator[Machine]:
    with machine(request.param, tmp_path, provider="sev_guest", register=None, report=chip.report) as made:
        yield made


def tdx_attester(made: Machine) -> TdxAttester:
    return TdxAttester(root=made.root, files=made.files, patience=made.patience)


def snp_attester(made: Machine) -> SnpAttester:
    return SnpAttester(root=made.root, files=made.files, patience=made.patience)


def boot(made: Machine, log: bytes = LOG, *, filler: bytes = FILLER) -> None:
    made.kernel.boot_log = log + filler
    registers = booted(log)
    made.kernel.register = registers.pop("rtmr3")
    made.kernel.report.boot = registers  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", [quote.VERSION_TD10, quote.VERSION_TD15])
@pytest.mark.parametrize("tail", [0, 70, 3065])
def test_a_tdx_machine_attests(td: Machine, vendor: Vendor, version: Any, tail: int) -> None:
    td.kernel.report = Td(vendor.authority, td.kernel, tail=bytes(tail), version=version)
    attester = tdx_attester(td)
    raw = attester.quote(ASKED)
    parsed = quote.parse_quote(raw)  # canonical: nothing follows it
    assert (parsed.version, parsed.td_report.report_data) == (version, ASKED)
    assert vendor.verify(raw).quote == parsed
    assert (attester.name, attester.platform, attester.simulated) == ("tdx", "tdx", False)
    assert attester.collateral() is None
    assert len(td.made) == 1
    attester.close()


def test_the_register_shows_in_the_quotes(td: Machine) -> None:
    attester = tdx_attester(td)
    assert attester.runtime_register == "rtmr3"
    assert attester.register() == ZERO
    attester.extend(DIGEST)
    extended = hashlib.sha384(ZERO + DIGEST).digest()
    assert attester.register() == quote.parse_quote(attester.quote(ASKED)).td_report.rtmr3 == extended
    assert attester.register_log() == ()
    attester.close()
    attester.close()
    later = tdx_attester(td)
    assert later.register_log() == (DIGEST,)
    assert later.register() == extended
    later.close()


def test_an_attester_that_nobody_used_holds_nothing(td: Machine) -> None:
    idle, first, second = (tdx_attester(td) for _ in range(3))
    first.quote(ASKED)
    with pytest.raises(AttesterError, match="one session at a time"):
        second.quote(ASKED)
    idle.close()
    first.close()
    second.quote(ASKED)
    second.close()


def test_a_closed_attester_is_done(td: Machine) -> None:
    attester = tdx_attester(td)
    attester.close()
    for operation in (
        attester.register,
        attester.register_log,
        lambda: attester.extend(DIGEST),
        lambda: attester.quote(ASKED),
    ):
        with pytest.raises(AttesterError, match="the attester is closed"):
            operation()
    assert td.made == []


@pytest.mark.parametrize("hidden", ["no file", "read only"])
def test_without_a_register_there_are_quotes_all_the_same(td: Machine, hidden: str) -> None:
    if hidden == "no file":
        td.kernel.register = None
    td.kernel.register_mode = 0o444
    attester = tdx_attester(td)
    assert (attester.runtime_register, attester.register(), attester.register_log()) == ("none", None, ())
    assert quote.parse_quote(attester.quote(ASKED)).td_report.rtmr3 == ZERO
    with pytest.raises(AttesterError, match=r"RTMR\[3\] cannot be extended here: needs Linux 6\.16"):
        attester.extend(DIGEST)
    attester.close()
    assert not (td.root / measurements.STATE).exists()


def test_who_may_not_extend_the_register_tells_who_did(td: Machine) -> None:
    first = tdx_attester(td)
    first.extend(DIGEST)
    first.close()
    td.kernel.register_mode = 0o444
    second = tdx_attester(td)
    assert second.register_log() == (DIGEST,)
    assert quote.parse_quote(second.quote(ASKED)).td_report.rtmr3 == td.kernel.register
    td.kernel.register = hashlib.sha384(b"foreign").digest()
    with pytest.raises(AttesterError, match=r"RTMR\[3\] of the quote: .*something else has extended it"):
        second.quote(ASKED)


def test_a_register_that_nothing_explains(td: Machine) -> None:
    td.kernel.register = hashlib.sha384(b"foreign").digest()
    td.kernel.register_mode = 0o444
    with pytest.raises(AttesterError, match="something else has extended it"):
        tdx_attester(td).quote(ASKED)
    td.kernel.register_mode = 0o644
    with pytest.raises(AttesterError, match="something else has extended it"):
        tdx_attester(td).quote(ASKED)


def test_a_register_extended_while_the_quote_is_made(td: Machine) -> None:
    def beside() -> None:
        td.kernel.register = hashlib.sha384((td.kernel.register or b"") + DIGEST).digest()

    td.kernel.before["read outblob"] = beside
    attester = tdx_attester(td)
    with pytest.raises(AttesterError, match=r"RTMR\[3\] of the quote"):
        attester.quote(ASKED)
    attester.close()
    assert len(td.made) == 1


@pytest.mark.parametrize("size", [0, 32, 65])
def test_report_data_has_64_bytes(td: Machine, size: int) -> None:
    attester = tdx_attester(td)
    with pytest.raises(AttesterError, match=f"expected 64 bytes, got {size}"):
        attester.quote(bytes(size))
    attester.close()
    assert td.made == []


FOREIGN = bytes(64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda make: make(FOREIGN), "the quote carries other report data than was asked for"),
        (lambda make: make(ASKED[:32] + bytes(32)), "the quote carries other report data"),
        (lambda make: make(ASKED)[:3000], "rejected: quote: .* needs bytes"),
        (lambda make: make(ASKED) + b"\x01", "rejected: quote: expected nothing but zeros"),
        (lambda _: b"\xd9" + bytes(9000), "rejected: quote: expected version"),
    ],
)
def test_quotes_that_are_none(td: Machine, change: Any, message: str) -> None:
    make = td.kernel.report
    td.kernel.report = lambda _: change(make)
    attester = tdx_attester(td)
    with pytest.raises(AttesterError, match=message):
        attester.quote(ASKED)
    attester.close()
    assert len(td.made) == 1


def test_another_machine_answers(td: Machine) -> None:
    td.kernel.provider = "sev_guest"
    attester = tdx_attester(td)
    with pytest.raises(AttesterError, match="expected the provider 'tdx_guest', got 'sev_guest'"):
        attester.quote(ASKED)
    attester.close()


def test_the_boot_log_comes_without_its_filler(td: Machine) -> None:
    boot(td)
    attester = tdx_attester(td)
    assert attester.boot_log() == LOG
    attester.quote(ASKED)
    attester.close()


def test_a_boot_that_extended_the_register(td: Machine) -> None:
    by_loader = hashlib.sha384(b"by the loader").digest()
    boot(td, boot_log.log([*EVENTS, boot_log.event(4, b"by the loader")]))
    first = tdx_attester(td)
    assert first.register_log() == (by_loader,)
    first.extend(DIGEST)
    first.quote(ASKED)
    first.close()
    second = tdx_attester(td)
    assert second.register_log() == (by_loader, DIGEST)
    eventlog.check_runtime_register(second.register() or b"", second.register_log())
    second.close()
    td.kernel.register_mode = 0o444
    beside = tdx_attester(td)
    assert beside.register_log() == (by_loader, DIGEST)
    assert quote.parse_quote(beside.quote(ASKED)).td_report.rtmr3 == td.kernel.register


@pytest.mark.parametrize(
    "events", [EVENTS[1:], EVENTS[::-1][1:], [*EVENTS, boot_log.event(2, b"another kernel")]]
)
def test_a_boot_log_of_another_boot(td: Machine, events: list[bytes]) -> None:
    boot(td)
    td.kernel.boot_log = boot_log.log(events) + FILLER
    attester = tdx_attester(td)
    with pytest.raises(AttesterError, match=r"would be rejected: boot log: RTMR\[\d\] replays to"):
        attester.quote(ASKED)
    attester.close()


@pytest.mark.parametrize(
    "area", [b"", FILLER, LOG + b"\xff" * 10 + b"\x00", LOG[:-1], b"\xff" * (1 << 20) + b"\xff"]
)
def test_boot_logs_that_do_not_parse(td: Machine, area: bytes) -> None:
    td.kernel.boot_log = area
    with pytest.raises(AttesterError, match="CCEL: boot log"):
        tdx_attester(td).boot_log()
    with pytest.raises(AttesterError, match="CCEL: boot log"):
        tdx_attester(td).quote(ASKED)
    assert td.made == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_boot_log_that_cannot_be_read_is_not_missing(td: Machine, code: int) -> None:
    boot(td)
    td.kernel.failures["open CCEL"] = [code]
    with pytest.raises(AttesterError, match=r"CCEL: the boot log is there but cannot be read: .*run as root"):
        tdx_attester(td).boot_log()


class Chip:
    """A simulated AMD processor as the firmware of a `FakeKernel`."""

    def __init__(self) -> None:
        self.authority = simulated_snp_authority.make_authority(NOW)

    def report(self, inblob: bytes) -> bytes:
        report = simulated_snp.make_report(self.authority, inblob, report_id=bytes(32))
        return simulated_snp.sign_report(self.authority.vcek_key, report)

    def table(self, *names: str) -> bytes:
        contents = dict(zip(("vcek", "ask", "ark"), self.authority.chain, strict=True))
        guids = {name: guid for guid, name in snp_endorsements.GUIDS.items()}
        entries, blobs = b"", b""
        start = 24 * (len(names) + 1)
        for name in names:
            size = len(contents[name])
            entries += guids[name].bytes
            entries += (start + len(blobs)).to_bytes(4, "little") + size.to_bytes(4, "little")
            blobs += contents[name]
        return (entries + bytes(24) + blobs).ljust(16_384, b"\x00")


@pytest.fixture(scope="session")
def chip() -> Chip:
    return Chip()


def test_an_snp_machine_attests(snp: Machine, chip: Chip) -> None:
    attester = snp_attester(snp)
    raw = attester.quote(ASKED)
    assert snp_report.parse_report(raw).report_data == ASKED
    assert attester.collateral() is None  # its host hands over no certificates
    snp.kernel.certificates = chip.table("vcek", "ask", "ark")
    attester.quote(ASKED)
    found = attester.collateral()
    assert found is not None
    assert found.chain() == tuple(chip.authority.chain)
    assert (attester.name, attester.platform, attester.simulated) == ("snp", "snp", False)
    assert len(snp.made) == 2


def test_an_snp_machine_has_no_register_and_no_boot_log(snp: Machine) -> None:
    attester = snp_attester(snp)
    assert (attester.runtime_register, attester.register_log()) == ("none", ())
    assert (attester.register(), attester.boot_log()) == (None, None)  # type: ignore[func-returns-value]
    with pytest.raises(AttesterError, match="has no runtime register to extend"):
        attester.extend(DIGEST)
    attester.close()
    attester.close()
    assert attester.quote(ASKED)


def test_certificates_come_after_a_report(snp: Machine) -> None:
    with pytest.raises(AttesterError, match="certificates come with a report, and none has been asked for"):
        snp_attester(snp).collateral()


def test_a_table_without_the_signers_certificate(snp: Machine, chip: Chip) -> None:
    snp.kernel.certificates = chip.table("ask", "ark")
    attester = snp_attester(snp)
    attester.quote(ASKED)
    assert attester.collateral() is None


def table_of(**contents: bytes) -> bytes:
    """Returns a certificate table with whatever contents."""
    guids = {name: guid for guid, name in snp_endorsements.GUIDS.items()}
    entries, blobs = b"", b""
    for name, content in contents.items():
        start = 24 * (len(contents) + 1) + len(blobs)
        entries += guids[name].bytes + start.to_bytes(4, "little") + len(content).to_bytes(4, "little")
        blobs += content
    return entries + bytes(24) + blobs


USELESS = {
    "no table": lambda _: b"\x01" * 100,
    "no leaf": lambda _: table_of(vcek=b"oops"),
    "too long": lambda _: table_of(vcek=bytes(26_000)),
    "no issuer": lambda chip: table_of(vcek=chip.authority.chain[0], ask=b"oops"),
    "no list": lambda chip: table_of(vcek=chip.authority.chain[0], crl=b"oops"),
}


@pytest.mark.parametrize("change", USELESS.values(), ids=USELESS)
def test_a_hostile_table_is_known_before_a_run_and_does_not_end_it(
    snp: Machine, chip: Chip, change: Any
) -> None:
    snp.kernel.certificates = change(chip)
    attester = snp_attester(snp)
    with pytest.raises(AttesterError, match=r"snp: certificate table of the host: .*, or none$"):
        attester.quote(ASKED)
    with pytest.raises(AttesterError, match="none has been asked for"):
        attester.collateral()
    snp.kernel.certificates = b""
    attester.quote(ASKED)
    snp.kernel.certificates = change(chip)
    attester.quote(ASKED)
    assert attester.collateral() is None
    snp.kernel.certificates = chip.table("vcek", "ask", "ark")
    attester.quote(ASKED)
    found = attester.collateral()
    for later in (change(chip), b"", chip.table("ask")):  # what the first report of the same key brought
        snp.kernel.certificates = later
        attester.quote(ASKED)
        assert attester.collateral() == found is not None


def test_a_table_that_was_right_for_another_key_is_not_kept(snp: Machine, chip: Chip) -> None:
    snp.kernel.certificates = chip.table("vcek", "ask", "ark")
    attester = snp_attester(snp)
    attester.quote(ASKED)
    updated = dataclasses.replace(simulated_snp_authority.TCB, microcode=116)

    def after_update(inblob: bytes) -> bytes:
        report = simulated_snp.make_report(chip.authority, inblob, report_id=bytes(32))
        return simulated_snp.sign_report(
            chip.authority.vcek_key, dataclasses.replace(report, reported_tcb=updated)
        )

    snp.kernel.report = after_update
    attester.quote(ASKED)  # the host still hands over the certificate of the earlier firmware
    assert attester.collateral() is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda make: make(FOREIGN), "the quote carries other report data than was asked for"),
        (lambda make: make(ASKED)[:-1], "rejected: .*1184"),
        (lambda make: make(ASKED) + b"\x00", "rejected: .*1184"),
    ],
)
def test_reports_that_are_none(snp: Machine, change: Any, message: str) -> None:
    make = snp.kernel.report
    snp.kernel.report = lambda _: change(make)
    attester = snp_attester(snp)
    with pytest.raises(AttesterError, match=message):
        attester.quote(ASKED)
    assert len(snp.made) == 1
