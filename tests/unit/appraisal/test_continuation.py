"""A resumed run only grows: whatever shrinks, vanishes or changes between checkpoints and end is refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import relay
from workshop import NOW, measured, put

from palm_torch import receipt
from palm_torch.appraisal import continuation
from palm_torch.cvm import platforms
from palm_torch.digest import Digest, sha256_digest
from palm_torch.errors import ClaimError, CodeError, EvidenceError, RejectedError
from palm_torch.receipt import CodeSoFar
from palm_torch.roles import Artifact, Source
from palm_torch.sessions import segments
from palm_torch.statement import CodeSource, Device, SourceFile, code_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay import ResumedRun

OTHER = sha256_digest(b"another")
WEIGHTS = Digest("palm-sha256", bytes(32))
EXTRA = SourceFile(module="zz_extra", digest=OTHER, reason=None)


def put_each(changes: dict[str, Any]) -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        for path, new in changes.items():
            value = put(value, path, new)
        return value

    return change


def with_file(code: Any, file: SourceFile) -> Any:
    files = tuple(
        sorted({item.module: item for item in (*code.files, file)}.values(), key=lambda item: item.module)
    )
    return dataclasses.replace(code, files=files, digest=code_digest(files))


def so_far_with(code: Any, file: SourceFile) -> CodeSoFar:
    begin = relay.fixed_code(1)
    return CodeSoFar.of(with_file(code.whole(begin), file), begin)


DATA = "data.dataset1"
TRAIN = f"{DATA}.uses.train"

CASES: dict[str, tuple[str, int, dict[str, Any], type[RejectedError], str]] = {
    # made of something else
    "other initial weights": (
        "receipt",
        1,
        {"initial": WEIGHTS},
        ClaimError,
        "segment 1: initial: palm-sha256:00",
    ),
    "other initial weights later": ("receipt", 2, {"initial": WEIGHTS}, ClaimError, "segment 2: initial"),
    "another architecture": (
        "receipt",
        2,
        {"architecture": OTHER},
        ClaimError,
        "segment 2: architecture: sha256",
    ),
    "another input": (
        "begin",
        1,
        {"inputs.recipe": Artifact(source=Source.MEASURED, kind="file", digest=OTHER)},
        ClaimError,
        "segment 1: input 'recipe' is missing or another one at end",
    ),
    "an input that vanished": (
        "begin",
        2,
        {"inputs": {"more": Artifact(source=Source.MEASURED, kind="file", digest=OTHER)}},
        ClaimError,
        "segment 2: input 'more' is missing or another one at end",
    ),
    "other seeds": (
        "begin",
        1,
        {"seeds": measured(torch="00")},
        ClaimError,
        "seeds: those at begin are not those",
    ),
    "another dataset": (
        "receipt",
        1,
        {f"{DATA}.manifest": OTHER},
        ClaimError,
        "after segment 1: data.dataset1.mani",
    ),
    "another dataset at end": (
        "receipt",
        2,
        {f"{DATA}.manifest": OTHER},
        ClaimError,
        "after segment 1: data.dataset1.manifest: sha256:.* at the checkpoint, then sha256",
    ),
    "another format": (
        "receipt",
        1,
        {f"{DATA}.format": "npy"},
        ClaimError,
        "format: npy at the checkpoint, then bin",
    ),
    "more records": (
        "receipt",
        1,
        {f"{DATA}.records": 11},
        ClaimError,
        "records: 11 at the checkpoint, then 10",
    ),
    "longer records": ("receipt", 1, {f"{DATA}.record_bytes": 32}, ClaimError, "record_bytes: 32 at the"),
    "a dataset that vanished": (
        "receipt",
        2,
        {"data": lambda data: {**data, "dataset2": data["dataset1"]}},
        ClaimError,
        "after segment 2: data.dataset2: in use at the checkpoint, then missing",
    ),
    "a device that is not in the end": (
        "receipt",
        1,
        {"devices": lambda found: (*found, Device(type="cuda", name="H100", uuid="GPU-1"))},
        ClaimError,
        "segment 1: device 'cuda' of the checkpoint is missing at end",
    ),
    # less than before
    "steps taken back": (
        "receipt",
        1,
        {"steps.taken": 3},
        ClaimError,
        "after segment 1: steps taken: 3 at the .* 2",
    ),
    "more steps than at end": (
        "receipt",
        2,
        {"steps.taken": 5},
        ClaimError,
        "after segment 2: steps taken: 5 at .* 4",
    ),
    "skipped steps forgotten": (
        "receipt",
        2,
        {"steps.skipped": 1},
        ClaimError,
        "steps skipped: 1 at the .* 0",
    ),
    "a use that vanished": (
        "receipt",
        1,
        {f"{DATA}.uses": lambda uses: {**uses, "eval": uses["train"]}, f"{DATA}.uses.eval.delivered": 3},
        ClaimError,
        "after segment 1: data.dataset1.eval: 3 records at the checkpoint, then 1",
    ),
    "an unknown use": (
        "receipt",
        2,
        {f"{DATA}.uses": lambda uses: {**uses, "play": uses["train"]}},
        ClaimError,
        "after segment 2: data.dataset1.play: 6 records at the checkpoint, then none",
    ),
    "records taken back": (
        "receipt",
        1,
        {f"{TRAIN}.delivered": 7, f"{TRAIN}.product": at_hand.multiset_of(bytes([1] * 7 + [0] * 3))},
        ClaimError,
        "after segment 1: data.dataset1.train: 7 records at the checkpoint, then 6",
    ),
    "a doubt forgotten": (
        "receipt",
        1,
        {f"{TRAIN}.exact": False},
        ClaimError,
        "after segment 1: data.dataset1.train: not counted exactly at the checkpoint, then exactly",
    ),
    "padded records of a checkpoint forgotten": (
        "receipt",
        1,
        {f"{TRAIN}.padded": 1},
        ClaimError,
        "after segment 1: data.dataset1.train: 1 of padded records at the checkpoint, then 0",
    ),
    "an unknown number of padded records known later": (
        "receipt",
        1,
        {f"{TRAIN}.padded": None},
        ClaimError,
        "after segment 1: data.dataset1.train: an unknown number of padded records at the checkpoint, then 0",
    ),
    # accounts that do not add up
    "a product of other records": (
        "receipt",
        1,
        {f"{TRAIN}.delivered": 2},
        ClaimError,
        "multiset of 3 records, but 2",
    ),
    "a product of the test scheme": (
        "receipt",
        1,
        {f"{TRAIN}.product.scheme": "muhash3072"},
        ClaimError,
        "segment 1: data.dataset1.train: multiset scheme 'muhash3072' is for known answers only",
    ),
    "a product that is no group element": (
        "receipt",
        2,
        {f"{TRAIN}.product.state": "00" * 384},
        ClaimError,
        "segment 2: data.dataset1.train: ",
    ),
    "neither manifest nor product": (
        "receipt",
        1,
        {f"{DATA}.manifest": None, f"{TRAIN}.product": None},
        ClaimError,
        "segment 1: data.dataset1.train: neither a manifest nor a multiset hash",
    ),
    # code
    "code of a checkpoint that is not in the end": (
        "receipt",
        1,
        {"issued.code": lambda code: so_far_with(code, EXTRA)},
        CodeError,
        "segment 1: source file of zz_extra is missing later",
    ),
    "code of a begin that is not in its checkpoint": (
        "begin",
        2,
        {"code": lambda code: with_file(code, EXTRA)},
        EvidenceError,
        "segment 2: receipt: the code's digest is not that of the files",
    ),
    "code that was another": (
        "receipt",
        2,
        {"issued.code": lambda code: so_far_with(code, put(code.since[0], "digest", OTHER))},
        CodeError,
        "segment 2: source file of helper is missing later, or another one",
    ),
    "code that was known in another way": (
        "receipt",
        1,
        {"issued.code.source": CodeSource.SELF_REPORTED},
        CodeError,
        "segment 1: the code identity was taken in one way and then in another: imported, self_reported",
    ),
    "packages that were others at begin": (
        "begin",
        1,
        {"environment": measured(packages=[["torch", "0.0"]])},
        ClaimError,
        r"segment 1: package \['torch', '0.0'\] is missing later, or another one",
    ),
    "packages that were others at the checkpoint": (
        "receipt",
        2,
        {"environment": measured(packages=[["torch", "2.13.0"], ["numpy", "2"]])},
        ClaimError,
        r"segment 2: package \['numpy', '2'\] is missing later",
    ),
    "packages that are not listed": (
        "receipt",
        1,
        {"environment": measured(packages=None)},
        ClaimError,
        "segment 1: the installed packages are not listed",
    ),
    "packages that were not listed at begin": (
        "begin",
        2,
        {"environment": measured()},
        ClaimError,
        "segment 2: the installed packages are not listed",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_continue_is_refused(resumed: ResumedRun, name: str) -> None:
    what, number, changes, error, message = CASES[name]
    bundle = resumed.bent(relay.only(what, number, put_each(changes)))
    with pytest.raises(error, match=message) as caught:
        resumed.verify(bundle)
    assert type(caught.value) is error


def test_what_may_differ_between_segments(resumed: ResumedRun) -> None:
    for what, number, changes in (
        ("receipt", 1, {"steps.taken": 2}),  # no step between two checkpoints
        ("receipt", 2, {"steps.taken": 4}),  # none after the last
        ("receipt", 1, {f"{TRAIN}.product": None}),  # it follows from the manifest
        ("receipt", 1, {"data": {}}),  # nothing was read yet
        ("receipt", 1, {"optimizers": ()}),
        ("receipt", 1, {"devices": ()}),  # nothing was measured yet
        ("begin", 1, {"environment": measured(packages=[])}),
        ("begin", 2, {"seeds": measured(torch="00")}),  # generators of a resumed session may be anywhere
        ("begin", 1, {"inputs": {}}),
    ):
        assert resumed.verify(resumed.bent(relay.only(what, number, put_each(changes)))).checks


def test_a_doubt_stays_a_doubt(resumed: ResumedRun) -> None:
    path = "claims.data.dataset1.uses.train.exact"

    def bend(what: str, number: int, value: Any) -> Any:
        if what == "end":
            return put(value, path, new=False)
        return put(value, f"{TRAIN}.exact", new=False) if (what, number) == ("receipt", 2) else value

    result = resumed.verify(resumed.bent(bend))
    assert any("counted as read" in warning for warning in result.warnings)


def test_only_training_is_resumed(resumed: ResumedRun) -> None:
    policy = resumed.policy()
    checked = segments.verify_chain(
        resumed.bundle.segments,
        requirements=policy.platform.requirements(),
        at=NOW,
        collateral=platforms.fields_of(resumed.machine.collateral()),
    )
    from palm_torch.properties import Infer

    claims = at_hand.make_train()
    empty = Artifact(source=Source.DECLARED, kind="none", digest=None)
    infer = Infer(
        model=claims.model,
        tokenizer=empty,
        query=empty,
        response=empty,
        decoding=measured(),
        seeds=measured(),
    )
    with pytest.raises(ClaimError, match="a run of 'infer' in several segments: only training is resumed"):
        continuation.check_resumed(checked, dataclasses.replace(resumed.end, claims=infer))
    continuation.check_resumed((), dataclasses.replace(resumed.end, claims=infer))


# what a resumed run may leave as it was, and what the messages say in full


def test_a_use_may_stay_as_it_was_at_the_checkpoint(resumed: ResumedRun) -> None:
    """The records for evaluation at the second checkpoint are those of the first session that had any."""
    found = receipt.decode_content(resumed.bundle.segments[1].receipt.payload)
    assert isinstance(found, receipt.SegmentReceipt)
    account = found.data["dataset1"].uses["eval"]
    same = put(resumed.end.claims, "data.dataset1.uses.eval.delivered", account.delivered)
    continuation._check_data(found.data, same.data)
    fewer = put(resumed.end.claims, "data.dataset1.uses.eval.delivered", account.delivered - 1)
    with pytest.raises(ClaimError, match=r"^data\.dataset1\.eval: 1 records at the checkpoint, then 0$"):
        continuation._check_data(found.data, fewer.data)


def test_other_seeds_are_told_from_those_of_the_beginning(resumed: ResumedRun) -> None:
    bundle = resumed.bent(
        relay.only("begin", 1, lambda begin: dataclasses.replace(begin, seeds=measured(torch="ef" * 32)))
    )
    with pytest.raises(ClaimError) as caught:
        resumed.verify(bundle)
    assert str(caught.value) == ("seeds: those at begin are not those with which the first segment began")


def test_forty_characters_of_an_unknown_scheme_are_shown(resumed: ResumedRun) -> None:
    bundle = resumed.bent(
        relay.only(
            "receipt", 1, lambda state: put(state, "data.dataset1.uses.train.product.scheme", "x" * 41)
        )
    )
    with pytest.raises(ClaimError) as caught:
        resumed.verify(bundle)
    assert str(caught.value) == (
        f"segment 1: data.dataset1.train: multiset scheme {'x' * 40!r} is for known answers only"
    )
