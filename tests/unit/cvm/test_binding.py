"""Known answers of the binding, and what it refuses."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from palm_torch.cvm import binding, certificates, simulated_quote
from palm_torch.digest import tagged_hash
from palm_torch.encoding import length_prefixed
from palm_torch.errors import BindingError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

NONCE = bytes(range(32))
CLAIMS = b"\x11" * 32
CTX = bytes.fromhex("bffa5b40217bea962c6e3c4ffb01356bf117f9faa0379681b6da1f6df2a11e66")
GPU_HASH = bytes.fromhex("9b0051935f3c7e1da96b2731bdf2895aefc82e7f16b5b5b5924e1165916ad051")


def context(**changes: object) -> bytes:
    arguments: dict[str, object] = {
        "nonce": NONCE,
        "challenged": True,
        "run_id": "run-0",
        "phase": "end",
        "claims_root": CLAIMS,
    }
    return binding.context(**(arguments | changes))  # type: ignore[arg-type]


def test_known_answers() -> None:
    assert context() == CTX
    assert (
        binding.gpu_nonce(CTX, 0).hex() == "ce8df578edbf044f3e5fa58fddbc7688a7c2e6b15a512ccdff9ed20053ad8bd8"
    )
    assert (
        binding.gpu_nonce(CTX, 1).hex() == "70377771137e7a85857c285a7817334a45f267b2e8b0a5a8f342431780633546"
    )
    assert binding.gpu_hash([(b"EVIDENCE", b"CHAIN")]) == GPU_HASH
    assert binding.gpu_hash([]).hex() == "6e1227b6798d6b46f4e1a37505104db6098cec243913db6e5f2500a03eb7400e"
    assert binding.report_data(CTX, GPU_HASH).hex() == (
        "2d6b5b2fcecd4191313ae3d99ea8e8259889cb7c23aa92b2e643db770c3ead49"
        "0d589fa9c75efc752de3dcf8d0c6b61ef944fb58ea939e8a14e40255f51bf614"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": bytes(32)},
        {"nonce": NONCE + b"\x00"},
        {"challenged": False},
        {"run_id": "run-1"},
        {"phase": "begin"},
        {"claims_root": bytes(32)},
    ],
)
def test_every_part_of_the_context_counts(changes: dict[str, object]) -> None:
    assert context(**changes) != CTX


def test_fields_cannot_run_into_each_other() -> None:
    assert context(nonce=NONCE + b"r", run_id="un") != context(nonce=NONCE, run_id="run")
    assert binding.gpu_hash([(b"a", b"bc")]) != binding.gpu_hash([(b"ab", b"c")])
    assert binding.gpu_hash([(b"a", b"b"), (b"c", b"d")]) != binding.gpu_hash([(b"c", b"d"), (b"a", b"b")])


@pytest.mark.parametrize(
    "changes", [{"nonce": bytes(31)}, {"nonce": b""}, {"claims_root": bytes(31)}, {"claims_root": bytes(33)}]
)
def test_short_or_odd_parts_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        context(**changes)


def test_derived_values_want_whole_hashes() -> None:
    with pytest.raises(InputError, match="context: expected 32 bytes, got 31"):
        binding.gpu_nonce(CTX[:31], 0)
    with pytest.raises(InputError, match="GPU hash"):
        binding.report_data(CTX, b"")


def test_claims_roots_follow_their_formula() -> None:
    statement, spki, quote = b"statement", b"spki", b"quote"
    hashed = hashlib.sha256(statement).digest()
    assert binding.begin_claims_root(statement, spki) == tagged_hash("palm-torch/begin/v1", hashed, spki)
    assert binding.end_claims_root(statement, CLAIMS, 7, spki, quote) == tagged_hash(
        "palm-torch/end/v1",
        hashed,
        CLAIMS,
        (7).to_bytes(8, "big"),
        spki,
        hashlib.sha256(quote).digest(),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (b"", CLAIMS, 1, b"k", b"q"),
        (b"s", CLAIMS[1:], 1, b"k", b"q"),
        (b"s", CLAIMS, -1, b"k", b"q"),
        (b"s", CLAIMS, 1 << 63, b"k", b"q"),
        (b"s", CLAIMS, 1, b"", b"q"),
        (b"s", CLAIMS, 1, b"k", b""),
    ],
)
def test_end_needs_every_part(arguments: tuple[bytes, bytes, int, bytes, bytes]) -> None:
    with pytest.raises(InputError, match="expected"):
        binding.end_claims_root(*arguments)


@pytest.mark.parametrize("arguments", [(b"", b"k"), (b"s", b"")])
def test_begin_needs_every_part(arguments: tuple[bytes, bytes]) -> None:
    with pytest.raises(InputError, match="expected bytes, got none"):
        binding.begin_claims_root(*arguments)


def test_report_data_is_compared_whole() -> None:
    expected = binding.report_data(CTX, GPU_HASH)
    binding.check_report_data(expected, expected, what="end quote")
    for found in (expected[:32] + bytes(32), expected[:63] + b"\x00", expected[:32], b"", bytes(64)):
        with pytest.raises(BindingError, match="end quote: report data seals other claims"):
            binding.check_report_data(found, expected, what="end quote")
    with pytest.raises(BindingError):
        binding.check_report_data(b"", b"", what="end quote")


def test_the_worked_example_of_the_specification() -> None:
    page = (Path(__file__).parents[3] / "docs" / "spec" / "30-hardware.md").read_text(encoding="utf-8")
    spki = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004") + b"\x22" * 64
    begin = binding.begin_claims_root(b'{"begin":true}', spki)
    end = binding.end_claims_root(b'{"end":true}', b"\x33" * 32, 3, spki, b"QUOTE")
    first = context(phase="begin", claims_root=begin)
    last = context(claims_root=end)
    unchallenged = context(claims_root=end, challenged=False)
    values = [begin, first, end, last, unchallenged, binding.gpu_hash([])]
    values += [binding.report_data(ctx, binding.gpu_hash([])) for ctx in (first, last)]
    values += [getattr(simulated_quote, name) for name in ("MR_TD", "RTMR0", "RTMR1", "RTMR2", "MR_SEAM")]
    values += [certificates.INTEL_SGX_ROOT.certificate_sha256, certificates.INTEL_SGX_ROOT.spki_sha256]
    for value in values:
        assert f"`{value.hex()}`" in page


# the binding at its bounds: several GPUs, an empty log, and messages that name the part


HASH = b"\x11" * 32


def test_the_hash_of_several_gpus_follows_its_formula() -> None:
    gpus = [(b"one", b"chain"), (b"two", b""), (b"", b"three")]
    parts = b"".join(length_prefixed(part) for gpu in gpus for part in gpu)
    framed = b"palm-torch/gpu-ev/v1" + b"\x00\x00\x00\x03" + parts
    assert binding.gpu_hash(gpus) == hashlib.sha256(framed).digest()


def test_a_log_may_be_empty() -> None:
    roots = {binding.end_claims_root(b"s", HASH, size, b"k", b"q") for size in (0, 1, (1 << 63) - 1)}
    assert len(roots) == 3


def test_a_run_may_be_named_in_any_language() -> None:
    named = {
        binding.context(nonce=HASH, challenged=True, run_id=name, phase="end", claims_root=HASH)
        for name in ("laufen", "läufen", "Läufen")
    }
    assert len(named) == 3


REFUSED: dict[str, Callable[[], bytes]] = {
    "challenge nonce: expected at least 32 bytes, got 31": lambda: binding.context(
        nonce=HASH[:31], challenged=True, run_id="", phase="end", claims_root=HASH
    ),
    "claims root: expected 32 bytes, got 33": lambda: binding.context(
        nonce=HASH, challenged=True, run_id="", phase="end", claims_root=HASH + b"\x00"
    ),
    "context: expected 32 bytes, got 31": lambda: binding.report_data(HASH[:31], HASH),
    "GPU hash: expected 32 bytes, got 0": lambda: binding.report_data(HASH, b""),
    "begin statement: expected bytes, got none": lambda: binding.begin_claims_root(b"", b"k"),
    "session key: expected bytes, got none": lambda: binding.begin_claims_root(b"s", b""),
    "event log size: expected 0 to 2^63 - 1, got -1": lambda: binding.end_claims_root(
        b"s", HASH, -1, b"k", b"q"
    ),
    "statement: expected bytes, got none": lambda: binding.end_claims_root(b"", HASH, 0, b"k", b"q"),
    "event log root: expected 32 bytes, got 31": lambda: binding.end_claims_root(
        b"s", HASH[:31], 0, b"k", b"q"
    ),
    "session key: expected bytes, got none ": lambda: binding.end_claims_root(b"s", HASH, 0, b"", b"q"),
    "begin quote: expected bytes, got none": lambda: binding.end_claims_root(b"s", HASH, 0, b"k", b""),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_message_names_the_part(message: str) -> None:
    with pytest.raises(InputError) as caught:
        REFUSED[message]()
    assert str(caught.value) == message.rstrip()
