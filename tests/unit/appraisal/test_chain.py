"""Chains of evidence: what one run made is what another used, and a link is as strong as its weaker end."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import measured

from palm_torch import codec, properties, statement
from palm_torch.appraisal import chain, chain_ports, chain_text
from palm_torch.appraisal.chain import Label, Member
from palm_torch.digest import Digest, sha256_digest
from palm_torch.errors import ClaimError, InputError
from palm_torch.roles import Artifact, Dataset, Source, Weights, Written

if TYPE_CHECKING:
    from palm_torch.result import Strength

CORPUS = sha256_digest(b"corpus")
RAW = sha256_digest(b"raw")
MANIFEST = at_hand.MANIFEST.digest
NOTHING = Artifact(source=Source.DECLARED, kind="none", digest=None)
TOKENIZER = sha256_digest(b"tokenizer")


def thing(digest: Digest, source: Source = Source.MEASURED) -> Artifact:
    return Artifact(source=source, kind="file", digest=digest)


def weights(name: str, source: Source = Source.MEASURED) -> Weights:
    return dataclasses.replace(at_hand.MODEL, source=source, digest=sha256_digest(name.encode()))


def dataset(manifest: Digest | None = MANIFEST, source: Source = Source.MEASURED) -> Dataset:
    return dataclasses.replace(at_hand.make_train().data["dataset1"], manifest=manifest, source=source)


def member(
    name: str,
    claims: Any,
    strength: Strength = "hardware",
    inputs: dict[str, Artifact] | None = None,
    outputs: dict[str, Artifact] | None = None,
) -> Member:
    run = dataclasses.replace(
        workshop.make_statement(name).run, run_id=f"run {name}", inputs=inputs or {}, outputs=outputs or {}
    )
    return Member(
        name=name,
        statement=statement.Statement(run=run, claims=claims),
        strength=strength,
        reserved=strength != "hardware",
    )


def preprocess(produced: Digest = CORPUS, manifest: Digest | None = RAW) -> Any:
    return properties.Preprocess(
        data={"raw": dataset(manifest)},
        produced={"corpus": written(produced)},
        function=thing(sha256_digest(b"f")),
        arguments=measured(),
    )


def written(digest: Digest) -> Written:
    return Written(
        source=Source.MEASURED,
        framing={},
        files={"a": thing(digest)},
        digest=sha256_digest(b"manifest of " + digest.value),
        records_root=CORPUS,
        records=10,
        multiset=at_hand.multiset_of(bytes(10)),
    )


def bind(source: Source = Source.MEASURED) -> Any:
    return properties.Bind(
        files={"a": thing(CORPUS)},
        manifest=thing(MANIFEST, source),
        multiset=at_hand.multiset_of(bytes(10)),
        records_root=CORPUS,
        records=10,
        framing=measured(),
    )


def train(initial: str = "fresh", model: str = "trained", **changes: Any) -> Any:
    fields = {"data": {"d": dataset()}, "initial": weights(initial), "model": weights(model)} | changes
    return dataclasses.replace(at_hand.make_train(), **fields)


def optimize(base: str = "trained", model: str = "tuned", adapter: Artifact = NOTHING) -> Any:
    return properties.Optimize(
        kind=thing(sha256_digest(b"kind")),
        base=weights(base),
        tokenizer=NOTHING,
        configuration=measured(),
        adapter=adapter,
        data={},
        model=weights(model),
        steps=at_hand.make_train().steps,
        seeds=measured(),
    )


def evaluate(model: str = "tuned") -> Any:
    return properties.Evaluate(
        model=weights(model),
        tokenizer=NOTHING,
        data={"test": dataset()},
        metric=measured(accuracy=1),
        benchmark=thing(sha256_digest(b"benchmark")),
        configuration=measured(),
    )


def infer(model: str = "tuned", tokenizer: Artifact = NOTHING) -> Any:
    return properties.Infer(
        model=weights(model),
        tokenizer=tokenizer,
        query=thing(sha256_digest(b"q")),
        response=thing(sha256_digest(b"r")),
        decoding=measured(),
        seeds=measured(),
    )


def session(model: str = "tuned", query: bytes = b"r") -> Any:
    return properties.Session(
        model=weights(model),
        tokenizer=NOTHING,
        query=thing(sha256_digest(query)),
        response=thing(sha256_digest(b"r2")),
        history=thing(sha256_digest(b"h")),
        decoding=measured(),
        seeds=measured(),
    )


def distribute() -> Any:
    return properties.Distribute(
        data={"corpus": dataset()},
        distribution=measured(mean=1),
        function=thing(CORPUS),
        arguments=measured(),
    )


def drawn(built: chain.Chain) -> list[tuple[str | None, str | None, str, str, str]]:
    return [(x.producer, x.role_out, x.consumer, x.role_in, x.label.value) for x in built.links]


WHOLE = (
    member("preprocess", preprocess()),
    member("bind", bind()),
    member("distribute", distribute()),
    member("train", train()),
    member("optimize", optimize()),
    member("evaluate", evaluate()),
    member("infer", infer()),
    member("session", session()),
)


def test_all_eight_properties_in_one_chain() -> None:
    built = chain.build(WHOLE)
    assert [node.operation for node in built.nodes] == list(
        dict.fromkeys(member.statement.operation for member in WHOLE)
    )
    assert drawn(built) == [
        (None, None, "preprocess", "data.raw", "missing"),
        ("preprocess", "produced.corpus.files.a", "bind", "files.a", "hardware"),
        ("bind", "manifest", "distribute", "data.corpus", "hardware"),
        ("bind", "manifest", "train", "data.d", "hardware"),
        (None, None, "train", "initial", "missing"),
        ("train", "model", "optimize", "base", "hardware"),
        ("optimize", "model", "evaluate", "model", "hardware"),
        ("bind", "manifest", "evaluate", "data.test", "hardware"),
        ("optimize", "model", "infer", "model", "hardware"),
        ("optimize", "model", "session", "model", "hardware"),
        ("infer", "response", "session", "query", "hardware"),
    ]
    assert built.loose == ()
    assert built.count(Label.HARDWARE) == 9
    assert {link.reason for link in built.links} == {"", "no evidence given here produced it"}


def test_every_property_says_what_it_uses() -> None:
    assert chain_ports.USES.keys() == properties.PROPERTIES.keys()
    for operation, roles in chain_ports.USES.items():
        fields = {field.name for field in dataclasses.fields(properties.PROPERTIES[operation])}
        assert roles.keys() <= fields - set(properties.PROPERTIES[operation].OUTPUTS)


def test_the_order_given_only_decides_where_nothing_else_does() -> None:
    for order in itertools.islice(itertools.permutations(WHOLE), 0, 40_320, 997):
        built = chain.build(order)
        place = {node.name: position for position, node in enumerate(built.nodes)}
        assert all(place[x.producer] < place[x.consumer] for x in built.links if x.producer)
        assert sorted(map(str, built.links)) == sorted(map(str, chain.build(WHOLE).links))
    apart = [member(name, train(f"{name}0", f"{name}1", data={})) for name in "cab"]
    assert [node.name for node in chain.build(apart).nodes] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("maker", "user", "source_out", "source_in", "label"),
    [
        ("hardware", "hardware", Source.MEASURED, Source.MEASURED, Label.HARDWARE),
        ("simulated", "hardware", Source.MEASURED, Source.MEASURED, Label.SIMULATED),
        ("hardware", "simulated", Source.MEASURED, Source.MEASURED, Label.SIMULATED),
        ("code", "hardware", Source.MEASURED, Source.MEASURED, Label.DECLARED),
        ("simulated", "code", Source.MEASURED, Source.MEASURED, Label.DECLARED),
        ("hardware", "hardware", Source.DECLARED, Source.MEASURED, Label.DECLARED),
        ("hardware", "hardware", Source.MEASURED, Source.REPORTED, Label.DECLARED),
        ("simulated", "simulated", Source.DECLARED, Source.DECLARED, Label.DECLARED),
    ],
)
def test_a_link_is_as_strong_as_its_weaker_end(
    maker: Any, user: Any, source_out: Any, source_in: Any, label: Any
) -> None:
    built = chain.build(
        [
            member("bind", bind(source_out), maker),
            member("train", train(data={"d": dataset(source=source_in)}), user),
        ]
    )
    (link,) = [link for link in built.links if link.role_in == "data.d"]
    assert link.label is label
    assert bool(link.reason) == (label is not Label.HARDWARE)


def test_named_outputs_and_inputs_are_links() -> None:
    log = sha256_digest(b"log")
    built = chain.build(
        [
            member("second", evaluate("x"), inputs={"log": thing(log), "recipe": thing(CORPUS)}),
            member("first", train(), outputs={"log": thing(log), "empty": NOTHING}),
        ]
    )
    assert ("first", "outputs.log", "second", "inputs.log", "hardware") in drawn(built)
    assert (None, None, "second", "inputs.recipe", "missing") in drawn(built)


def test_what_is_absent_is_no_link_and_what_has_no_name_is_missing() -> None:
    built = chain.build([member("train", train(data={"d": dataset(None)}))])
    assert drawn(built) == [
        (None, None, "train", "data.d", "missing"),
        (None, None, "train", "initial", "missing"),
    ]
    assert "without a manifest" in built.links[0].reason
    assert built.loose == ("train",)


def test_a_tokenizer_and_an_adapter_have_to_come_from_somewhere() -> None:
    made = member("train", train(), outputs={"tokenizer": thing(TOKENIZER), "adapter": thing(CORPUS)})
    users = [
        member("infer", infer("x", thing(TOKENIZER))),
        member("optimize", optimize(adapter=thing(CORPUS))),
    ]
    assert ("train", "outputs.tokenizer", "infer", "tokenizer", "hardware") in drawn(
        chain.build([made, *users])
    )
    assert ("train", "outputs.adapter", "optimize", "adapter", "hardware") in drawn(
        chain.build([made, *users])
    )
    alone = drawn(chain.build(users))
    assert (None, None, "infer", "tokenizer", "missing") in alone
    assert (None, None, "optimize", "adapter", "missing") in alone


@pytest.mark.parametrize(
    ("first", "second", "role"),
    [
        (Source.MEASURED, Source.MEASURED, "outputs.a"),
        (Source.MEASURED, Source.DECLARED, "outputs.a"),
        (Source.REPORTED, Source.MEASURED, "outputs.b"),
    ],
)
def test_of_two_roles_of_one_thing_the_stronger_counts(first: Any, second: Any, role: str) -> None:
    made = member("train", train(), outputs={"a": thing(TOKENIZER, first), "b": thing(TOKENIZER, second)})
    built = chain.build([made, member("infer", infer("trained", thing(TOKENIZER)))])
    assert ("train", role, "infer", "tokenizer", "hardware") in drawn(built)


def test_a_digest_names_one_thing_only_among_things_of_its_kind() -> None:
    """A file with the digest of a manifest's header, or of weights, is neither."""
    model = sha256_digest(b"trained")
    liar = member("liar", train("x", "y", data={}), outputs={"m": thing(MANIFEST), "w": thing(model)})
    users = [member("infer", infer("trained")), member("train", train("z", "u"))]
    built = chain.build([liar, *users])
    assert {link.label for link in built.links} == {Label.MISSING}
    assert set(built.loose) == {"liar", "infer", "train"}
    taker = member("taker", train("x", "y", data={}), inputs={"m": thing(MANIFEST)})
    assert ("bind", "manifest", "taker", "inputs.m", "hardware") not in drawn(
        chain.build([member("bind", bind()), taker])
    )


@pytest.mark.parametrize("role", ["command", "command#2"])
def test_the_words_of_a_command_line_come_from_nowhere(role: str) -> None:
    built = chain.build([member("a", bind(), inputs={role: thing(CORPUS), "commands": thing(CORPUS)})])
    assert drawn(built) == [(None, None, "a", "inputs.commands", "missing")]


def test_a_chain_with_a_gap_has_parts() -> None:
    log = sha256_digest(b"log")
    assert chain.build(WHOLE).parts == (tuple(node.name for node in chain.build(WHOLE).nodes),)
    halves = [
        member("bind", bind(), outputs={"log": thing(log)}),
        member("train", train("a", "b")),
        member("other", train("c", "d", data={}), inputs={"log": thing(log)}),
        member("infer", infer("d")),
    ]
    built = chain.build(halves)
    assert built.parts == (("bind", "train"), ("other", "infer"))
    assert built.loose == ()
    assert chain_text.render(built, escape=str)[-1] == (
        "falls into 2 parts that nothing links: [1] [2]; [3] [4]",
        None,
    )


def test_two_runs_that_made_the_same_are_both_shown() -> None:
    built = chain.build(
        [
            member("b", train("y", data={})),
            member("a", train("x", data={}), "simulated"),
            member("e", infer("trained")),
        ]
    )
    assert [(x.producer, x.label.value) for x in built.links if x.role_in == "model"] == [
        ("b", "hardware"),
        ("a", "simulated"),
    ]


def test_a_run_is_not_its_own_origin() -> None:
    """Training that moved nothing used what it made."""
    empty = {"nothing": NOTHING}
    built = chain.build([member("still", train("same", "same", data={}), inputs=empty, outputs=empty)])
    assert drawn(built) == [(None, None, "still", "initial", "missing")]


def test_what_was_only_passed_on_leads_to_its_maker() -> None:
    config = thing(CORPUS)
    maker = member("maker", train("a", "b", data={}), outputs={"config": config})
    passed = [
        member(
            name,
            train(f"{name}0", f"{name}1", data={}),
            inputs={"config": config},
            outputs={"config": config},
        )
        for name in ("x", "y")
    ]
    user = member("user", train("u", "v", data={}), inputs={"config": config})
    with_maker = {
        x.consumer: x.producer for x in chain.build([*passed, user, maker]).links if x.digest == CORPUS
    }
    assert with_maker == {"x": "maker", "y": "maker", "user": "maker"}
    without = [(x.consumer, x.producer) for x in chain.build([*passed, user]).links if x.digest == CORPUS]
    assert without == [("x", None), ("y", None), ("user", "x"), ("user", "y")]


def test_runs_in_a_circle_are_refused() -> None:
    circle = [
        member("a", train("1", "2", data={})),
        member("b", train("2", "3", data={})),
        member("c", train("3", "1", data={})),
        member("after", infer("3")),
    ]
    with pytest.raises(ClaimError, match="'a' → 'b' → 'c' → 'a'"):
        chain.build(circle)
    assert chain.build(circle[:2]).count(Label.HARDWARE) == 1


def test_what_cannot_be_a_chain() -> None:
    one = member("a", train())
    with pytest.raises(InputError, match="at least one"):
        chain.build([])
    with pytest.raises(InputError, match="'a' was given twice"):
        chain.build([one, one])
    with pytest.raises(InputError, match="'a' and 'copy' are evidence of one and the same run"):
        chain.build([one, dataclasses.replace(one, name="copy")])


def test_an_end_with_reservations_makes_a_link_declared_unless_it_is_simulated() -> None:
    for strength, label in (
        ("hardware", Label.DECLARED),
        ("code", Label.DECLARED),
        ("simulated", Label.SIMULATED),
    ):
        maker = dataclasses.replace(WHOLE[0], strength=strength, reserved=True)
        links = chain.build([maker, WHOLE[1]]).links
        assert [link.label for link in links if link.producer] == [label], strength
    reserved = chain.build([dataclasses.replace(WHOLE[0], reserved=True), WHOLE[1]])
    assert reserved.nodes[0].strength == "hardware"
    assert reserved.links[1].reason == "preprocess was accepted under warnings"


def test_a_chain_has_a_json_form() -> None:
    document = codec.to_json(chain.build(WHOLE[:2]))
    assert isinstance(document, dict)
    assert document["nodes"][1]["name"] == "bind"
    assert document["links"][1]["label"] == "hardware"


def test_a_chain_as_text() -> None:
    evil = member("evil\n[1] ok", train("e0", "e1", data={}), "simulated")
    lines = chain_text.render(chain.build([*WHOLE[:2], evil]), escape=lambda text: text.replace("\n", "\\n"))
    raw, corpus, fresh = (x.value.hex()[:12] for x in (RAW, CORPUS, sha256_digest(b"e0")))
    nobody = "no evidence given here produced it"
    assert [line for line, _ in lines] == [
        "chain of 3 runs; links: 1 hardware, 2 missing",
        "[1] preprocess: preprocess run run preprocess, hardware",
        f"    data.raw <- (MISSING, sha256:{raw}): {nobody}",
        "[2] bind: bind run run bind, hardware",
        f"    files.a <- [1] produced.corpus.files.a (hardware, sha256:{corpus})",
        "[3] evil\\n[1] ok: train run run evil\\n[1] ok, simulated",
        f"    initial <- (MISSING, sha256:{fresh}): {nobody}",
        "    linked to no other evidence given here",
        "falls into 2 parts that nothing links: [1] [2]; [3]",
    ]
    labels = [None, None, Label.MISSING, None, Label.HARDWARE, None, Label.MISSING, None, None]
    assert [label for _, label in lines] == labels
    assert chain_text.summary(chain.build([member("a", optimize())])) == "chain of 1 run; links: 1 missing"
    alone = chain_text.render(chain.build([member("t", train(data={"d": dataset(None)}))]), escape=str)
    assert alone[2][0].startswith("    data.d <- (MISSING): nothing identifies")
    assert not any("linked to no other" in line for line, _ in alone)
    assert chain_text.summary(chain.build([member("m", bind())])) == "chain of 1 run; links: none"
