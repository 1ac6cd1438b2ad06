"""Checkpoints that must not be believed: edited, truncated, foreign, unsigned, or asked for somebody else."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import loops
import pytest
import torch
import workshop
from cryptography.hazmat.primitives.asymmetric import ec
from resumable import Killed, finished, opened, saved

from palm_torch import dsse, evidence, receipt
from palm_torch.attesting import checkpoint, resuming, segment_state
from palm_torch.attesting.attested import attested
from palm_torch.attesting.gpus import SessionGpus
from palm_torch.attesting.sealing import Sealer
from palm_torch.cvm import simulated, simulated_quote
from palm_torch.digest import sha256_digest
from palm_torch.encoding import decode_base64, encode_base64, encode_json
from palm_torch.errors import (
    EvidenceError,
    FreshnessError,
    PalmTorchError,
    PlatformError,
    RejectedError,
    SealError,
    SessionError,
    SignatureError,
    TrustAnchorError,
)
from palm_torch.roles import Artifact, Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from palm_torch.attesting.checkpoint import Checkpoint
    from palm_torch.evidence import Opening

pytestmark = pytest.mark.usefixtures("fresh_process")


@pytest.fixture(scope="module")
def file(data: Path) -> bytes:
    """A checkpoint of a session that had itself been resumed."""
    return saved(data, steps=1, resume=saved(data, steps=2))


@pytest.fixture
def state(file: bytes) -> dict[str, Any]:
    found: dict[str, Any] = opened(file)["palm"]
    return found


@pytest.fixture(scope="module")
def here() -> tuple[simulated.SimulatedTdx, Opening]:
    """This machine, and a session that it has just opened."""
    machine = simulated.SimulatedTdx()
    sealer = Sealer(machine, nonce=None)
    sealer.begin(workshop.make_begin(sealer.run_id, sealer.register() or "", None).encode())
    return machine, sealer.opening()


def believe(state: Any, here: tuple[simulated.SimulatedTdx, Opening]) -> Checkpoint:
    """Does what a session does with a checkpoint before it trains."""
    machine, own = here
    found = checkpoint.from_tensors(state)
    chain = resuming.chain_of(found, own)
    resuming.check_chain(chain, own, attester=machine, gpus=SessionGpus(), at=datetime.now(UTC))
    return found


def text(state: dict[str, Any], name: str) -> Any:
    return json.loads(bytes(state[name].numpy()))


def tensor(value: Any) -> torch.Tensor:
    return torch.frombuffer(bytearray(encode_json(value)), dtype=torch.uint8)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path to every value that is not a container, and to every empty one."""
    if isinstance(value, (dict, list)) and value:
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    else:
        yield path


def changed(value: Any, path: tuple[Any, ...]) -> Any:
    """Returns a deep copy with the leaf at a path changed to another value of its type."""
    value = json.loads(json.dumps(value))
    part = value
    for key in path[:-1]:
        part = part[key]
    old = part[path[-1]]
    if isinstance(old, bool):
        new: Any = not old
    elif isinstance(old, (int, float)):
        new = old + 1
    elif isinstance(old, str):
        new = _other(old)
    else:
        new = 0 if old is None else None
    part[path[-1]] = new
    return value


def _other(old: str) -> str:
    at = len(old) // 2
    return old[:at] + ("1" if old[at : at + 1] == "0" else "0") + old[at + 1 :]


def one_of_each(value: Any) -> list[tuple[Any, ...]]:
    """Returns one path to every field of every type, whichever item of a list it is in."""
    found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for path in leaves(value):
        found.setdefault(tuple("*" if isinstance(key, int) else key for key in path), path)
    return list(found.values())


def resigned(state: dict[str, Any], path: tuple[Any, ...], key: Any = None) -> dict[str, Any]:
    """Returns a checkpoint whose receipt has one field changed; signed by another key, or not at all."""
    envelope = text(state, "receipt")
    payload = encode_json(changed(json.loads(decode_base64(envelope["payload"], what="receipt")), path))
    if key is not None:
        return {
            **state,
            "receipt": tensor(dsse.sign(payload, payload_type=dsse.IN_TOTO_PAYLOAD, key=key).to_json()),
        }
    return {**state, "receipt": tensor({**envelope, "payload": encode_base64(payload)})}


# As it is -----------------------------------------------------------------------------------------------


def test_twin_as_it_was_saved_it_is_believed(state: dict[str, Any], here: Any) -> None:
    assert believe(state, here).state.training.with_gradients == 3


def test_nothing_in_it_is_secret(state: dict[str, Any]) -> None:
    everything = b"".join(bytes(item.numpy()) for item in state.values() if isinstance(item, torch.Tensor))
    assert b"PRIVATE" not in everything
    assert {type(item) for item in state.values()} == {torch.Tensor, int}


# Edited -------------------------------------------------------------------------------------------------


def test_every_field_of_the_state_counts(state: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    document = text(state, "state")
    paths = one_of_each(document)
    assert len(paths) > 80
    decoded_once = functools.cache(receipt.decode_content)  # the receipt is the same in all
    monkeypatch.setattr(receipt, "decode_content", decoded_once)
    for path in paths:
        with pytest.raises(EvidenceError, match="edited, or belongs to another"):
            checkpoint.from_tensors({**state, "state": tensor(changed(document, path))})


def test_every_field_of_the_receipt_counts(state: dict[str, Any], here: Any) -> None:
    payload = json.loads(checkpoint.from_tensors(state).envelope.payload)
    for path in one_of_each(payload):
        with pytest.raises((EvidenceError, RejectedError)):
            believe(resigned(state, path), here)


def test_edited_state_with_a_receipt_that_names_it(state: dict[str, Any], here: Any) -> None:
    document = text(state, "state")
    document["training"]["unfed_steps"] += 1
    encoded = tensor(document)
    payload = json.loads(checkpoint.from_tensors(state).envelope.payload)
    payload["predicate"]["state"] = str(sha256_digest(bytes(encoded.numpy())))
    envelope = text(state, "receipt")
    envelope["payload"] = dsse.Envelope(encode_json(payload), "", _signatures(state)).to_json()["payload"]  # type: ignore[index,call-overload]
    with pytest.raises(SignatureError, match="does not verify"):
        believe({**state, "state": encoded, "receipt": tensor(envelope)}, here)


def test_receipt_of_another_key(state: dict[str, Any], here: Any) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(SignatureError, match="expected a signature of key"):
        believe(resigned(state, ("predicate", "steps", "taken"), stranger), here)


def test_edited_counts(state: dict[str, Any], data: Path) -> None:
    name = "counts.dataset1.train"
    counts = state[name].clone()
    counts[0], counts[-1] = counts[-1].item(), counts[0].item()
    assert not torch.equal(counts, state[name])
    with (
        pytest.raises(EvidenceError, match="multiplicities are not those"),
        attested("train", resume={**state, name: counts}),
    ):
        pytest.fail("it was believed")
    assert data.is_dir()


@pytest.mark.parametrize("name", ["receipt", "state", "counts.dataset1.train"])
@pytest.mark.parametrize("how", ["shorter", "longer", "empty", "wider", "square", "gone", "text"])
def test_truncated_or_of_another_form(state: dict[str, Any], name: str, how: str) -> None:
    found = state[name]
    bent = {
        "shorter": found[:-1],
        "longer": torch.cat([found, found[:1]]),
        "empty": found[:0],
        "wider": found.to(torch.int16),
        "square": found[None],
        "text": bytes(found.numpy()),
    }
    damaged = {key: item for key, item in state.items() if key != name or how != "gone"}
    if how != "gone":
        damaged[name] = bent[how]
    with pytest.raises(EvidenceError), attested("train", resume=damaged):
        pytest.fail("it was believed")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"version": 2}, "version 1"),
        ({"version": True}, "version 1"),
        ({"other": 1}, "unknown key 'other'"),
        ({"counts.dataset9.train": torch.zeros(1, dtype=torch.uint8)}, "nothing that its receipt names"),
        ({"counts.dataset1.test": torch.zeros(1, dtype=torch.uint8)}, "nothing that its receipt names"),
        ({"counts.dataset1": torch.zeros(1, dtype=torch.uint8)}, "unknown key"),
        ({"state": torch.zeros(3, dtype=torch.uint8)}, "expected the state"),
        ({"receipt": torch.zeros(3, dtype=torch.uint8)}, "not a JSON document"),
    ],
)
def test_what_run_state_dict_never_returns(state: dict[str, Any], damage: dict[str, Any], told: str) -> None:
    with pytest.raises(EvidenceError, match=told):
        checkpoint.from_tensors({**state, **damage})


@pytest.mark.parametrize(
    ("given", "told"), [(b"palm", "got bytes"), ({"model": 1, 2: 3}, "'receipt' is missing")]
)
def test_something_else_is_told_how_it_is_written(given: Any, told: str) -> None:
    with pytest.raises(EvidenceError, match=told):
        attested("train", resume=given)


def test_receipt_of_another_kind(state: dict[str, Any]) -> None:
    content = checkpoint.from_tensors(state).content
    file = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b""))
    other = receipt.ArtifactsReceipt(issued=content.issued, artifacts={"x": file})
    key = ec.generate_private_key(ec.SECP256R1())
    envelope = dsse.sign(receipt.encode_content(other), payload_type=dsse.IN_TOTO_PAYLOAD, key=key)
    with pytest.raises(EvidenceError, match="of kind 'segment', got 'receipt'"):
        checkpoint.from_tensors({**state, "receipt": tensor(envelope.to_json())})


# Foreign ------------------------------------------------------------------------------------------------


def test_state_of_another_machine(state: dict[str, Any], tmp_path: Path) -> None:
    machine = simulated.SimulatedTdx(directory=tmp_path / "other")
    sealer = Sealer(machine, nonce=None)
    sealer.begin(workshop.make_begin(sealer.run_id, sealer.register() or "", None).encode())
    with pytest.raises(TrustAnchorError, match="segment 1"):
        believe(state, (machine, sealer.opening()))


@pytest.mark.parametrize("register", ["mr_td", "rtmr0", "rtmr1", "rtmr2"])
def test_state_of_another_image(state: dict[str, Any], here: Any, register: str) -> None:
    machine, own = here
    report = simulated_quote.make_td_report(bytes(64), rtmr3=simulated_quote.RTMR_ZERO)
    other = simulated_quote.sign_quote(machine._authority, workshop.put(report, register, bytes(48)))
    with pytest.raises(PlatformError, match=register):
        believe(state, (machine, workshop.put(own, "begin.quote", other)))


def test_believing_needs_the_root_of_this_machine(here: Any) -> None:
    class Nameless:
        simulated = True
        name = "nameless"

    with pytest.raises(PalmTorchError, match="nameless does not show its root"):
        resuming.simulated_root_of(Nameless())  # type: ignore[arg-type]
    Nameless.simulated = False
    assert resuming.simulated_root_of(Nameless()) is None  # type: ignore[arg-type]
    root = resuming.simulated_root_of(here[0])
    assert root is not None
    assert root.simulated


def test_checkpoint_of_another_run_in_its_place(state: dict[str, Any], data: Path) -> None:
    other = opened(saved(data, steps=1))["palm"]
    with pytest.raises(EvidenceError, match="belongs to another checkpoint"):
        checkpoint.from_tensors({**state, "state": other["state"]})


# Asked for ----------------------------------------------------------------------------------------------


def asked(folder: Path, name: str) -> Path:
    path = folder / f"{name}.json"
    path.write_bytes(workshop.make_request(nonce=name.encode().hex().rjust(64, "0"), expires=None))
    return path


def test_request_of_the_run_is_answered_to_the_end(data: Path, tmp_path: Path) -> None:
    one, other = asked(tmp_path, "one"), asked(tmp_path, "other")
    challenged, free = saved(data, request=one), saved(data)
    with pytest.raises(SessionError, match=r"give the same file, attested\(\.\.\., request=\.\.\.\)"):
        finished(data, challenged)
    with pytest.raises(FreshnessError, match="resume with the request that the run began with"):
        finished(data, challenged, request=other)
    with pytest.raises(FreshnessError, match="the checkpoint is unchallenged"):
        finished(data, free, request=one)
    run = finished(data, challenged, request=one)
    assert loops.check(run, tmp_path, challenge=one.read_bytes()).result.freshness == "challenged"


def _signatures(state: dict[str, Any]) -> tuple[dsse.Signature, ...]:
    return checkpoint.from_tensors(state).envelope.signatures


def test_a_run_with_as_many_sessions_as_evidence_holds_is_refused_at_once(
    state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MAX_SEGMENTS", 1)
    with (
        pytest.raises(SessionError, match="has 2 sessions already, and evidence holds at most 1"),
        attested("train", resume=state),
    ):
        pytest.fail("the block was entered")
    monkeypatch.setattr(evidence, "MAX_SEGMENTS", 2)
    with pytest.raises(Killed), attested("train", resume=state):
        raise Killed


def test_a_checkpoint_that_nobody_could_read_is_refused_when_it_is_made(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_state, "MAX_STATE_BYTES", 100)
    with pytest.raises(SealError, match=r"nobody could go on from this checkpoint: .*at most 100 bytes"):
        saved(data, steps=1)
