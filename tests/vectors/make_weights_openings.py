"""Writes weights_openings.json: golden files of openings of weights, under both schemes.

Run by ``make vectors``; the same code always writes the same bytes. The model has the tensor of the example
in the specification, chapter 20 section 4, a vector and an empty tensor. Each case is the root that a
verifier trusts and the file that came from elsewhere. Results: ``valid``, ``invalid`` (well formed, but not
of the weights with this root) and ``malformed``. Each case that is not valid has one fault.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # also when it is not pytest that runs this

import weights_at_hand as at_hand
from terkle_vectors import Case, flipped, rendered

from palm_torch.encoding import encode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODEL: Final[dict[str, at_hand.Stored]] = {
    "a": ("F32", [2, 3], bytes(range(0x18))),
    "bias": ("BF16", [4], bytes(range(8))),
    "empty": ("F32", [0, 7], b""),
}

Document = dict[str, Any]


def put(*path: str, value: Any) -> Callable[[Document], None]:
    """Returns a fault: another value at this place of the document."""

    def change(document: Document) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = value

    return change


def bent(name: str) -> Callable[[Document], None]:
    """Returns a fault: one bit of some bytes."""

    def change(document: Document) -> None:
        document[name] = base64.b64encode(flipped(base64.b64decode(document[name]))).decode()

    return change


def longer(name: str) -> Callable[[Document], None]:
    """Returns a fault: 32 bytes too many."""

    def change(document: Document) -> None:
        document[name] = base64.b64encode(base64.b64decode(document[name]) + bytes(32)).decode()

    return change


OTHER_ROOT: Final = "palm-sha256:" + "11" * 32
FAULTS: Final[list[tuple[str, str, Callable[[Document], None]]]] = [
    ("said to be under another root", "invalid", put("root", value=OTHER_ROOT)),
    ("a bit of a tile", "invalid", bent("tiles")),
    ("another tensor's place", "invalid", put("index", value=0)),
    ("another name", "invalid", put("tensor", "name", value="b")),
    ("an alias that it has not", "invalid", put("tensor", "aliases", value=["head"])),
    ("another element type", "invalid", put("tensor", "dtype", value="float16")),
    ("another shape of as many elements", "invalid", put("tensor", "shape", value=[1, 4])),
    ("another root of the tensor", "invalid", put("tensor", "root", value=OTHER_ROOT)),
    ("another version", "malformed", put("media_type", value="application/x;version=2")),
    ("another scheme", "malformed", put("scheme", value="pst")),
    ("a place beyond the last tensor", "malformed", put("index", value=3)),
    ("columns beyond the edge", "malformed", put("columns", value=[0, 5])),
    ("no columns", "malformed", put("columns", value=[2, 2])),
    ("rows with a step", "malformed", put("rows", value=[0, 1, 1])),
    ("a tile with something behind", "malformed", longer("tiles")),
    ("something behind the proof", "malformed", longer("proof")),
    ("something behind the proof of the entry", "malformed", longer("entry_proof")),
    ("a root of another algorithm", "malformed", put("root", value="sha256:" + "11" * 32)),
    ("an unknown key", "malformed", put("comment", value="")),
]


def cases(scheme: Literal["hash", "kzg"], path: Path) -> Iterator[Case]:
    for name, columns in (("a", (1, 3)), ("bias", (1, 2))):
        opened = at_hand.opened(path, name, columns=columns, scheme=scheme)
        yield {
            "comment": f"columns {columns[0]}:{columns[1]} of {name!r}",
            "root": str(opened.root),
            "file": opened.encode().decode(),
            "values": opened.block.cut(opened.spec, opened.tiles).hex(),
            "result": "valid",
        }
    root, good = str(opened.root), opened.encode()
    no_point = "malformed" if scheme == "kzg" else "invalid"
    for comment, result, change in (
        *FAULTS,
        ("a bit of the proof of the entry", no_point, bent("entry_proof")),
    ):
        document = json.loads(good)
        change(document)
        yield {"comment": comment, "root": root, "file": encode_json(document).decode(), "result": result}
    yield {
        "comment": "a root of other weights",
        "root": OTHER_ROOT,
        "file": good.decode(),
        "result": "invalid",
    }
    yield {
        "comment": "white space behind the document",
        "root": root,
        "file": good.decode() + "\n",
        "result": "malformed",
    }


def render() -> str:
    """Returns the text of weights_openings.json."""
    with tempfile.TemporaryDirectory() as folder:
        path = at_hand.write(Path(folder) / "model.safetensors", MODEL)
        groups = [(scheme, list(cases(scheme, path))) for scheme in ("hash", "kzg")]
    return rendered("palm-torch weights openings vectors v1", groups)


if __name__ == "__main__":
    Path(__file__).with_name("weights_openings.json").write_text(render(), encoding="ascii")
