"""Where fuzzing begins: good inputs for every group, made when they are needed, and a dictionary of words.

The keys of the simulated machine are drawn anew each time, so signatures differ from run to run; everything
else is the same.
"""

from __future__ import annotations

import dataclasses
import io
import json
import string
from typing import TYPE_CHECKING, Any, Final

import answers_at_hand
import nras
import numpy as np
import records_at_hand as at_hand
import relay
import stamping
import weights_at_hand
import workshop
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from palm_torch import codec, evidence, properties, receipt, roles, statement
from palm_torch.commit import (
    coverage,
    coverage_proof,
    manifest,
    merkle,
    opening_file,
    record_proof,
    salted,
    steps,
    weights_commitment,
    weights_opening,
)
from palm_torch.cvm import (
    certificate_bytes,
    collateral,
    gpu_certificate,
    gpu_names,
    quote,
    simulated_gpu,
    simulated_gpu_authority,
    simulated_quote,
    simulated_snp,
    snp_endorsements,
    timestamp,
)
from palm_torch.digest import SHA256, Digest
from palm_torch.encoding import encode_json
from palm_torch.policies import reference_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from workshop import GoodRun

LONGEST_READ: Final = 4096
"""How much of an input words are taken from, in bytes: further on there is base64."""
MODULES: Final = (
    evidence,
    receipt,
    statement,
    properties,
    roles,
    collateral,
    reference_values,
    manifest,
    opening_file,
    salted,
)
"""Modules whose dataclasses name the keys of our documents."""


def make(folder: Path) -> dict[str, dict[str, bytes]]:
    """Returns good inputs: group → name → bytes.

    Args:
        folder: An empty folder for keys and scratch files.
    """
    good = workshop.make_good_run(folder / "keys")
    run = relay.make_resumed_run(folder / "keys")
    endorsements = good.machine.collateral()
    crls = {name: endorsements.der(name) for name in ("root_ca_crl", "pck_crl")}
    pem = endorsements.pck_crl_issuer_chain.encode("ascii")
    quotes = _quotes(good)
    return {
        "encoding": {
            "json": encode_json({"a": [1, -2.5, 1e21, "é\n\U0001f600", None, True, {}], "b": {"": []}}),
            "base64": b"cGFsbS10b3JjaA==",
            "digest": b"sha256:" + b"0a" * 32,
            "number": b"-0.0000012345",
            "log": good.bundle.log[0],
        },
        "evidence": {
            "bundle": good.data,
            "resumed": run.data,
            "receipt": run.sessions[0].file.encode(),
            "bare": dataclasses.replace(good.bundle, log=(), collateral=None).encode(),
        },
        "statement": {
            "end": good.end.encode(),
            "begin": good.begin.encode(),
            "resumed-begin": run.bundle.begin.statement,
            **{session.opening.run_id[:8]: session.file.envelope.payload for session in run.sessions[:1]},
            "segment": run.bundle.segments[0].receipt.payload,
        },
        "der": {
            "certificate": good.machine.root_certificate(),
            **crls,
            "key": good.bundle.session_key,
            **dict(_stamps()),
        },
        "certificate": {
            "root": good.machine.root_certificate(),
            "pck": quote.parse_quote(good.bundle.end.quote).certificates[0],
            "pem": pem,
            "pem-one": certificate_bytes.encode_pem([good.machine.root_certificate()]),
            "key": good.bundle.session_key,
            **crls,
            **dict(_gpu_certificates()),
        },
        "quote": quotes,
        "collateral": {
            "whole": encode_json(codec.to_json(endorsements)),
            "tcb_info": endorsements.signed_text("tcb_info"),
            "qe_identity": endorsements.signed_text("qe_identity"),
        },
        "policy": {
            "policy": good.policy_text(),
            "hardware": good.policy_text(hardware=True),
            "request": good.request,
            **dict(_reference_values()),
        },
        "tokens": dict(_tokens()),
        "files": dict(_files(folder)),
        "proofs": dict(_proofs()),
        "traces": dict(_traces()),
        "answers": dict(_answers(run.sessions[0].file.envelope.payload)),
        "records": dict(_records()),
    }


def words(group: dict[str, bytes]) -> list[bytes]:
    """Returns the dictionary: names of fields, and short words that stand in the good inputs."""
    found = {b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"\x30\x82", b"null", b"true"}
    found |= {b'""', b"[]", b"{}", b":", b",", b"\\u0000", b"\\ud800", b"1e999", b"-0", b"9007199254740992"}
    for module in MODULES:
        for kind in vars(module).values():
            if dataclasses.is_dataclass(kind):
                found |= {field.name.encode("ascii") for field in dataclasses.fields(kind)}
    letters = set(string.ascii_letters.encode("ascii")) | set(b"_-/.:")
    for data in group.values():
        word = bytearray()
        for byte in data[:LONGEST_READ] + b" ":
            if byte in letters:
                word.append(byte)
            else:
                if 3 < len(word) < 40:
                    found.add(bytes(word))
                word.clear()
    return sorted(found)


def _quotes(good: GoodRun) -> dict[str, bytes]:
    version4 = good.bundle.end.quote
    body = version4[quote.HEADER_BYTES : quote.HEADER_BYTES + 584]
    rest = version4[quote.HEADER_BYTES + 584 :]
    header = (quote.VERSION_TD15).to_bytes(2, "little") + version4[2 : quote.HEADER_BYTES]
    return {
        "version4": version4,
        "version5-td10": header + b"\x02\x00" + (584).to_bytes(4, "little") + body + rest,
        "version5-td15": header + b"\x03\x00" + (648).to_bytes(4, "little") + body + bytes(64) + rest,
        "with-zeros": version4 + bytes(16),
        "bare": simulated_quote.sign_quote(
            good.machine._authority, simulated_quote.make_td_report(bytes(64))
        ),
        **dict(_snp()),
        "gpu": simulated_gpu.sign_report(
            simulated_gpu_authority.new_key(), simulated_gpu.make_report(bytes(32))
        ),
    }


def _answers(payload: bytes) -> Iterator[tuple[str, bytes]]:
    at_hand = answers_at_hand
    yield "query", at_hand.SALTS.opening("query", at_hand.QUERY).encode()
    yield "response", at_hand.SALTS.opening("response", at_hand.RESPONSE).encode()
    yield "salts", salted.SaltsFile(run_id="run", salts=(at_hand.SALTS,)).encode()
    yield "log", b"\n".join(at_hand.log())
    yield "account", encode_json(at_hand.account().to_value())
    issued = receipt.decode_content(payload).issued
    yield "receipt", receipt.encode_content(at_hand.receipt_of(issued))


def _gpu_certificates() -> Iterator[tuple[str, bytes]]:
    for architecture in gpu_names.ARCHITECTURES:
        made = simulated_gpu_authority.make_authority(workshop.NOW, count=1, architecture=architecture)
        (chip,) = made.chips
        yield f"gpu-{architecture}", gpu_certificate.split_chain(chip.chain)[0]
        yield f"gpu-{architecture}-chain", chip.chain


def _snp() -> Iterator[tuple[str, bytes]]:
    key = ec.generate_private_key(ec.SECP384R1())
    report = simulated_snp.report_on(bytes(64), bytes(64), report_id=bytes(32))
    yield "snp-2", simulated_snp.sign_report(key, dataclasses.replace(report, version=2, cpuid=None))
    yield "snp-3", simulated_snp.sign_report(key, report)
    mitigations = {"launch_mitigations": 1, "current_mitigations": 3}
    yield "snp-5", simulated_snp.sign_report(key, dataclasses.replace(report, version=5, **mitigations))
    contents = [bytes([number] * 40) for number in range(len(snp_endorsements.GUIDS))]
    at = snp_endorsements.ENTRY_BYTES * (len(contents) + 1)
    entries = (
        kind.bytes + (at + 40 * number).to_bytes(4, "little") + (40).to_bytes(4, "little")
        for number, kind in enumerate(snp_endorsements.GUIDS)
    )
    yield "snp-certificates", b"".join((*entries, bytes(snp_endorsements.ENTRY_BYTES), *contents))


def _stamps() -> Iterator[tuple[str, bytes]]:
    imprint = bytes(32)
    for kind in ("p256", "ed25519"):
        authority = stamping.make_authority(kind)
        yield f"token-{kind}", authority.token(imprint)
        yield (
            f"token-{kind}-whole-chain",
            authority.token(
                imprint, certificates=(authority.root, *reversed(authority.chain)), info={"accuracy": None}
            ),
        )
    query = timestamp.make_query(Digest(SHA256, imprint), b"nonce")
    yield "query", query
    yield "response", authority.respond(query)
    yield "info", authority.info(imprint)


def _reference_values() -> Iterator[tuple[str, bytes]]:
    values = reference_values.ReferenceValues(
        issuer="an authority",
        issued="2026-01-01T00:00:00Z",
        expires="2027-01-01T00:00:00Z",
        platform=reference_values.PlatformValues(
            tdx=reference_values.TdxValues(mr_td=("ab" * 48,), ppid=("cd" * 16,))
        ),
        code=reference_values.CodeValues(digests=(workshop.make_code().digest,)),
        claims=reference_values.ClaimValues(data=(at_hand.MANIFEST.digest,)),
    )
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    yield "values", values.encode()
    yield "signed-values", reference_values.sign(values, key=key)
    yield "key", key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _tokens() -> Iterator[tuple[str, bytes]]:
    service, claims = nras.known(), nras.gpu_claims()
    yield "bundle", encode_json(json.loads(service.bundle(claims)))
    yield "bundle-of-two", service.bundle(claims, nras.gpu_claims(nras.SERIALS[1]))
    yield "token", service.sign(claims).encode("ascii")
    yield "claims", encode_json(claims)
    yield "keys", encode_json({"keys": [service.jwk()]})


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    def content(name: str, write: Callable[[Path], Any]) -> tuple[str, bytes]:
        write(folder / name)
        return name, (folder / name).read_bytes()

    yield content("manifest", at_hand.write_manifest)
    yield content("coverage-1", lambda path: coverage.write_sidecar(path, bytes([1, 0, 3]), 1))
    yield content("coverage-2", lambda path: coverage.write_sidecar(path, b"\x00\x01\x02\x00", 2))
    yield content("coverage-4", lambda path: coverage.write_sidecar(path, b"\x00\x00\x01\x00", 4))
    shown = coverage.inclusion(bytes([1, 0, 3, *bytes(7)]), 1, 2)
    root = coverage.coverage_root(bytes([1, 0, 3, *bytes(7)]), 1)
    yield (
        "coverage-proof",
        coverage_proof.CoverageProof.of(
            shown, dataset="dataset1", manifest=at_hand.MANIFEST.digest, use="eval", root=root
        ).encode(),
    )
    proof = record_proof.Search(index=3).read(folder / "manifest")
    yield "record-proof", proof.encode() if proof is not None else b""
    yield content("safetensors", lambda path: at_hand.write_safetensors(path, at_hand.AFTER))
    listed = weights_commitment.commit(weights_at_hand.write(folder / "small", weights_at_hand.SMALL))
    yield "weights-list", listed.encode()
    for name, rows in (("a", (1, 3)), ("b", None), ("c", None)):
        read = weights_opening.read_block(folder / "small", name, rows=rows, like={"list": listed})
        yield f"weights-opening-{name}", read.opening().encode()
    yield "index", b'{"metadata":{},"weight_map":{"a":"file","b":"other.safetensors"}}'
    for name, array in {
        "rows": np.arange(12, dtype="<i4").reshape(3, 4),
        "flat": np.arange(6, dtype="<u2"),
        "bytes": np.zeros((2, 2, 2), np.uint8),
        "big-endian": np.arange(4, dtype=">f4"),
    }.items():
        stream = io.BytesIO()
        np.save(stream, array)
        yield f"npy-{name}", stream.getvalue()


def _records() -> Iterator[tuple[str, bytes]]:
    import fuzz_records

    for number, case in enumerate(fuzz_records.CASES):
        yield f"row-{number}", b"r" + bytes([number]) + bytes.fromhex(case["hex"])
    yield "lines", b'l{"a":1}\n[2]\r\n"text"\n'
    vectors = fuzz_records.VECTORS
    yield "sequences", b"i" + (vectors / "megatron" / "uint16.idx").read_bytes()
    yield "samples", b"m" + (vectors / "mds" / "plain" / "index.json").read_bytes()
    first = min((vectors / "mds" / "plain").glob("*.mds"))
    yield "sample-bytes", b"s" + first.read_bytes()


def _proofs() -> Iterator[tuple[str, bytes]]:
    import fuzz_proofs

    leaves, _ = fuzz_proofs.tree()
    log, last = fuzz_proofs.log(), fuzz_proofs.LEAVES
    for one, two in ((0, 0), (3, 20), (20, 20), (7, 8)):
        place = bytes([one, two])
        yield f"opening-{one}-{two}", b"\0" + place + merkle.open_positions(leaves, {one, two})
        yield f"inclusion-{one}-{two}", b"\1" + bytes([one, last]) + b"".join(log.inclusion_proof(one, last))
        yield f"consistency-{one}-{two}", b"\2" + place + b"".join(log.consistency_proof(one, two))
    state = bytes.fromhex(at_hand.MANIFEST.multiset.state)
    yield "state", b"\3" + bytes([2, 5]) + state
    for number, case in enumerate(fuzz_proofs.golden()):
        yield f"tree-opening-{number}", b"\5" + bytes([number, 0]) + bytes.fromhex(case["opening"])
    step = steps.Step(3, bytes(32), bytes([3]) * 32)
    yield "step", b"\6" + bytes([3, last]) + step.encode()
    yield "count", b"\4" + bytes([5, last]) + b"".join(bytes([n, 0, 0, 0]) for n in range(last))


def _traces() -> Iterator[tuple[str, bytes]]:
    import fuzz_traces

    for scheme in fuzz_traces.trace_schemes.SCHEMES:
        tree = fuzz_traces.made(scheme)
        yield f"context-{scheme}", tree.encoded
        yield f"opening-{scheme}", fuzz_traces.good(scheme).encode()
        asked = fuzz_traces.trace_question.ask(tree.context, fuzz_traces.Site("head"), channels=slice(0, 9))
        yield f"opening-head-{scheme}", tree.open(asked, "float32", 5000).encode()
    yield "audit-context", fuzz_traces.spec_audit.MADE.encoded
    yield "audit-request", fuzz_traces.spec_audit.REQUEST.encode()
    yield "audit-answer", fuzz_traces.spec_audit.ANSWER.encode()
