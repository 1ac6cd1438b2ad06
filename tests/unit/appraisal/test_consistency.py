"""A statement must agree with itself, whoever sealed it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch.appraisal import consistency
from palm_torch.commit import multiset
from palm_torch.digest import Digest, sha256_digest
from palm_torch.errors import ClaimError, CodeError
from palm_torch.properties import Bind, Distribute, Optimize
from palm_torch.roles import Artifact, Counts, Source, Value
from palm_torch.statement import SourceFile, Statement, code_digest

if TYPE_CHECKING:
    from workshop import GoodRun

GOOD = workshop.make_statement("run")
TRAIN = "claims.data.dataset1.uses.train"
EVAL = "claims.data.dataset1.uses.eval"
ROOT = Digest("palm-sha256", bytes(32))
MODULUS = multiset.MSET_MU_3072.modulus
FILES = (SourceFile(module="b", digest=None, reason=None), SourceFile(module="a", digest=None, reason=None))
ARTIFACT = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b""))


def test_a_good_statement_agrees_with_itself() -> None:
    consistency.check(GOOD)


# name: (path, new value, what the message says)
CASES: dict[str, tuple[str, Any, str]] = {
    "code digest": ("run.code.digest", ROOT, "code: the digest is not that of the files"),
    "code file": ("run.code.files.0.digest", sha256_digest(b"?"), "code: the digest"),
    "weights root": ("claims.model.digest", ROOT, "model: weights root"),
    "initial weights root": ("claims.initial.digest", ROOT, "initial: weights root"),
    "a tensor's root": ("claims.model.tensors.0.root", ROOT, "model: weights root"),
    "a tensor's name": ("claims.model.tensors.0.name", "a", "model: weights root"),
    "a tensor's shape": ("claims.model.tensors.0.shape", (3, 2), "model: weights root"),
    "a tensor's dtype": ("claims.model.tensors.0.dtype", "int32", "model: weights root"),
    "a tensor's alias": ("claims.model.tensors.1.aliases", (), "model: weights root"),
    "an unknown dtype": ("claims.model.tensors.0.dtype", "float12", "model: .*unknown dtype"),
    "a negative shape": ("claims.model.tensors.0.shape", (-2, 3), "model: .*shape out of range"),
    "a root of another algorithm": ("claims.model.tensors.0.root", sha256_digest(b""), "model: .*root"),
    "tensors out of order": ("claims.model.tensors", at_hand.MODEL.tensors[::-1], "model: .*sorted"),
    "a tensor twice": ("claims.model.tensors", at_hand.MODEL.tensors[:1] * 2, "model: "),
    "no tensor": ("claims.model.tensors", (), "model: "),
    "scheme for known answers": (f"{TRAIN}.multiset.scheme", "muhash3072", "known answers only"),
    "unknown scheme": (f"{TRAIN}.multiset.scheme", "sum", "known answers only"),
    "zero state": (f"{TRAIN}.multiset.state", "00" * 384, "dataset1.train: multiset state"),
    "state beyond the prime": (
        f"{TRAIN}.multiset.state",
        f"{MODULUS:0768x}",
        "dataset1.train: multiset state",
    ),
    "multiset count": (f"{TRAIN}.multiset.count", 19, "multiset of 19 records, but 20"),
    "delivered": (f"{TRAIN}.delivered", 21, "multiset of 20 records, but 21"),
    "count of nothing": (f"{TRAIN}.multiset.count", 0, "empty product"),
    "distinct": (f"{TRAIN}.counts.distinct", 9, "exclude each other"),
    "least": (f"{TRAIN}.counts.least", 1, "exclude each other"),
    "greatest": (f"{TRAIN}.counts.greatest", 3, "exclude each other"),
    "least of some": (f"{EVAL}.counts.least", 1, "exclude each other"),
    "records": ("claims.data.dataset1.records", 11, "exclude each other"),
    "no records": ("claims.data.dataset1.records", 0, "a dataset of 0 records"),
    "records of nothing": ("claims.data.dataset1.record_bytes", 0, "records of 0 bytes"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_contradicts_itself_is_refused(name: str) -> None:
    path, new, message = CASES[name]
    with pytest.raises(ClaimError, match=message):
        consistency.check(put(GOOD, path, new))


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_though_validly_sealed(good: GoodRun, name: str) -> None:
    path, new, _ = CASES[name]
    with pytest.raises(CodeError if path.startswith("run.code.files") else ClaimError):
        good.verify(good.sealed_end(path, new))


@pytest.mark.parametrize("files", [FILES, FILES[:1] * 2], ids=["unsorted", "twice"])
def test_source_files_are_listed_in_order_and_once(files: Any) -> None:
    listed = put(put(GOOD, "run.code.files", files), "run.code.digest", code_digest(files))
    with pytest.raises(ClaimError, match="in order of module name, each once"):
        consistency.check(listed)
    ordered = FILES[::-1]
    consistency.check(put(put(GOOD, "run.code.files", ordered), "run.code.digest", code_digest(ordered)))


def test_the_numbers_of_a_use_are_those_of_some_delivery() -> None:
    """Against the ten naive lines: all multiplicities of up to four records of up to three times each."""
    for records in range(1, 5):
        possible = {
            (sum(counts), sum(map(bool, counts)), min(counts), max(counts))
            for counts in itertools.product(range(4), repeat=records)
        }
        for numbers in itertools.product(range(-1, 14), range(-1, 6), range(-1, 4), range(-1, 4)):
            assert plausible(numbers, records) == (numbers in possible), (numbers, records)


def plausible(numbers: tuple[int, ...], records: int) -> bool:
    delivered, distinct, least, greatest = numbers
    return consistency._plausible(
        delivered, Counts(distinct=distinct, least=least, greatest=greatest, coverage=ROOT), records
    )


def bind(**changes: Any) -> Statement:
    claims = {
        "files": {"a.bin": ARTIFACT},
        "manifest": ARTIFACT,
        "multiset": at_hand.MANIFEST.multiset,
        "records_root": ROOT,
        "records": at_hand.RECORDS,
        "framing": Value(source=Source.MEASURED, value={}),
    }
    return Statement(run=GOOD.run, claims=Bind(**(claims | changes)))


def test_a_binding_counts_its_records() -> None:
    consistency.check(bind())
    with pytest.raises(ClaimError, match="multiset of 10 records, but 11"):
        consistency.check(bind(records=11))


def test_the_data_of_a_distribution_is_checked_too() -> None:
    dataset = GOOD.claims.data["dataset1"]
    claims = Distribute(
        data={"all": dataset},
        distribution=Value(source=Source.MEASURED, value={}),
        function=ARTIFACT,
        arguments=Value(source=Source.MEASURED, value={}),
    )
    consistency.check(Statement(run=GOOD.run, claims=claims))
    with pytest.raises(ClaimError, match=r"data\.all\.train"):
        consistency.check(
            put(Statement(run=GOOD.run, claims=claims), "claims.data.all.uses.train.delivered", 1)
        )


@pytest.mark.parametrize(("role", "taken"), [("initial", "end"), ("model", "first_step")])
def test_weights_are_taken_when_their_role_says(role: str, taken: str) -> None:
    with pytest.raises(ClaimError, match=f"{role}: weights taken at"):
        consistency.check(put(GOOD, f"claims.{role}.taken", taken))


# the edges of what may stand in a statement, and messages that name the role


DATA = "claims.data.dataset1"


def refusal(end: Statement) -> str:
    with pytest.raises(ClaimError) as caught:
        consistency.check(end)
    return str(caught.value)


def optimized(**changes: Any) -> Statement:
    claims = GOOD.claims
    roles = {
        "kind": ARTIFACT,
        "base": at_hand.INITIAL,
        "tokenizer": ARTIFACT,
        "configuration": claims.configuration,
        "adapter": ARTIFACT,
        "data": claims.data,
        "model": at_hand.MODEL,
        "steps": claims.steps,
        "seeds": claims.seeds,
    }
    return Statement(run=GOOD.run, claims=Optimize(**(roles | changes)))


def test_the_base_of_an_optimisation_was_read_before_it() -> None:
    consistency.check(optimized())
    assert refusal(optimized(base=at_hand.MODEL)) == "base: weights taken at 'end'"


def test_one_record_of_one_byte_is_a_dataset() -> None:
    smallest = put(put(put(GOOD, f"{DATA}.records", 1), f"{DATA}.record_bytes", 1), f"{DATA}.uses", {})
    consistency.check(smallest)
    for field in ("records", "record_bytes"):
        assert refusal(put(smallest, f"{DATA}.{field}", 0)).startswith("data.dataset1: a dataset of ")


def test_the_role_of_a_multiset_is_named() -> None:
    assert refusal(put(GOOD, f"{DATA}.uses.train.multiset.scheme", "x" * 41)) == (
        f"data.dataset1.train: multiset scheme {'x' * 40!r} is for known answers only"
    )
    binding = Bind(
        files={},
        manifest=ARTIFACT,
        multiset=at_hand.MANIFEST.multiset,
        records_root=Digest("palm-sha256", bytes(32)),
        records=11,
        framing=Value(source=Source.MEASURED, value={}),
    )
    assert refusal(Statement(run=GOOD.run, claims=binding)) == (
        "multiset: multiset of 10 records, but 11 were delivered"
    )


def test_numbers_that_exclude_each_other_are_all_shown() -> None:
    assert refusal(put(GOOD, f"{DATA}.uses.train.counts.greatest", 3)) == (
        "data.dataset1.train: 20 delivered, 10 distinct of 10, multiplicities 2 to 3: "
        "these numbers exclude each other"
    )


def test_what_is_wrong_with_the_list_of_code_is_said() -> None:
    digest = Digest("palm-sha256", bytes(32))
    assert refusal(put(GOOD, "run.code.digest", digest)) == (
        "code: the digest is not that of the files listed"
    )
    files = (SourceFile(module="a", digest=None, reason=None),) * 2
    twice = put(put(GOOD, "run.code.files", files), "run.code.digest", code_digest(files))
    assert refusal(twice) == "code: the files are not in order of module name, each once"
