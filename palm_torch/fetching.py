"""One file over HTTP: the only code of this library that speaks to a stranger.

A server is a stranger: how long it may take, how much it may say and where it may send us is settled here,
whatever it answers. One deadline holds for everything, from the look-up of its name to the last byte.
Proxies are those of the environment (``https_proxy``, ``all_proxy``, ``no_proxy``), TLS roots those of the
machine, or of ``SSL_CERT_FILE``. What was fetched is believed by nobody: `verify` checks it against pinned
roots, offline.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import io
import re
import socket
import ssl
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.deadlines import Deadline, within
from palm_torch.errors import EvidenceError, FetchError, InputError

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_REDIRECTS: Final = 3
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
"""The hosts that may be asked without TLS, and are never asked through a proxy."""

_PORTS: Final = {"https": 443, "http": 80}
_URL: Final = re.compile(r"[!-~]{1,2048}")
_CHUNK_BYTES: Final = 65_536
_AROUND_BYTES: Final = 262_144
"""What may come besides the body, in bytes: status, headers, and the sizes of chunks."""

_OK: Final = 200
_MOVED: Final = (301, 302, 303, 307, 308)
_ADVICE: Final = {
    400: "the service does not take what it was asked: is it the right service for this platform?",
    401: "the service wants credentials, which palm-torch does not send: use another one",
    404: "the service has nothing about this platform: is it the right one, and the evidence hardware's?",
    429: "the service is busy: try again later",
    500: "the service failed: try again later, or another one",
    503: "the service is busy: try again later",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered with status 200; nobody has looked at it.

    Attributes:
        url: Who answered in the end, redirects followed.
        body: The bytes.
        headers: Names and values in the order they came.
    """

    url: str
    body: bytes
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str:
        """Returns the value of a header that must be there once; case does not matter.

        Raises:
            EvidenceError: If it is not there, or there several times.
        """
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        if len(values) != 1:
            raise EvidenceError(f"{self.url}: expected the header {name} once, got it {len(values)} times")
        return values[0]


@dataclass(frozen=True, slots=True)
class _Target:
    url: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as they stand in a request."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def check_url(url: str) -> str:
    """Returns a URL that may be asked: https, or http on this very machine; no user name, no fragment.

    Raises:
        InputError: If it is anything else.
    """
    _target(url)
    return url


def get(url: str, *, max_bytes: int, deadline: Deadline) -> Answer:
    """Fetches one file.

    1. The URL is https, or http on this very machine. So is every place it is redirected to, which is of the
       same scheme; at most `MAX_REDIRECTS` are followed.
    2. The server's certificate is that of its name, under a root that this machine trusts.
    3. The status is 200, the body has at most `max_bytes` bytes and is as long as announced. Whatever the
       server says of lengths, no more is read than that and what may stand around it.
    4. All of it is over at the deadline.

    Args:
        url: What to fetch.
        max_bytes: Largest body accepted, in bytes.
        deadline: When to give up.

    Raises:
        InputError: If the URL is none that may be asked.
        FetchError: If anything else does not go as above; the message names the URL.
    """
    target = _target(url)  # 1
    for _ in range(MAX_REDIRECTS + 1):
        try:
            answer = _ask(target, max_bytes, deadline)
        except ssl.SSLError as error:
            raise FetchError(f"{target.url}: TLS failed: {_tls_reason(error)}") from error
        except TimeoutError as error:
            raise FetchError(
                f"{target.url}: not done after {deadline.allowed_s:g} seconds; try again, or allow more"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an odd host or number
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise FetchError(
                f"{target.url}: cannot fetch: {said[:200]}; is the network, or the proxy, there?"
            ) from error
        if isinstance(answer, Answer):
            return answer
        try:
            onward = _target(answer)
        except InputError as error:
            raise FetchError(f"{target.url}: redirected to what may not be asked: {error}") from error
        if onward.scheme != target.scheme:
            raise FetchError(f"{target.url}: redirected from {target.scheme} to {onward.url!r}: refused")
        target = onward
    raise FetchError(f"{url}: expected at most {MAX_REDIRECTS} redirects, got more")


def _target(url: str) -> _Target:
    if not _URL.fullmatch(url):
        raise InputError(f"URL: expected 1 to 2048 printable ASCII characters, got {url[:80]!r}")
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise InputError(f"URL {url[:200]!r}: {error}") from error
    if not host or parts.scheme not in _PORTS:
        raise InputError(f"URL: expected https://host/path, got {url[:200]!r}")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise InputError(f"URL {url[:200]!r}: expected https; http goes to {', '.join(LOOPBACK)} alone")
    if "@" in parts.netloc or parts.fragment:
        raise InputError(f"URL for {host!r}: expected no user name and no fragment")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(url, parts.scheme, host, port, path)


def _ask(target: _Target, max_bytes: int, deadline: Deadline) -> Answer | str:
    """Asks one server; returns its answer, or the URL it sends us to."""
    with contextlib.closing(_open(target, deadline)) as opened:
        wire = _Wire(opened, target.url, deadline, max_bytes=max_bytes + _AROUND_BYTES)
        wire.send(
            f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: palm-torch\r\n"
            "Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
        )
        with contextlib.closing(wire.response("GET")) as response:
            if response.status in _MOVED:
                return urllib.parse.urljoin(target.url, response.getheader("Location") or "")
            if response.status != _OK:
                advice = _ADVICE.get(response.status, "is it the right service?")
                said = f"{response.status} {response.reason[:80]!r}"
                raise FetchError(f"{target.url}: expected status 200, got {said}; {advice}")
            encoding = response.getheader("Content-Encoding") or "identity"
            if encoding.lower() != "identity":
                raise FetchError(f"{target.url}: expected plain bytes, got Content-Encoding {encoding!r}")
            return Answer(target.url, _body(response, target.url, max_bytes), tuple(response.getheaders()))


def _body(response: http.client.HTTPResponse, url: str, max_bytes: int) -> bytes:
    announced = response.length or 0
    body = bytearray()
    while max(len(body), announced) <= max_bytes:
        chunk = response.read(_CHUNK_BYTES)
        if not chunk:
            break
        body += chunk
    if max(len(body), announced) > max_bytes:
        raise FetchError(f"{url}: expected at most {max_bytes} bytes, got {announced or 'more'}")
    if response.length:
        raise FetchError(f"{url}: expected {announced} bytes as announced, got {len(body)}")
    return bytes(body)


def _open(target: _Target, deadline: Deadline) -> socket.socket:
    """Returns a connection to the server: through a proxy if there is one, with TLS unless it is http."""
    proxy = _proxy(target.host) if target.scheme == "https" else None
    opened = _connect(*(proxy[:2] if proxy else (target.host, target.port)), deadline)
    try:
        if proxy:
            _tunnel(opened, target, proxy[2], deadline)
        if target.scheme == "http":
            return opened
        opened.settimeout(deadline.remaining())
        return ssl.create_default_context().wrap_socket(opened, server_hostname=target.host)  # 2
    except BaseException:
        opened.close()
        raise


def _connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    addresses = within(deadline, look_up)
    failure = OSError(f"{host} has no address")
    for left, (family, kind, protocol, _, address) in zip(
        range(len(addresses), 0, -1), addresses, strict=True
    ):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(
                deadline.remaining() / left
            )  # an address that is silent leaves time for the next
            opened.connect(address)
        except OSError as error:
            opened.close()
            failure = error
        else:
            return opened
    raise failure


def _proxy(host: str) -> tuple[str, int, str] | None:
    """Returns host, port and credentials of the proxy that the environment names; None for none."""
    proxies = urllib.request.getproxies_environment()
    named = proxies.get("https") or proxies.get("all")
    if not named or host in LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    try:
        parts = urllib.parse.urlsplit(named if "://" in named else f"http://{named}")
        where, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"https_proxy: {error}") from error
    if parts.scheme != "http" or not where:
        raise InputError(f"https_proxy: expected http://host:port, got the scheme {parts.scheme!r}")
    secret = f"{urllib.parse.unquote(parts.username or '')}:{urllib.parse.unquote(parts.password or '')}"
    credentials = base64.b64encode(secret.encode()).decode("ascii") if parts.username else ""
    return where, port or _PORTS["http"], credentials


def _tunnel(opened: socket.socket, target: _Target, credentials: str, deadline: Deadline) -> None:
    wire = _Wire(opened, target.url, deadline, max_bytes=_AROUND_BYTES)
    asked = f"CONNECT {target.authority} HTTP/1.1\r\nHost: {target.authority}\r\n"
    wire.send(asked + (f"Proxy-Authorization: Basic {credentials}\r\n" if credentials else "") + "\r\n")
    status = wire.response("CONNECT").status
    if status != _OK:
        raise FetchError(f"{target.url}: the proxy of https_proxy refused with status {status}")


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{error.verify_message}; SSL_CERT_FILE names the roots to trust if the machine's are not right"
        )
    return error.reason or str(error)


class _Wire(io.RawIOBase):
    """A socket of which no single operation outlasts the deadline, and all take so many bytes at most.

    The socket's owner closes it.
    """

    def __init__(self, opened: socket.socket, url: str, deadline: Deadline, *, max_bytes: int) -> None:
        self._socket = opened
        self._url = url
        self._deadline = deadline
        self._left = max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        self._socket.settimeout(self._deadline.remaining())
        taken = self._socket.recv_into(memoryview(buffer))
        self._left -= taken
        if self._left < 0:
            raise FetchError(f"{self._url}: the server sends more, around its answer, than any answer needs")
        return taken

    def readall(self) -> bytes:
        """Refuses: `http.client` asks for everything where a chunk says that it has -1 bytes."""
        raise FetchError(f"{self._url}: a chunk of the answer says that it has less than no bytes")

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Returns what `http.client` reads from."""
        return io.BufferedReader(self)

    def send(self, text: str) -> None:
        self._socket.settimeout(self._deadline.remaining())
        self._socket.sendall(text.encode("ascii"))

    def response(self, method: str) -> http.client.HTTPResponse:
        """Reads status and headers of the answer to what was sent."""
        response = http.client.HTTPResponse(self, method=method)  # type: ignore[arg-type]  # needs makefile alone
        response.begin()
        return response
