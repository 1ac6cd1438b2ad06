"""One file speaks to strangers, four to processes of the same run; no other one imports what could."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import palm_torch

PACKAGE = Path(palm_torch.__file__).parent
OPENED = {
    "fetching.py": {"http", "socket", "ssl", "urllib"},
    "attesting/ranks_meeting.py": {"socket"},
    "attesting/ranks_frames.py": {"socket"},
    "data/measuring/processes.py": {"socket"},
    "data/measuring/ranks.py": {"socket"},
}
"""Who may: over the network `fetching.py`, and `measure` between the machines that torchrun started; the rest
within one machine. Verifying is none of them."""
UNIX = ("attesting/ranks_meeting.py", "attesting/ranks_frames.py", "data/measuring/processes.py")
BEYOND = ("AF_INET", "create_connection", "create_server", "getaddrinfo")
NETWORKING = frozenset(
    {
        "_socket",
        "_ssl",
        "aiohttp",
        "asyncio",
        "ftplib",
        "http",
        "httpx",
        "imaplib",
        "poplib",
        "requests",
        "smtplib",
        "socket",
        "socketserver",
        "ssl",
        "telnetlib",
        "urllib",
        "urllib3",
        "webbrowser",
        "xmlrpc",
    }
)


def networking_in(source: str) -> set[str]:
    """Returns what a module imports, anywhere in it, that could open a socket."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} & NETWORKING if _is_imported(node.value, source) else set()
    return found & NETWORKING


def _is_imported(name: str, source: str) -> bool:
    return any(
        f"{call}({quote}{name}{quote}" in source
        for call in ("import_module", "__import__")
        for quote in "'\""
    )


def test_these_files_alone_can_open_a_socket() -> None:
    found = {
        str(path.relative_to(PACKAGE)): networking
        for path in sorted(PACKAGE.rglob("*.py"))
        if (networking := networking_in(path.read_text(encoding="utf-8")))
    }
    assert found == OPENED


@pytest.mark.parametrize("name", UNIX)
def test_ranks_and_workers_of_one_machine_stay_in_it(name: str) -> None:
    source = (PACKAGE / name).read_text(encoding="utf-8")
    assert [word for word in BEYOND if word in source] == []


def test_twin_what_leaves_the_machine_would_be_seen() -> None:
    source = (PACKAGE / "data/measuring/ranks.py").read_text(encoding="utf-8")
    assert [word for word in BEYOND if word in source]


@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "import urllib.request as r",
        "from http.client import HTTPConnection",
        "from ssl import SSLContext",
        "def late():\n    import socket\n",
        "if TYPE_CHECKING:\n    from urllib import parse\n",
        "importlib.import_module('socket')",
        '__import__("ssl")',
    ],
)
def test_twin_every_form_of_import_would_be_seen(source: str) -> None:
    assert networking_in(source)


def test_twin_other_imports_are_let_be() -> None:
    assert not networking_in("import os, json\nfrom palm_torch import files\nx = 'socket'\n")
