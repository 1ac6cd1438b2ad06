"""The state of a checkpoint: what is encoded is decoded, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_torch import dsse
from palm_torch.attesting import checkpoint, segment_state
from palm_torch.attesting.owned_model import OwnedState
from palm_torch.attesting.training_state import TrainingState
from palm_torch.digest import SHA256, TAGGED_SHA256, Digest
from palm_torch.errors import InputError
from palm_torch.evidence import Challenge, Opening, Phase, Segment
from palm_torch.hooks.optimizer_account import OptimizerCheckpoint, OptimizerRecord
from palm_torch.hooks.scaler import ScalerCounts
from palm_torch.hooks.settings import GroupSettings, OptimizerSettings, OptionHistory
from palm_torch.recorder import Reads
from palm_torch.roles import Artifact, Source, Tensor
from palm_torch.statement import Device, Series

digests = st.builds(Digest, st.sampled_from([SHA256, TAGGED_SHA256]), st.binary(min_size=32, max_size=32))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
counts = st.integers(0, 2**53 - 1)
numbers = st.one_of(st.integers(-(2**53) + 1, 2**53 - 1), st.floats(allow_nan=False, allow_infinity=False))
small = st.binary(max_size=40)
few: Any = {"max_size": 2}
values = st.recursive(
    st.one_of(st.none(), st.booleans(), counts, names),
    lambda inner: st.lists(inner, **few) | st.dictionaries(names, inner, **few),
    max_leaves=4,
)


def tuples(of: Any) -> Any:
    return st.lists(of, **few).map(tuple)


tensors = st.builds(
    Tensor, name=names, aliases=tuples(names), dtype=names, shape=tuples(counts), root=digests
)
owned = st.builds(
    OwnedState,
    names=tuples(names),
    prefix=names,
    taken=st.sampled_from(["first_delivery", "first_step"]),
    architecture=digests,
    initial=tuples(tensors),
    model=tuples(tensors),
)
options = st.builds(
    OptionHistory,
    first=values,
    last=values,
    least=st.none() | numbers,
    greatest=st.none() | numbers,
    changes=counts,
    chain=digests,
)
groups = st.builds(
    GroupSettings,
    parameters=counts,
    elements=counts,
    options=st.dictionaries(names, options, **few),
    unrecorded=tuples(names),
)
records = st.builds(
    OptimizerRecord,
    settings=st.builds(OptimizerSettings, names, tuples(groups)),
    steps=counts,
    steps_inside=counts,
    without_effect=counts,
    interrupted=counts,
    begun_with=st.none() | digests,
)
trainings = st.builds(
    TrainingState,
    owned=tuples(owned),
    optimizers=tuples(
        st.builds(
            OptimizerCheckpoint,
            record=records,
            begun=counts,
            state=digests,
            parameters=tuples(tuples(names)),
        )
    ),
    fed=tuples(counts),
    scalers=tuples(st.builds(ScalerCounts, numbers, numbers, numbers, counts)),
    pending=tuples(tuples(st.builds(Reads, names, small, small, small, st.booleans()))),
    with_gradients=counts,
    unfed_steps=counts,
    writes=counts,
    unstepped=tuples(names),
    carried=counts,
    devices=tuples(st.builds(Device, type=names, name=st.none() | names, uuid=st.none() | names)),
)
phases = st.builds(Phase, statement=small, quote=small, gpus=st.just(()))
openings = st.builds(
    Opening,
    attester=st.sampled_from(["tdx", "snp"]),
    run_id=names,
    session_key=small,
    challenge=st.builds(Challenge, kind=st.just("challenged"), nonce=st.binary(min_size=32, max_size=32)),
    register_log=tuples(st.binary(min_size=48, max_size=48)),
    begin=phases,
    collateral=st.none() | st.dictionaries(names, names, **few),
)
signatures = st.builds(
    dsse.Signature, st.binary(min_size=32, max_size=32).map(bytes.hex), st.binary(min_size=1, max_size=72)
)
envelopes = st.builds(dsse.Envelope, small, names, st.tuples(signatures))
artifacts = st.builds(Artifact, source=st.sampled_from(Source), kind=st.just("file"), digest=digests)
series = st.builds(
    Series,
    source=st.sampled_from(Source),
    count=counts,
    first=numbers,
    last=st.just("nan"),
    least=numbers,
    greatest=numbers,
    chain=digests,
)
states = st.builds(
    segment_state.SegmentState,
    type=st.just(segment_state.TYPE),
    session=openings,
    log=tuples(small),
    segments=tuples(st.builds(Segment, session=openings, log=tuples(small), receipt=envelopes)),
    seeds=st.dictionaries(names, values, **few),
    restored=tuples(st.dictionaries(names, values, **few)),
    inputs=st.dictionaries(names, artifacts, **few),
    outputs=st.dictionaries(names, artifacts, **few),
    config=st.dictionaries(names, values, **few),
    reported=st.dictionaries(names, series, **few),
    training=trainings,
)


@settings(max_examples=60)
@given(state=states)
def test_what_is_encoded_is_decoded(state: segment_state.SegmentState) -> None:
    encoded = state.encode()
    found = segment_state.decode(encoded)
    assert found == state
    assert found.encode() == encoded


@settings(max_examples=60)
@given(state=states, at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_another_state_or_none(state: segment_state.SegmentState, at: int, bit: int) -> None:
    encoded = bytearray(state.encode())
    encoded[at % len(encoded)] ^= 1 << bit
    try:
        found = segment_state.decode(bytes(encoded))
    except InputError:
        return
    assert found.encode() == bytes(encoded)


@settings(max_examples=60)
@given(
    found=st.dictionaries(
        st.sampled_from(["version", "receipt", "state", "counts.dataset1.train", "x"]),
        st.one_of(st.just(1), small, small.map(lambda data: torch.tensor(list(data), dtype=torch.uint8))),
    )
)
def test_only_our_own_errors_leave_the_decoder(found: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        checkpoint.from_tensors(found)
