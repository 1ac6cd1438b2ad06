"""Laws of the bundle: decoding undoes encoding, and accepts nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from palm_torch import evidence, receipt, request
from palm_torch.dsse import Envelope, Signature
from palm_torch.encoding import encode_json
from palm_torch.errors import EvidenceError, PalmTorchError, RequestError
from palm_torch.evidence import (
    MEDIA_TYPE,
    Bundle,
    Challenge,
    GpuEndorsements,
    GpuEvidence,
    Opening,
    Phase,
    ReferenceManifest,
    Segment,
)
from palm_torch.properties import OPERATIONS
from palm_torch.receipt import Receipt
from palm_torch.request import Request

BYTES = st.binary(max_size=40)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
PHASES = st.builds(
    Phase,
    statement=BYTES,
    quote=BYTES,
    gpus=st.lists(st.builds(GpuEvidence, evidence=BYTES, chain=BYTES), max_size=2).map(tuple),
)
ENDORSEMENTS = st.tuples(
    st.lists(
        st.builds(ReferenceManifest, id=TEXT, xml=BYTES), max_size=2, unique_by=lambda item: item.xml
    ).map(tuple),
    *[st.lists(BYTES, max_size=2, unique=True).map(tuple)] * 2,
)
LOGS = st.lists(BYTES, max_size=3).map(tuple)
SESSIONS = {
    "attester": st.sampled_from(["tdx", "snp"]),
    "run_id": TEXT,
    "session_key": BYTES,
    "challenge": st.builds(
        Challenge,
        kind=st.sampled_from(["challenged", "unchallenged"]),
        nonce=st.binary(min_size=32, max_size=32),
    ),
    "register_log": st.lists(st.binary(min_size=48, max_size=48), max_size=2).map(tuple),
    "begin": PHASES,
    "collateral": st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
}
OPENINGS = st.builds(Opening, **SESSIONS)
ENVELOPES = st.builds(
    Envelope,
    payload=BYTES,
    payloadType=TEXT,
    signatures=st.tuples(
        st.builds(
            Signature,
            keyid=st.binary(min_size=32, max_size=32).map(bytes.hex),
            sig=st.binary(min_size=1, max_size=80),
        )
    ),
)
BUNDLES = st.builds(
    Bundle,
    media_type=st.just(MEDIA_TYPE),
    segments=st.lists(st.builds(Segment, session=OPENINGS, log=LOGS, receipt=ENVELOPES), max_size=2).map(
        tuple
    ),
    boot_log=st.none() | BYTES,
    log=LOGS,
    end=PHASES,
    timestamp=st.none() | BYTES,
    gpu_endorsements=st.none()
    | ENDORSEMENTS.filter(any).map(
        lambda parts: GpuEndorsements(rims=parts[0], ocsp=parts[1], crls=parts[2])
    ),
    **SESSIONS,
)
RECEIPTS = st.builds(Receipt, envelope=ENVELOPES, session=OPENINGS)
REQUESTS = st.builds(
    Request,
    type=st.just(request.TYPE),
    nonce=st.binary(min_size=32, max_size=32).map(bytes.hex),
    operation=st.sampled_from(OPERATIONS),
    roles=st.lists(TEXT.filter(lambda role: role.strip() and role.isprintable()), max_size=3).map(tuple),
    expires=st.none()
    | st.datetimes(min_value=request.parse_time("1970-01-01T00:00:00Z").replace(tzinfo=None)).map(
        lambda at: at.strftime(request.TIME_FORMAT)
    ),
)


@given(BUNDLES)
def test_a_bundle_there_and_back(bundle: Bundle) -> None:
    data = bundle.encode()
    assert evidence.decode(data) == bundle
    assert evidence.decode(data).encode() == data


@given(BUNDLES, st.data())
def test_a_changed_byte_is_refused_or_another_bundle(bundle: Bundle, data: st.DataObject) -> None:
    changed = bytearray(bundle.encode())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = evidence.decode(bytes(changed))
    except EvidenceError:
        return
    assert found != bundle
    assert found.encode() == changed


@given(BUNDLES, st.binary(min_size=1, max_size=3), st.booleans())
def test_nothing_stands_around_it(bundle: Bundle, more: bytes, before: bool) -> None:  # noqa: FBT001 (drawn)
    data = bundle.encode()
    try:
        evidence.decode(more + data if before else data + more)
    except EvidenceError:
        return
    raise AssertionError(more)


@given(REQUESTS)
def test_a_request_there_and_back(asked: Request) -> None:
    assert request.decode(asked.encode()) == asked
    assert request.decode(asked.encode()).encode() == asked.encode()


@given(st.binary(max_size=100) | st.recursive(st.none() | TEXT, st.lists).map(encode_json))
def test_any_bytes_raise_only_our_errors(data: bytes) -> None:
    for decode, error in ((evidence.decode, EvidenceError), (request.decode, RequestError)):
        try:
            decode(data)
        except PalmTorchError as refused:
            assert type(refused) is error  # noqa: PT017 (which class is the point)


@given(RECEIPTS)
def test_a_receipt_there_and_back(made: Receipt) -> None:
    data = made.encode()
    assert receipt.is_receipt(data)
    assert receipt.decode(data) == made
