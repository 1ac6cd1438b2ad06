"""Honest re-runs of a model: the same tokens, computed in another way.

Each way is one function in a table. It yields the model to tap and what calls it; whatever it changed is as
before when its block ends.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch

from palm_torch import encoding, extras, files
from palm_torch.committing import fingerprints
from palm_torch.errors import DataError, EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from palm_torch.audit.fingerprint_file import Fingerprint

Way: TypeAlias = (
    "Callable[[Any, torch.Tensor], contextlib.AbstractContextManager[tuple[nn.Module, Callable[[], object]]]]"
)

WAYS: Final[dict[str, Way]] = {}
"""Name → what runs a model that way over ids [1, tokens]."""

PLAIN: Final = "plain"
MAX_BYTES: Final = 64 << 20
"""Largest file of prompts, in bytes."""

_COPIES: Final = 3
_OTHER_TYPE: Final = {torch.float32: torch.bfloat16}
_OTHER_ATTENTION: Final = {"sdpa": "eager"}


def _way(name: str) -> Callable[[Callable[..., Iterator[Any]]], Way]:
    def add(function: Callable[..., Iterator[Any]]) -> Way:
        WAYS[name] = contextlib.contextmanager(function)
        return WAYS[name]

    return add


def model_of(named: str) -> tuple[Any, Any]:
    """Loads a model, to be run and not trained.

    Args:
        named: A folder of transformers', which is never fetched and whose code is never run, or
            ``module:function``, where the function returns a module.

    Returns:
        The model and its tokenizer, or None.

    Raises:
        DataError: If there is no such folder or function, or it returns something else.
        MissingExtraError: If a folder is given and transformers is not installed.
    """
    path = Path(named)
    if path.is_dir():
        with extras.needed("hf", for_what=f"the model in {named}"):
            from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 (an extra)
        only_here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            model = AutoModelForCausalLM.from_pretrained(
                path, use_safetensors=True, dtype="auto", **only_here
            )
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{named}: cannot be loaded as a causal language model: {str(error)[:300]}"
            ) from error
        tokenizer = None
        with contextlib.suppress(OSError, ValueError, KeyError):  # prompts may be ids
            tokenizer = AutoTokenizer.from_pretrained(path, **only_here)
        return _still(model), tokenizer
    module, colon, function = named.partition(":")
    if not (module and colon and function):
        raise DataError(f"model: expected a folder or module:function, got {named!r}")
    try:
        made = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise DataError(f"model: {named}: {error}") from error
    if not isinstance(made, torch.nn.Module):
        raise DataError(f"model: {named}: expected it to return a torch.nn.Module, got {type(made).__name__}")
    return _still(made), None


def prompts_of(path: Path, tokenizer: Any, *, tokens: int) -> list[list[int]]:  # noqa: ANN401 (transformers')
    """Reads prompts, one in each line: text, or a JSON list of ids; empty lines are none.

    Args:
        path: The file.
        tokenizer: What makes ids of text; None where there is none.
        tokens: Most tokens of a prompt; what is longer is cut.

    Raises:
        DataError: If the file cannot be read, a line is no prompt, or text is met without a tokenizer.
    """
    data = files.read_bounded(path, what="the prompts", max_bytes=MAX_BYTES, error=DataError)
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        if line.startswith(b"["):
            ids = ids_of(line, what=f"{path}, line {number}")
        elif tokenizer is None:
            raise DataError(
                f"{path}, line {number}: expected a list of ids: the model came without a tokenizer"
            )
        else:
            ids = list(tokenizer(line.decode("utf-8", "replace"))["input_ids"])
        if not ids:
            raise DataError(f"{path}, line {number}: expected one token or more")
        found.append(ids[:tokens])
    return found


def ids_of(data: bytes, *, what: str) -> list[int]:
    """Returns the ids of a JSON list such as ``[1,15043,3186]``.

    Raises:
        DataError: If it is anything else.
    """
    try:
        value = encoding.decode_json(data.replace(b" ", b""), what=what, max_bytes=MAX_BYTES)
    except EncodingError as error:
        raise DataError(str(error)) from error
    if not isinstance(value, list):
        raise DataError(f"{what}: expected a list of ids, got {str(value)[:80]!r}")
    found = [item for item in value if type(item) is int and item >= 0]
    if len(found) != len(value):
        raise DataError(f"{what}: expected a list of ids, got {str(value)[:80]!r}")
    return found


def ways_of(model: Any) -> tuple[str, ...]:  # noqa: ANN401 (any module)
    """Returns the ways that a model can be run in without compiling it or changing its element type."""
    attention = _attention(model) in _OTHER_ATTENTION
    caches = callable(getattr(model, "generate", None))
    return ("batch", "threads", *(["cache"] if caches else []), *(["attention"] if attention else []))


def run(
    model: Any,  # noqa: ANN401 (any module)
    ids: Sequence[int],
    *,
    way: str = PLAIN,
    sites: Sequence[str] | None = None,
    seed: bytes = b"",
) -> Fingerprint:
    """Runs a model over tokens, without gradients, and returns the fingerprint of the one sequence.

    Args:
        model: Takes ids [sequences, tokens].
        ids: The tokens.
        way: A key of `WAYS`.
        sites: As for `fingerprints.make`.
        seed: As for `fingerprints.make`.

    Raises:
        DataError: If there is no such way, or the model cannot be run that way.
        CoverageError: As for `fingerprints.of_run`.
    """
    if way not in WAYS:
        raise DataError(f"re-run: expected one of {', '.join(sorted(WAYS))}, got {way!r}")
    device = next(itertools.chain(model.parameters(), model.buffers()), torch.empty(0)).device
    tensor = torch.tensor([list(ids)], device=device)
    with torch.no_grad(), WAYS[way](model, tensor) as (tapped, call):
        return fingerprints.of_run(tapped, call, sites, seed=seed).sequence(0)


@_way(PLAIN)
def _plain(model: Any, ids: torch.Tensor) -> Iterator[Any]:  # noqa: ANN401 (any module)
    yield model, lambda: model(ids)


@_way("batch")
def _batch(model: Any, ids: torch.Tensor) -> Iterator[Any]:  # noqa: ANN401 (any module)
    """Among copies of itself: other shapes of every matrix product."""
    yield model, lambda: model(ids.repeat(_COPIES, 1))


@_way("threads")
def _threads(model: Any, ids: torch.Tensor) -> Iterator[Any]:  # noqa: ANN401 (any module)
    """With one thread instead of several, or two instead of one: sums in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        yield model, lambda: model(ids)
    finally:
        torch.set_num_threads(before)


@_way("cache")
def _cache(model: Any, ids: torch.Tensor) -> Iterator[Any]:  # noqa: ANN401 (any module)
    """The first half at once and then token after token, as a model generates."""

    def call() -> None:
        past, start = None, 0
        for end in range(max(ids.shape[1] // 2, 1), ids.shape[1] + 1):
            output = model(ids[:, start:end], past_key_values=past, use_cache=True)
            past, start = getattr(output, "past_key_values", None), end
            if past is None:
                raise DataError("re-run: the model returns no past_key_values: leave 'cache' out")

    yield model, call


@_way("attention")
def _attention_way(model: Any, ids: torch.Tensor) -> Iterator[Any]:  # noqa: ANN401 (any module)
    """Attention as written out instead of the fused one."""
    before = _attention(model)
    if before not in _OTHER_ATTENTION:
        raise DataError(f"re-run: no other attention for {before!r}: leave 'attention' out")
    model.set_attn_implementation(_OTHER_ATTENTION[before])
    try:
        yield model, lambda: model(ids)
    finally:
        model.set_attn_implementation(before)


@_way("compiled")
def _compiled(model: Any, ids: torch.Tensor) -> Iterator[Any]:  # noqa: ANN401 (any module)
    """Through Inductor: needs a compiler, and minutes for a large model."""
    compiled: Any = torch.compile(model)
    yield model, lambda: compiled(ids)


@_way("dtype")
def _dtype(model: Any, ids: torch.Tensor) -> Iterator[Any]:  # noqa: ANN401 (any module)
    """In bfloat16 instead of float32, or in float32; it takes a copy of the model."""
    own = next(model.parameters()).dtype
    other = copy.deepcopy(model).to(_OTHER_TYPE.get(own, torch.float32))
    yield other, lambda: other(ids)


def _still(model: nn.Module) -> nn.Module:
    """Puts a model in the mode in which nothing is dropped."""
    return model.train(mode=False)


def _attention(model: Any) -> str | None:  # noqa: ANN401 (any module)
    if not callable(getattr(model, "set_attn_implementation", None)):
        return None
    found: str | None = getattr(model.config, "_attn_implementation", None)
    return found
