"""OpenSSL's time-stamping command reads what we write, and the reverse."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stamping
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from stamping import Authority

from palm_torch.cvm import timestamp, timestamp_response
from palm_torch.digest import sha256_digest
from palm_torch.errors import BindingError

OPENSSL = shutil.which("openssl")
DIGEST = sha256_digest(b"evidence")
CONFIGURATION = Path(stamping.__file__).with_name("openssl_ts.cnf")

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="no openssl command")


def openssl(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(OPENSSL), *words], cwd=folder, capture_output=True, check=False, timeout=60)


def valid_now(kind: str) -> Authority:
    """OpenSSL stamps with the machine's clock, so the certificates are valid at that time."""
    dates: dict[str, Any] = {
        "start": datetime.now(UTC) - timedelta(days=1),
        "end": datetime.now(UTC) + timedelta(days=2),
    }
    root = stamping.authority_certificate("Root of time", None, kind=kind, **dates)
    issuing = stamping.authority_certificate("Issuer of time", root, kind=kind, **dates)
    return Authority(root, (stamping.leaf_certificate(issuing, kind=kind, **dates), issuing))


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_openssl_answers_our_query_and_we_check_its_token(tmp_path: Path, kind: str) -> None:
    authority = valid_now(kind)
    key = authority.leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "leaf.key").write_bytes(key)
    (tmp_path / "leaf.pem").write_bytes(authority.leaf.pem)
    (tmp_path / "chain.pem").write_bytes(authority.chain[1].pem + authority.root.pem)
    (tmp_path / "root.pem").write_bytes(authority.root.pem)
    (tmp_path / "serial").write_text("0F\n")
    (tmp_path / "query.tsq").write_bytes(timestamp.make_query(DIGEST, b"\x80" * 8))
    words = ("ts", "-reply", "-config", str(CONFIGURATION), "-queryfile", "query.tsq", "-out", "answer.tsr")
    made = openssl(tmp_path, *words)
    assert made.returncode == 0, made.stderr
    raw = timestamp_response.token_of_response((tmp_path / "answer.tsr").read_bytes())
    token = timestamp.normalised(raw, root=authority.root.pem)
    found = timestamp.verify_token(token, digest=DIGEST, root=authority.root.pem)
    assert (found.authority, found.serial, found.accuracy) == ("CN=TSA", 16, timedelta(seconds=1))
    assert abs(found.time - datetime.now(UTC)) < timedelta(hours=1)
    with pytest.raises(BindingError):
        timestamp.verify_token(token, digest=sha256_digest(b"other"), root=authority.root.pem)
    (tmp_path / "kept.token").write_bytes(token)
    assert verified(tmp_path, "-queryfile", "query.tsq")


@pytest.mark.parametrize("kind", ["rsa", "p384"])
def test_openssl_checks_the_token_that_we_keep(tmp_path: Path, kind: str) -> None:
    authority = valid_now(kind)
    now = datetime.now(UTC).replace(microsecond=0)
    raw = authority.token(DIGEST.value, info={"gen_time": now})
    (tmp_path / "kept.token").write_bytes(timestamp.normalised(raw, root=authority.root.pem))
    (tmp_path / "root.pem").write_bytes(authority.root.pem)
    assert verified(tmp_path, "-digest", DIGEST.value.hex())
    assert not verified(tmp_path, "-digest", sha256_digest(b"other").value.hex())


def verified(folder: Path, *what: str) -> bool:
    words = ("ts", "-verify", *what, "-in", "kept.token", "-token_in", "-CAfile", "root.pem")
    return openssl(folder, *words).returncode == 0
