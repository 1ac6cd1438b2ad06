"""Checks the documents: links, anchors and named tests lead somewhere, Python blocks compile.

Usage: ``python tools/check_docs.py [ROOT]``. Nothing is fetched: a link with a scheme is not followed.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

_FENCE: Final = re.compile(r"^ {0,3}(?P<marks>`{3,}|~{3,})\s*(?P<language>[\w+-]*)")
_INLINE_CODE: Final = re.compile(r"(`+).+?\1")
_LINK: Final = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^()\s]+)(?:\s+\"[^\"]*\")?\)")
_HEADING: Final = re.compile(r"^#{1,6}\s+(?P<text>.+?)\s*#*$")
_TEST: Final = re.compile(r"`(?:tests/)?(?P<path>[a-z]+/(?:[a-z]+/)*test_[a-z0-9_]+\.py)`")
_SCHEME: Final = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def main() -> int:
    """Prints every fault as ``file:line: what`` and returns 1 if there is one."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    documents = sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")])
    if not documents:
        print(f"{root}: expected Markdown documents, found none", file=sys.stderr)
        return 1
    faults = [fault for document in documents for fault in faults_of(document, root)]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"documents: {len(documents)} checked, {len(faults)} faults")
    return 1 if faults else 0


def faults_of(document: Path, root: Path) -> Iterator[str]:
    """Yields what is wrong with one document."""
    name = document.relative_to(root)
    prose, blocks = split(document.read_text(encoding="utf-8"))
    for number, line in prose:
        for link in _LINK.finditer(_INLINE_CODE.sub("", line)):
            problem = link_problem(document, root, link["target"])
            if problem:
                yield f"{name}:{number}: link {link['target']!r}: {problem}"
        for test in _TEST.finditer(line):
            if not (root / "tests" / test["path"]).is_file():
                yield f"{name}:{number}: test {test['path']!r}: no such file"
    for number, language, code in blocks:
        if language != "python":
            continue
        try:
            ast.parse(textwrap.dedent(code))
        except SyntaxError as error:
            yield f"{name}:{number + (error.lineno or 0)}: Python block: {error.msg}"


def split(text: str) -> tuple[list[tuple[int, str]], list[tuple[int, str, str]]]:
    """Separates prose from fenced blocks.

    Returns:
        Numbered lines of prose, and (line of the opening fence, language, code) of every block; a block
        that never ends runs to the end of the document, as Markdown has it.
    """
    prose: list[tuple[int, str]] = []
    blocks: list[tuple[int, str, str]] = []
    fence, language, start, code = "", "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        mark = _FENCE.match(line)
        if not fence and mark:
            fence, language, start, code = mark["marks"], mark["language"], number, []
        elif fence and mark and mark["marks"].startswith(fence) and not mark["language"]:
            blocks.append((start, language, "\n".join(code)))
            fence = ""
        elif fence:
            code.append(line)
        else:
            prose.append((number, line))
    if fence:
        blocks.append((start, language, "\n".join(code)))
    return prose, blocks


def link_problem(document: Path, root: Path, target: str) -> str | None:
    """Says why a link leads nowhere, or returns None."""
    if _SCHEME.match(target):
        return None
    path_text, _, anchor = unquote(target).partition("#")
    path = (document.parent / path_text).resolve() if path_text else document
    if not path.is_relative_to(root):
        return "leads out of the repository"
    if not path.exists():
        return "no such file"
    if anchor and path.suffix == ".md" and anchor not in anchors(path.read_text(encoding="utf-8")):
        return f"no heading #{anchor} there"
    return None


def anchors(text: str) -> set[str]:
    """Returns the anchors that code hosts make of a document's headings."""
    found: dict[str, int] = {}
    names: set[str] = set()
    for _, line in split(text)[0]:
        heading = _HEADING.match(line)
        if heading is None:
            continue
        words = re.sub(r"[^\w\- ]", "", heading["text"].lower()).replace(" ", "-")
        times = found.get(words, 0)
        found[words] = times + 1
        names.add(f"{words}-{times}" if times else words)
    return names


if __name__ == "__main__":
    sys.exit(main())
