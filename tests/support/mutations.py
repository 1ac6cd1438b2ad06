"""Random mutations of canonical JSON documents, drawn from a seed: on their bytes, and on what they hold.

A document is taken apart as deep as it goes: statements, log entries and receipts that travel in base64 are
documents themselves, and so are the texts inside collateral. Nothing here knows a field by name, so a new
field is mutated without being listed.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import copy
import functools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from random import Random

Path: TypeAlias = tuple[Any, ...]

MAX_BYTES: Final = 1 << 26
TRIES: Final = 50
INSIDE: Final = "$"
"""Step of a path that leads from a text into the document it holds."""
_HEX: Final = re.compile(r"[0-9a-f]*")
_NUMBERS: Final = (0, 1, -1, 2**53 - 1, 0.5, 1e300)
_SUBSTITUTES: Final = (None, True, 0, "", "x", [], {}, [None], {"": 0})


@dataclass(frozen=True)
class Mutation:
    """A mutated document.

    Attributes:
        kind: Name of the kind.
        where: What was mutated: a range of bytes, or the paths of fields.
        data: The bytes.
        fields: The fields, with ``*`` in place of positions in lists.
    """

    kind: str
    where: str
    data: bytes
    fields: frozenset[str] = frozenset()


@dataclass
class Blob:
    """Bytes that travel in base64 and are no document."""

    data: bytes


@dataclass
class Inside:
    """A document that travels as text: in base64, or as it is."""

    value: Any
    in_base64: bool


class Shuffled(dict[str, Any]):
    """An object whose keys are written in the order they stand in."""


def mutate(
    data: bytes, others: Sequence[bytes], random: Random, *, wanted: AbstractSet[str] = frozenset()
) -> Mutation:
    """Returns one mutation of a document; it may be the same bytes again, which the caller can tell.

    Args:
        data: A canonical JSON document.
        others: Further documents of the same kind, to take parts from.
        random: Where every choice comes from.
        wanted: Fields that are drawn more often than others, as `Mutation.fields` names them.
    """
    kind = random.choice(list(KINDS))
    if kind.startswith("bytes"):
        return _mutate_bytes(kind, data, others, random)
    return mutate_fields(kind, data, others, random, wanted=wanted)


def mutate_fields(
    kind: str, data: bytes, others: Sequence[bytes], random: Random, *, wanted: AbstractSet[str] = frozenset()
) -> Mutation:
    """Returns one mutation of a given kind; the arguments are those of `mutate`."""
    tree = copy.deepcopy(_taken_apart(data))
    donors = [_taken_apart(other) for other in others]
    paths = [path for path, _ in walk(tree) if path]
    if wanted and random.random() < 0.5:
        paths = [path for path in paths if field_at(path) in wanted] or paths
    bent: list[Path] = []
    several = random.choice((1, 1, 1, 2))
    for path in random.choices(paths, k=TRIES) if paths else ():
        if any(path[: len(other)] == other for other in bent):
            continue  # no longer there
        if KINDS[kind](tree, path, donors, random):
            bent.append(path)
        if len(bent) == several:
            break
    return Mutation(
        kind,
        " and ".join(".".join(map(str, path)) for path in bent),
        spell(tree).encode("utf-8", "surrogatepass"),
        frozenset(map(field_at, bent)),
    )


def fields_of(data: bytes) -> frozenset[str]:
    """Returns every field of a document that a mutation can touch, as `Mutation.fields` names them."""
    return frozenset(field_at(path) for path, _ in walk(_taken_apart(data)) if path)


def field_at(path: Path) -> str:
    return ".".join("*" if isinstance(step, int) else step for step in path)


def walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yields every part of an unpacked document with its path."""
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from walk(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(item, (*path, index))
    elif isinstance(value, Inside):
        yield from walk(value.value, (*path, INSIDE))


def unpack(value: Any) -> Any:
    """Returns a JSON value with documents in it opened, and bytes in base64 decoded."""
    if isinstance(value, dict):
        return {key: unpack(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if isinstance(value, str) and not _HEX.fullmatch(value):
        return _opened(value)
    return value


def spell(value: Any) -> str:
    """Writes an unpacked document as canonical JSON, but for what was shuffled."""
    if isinstance(value, Shuffled):
        return "{" + ",".join(f"{spell(key)}:{spell(item)}" for key, item in value.items()) + "}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{spell(key)}:{spell(value[key])}" for key in sorted(value, key=_units)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spell, value)) + "]"
    if isinstance(value, Blob):
        return spell(base64.b64encode(value.data).decode("ascii"))
    if isinstance(value, Inside):
        text = spell(value.value).encode("utf-8", "surrogatepass")
        inner = base64.b64encode(text) if value.in_base64 else text
        return json.dumps(inner.decode("utf-8", "surrogatepass"), ensure_ascii=False)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return encode_json(value).decode("ascii")


def _change(tree: Any, path: Path, _donors: Sequence[Any], random: Random) -> bool:
    old = get(tree, path)
    if isinstance(old, Blob):
        new: Any = Blob(_flip(old.data, random))
    elif isinstance(old, str) and old:
        at = random.randrange(len(old))
        new = old[:at] + random.choice("0123456789abcdef AZ/+=\0é") + old[at + 1 :]
    elif isinstance(old, bool):
        new = not old
    elif isinstance(old, (int, float)):
        new = random.choice((old + 1, old - 1, -old, *_NUMBERS))
        new = old if abs(new) > 2**53 - 1 and isinstance(new, int) else new
    else:
        new = random.choice(_SUBSTITUTES)
    return _put(tree, path, new)


def _swap(tree: Any, path: Path, donors: Sequence[Any], random: Random) -> bool:
    try:
        new = copy.deepcopy(get(random.choice(donors), path))
    except (LookupError, TypeError, AttributeError):
        return False
    return spell(new) != spell(get(tree, path)) and _put(tree, path, new)


def _truncate(tree: Any, path: Path, _donors: Sequence[Any], random: Random) -> bool:
    def cut(old: Any) -> Any:
        start, end = sorted(random.sample(range(len(old) + 1), 2))
        return random.choice((old[:start], old[:start] + old[end:]))

    return _reshape(tree, path, cut, random, drop=True)


def _duplicate(tree: Any, path: Path, _donors: Sequence[Any], random: Random) -> bool:
    def double(old: Any) -> Any:
        start, end = sorted(random.sample(range(len(old) + 1), 2))
        at = random.choice((start, end, random.randint(0, len(old))))
        return old[:at] + old[start:end] + old[at:]

    return _reshape(tree, path, double, random, drop=False)


def _reorder(tree: Any, path: Path, _donors: Sequence[Any], random: Random) -> bool:
    old = get(tree, path)
    if isinstance(old, dict):
        keys = list(old)
        random.shuffle(keys)
        if random.random() < 0.5:  # the order on the wire, or which value stands under which key
            return _put(tree, path, Shuffled({key: old[key] for key in keys}))
        return _put(tree, path, dict(zip(sorted(old), (old[key] for key in keys), strict=True)))

    def exchange(old: Any) -> Any:
        one, two, three, four = sorted(random.choices(range(len(old) + 1), k=4))
        return old[:one] + old[three:four] + old[two:three] + old[one:two] + old[four:]

    return _reshape(tree, path, exchange, random, drop=False)


KINDS: Final[dict[str, Callable[[Any, Path, Sequence[Any], Random], bool]]] = {
    "field changed": _change,
    "field swapped": _swap,
    "field truncated": _truncate,
    "field duplicated": _duplicate,
    "field reordered": _reorder,
    **dict.fromkeys(
        ("bytes flipped", "bytes swapped", "bytes truncated", "bytes duplicated", "bytes reordered"), _change
    ),
}
"""Kinds by name; those of bytes look at no field."""


def get(tree: Any, path: Path) -> Any:
    """Returns the part at a path.

    Raises:
        LookupError: If there is none (or TypeError, AttributeError: if the way leads through something else).
    """
    for step in path:
        tree = tree.value if step == INSIDE and isinstance(tree, Inside) else tree[step]
    return tree


def _put(tree: Any, path: Path, new: Any) -> bool:
    holder = get(tree, path[:-1])
    if isinstance(holder, Inside):
        holder.value = new
    else:
        holder[path[-1]] = new
    return True


def _reshape(tree: Any, path: Path, reshape: Callable[[Any], Any], random: Random, *, drop: bool) -> bool:
    """Reshapes a sequence of bytes, characters or items; an object loses a key, or gets one twice."""
    old = get(tree, path)
    if isinstance(old, Blob) and old.data:
        return _put(tree, path, Blob(reshape(old.data)))
    if isinstance(old, (str, list)) and old:
        return _put(tree, path, reshape(old))
    if isinstance(old, dict) and old:
        key = random.choice(list(old))
        rest = {name: item for name, item in old.items() if name != key or not drop}
        return _put(tree, path, rest if drop else {**rest, key + "2": old[key]})
    return False


def _mutate_bytes(kind: str, data: bytes, others: Sequence[bytes], random: Random) -> Mutation:
    start = random.randrange(len(data))
    end = min(len(data), start + random.choice((1, 2, 16, 256, 4096)))
    where = f"bytes {start} to {end}"
    if kind == "bytes flipped":
        changed = data[:start] + _flip(data[start : start + 1], random) + data[start + 1 :]
    elif kind == "bytes swapped":
        other = random.choice(others)
        changed = data[:start] + other[start:end] + data[end:]
    elif kind == "bytes truncated":
        changed = random.choice((data[:start], data[end:], data[:start] + data[end:]))
    elif kind == "bytes duplicated":
        changed = data[:end] + data[start:end] + data[end:]
    else:
        middle = random.randint(start, end)
        changed = data[:start] + data[middle:end] + data[start:middle] + data[end:]
    return Mutation(kind, where, changed)


def _opened(text: str) -> Any:
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
        in_base64 = base64.b64encode(data).decode("ascii") == text
    except (UnicodeEncodeError, binascii.Error):
        in_base64 = False
    if in_base64:
        try:
            return Inside(unpack(_parse(data)), in_base64=True)
        except EncodingError:
            return Blob(data)
    if text.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError, EncodingError):
            value = json.loads(text)
            if spell(value) == text:
                return Inside(value, in_base64=False)
    return text


@functools.lru_cache(maxsize=64)
def _taken_apart(data: bytes) -> Any:
    """Returns the document unpacked; whoever changes it copies it first."""
    return unpack(_parse(data))


def _parse(data: bytes) -> Any:
    return decode_json(data, what="document", max_bytes=MAX_BYTES)


def _units(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _flip(data: bytes, random: Random) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    bit = random.randrange(8 * len(data))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
