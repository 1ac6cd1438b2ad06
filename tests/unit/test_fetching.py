"""`fetching`: a server is a stranger, and can neither keep us, nor flood us, nor send us anywhere."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import web

from palm_torch import fetching
from palm_torch.deadlines import Deadline
from palm_torch.errors import EvidenceError, FetchError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON_S = 0.3
LIMIT_BYTES = 1000


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def get(url: str, *, seconds: float = 60.0, max_bytes: int = LIMIT_BYTES) -> fetching.Answer:
    return fetching.get(url, max_bytes=max_bytes, deadline=Deadline.after(seconds))


def refused(answered: web.Handler | bytes, *, seconds: float = 60.0, path: str = "/x") -> str:
    """Returns what is said about an answer that is not taken."""
    handler = (lambda _path, _headers: answered) if isinstance(answered, bytes) else answered
    with web.serving(handler) as server, pytest.raises(FetchError) as raised:
        get(server.url + path, seconds=seconds)
    assert f"http://127.0.0.1:{server.port}" in str(raised.value)
    return str(raised.value)


def test_an_answer_is_body_and_headers() -> None:
    with web.serving(lambda _path, _headers: web.answer(b"body", Issuer_Chain="%41")) as server:
        found = get(f"{server.url}/a/b?c=d&e=f")
    assert server.requests == ["GET /a/b?c=d&e=f HTTP/1.1"]
    assert server.headers["host"] == f"127.0.0.1:{server.port}"
    assert (found.body, found.header("issuer-chain")) == (b"body", "%41")
    with pytest.raises(EvidenceError, match="expected the header absent once, got it 0 times"):
        found.header("absent")


def test_a_header_twice_is_none() -> None:
    said = b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\nContent-Length: 0\r\n\r\n"
    with web.serving(lambda _path, _headers: said) as server, pytest.raises(EvidenceError, match="2 times"):
        get(server.url).header("A")
    assert server.requests == ["GET / HTTP/1.1"]


def test_a_body_without_length_ends_with_the_connection_or_its_last_chunk() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    for said in (b"HTTP/1.1 200 OK\r\n\r\nabc", chunked):
        with web.serving(lambda _path, _headers, said=said: said) as server:  # type: ignore[misc]
            assert get(server.url).body == b"abc"


def test_a_body_of_exactly_the_limit_is_taken() -> None:
    with web.serving(lambda _path, _headers: web.answer(bytes(LIMIT_BYTES))) as server:
        assert get(server.url).body == bytes(LIMIT_BYTES)


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        (
            web.answer(b"nothing", status="404 Not Found"),
            "expected status 200, got 404 'Not Found'; the service",
        ),
        (web.answer(status="500 Oops"), "try again later"),
        (web.answer(status="418 Teapot"), "is it the right service"),
        (web.answer(status="204 No Content"), "got 204"),
        (web.answer(bytes(LIMIT_BYTES + 1)), "expected at most 1000 bytes, got 1001"),
        (web.answer(b"", length=10**12), "expected at most 1000 bytes, got 1000000000000"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(5000), "expected at most 1000 bytes, got more"),
        (web.answer(b"short", length=10), "expected 10 bytes as announced, got 5"),
        (web.answer(b"x", Content_Encoding="gzip"), "Content-Encoding 'gzip'"),
        (b"", "cannot fetch"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "cannot fetch"),
        (b"HTTP/1.1 abc\r\n\r\n", "cannot fetch"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "cannot fetch"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "cannot fetch"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", "cannot fetch"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n", "cannot fetch"),
    ],
)
def test_what_is_no_answer_is_refused(answered: bytes, said: str) -> None:
    assert said in refused(answered)


def test_an_endless_body_is_cut() -> None:
    def endless(_path: str, _headers: dict[str, str]) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield bytes(10_000)

    assert "got more" in refused(endless)


@pytest.mark.parametrize(
    ("start", "repeated"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\nA: ", b"a"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    ],
    ids=["silent", "dribbled header", "dribbled body", "half a body", "dribbled chunks"],
)
def test_a_slow_server_is_left(start: bytes, repeated: bytes) -> None:
    def slow(_path: str, _headers: dict[str, str]) -> Iterator[bytes]:
        yield start
        while True:
            time.sleep(SOON_S / 30)
            yield repeated

    assert "not done after 0.3 seconds" in refused(slow, seconds=SOON_S)


def test_the_deadline_holds_for_all_requests_together() -> None:
    deadline = Deadline.after(SOON_S)

    def waiting(_path: str, _headers: dict[str, str]) -> bytes:
        time.sleep(SOON_S / 3)
        return web.answer(b"x")

    def several(url: str) -> None:
        for _ in range(4):
            fetching.get(url, max_bytes=1, deadline=deadline)

    with web.serving(waiting) as server, pytest.raises(FetchError, match="not done after"):
        several(server.url)


def test_redirects_are_followed() -> None:
    def handler(path: str, _headers: dict[str, str]) -> bytes:
        number = int(path.rpartition("/")[2])
        return web.answer(b"there") if number == 3 else web.answer(status="302 F", Location=f"{number + 1}")

    with web.serving(handler) as server:
        found = get(f"{server.url}/a/0")
    assert (found.body, found.url) == (b"there", f"{server.url}/a/3")
    assert len(server.requests) == 1 + fetching.MAX_REDIRECTS


@pytest.mark.parametrize("status", ["301 A", "302 B", "303 C", "307 D", "308 E"])
def test_a_redirect_loop_ends(status: str) -> None:
    with (
        web.serving(lambda _path, _headers: web.answer(status=status, Location="/x")) as server,
        pytest.raises(FetchError, match="expected at most 3 redirects, got more"),
    ):
        get(f"{server.url}/x")
    assert len(server.requests) == 1 + fetching.MAX_REDIRECTS


@pytest.mark.parametrize(
    "location",
    [
        "http://pcs.example/x",
        "http://10.0.0.1/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://127.0.0.1:x/",
        "http://[::1/",
        "//pcs.example/x",
        "http://user@127.0.0.1/",
        "/a b",
    ],
)
def test_a_redirect_elsewhere_is_refused(location: str) -> None:
    with (
        web.serving(lambda _path, _headers: web.answer(status="302 F", Location=location)) as server,
        pytest.raises(
            FetchError, match=r"redirected to what may not be asked: URL|cannot fetch: Invalid IPv6"
        ),
    ):
        get(server.url)
    assert len(server.requests) == 1


def test_a_redirect_to_another_scheme_is_refused() -> None:
    said = refused(web.answer(status="302 F", Location="https://127.0.0.1/x"))
    assert "redirected from http to 'https://127.0.0.1/x'" in said


def test_a_redirect_that_names_nothing_leads_back_and_ends() -> None:
    assert "expected at most 3 redirects" in refused(web.answer(status="302 F"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "printable ASCII"),
        ("https://a/\r\nX: y", "printable ASCII"),
        ("https://é/", "printable ASCII"),
        ("https://a/" + "a" * 3000, "printable ASCII"),
        ("https:///x", "expected https://host/path"),
        ("pcs.example", "expected https://host/path"),
        ("file:///etc/passwd", "expected https://host/path"),
        ("ftp://a/b", "expected https://host/path"),
        ("http://pcs.example/", "http goes to 127.0.0.1, ::1, localhost alone"),
        ("http://127.0.0.1.example/", "http goes to"),
        ("https://a:99999/", "Port out of range"),
        ("https://user:secret@a/", "no user name"),
        ("https://a/#b", "no fragment"),
    ],
)
def test_a_url_that_may_not_be_asked(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        fetching.check_url(url)
    assert "secret" not in str(raised.value)


def test_an_address_in_brackets_is_one() -> None:
    assert fetching.check_url("https://[2001:db8::1]/x") == "https://[2001:db8::1]/x"
    assert fetching._target("https://[2001:db8::1]/x").authority == "[2001:db8::1]:443"


def test_a_server_nobody_vouches_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, trusted = web.tls_for("localhost", tmp_path)
    other, _ = web.tls_for("other.example", tmp_path)
    with web.serving(lambda _path, _headers: web.answer(b"x"), tls=context) as server:
        url = f"https://localhost:{server.port}/"
        with pytest.raises(FetchError, match="TLS failed: self-signed certificate; SSL_CERT_FILE"):
            get(url)
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert get(url).body == b"x"
        with pytest.raises(FetchError, match=r"TLS failed: .*127\.0\.0\.1"):
            get(server.url)
    with (
        web.serving(lambda _path, _headers: b"", tls=other) as server,
        pytest.raises(FetchError, match="TLS failed"),
    ):
        get(f"https://localhost:{server.port}/")


def test_a_server_without_tls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        web.Server, "_take", lambda _self, connection: connection.recv(1) and "GET / HTTP/1.1"
    )
    with (
        web.serving(lambda _path, _headers: web.answer(b"x")) as server,
        pytest.raises(FetchError, match=r"TLS failed|cannot fetch"),
    ):
        get(f"https://127.0.0.1:{server.port}/")


def test_a_silent_tls_server_is_left() -> None:
    with (
        web.serving(lambda _path, _headers: b"") as server,  # waits for the end of a request that never comes
        pytest.raises(FetchError, match="not done after"),
    ):
        get(f"https://127.0.0.1:{server.port}/", seconds=SOON_S)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FetchError, match="cannot fetch: Connection refused; is the network"):
        get(f"http://127.0.0.1:{port}/")


class Resolver:
    """A stand-in for the look-up of names."""

    def __init__(self, *ports: int, error: Exception | None = None) -> None:
        self.ports, self.error, self.asked = ports, error, list[str]()

    def __call__(self, host: str, _port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        if self.error:
            raise self.error
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))
            for port in self.ports
        ]


@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), UnicodeError("label too long")]
)
def test_a_name_that_is_none(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Resolver(error=error))
    with pytest.raises(FetchError, match=r"cannot fetch: (Name or service|label too long)"):
        get("https://pcs.example/")


def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Resolver())
    with pytest.raises(FetchError, match=r"pcs\.example has no address"):
        get("https://pcs.example/")


def test_the_look_up_of_a_name_ends_with_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_: left.wait())
    try:
        with pytest.raises(FetchError, match=r"not done after 0\.3 seconds"):
            get("https://pcs.example/", seconds=SOON_S)
    finally:
        left.set()


def test_an_address_that_refuses_leaves_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    with web.serving(lambda _path, _headers: web.answer(b"x")) as server:
        monkeypatch.setattr(socket, "getaddrinfo", Resolver(closed, server.port))
        assert get("http://localhost/").body == b"x"


@pytest.mark.parametrize("variable", ["https_proxy", "all_proxy"])
def test_a_proxy_of_the_environment_carries_tls_to_the_server(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = web.tls_for("pcs.example", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with web.serving(lambda _path, _headers: web.answer(b"x"), tls=context, proxy=True) as server:
        monkeypatch.setenv(variable, server.url)
        assert get("https://pcs.example/y").body == b"x"
        assert server.requests == ["CONNECT pcs.example:443 HTTP/1.1", "GET /y HTTP/1.1"]
        monkeypatch.setenv(variable, f"user:p%40ss@127.0.0.1:{server.port}")
        seen: list[dict[str, str]] = []
        taken = server._take

        def take(connection: socket.socket) -> str:
            line = taken(connection)
            seen.append(server.headers)
            return line

        server._take = take  # type: ignore[method-assign]
        assert get("https://pcs.example/y").body == b"x"
    assert seen[0]["proxy-authorization"] == "Basic dXNlcjpwQHNz"
    assert "proxy-authorization" not in seen[1]


def test_a_proxy_is_left_out_where_it_shall_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, trusted = web.tls_for("localhost", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with web.serving(lambda _path, _headers: web.answer(b"x"), tls=context) as server:
        assert get(f"https://localhost:{server.port}/").body == b"x"
        with pytest.raises(FetchError, match="Connection refused"):
            get(f"https://pcs.example:{server.port}/")
        monkeypatch.setenv("no_proxy", ".example")
        resolver = Resolver(server.port)
        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        with pytest.raises(FetchError, match="TLS failed"):
            get(f"https://pcs.example:{server.port}/")
    assert resolver.asked == ["pcs.example"]


def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with web.serving(lambda _path, _headers: web.answer(status="407 Who")) as server:
        monkeypatch.setenv("https_proxy", server.url)
        with pytest.raises(FetchError, match="the proxy of https_proxy refused with status 407"):
            get("https://pcs.example/")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "https://127.0.0.1", "http://", "http://a:b"])
def test_a_proxy_of_another_kind(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(InputError, match="https_proxy: "):
        get("https://pcs.example/")


def endlessly(start: bytes, piece: bytes) -> web.Handler:
    def handler(_path: str, _headers: dict[str, str]) -> Iterator[bytes]:
        yield start
        while True:
            yield piece

    return handler


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        (
            endlessly(CHUNKED + b"-1\r\n", bytes(10_000)),
            "a chunk of the answer says that it has less than no",
        ),
        (endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "the server sends more, around its answer"),
        (endlessly(CHUNKED, b"1" + b";" * 60_000 + b"\r\nx\r\n"), "the server sends more, around its answer"),
        (CHUNKED + b"-5\r\nabc\r\n0\r\n\r\n", "cannot fetch"),
    ],
    ids=["less than no bytes", "no answer yet", "long sizes", "another negative size"],
)
def test_no_more_is_read_than_an_answer_needs(answered: web.Handler | bytes, said: str) -> None:
    """Whatever a server says of lengths: a chunk of -1 bytes makes http.client ask for all there ever is."""
    assert said in refused(answered)
