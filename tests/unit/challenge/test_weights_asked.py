"""Which blocks of weights an answer opens, and that it opens no others."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import audited
import pytest
import weights_at_hand

from palm_torch.challenge import challenge, request, weights_asked, weights_shown
from palm_torch.challenge.places import Place
from palm_torch.challenge.tokens import Tokens
from palm_torch.challenge.weights_asked import WeightsQuestion
from palm_torch.commit import weights_commitment, weights_opening
from palm_torch.errors import ArtifactError, BindingError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.challenge.geometry import Geometry
    from palm_torch.commit.opening_file import WeightsOpening


def asked_for(
    model: Geometry,
    *places: Place,
    whole: tuple[int, ...] = (),
    coordinates: int = 2,
    tokens: Tokens | None = audited.TOKENS,
) -> tuple[challenge.Asked, list[WeightsQuestion]]:
    made = audited.Audited(model)
    drawn = request.draw(made.encoded, model, claims=None, nonce=audited.NONCE, coordinates=coordinates)
    asked = dataclasses.replace(challenge.asked(drawn, made.context), places=places, whole=whole)
    return asked, list(weights_asked.weights_questions(drawn, asked, tokens))


def test_none_where_the_verifier_has_the_weights() -> None:
    assert asked_for(audited.llama(), Place(1, 0, 3), coordinates=0)[1] == []


def test_a_block_of_a_llama() -> None:
    asked, found = asked_for(audited.llama(model_type="qwen3", attention_bias=True), Place(1, 0, 3))
    attention = "model.layers.0.self_attn"
    rows = [
        WeightsQuestion(f"{attention}.k_proj.weight", (row, row + 1), (0, 32))
        for row in asked.coordinates(0, "key", 16)
    ]
    assert [one for one in found if one.name == f"{attention}.k_proj.weight"] == rows
    down = [one for one in found if one.name.endswith("down_proj.weight")]
    assert {one.columns for one in down} == {(0, 48)}
    vectors = {
        one.name.removeprefix("model.layers.0."): one.columns[1] for one in found if one.rows == (0, 1)
    }
    assert vectors == {
        "input_layernorm.weight": 32,
        "self_attn.q_proj.bias": 32,
        "self_attn.k_proj.bias": 16,
        "self_attn.v_proj.bias": 16,
        "self_attn.o_proj.bias": 32,
        "post_attention_layernorm.weight": 32,
        "self_attn.q_norm.weight": 8,
        "self_attn.k_norm.weight": 8,
    } | {name: size for name, size in vectors.items() if "proj.weight" in name}
    assert len(found) == 7 * 2 + 8


def test_a_block_of_a_gpt2_has_whole_matrices_and_its_head_rows() -> None:
    _, found = asked_for(audited.gpt2(), Place(1, 0, 3), Place(3, 0, 7))
    assert WeightsQuestion("transformer.h.0.attn.c_attn.weight", (0, 32), (0, 96)) in found
    assert WeightsQuestion("transformer.h.0.attn.c_attn.bias", (0, 1), (0, 96)) in found
    assert WeightsQuestion("transformer.h.0.mlp.c_proj.weight", (0, 128), (0, 32)) in found
    assert WeightsQuestion("transformer.ln_f.bias", (0, 1), (0, 32)) in found
    assert sum(one.name == "transformer.wte.weight" for one in found) == 2


def test_rows_of_embeddings_are_those_of_the_ids() -> None:
    _, found = asked_for(audited.gpt2(), Place(0, 0, 3), Place(0, 1, 0), Place(0, 0, 3))
    assert found == [
        WeightsQuestion("transformer.wte.weight", (6, 7), (0, 32)),
        WeightsQuestion("transformer.wpe.weight", (1, 2), (0, 32)),
        WeightsQuestion("transformer.wte.weight", (1, 2), (0, 32)),
        WeightsQuestion("transformer.wpe.weight", (0, 1), (0, 32)),
    ]
    assert asked_for(audited.llama(), Place(0, 0, 0))[1] == []
    assert asked_for(audited.llama(), Place(0, 0, 3), tokens=None)[1] == []
    with pytest.raises(DataError, match="tokens: expected ids below 64, got 64"):
        asked_for(audited.llama(), Place(0, 0, 0), tokens=Tokens(((64,) * 8,) * 2))


def test_whole_blocks_have_coordinates_of_their_own() -> None:
    asked, found = asked_for(audited.llama(), Place(2, 0, 1), whole=(1,))
    rows = {one.rows[0] for one in found if one.name == "model.layers.0.mlp.up_proj.weight"}
    assert rows == set(asked.coordinates(1, "up", 48))


def stored(*, tied: bool = False) -> dict[str, weights_at_hand.Stored]:
    shapes = {"model.embed_tokens.weight": [64, 32], "model.norm.weight": [32], "lm_head.weight": [64, 32]}
    made = {
        name: ("F32", shape, weights_at_hand.some_bytes(4 * 32 * (shape[0] if len(shape) > 1 else 1), number))
        for number, (name, shape) in enumerate(shapes.items())
    }
    if tied:
        del made["lm_head.weight"]
    return made


QUESTIONS = [
    WeightsQuestion("model.norm.weight", (0, 1), (0, 32)),
    WeightsQuestion("model.embed_tokens.weight", (3, 4), (0, 32)),
    WeightsQuestion("model.norm.weight", (0, 1), (0, 32)),
    WeightsQuestion("model.embed_tokens.weight", (60, 61), (0, 32)),
]


def opened(path: Path) -> tuple[Any, tuple[WeightsOpening, ...]]:
    root = weights_commitment.commit(path).root
    listed = weights_shown.listed(path, root, audited.llama())
    return root, weights_shown.open_all(path, listed, QUESTIONS)


def test_openings_stand_in_the_order_of_the_questions(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "m.safetensors", stored())
    root, found = opened(path)
    weights_asked.check(found, QUESTIONS, root)
    shown = [weights_opening.verify(opening, root) for opening in found]
    data = stored()["model.embed_tokens.weight"][2]
    assert [one.values for one in shown] == [
        stored()["model.norm.weight"][2],
        data[3 * 128 : 4 * 128],
        stored()["model.norm.weight"][2],
        data[60 * 128 : 61 * 128],
    ]


def test_openings_of_something_else(tmp_path: Path) -> None:
    root, found = opened(weights_at_hand.write(tmp_path / "m.safetensors", stored()))
    for openings, asked, says in (
        (found[1:], QUESTIONS, "expected 4 openings of weights, got 3"),
        ((found[1], found[0], *found[2:]), QUESTIONS, "weights 0: expected model.norm.weight, rows 0:1"),
        (
            (found[0], found[3], *found[2:]),
            QUESTIONS,
            "expected model.embed_tokens.weight, rows 3:4, columns 0:32",
        ),
    ):
        with pytest.raises(BindingError) as caught:
            weights_asked.check(openings, asked, root)
        assert says in str(caught.value)
    with pytest.raises(BindingError, match="weights 0: expected them under the root"):
        weights_asked.check(found, QUESTIONS, audited.Audited(audited.llama()).root)


def test_tied_weights_that_the_file_has_once(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "m.safetensors", stored(tied=True))
    plain = weights_commitment.commit(path)
    embedding = plain.tensors[plain.find("model.embed_tokens.weight") or 0]
    tied = dataclasses.replace(embedding, name="lm_head.weight", aliases=("model.embed_tokens.weight",))
    others = [tensor for tensor in plain.tensors if tensor != embedding]
    root = weights_commitment.commit(path, like=[tied, *others]).root
    listed = weights_shown.listed(path, root, audited.llama(tie_word_embeddings=True))
    found = weights_shown.open_all(path, listed, QUESTIONS)
    weights_asked.check(found, QUESTIONS, root)
    assert found[1].tensor.name == "lm_head.weight"
    weights_opening.verify(found[1], root)
    with pytest.raises(ArtifactError, match=r"which the trace names, got .*: other weights"):
        weights_shown.listed(path, root, audited.llama())
    with pytest.raises(ArtifactError, match="other weights"):
        weights_shown.listed(path, embedding.root, audited.llama(tie_word_embeddings=True))


def test_tied_weights_that_the_file_has_twice(tmp_path: Path) -> None:
    twice = stored()
    twice["lm_head.weight"] = twice["model.embed_tokens.weight"]
    path = weights_at_hand.write(tmp_path / "m.safetensors", twice)
    once = weights_at_hand.write(tmp_path / "once.safetensors", stored(tied=True))
    plain = weights_commitment.commit(once)
    model = audited.llama(tie_word_embeddings=True)
    like = weights_shown.as_tied(plain.tensors, "model.embed_tokens.weight")
    root = weights_commitment.commit(once, like=like).root
    assert weights_shown.listed(path, root, model).root == root


def test_weights_that_lack_what_is_asked(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "m.safetensors", stored(tied=True))
    listed = weights_commitment.commit(path)
    with pytest.raises(
        DataError, match=r"expected a tensor 'lm_head\.weight', which the model has, got none"
    ):
        weights_shown.open_all(path, listed, [WeightsQuestion("lm_head.weight", (0, 1), (0, 32))])
    with pytest.raises(DataError, match=r"expected rows A:B within 0:64, got 64:65"):
        weights_shown.open_all(
            path, listed, [WeightsQuestion("model.embed_tokens.weight", (64, 65), (0, 32))]
        )
    without = {"model.norm.weight": stored()["model.norm.weight"]}
    other = weights_at_hand.write(tmp_path / "other.safetensors", without)
    with pytest.raises(ArtifactError, match="other weights"):
        weights_shown.listed(other, listed.root, audited.llama(tie_word_embeddings=True))


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "m.safetensors", stored())
    listed = weights_commitment.commit(path)
    changed = stored()
    dtype, shape, data = changed["model.norm.weight"]
    changed["model.norm.weight"] = dtype, shape, bytes(len(data))
    weights_at_hand.write(path, changed)
    with pytest.raises(ArtifactError, match=r"tensor 'model\.norm\.weight': expected the root"):
        weights_shown.open_all(path, listed, QUESTIONS)


def test_a_tensor_of_several_tiles(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "m.safetensors")
    listed = weights_commitment.commit(path)
    row = weights_at_hand.WIDTH * 4
    asked = [WeightsQuestion("body.weight", (at, at + 1), (0, weights_at_hand.WIDTH)) for at in (199, 70)]
    found = weights_shown.open_all(path, listed, asked)
    data = weights_at_hand.MODEL["body.weight"][2]
    shown = [weights_opening.verify(opening, listed.root).values for opening in found]
    assert shown == [data[199 * row :], data[70 * row : 71 * row]]
    assert [len(opening.tiles) for opening in found] == [8 * row, 64 * row]
