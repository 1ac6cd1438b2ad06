"""YAML that means what it looks like: what people write for palm-torch, policies above all.

No aliases, no tags, no duplicate keys; keys are text, numbers decimal, dates text; no value inside more
than 32 lists and mappings, which is found out before the parser follows them. What YAML 1.1 would guess
otherwise (``010`` is eight, ``1:30`` ninety, the last of two equal keys wins) is an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from palm_torch.encoding import MAX_DEPTH
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from palm_torch.encoding import Json
    from palm_torch.errors import InputError

_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with what it guesses turned into errors."""

    around = 0
    """Lists and mappings around the value that is being read."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses aliases, tags and depth: a document says each thing where it stands, as it looks."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML leaves it out
        where = f"line {event.start_mark.line + 1 if event.start_mark else 0}"
        if isinstance(event, yaml.AliasEvent):
            raise EncodingError(f"{where}: YAML aliases are not read; write the value out")
        if getattr(event, "tag", None) is not None:
            raise EncodingError(f"{where}: YAML tags are not read; write the value plainly")
        if self.around > MAX_DEPTH:
            raise EncodingError(f"{where}: nesting deeper than {MAX_DEPTH}")
        self.around += 1
        node = super().compose_node(parent, index)
        self.around -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 (the signature is PyYAML's)
        """Refuses duplicate keys, of which PyYAML would keep the last."""
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            where = f"line {key_node.start_mark.line + 1}"
            if not isinstance(key, str):
                raise EncodingError(f"{where}: keys are text, got {key!r}")
            if key in mapping:
                raise EncodingError(f"{where}: {key!r} appears twice")
            mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    """Reads a decimal number; YAML 1.1 would take 010 for eight and 1:30 for ninety."""
    del loader
    if not _DECIMAL.fullmatch(node.value):
        raise EncodingError(
            f"line {node.start_mark.line + 1}: expected a decimal number, got {node.value[:40]!r}"
        )
    return float(node.value) if set(node.value) & set(".eE") else int(node.value)


def _as_written(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    """Reads a date as its text, which whoever expects a time parses by his own rules."""
    del loader
    text: str = node.value
    return text


for _tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
    _Loader.add_constructor(_tag, _number)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_written)
_Loader.add_implicit_resolver(  # 1e-3, which YAML 1.1 takes for text
    "tag:yaml.org,2002:float",
    re.compile(r"-?[0-9]+(\.[0-9]+)?[eE][-+]?[0-9]+$", re.ASCII),
    list("-0123456789"),
)


def parse(text: bytes, *, what: str, max_bytes: int, error: type[InputError]) -> Json:
    """Parses one YAML document.

    Args:
        text: UTF-8.
        what: Name of the file, the beginning of every message.
        max_bytes: Largest accepted document, in bytes.
        error: Class of the error to raise.

    Raises:
        InputError: Of class `error`, naming the line where there is one.
    """
    if len(text) > max_bytes:
        raise error(f"{what}: expected at most {max_bytes} bytes, got {len(text)}")
    try:
        document: Json = yaml.load(text.decode("utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except EncodingError as cause:
        raise error(f"{what}: {cause}") from cause
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as cause:
        raise error(f"{what}: not a YAML document: {_on_one_line(cause)}") from cause
    return document


def _on_one_line(cause: Exception) -> str:
    """Returns what is wrong and where, without the excerpt that PyYAML spreads over several lines."""
    if isinstance(cause, yaml.MarkedYAMLError) and (mark := cause.problem_mark):
        said = ", ".join(part for part in (cause.context, cause.problem) if part)
        return f"line {mark.line + 1}, column {mark.column + 1}: {said}"
    return " ".join(str(cause).split())


def quoted(text: str) -> str:
    r"""Returns text as a YAML scalar in double quotes: printable ASCII on one line, whatever the text is.

    >>> print(quoted('loss\nversion: 2'))
    "loss\x0aversion: 2"
    """
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if " " <= char <= "~" and char not in '"\\':
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 (YAML's three widths)
