"""A web server on this machine that answers as badly as a test wants it to.

A handler is called with the words of the request line and the headers, and returns, or yields, bytes to send:
nothing is added to them. With a TLS context it speaks TLS, from the start or behind a ``CONNECT``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from pathlib import Path

Handler = Callable[[str, dict[str, str]], bytes | Iterable[bytes]]


def answer(body: bytes = b"", *, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    """Returns a whole answer; ``Issuer_Chain`` as a name means the header ``Issuer-Chain``."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Server:
    """A server; `requests` are the request lines that came, `headers` those of the last request."""

    handler: Handler
    tls: ssl.SSLContext | None = None
    proxy: bool = False
    requests: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls and not self.proxy else 'http'}://127.0.0.1:{self.port}"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._converse, args=(connection,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _converse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.settimeout(30)
            if self.proxy:
                said = self._take(connection)
                if not said.startswith("CONNECT "):
                    return
                connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            if self.tls is None:
                self._answer(connection)
                return
            with self.tls.wrap_socket(connection, server_side=True) as wrapped:
                self._answer(wrapped)

    def _answer(self, connection: socket.socket) -> None:
        line = self._take(connection)
        if not line:
            return
        said = self.handler(line.split()[1], self.headers)
        for part in (said,) if isinstance(said, bytes) else said:
            if self._over.is_set():
                return
            connection.sendall(part)

    def _take(self, connection: socket.socket) -> str:
        data = b""
        while b"\r\n\r\n" not in data and (chunk := connection.recv(4096)):
            data += chunk
        line, *headers = data.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
        self.requests.append(line)
        self.headers = {
            name.lower(): value for name, _, value in (header.partition(": ") for header in headers)
        }
        return line

    def close(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)


@contextlib.contextmanager
def serving(handler: Handler, *, tls: ssl.SSLContext | None = None, proxy: bool = False) -> Iterator[Server]:
    """Serves for the ``with`` block."""
    server = Server(handler, tls, proxy)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(30)


def tls_for(name: str, folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Returns the context of a server with a certificate signed by itself, and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, private = folder / f"{name}.pem", folder / f"{name}.key"
    trusted.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return context, trusted
