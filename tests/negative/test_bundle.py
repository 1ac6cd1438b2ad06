"""One good bundle and a table of what is done to it: each mutation is refused by its own error."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import pytest
from workshop import put

from palm_torch.cvm import simulated_quote
from palm_torch.digest import Digest, sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import (
    BindingError,
    ClaimError,
    EncodingError,
    EvidenceError,
    FreshnessError,
    InputError,
    PalmTorchError,
    PlatformError,
    SignatureError,
    TrustAnchorError,
)
from palm_torch.evidence import Bundle, GpuEndorsements, GpuEvidence, ReferenceManifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from workshop import GoodRun

FLIPS = 20_000 if os.environ.get("PALM_TORCH_THOROUGH") == "1" else 2_000
GPU = GpuEvidence(evidence=b"report", chain=b"chain")

# 1. Named mutations -------------------------------------------------------------------------------


def flip(data: bytes, at: int = 0) -> bytes:
    """Returns the bytes with one bit of the byte at an index flipped."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def end(path: str, new: Any) -> Callable[[GoodRun], Bundle]:
    return lambda good: good.with_end(put(good.end, path, new).encode())


def begin(path: str, new: Any) -> Callable[[GoodRun], Bundle]:
    return lambda good: good.with_begin(put(good.begin, path, new).encode())


def part(path: str, new: Any) -> Callable[[GoodRun], Bundle]:
    return lambda good: put(good.bundle, path, new)


def raw(old: bytes, new: bytes) -> Callable[[GoodRun], bytes]:
    def replaced(good: GoodRun) -> bytes:
        assert old in good.data
        return good.data.replace(old, new, 1)

    return replaced


LR = "claims.configuration.value.optimizers.0.groups.0.options.lr"

CASES: dict[str, tuple[Callable[[GoodRun], Bundle | bytes], type[PalmTorchError]]] = {
    # claims edited after sealing
    "a learning rate edited": (end(f"{LR}.greatest", 0.0002), BindingError),
    "a loss edited": (end("run.reported.loss.last", 0.125), BindingError),
    "a count edited": (end("claims.data.dataset1.uses.train.delivered", 30), BindingError),
    "a dataset renamed": (end("claims.data", lambda data: {"clean": data["dataset1"]}), BindingError),
    "an input dropped": (end("run.inputs", {}), BindingError),
    "the code replaced": (end("run.code.digest", Digest("palm-sha256", bytes(32))), BindingError),
    "a GPU disowned": (end("run.devices", ()), BindingError),
    "a seed at begin edited": (begin("seeds.value.torch", "cd" * 32), BindingError),
    "another register at begin": (begin("register", "01" * 48), BindingError),
    "another request at begin": (begin("request", sha256_digest(b"another")), BindingError),
    "a GPU state smuggled into the begin statement": (begin("gpu", ({"cc": "on"},)), BindingError),
    "begin and end statements exchanged": (
        lambda good: put(
            good.with_end(good.bundle.begin.statement), "begin.statement", good.bundle.end.statement
        ),
        EvidenceError,
    ),
    "an empty statement": (part("end.statement", b""), EvidenceError),
    # parts of the bundle
    "another run's name": (part("run_id", "00" * 16), BindingError),
    "another session key": (part("session_key", lambda key: flip(key, -1)), BindingError),
    "no session key": (part("session_key", b""), InputError),
    "challenged evidence called unchallenged": (part("challenge.kind", "unchallenged"), FreshnessError),
    "another nonce": (part("challenge.nonce", flip), FreshnessError),
    "another kind of platform": (part("attester", "snp"), EvidenceError),
    "a GPU's evidence": (part("end.gpus", (GPU,)), BindingError),
    "a GPU's evidence at begin": (part("begin.gpus", (GPU,)), BindingError),
    "endorsements of a GPU that is not there": (
        part(
            "gpu_endorsements",
            GpuEndorsements(rims=(ReferenceManifest(id="a", xml=b"<a/>"),), ocsp=(), crls=()),
        ),
        PlatformError,
    ),
    "no collateral": (part("collateral", None), EvidenceError),
    "half the collateral": (part("collateral", lambda found: {"tcb_info": found["tcb_info"]}), EvidenceError),
    "more than the collateral": (part("collateral.verdict", "UpToDate"), EvidenceError),
    "a log entry dropped": (part("log", lambda log: log[:-1]), BindingError),
    "a log entry dropped at the start": (part("log", lambda log: log[1:]), BindingError),
    "a log entry added": (
        part("log", lambda log: (*log, encode_json({"seq": 3, "type": "t", "payload": {}}))),
        BindingError,
    ),
    "log entries reordered": (part("log", lambda log: log[::-1]), BindingError),
    "a log entry edited": (part("log.1", lambda entry: entry.replace(b"1}", b"9}")), BindingError),
    "no log": (part("log", ()), BindingError),
    # quotes
    "begin and end quotes exchanged": (
        lambda good: put(
            put(good.bundle, "begin.quote", good.bundle.end.quote), "end.quote", good.bundle.begin.quote
        ),
        BindingError,
    ),
    "the begin quote twice": (
        lambda good: put(good.bundle, "end.quote", good.bundle.begin.quote),
        BindingError,
    ),
    "a quote's body": (part("end.quote", lambda quote: flip(quote, 200)), SignatureError),
    "a quote's version": (part("end.quote", lambda quote: flip(quote, 0)), EvidenceError),
    "a quote's signature": (part("end.quote", lambda quote: flip(quote, 640)), SignatureError),
    "a byte after a quote": (part("end.quote", lambda quote: quote + b"\0"), EvidenceError),
    "an empty quote": (part("begin.quote", b""), EvidenceError),
    "a quote that was never signed": (
        part("end.quote", lambda quote: quote[:636] + bytes(64) + quote[700:]),
        SignatureError,
    ),
    # collateral
    "another TCB": (
        part("collateral.tcb_info", lambda text: text.replace("UpToDate", "Revoked ", 1)),
        SignatureError,
    ),
    "another signature of the TCB": (part("collateral.tcb_info_signature", "00" * 64), SignatureError),
    "another enclave": (
        part("collateral.qe_identity", lambda text: text.replace('"isvsvn":4', '"isvsvn":3')),
        SignatureError,
    ),
    "a chain of another order": (
        part(
            "collateral.tcb_info_issuer_chain",
            lambda pem: "".join(
                block + "-----END CERTIFICATE-----\n" for block in reversed(certificates(pem))
            ),
        ),
        TrustAnchorError,
    ),
    "upper-case hex": (part("collateral.pck_crl", str.upper), EvidenceError),
    "no list of revocations": (part("collateral.root_ca_crl", ""), EncodingError),
    # the document itself
    "a key twice": (raw(b'{"attester":"tdx",', b'{"attester":"tdx","attester":"tdx",'), EvidenceError),
    "a key in another place": (raw(b'"attester":"tdx",', b""), EvidenceError),
    "an unknown key": (raw(b'{"attester":', b'{"affirmed":true,"attester":'), EvidenceError),
    "white space": (raw(b"{", b"{ "), EvidenceError),
    "NaN": (raw(b'"attester":"tdx"', b'"attester":NaN'), EvidenceError),
    "an escaped letter": (raw(b'"tdx"', b'"\\u0074dx"'), EvidenceError),
    "a later version": (raw(b"json;version=1", b"json;version=2"), EvidenceError),
    "a trailing line feed": (lambda good: good.data + b"\n", EvidenceError),
    "a byte order mark": (lambda good: b"\xef\xbb\xbf" + good.data, EvidenceError),
    "UTF-16": (lambda good: good.data.decode().encode("utf-16"), EvidenceError),
    "cut in the middle": (lambda good: good.data[: len(good.data) // 2], EvidenceError),
    "no bytes": (lambda _: b"", EvidenceError),
    "too many bytes": (lambda _: bytes((64 << 20) + 1), EvidenceError),
    "deep nesting": (lambda _: b"[" * 100_000, EvidenceError),
    "a huge number": (raw(b'"attester":"tdx"', b'"attester":' + b"9" * 100_000), EvidenceError),
    # sealed by the trusted domain itself, and still wrong
    "sealed: another MRTD": (
        lambda good: good.resealed(
            good.bundle, report=lambda report: dataclasses.replace(report, mr_td=bytes(48))
        ),
        PlatformError,
    ),
    "sealed: a debug domain": (
        lambda good: good.resealed(
            good.bundle, report=lambda report: dataclasses.replace(report, td_attributes=b"\1" + bytes(7))
        ),
        PlatformError,
    ),
    "sealed: a claim outside the policy": (lambda good: good.sealed_end("claims.steps.taken", 5), ClaimError),
    "sealed: a GPU's evidence": (
        lambda good: good.resealed(put(good.bundle, "end.gpus", (GPU,))),
        PlatformError,
    ),
    "sealed: a register that skips the log": (
        lambda good: good.resealed(
            good.bundle, phases=("end",), report=lambda report: dataclasses.replace(report, rtmr3=bytes(48))
        ),
        BindingError,
    ),
    "sealed: report data of 32 bytes and zeros": (
        lambda good: good.resealed(
            good.bundle,
            report=lambda report: dataclasses.replace(
                report, report_data=report.report_data[:32] + bytes(32)
            ),
        ),
        BindingError,
    ),
    "sealed: empty report data": (
        lambda good: good.resealed(
            good.bundle, report=lambda report: dataclasses.replace(report, report_data=bytes(64))
        ),
        BindingError,
    ),
}


def certificates(pem: str) -> list[str]:
    return pem.split("-----END CERTIFICATE-----\n")[:-1]


@pytest.mark.parametrize("name", CASES)
def test_each_mutation_is_refused_by_its_own_error(good: GoodRun, name: str) -> None:
    mutate, error = CASES[name]
    with pytest.raises(error) as caught:
        good.verify(mutate(good))
    assert type(caught.value) is error, caught.value
    assert str(caught.value)


def test_twin_a_mutation_that_changes_nothing_is_accepted(good: GoodRun) -> None:
    for untouched in (
        end("claims.steps.taken", good.end.claims.steps.taken)(good),
        begin("run_id", good.begin.run_id)(good),
        part("run_id", good.bundle.run_id)(good),
        raw(b"tdx", b"tdx")(good),
        good.resealed(good.bundle),
        good.resealed(good.bundle, phases=("end",)),
    ):
        assert good.verify(untouched).checks
    assert bytes(48) == simulated_quote.RTMR_ZERO
