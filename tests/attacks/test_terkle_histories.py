"""Roots of other sessions and steps, and histories that are rewritten, cut or rolled back."""

from __future__ import annotations

import dataclasses

import pytest
from trees import opened, tile, tree_of

from palm_torch.commit import history, steps, terkle
from palm_torch.commit.grid import Grid
from palm_torch.commit.steps import Step, Steps
from palm_torch.commit.terkle import Context, Tree
from palm_torch.errors import BindingError, EvidenceError

CONTEXT = Context("layer 3", "uint8", Grid((4, 6), (1, 3)), "hash")
REGION = [(slice(1, 2), slice(0, 3))]


def run(seed: int, length: int) -> tuple[Steps, list[Step], list[Tree]]:
    """A session: one tree for each step."""
    log = Steps()
    trees = [tree_of(CONTEXT, seed=100 * seed + number) for number in range(length)]
    return log, [log.append(tree.context.digest(), tree.root()) for tree in trees], trees


def test_the_twin_holds() -> None:
    log, made, trees = run(0, 5)
    steps.verify_inclusion(made[3], 5, log.root(), log.inclusion_proof(3))
    opening = opened(trees[3], REGION, seed=3)
    terkle.verify(made[3].root, CONTEXT, REGION, opening)
    steps.verify_consistency(3, 5, log.root(3), log.root(), log.consistency_proof(3))


def test_attack_73_a_root_of_another_session() -> None:
    """Both sessions are honest; an answer of the one is not shown as an answer of the other."""
    (log, _, _), (other, foreign, trees) = run(0, 5), run(1, 5)
    for proof in (log.inclusion_proof(3), other.inclusion_proof(3)):
        with pytest.raises(BindingError):
            steps.verify_inclusion(foreign[3], 5, log.root(), proof)
    with pytest.raises(BindingError):
        terkle.verify(run(0, 5)[1][3].root, CONTEXT, REGION, opened(trees[3], REGION, seed=103))


def test_attack_73_a_root_of_another_step() -> None:
    log, made, trees = run(0, 5)
    moved = dataclasses.replace(made[3], number=2)
    for number in (2, 3):
        with pytest.raises(BindingError):
            steps.verify_inclusion(moved, 5, log.root(), log.inclusion_proof(number))
    with pytest.raises(BindingError):  # the step is right, the opening is of the step before
        terkle.verify(made[3].root, CONTEXT, REGION, opened(trees[2], REGION, seed=2))


def test_attack_73_a_root_under_another_context() -> None:
    """The entry names the context beside the root: neither is exchanged without the other."""
    log, made, _ = run(0, 5)
    told = dataclasses.replace(made[3], context=dataclasses.replace(CONTEXT, dtype="int8").digest())
    with pytest.raises(BindingError):
        steps.verify_inclusion(told, 5, log.root(), log.inclusion_proof(3))


@pytest.mark.parametrize("fault", ["rewritten", "left out", "swapped", "put in"])
def test_attack_74_a_history_that_is_rewritten(fault: str) -> None:
    """Whoever kept the root of three steps notices, whatever the longer history says of them."""
    log, made, _ = run(0, 5)
    told = {
        "rewritten": [made[0], dataclasses.replace(made[1], root=bytes(32)), *made[2:]],
        "left out": [made[0], *made[2:], made[4]],
        "swapped": [made[1], made[0], *made[2:]],
        "put in": [made[0], made[0], *made[1:]],
    }[fault]
    other = Steps()
    for step in told:
        other.append(step.context, step.root)
    size = len(other)
    assert other.root(5) != log.root(5)
    for proof in (other.consistency_proof(3), log.consistency_proof(3)):
        with pytest.raises((BindingError, EvidenceError)):
            steps.verify_consistency(3, size, log.root(3), other.root(), proof)


def test_attack_74_a_history_that_is_rolled_back() -> None:
    """A run goes on from an older step as if the later ones had never been: no proof leads there."""
    log, made, _ = run(0, 5)
    back = Steps()
    for step in made[:3]:
        back.append(step.context, step.root)
    for number in range(3):
        back.append(CONTEXT.digest(), bytes((number,)) * 32)
    steps.verify_consistency(
        3, 6, log.root(3), back.root(), back.consistency_proof(3)
    )  # it is from step 3 on
    with pytest.raises(BindingError):
        steps.verify_consistency(5, 6, log.root(5), back.root(), back.consistency_proof(5))
    with pytest.raises(EvidenceError):
        steps.verify_consistency(5, 3, log.root(5), log.root(3), ())


def test_attack_74_a_shorter_history_as_the_whole() -> None:
    """The last step is hidden: the root that was sealed goes with a size, and both are compared."""
    log, made, _ = run(0, 5)
    with pytest.raises(EvidenceError):
        steps.verify_inclusion(made[4], 4, log.root(), log.inclusion_proof(4))
    with pytest.raises((BindingError, EvidenceError)):
        steps.verify_inclusion(made[3], 4, log.root(), log.inclusion_proof(3))


@pytest.mark.parametrize("cut", [0, 1])
def test_attack_74_proofs_that_are_cut_or_longer(cut: int) -> None:
    log, made, _ = run(0, 5)
    inclusion, consistency = log.inclusion_proof(3), log.consistency_proof(3)
    for change in (lambda proof: proof[cut + 1 :], lambda proof: (*proof, bytes(32))):
        with pytest.raises(EvidenceError):
            steps.verify_inclusion(made[3], 5, log.root(), change(inclusion))
        with pytest.raises(EvidenceError):
            steps.verify_consistency(3, 5, log.root(3), log.root(), change(consistency))


def test_attack_74_a_node_of_the_log_as_a_step() -> None:
    """Entries are hashed after 00 and nodes after 01; an entry has a tag besides, and 94 bytes."""
    log, made, _ = run(0, 2)
    leaves = b"".join(history.leaf_hash(step.encode()) for step in made)
    with pytest.raises(EvidenceError, match="expected 94 bytes"):
        Step.decode(leaves)
    with pytest.raises(BindingError):
        history.verify_inclusion(leaves, 0, 1, log.root(), ())


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_attack_74_an_array_that_was_longer(scheme: str) -> None:
    """A tree that has grown has another root: each opening holds under its own, and only there."""
    short = dataclasses.replace(CONTEXT, scheme=scheme)  # type: ignore[arg-type]
    tree = tree_of(short)
    before, root = opened(tree, REGION), tree.root()
    grid, new = tree.context.grid.grown(5)
    longer = dataclasses.replace(short, grid=grid)
    tree.append(5, [tile(longer, position) for position in new])
    after = opened(tree, REGION)
    terkle.verify(tree.root(), longer, REGION, after)
    for told, context, opening in (
        (root, longer, after),
        (root, longer, before),
        (tree.root(), short, before),
        (tree.root(), short, after),
    ):
        with pytest.raises((BindingError, EvidenceError)):
            terkle.verify(told, context, REGION, opening)
