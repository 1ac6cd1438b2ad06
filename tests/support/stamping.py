"""A time-stamping authority of the tests' own, in another implementation (asn1crypto), all of it bendable."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from asn1crypto import cms, core, tsp
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

STAMPED = datetime(2026, 11, 21, 12, 30, 0, tzinfo=UTC)
STAMPING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
POLICY = "1.3.6.1.4.1.99999.1"


@dataclass(frozen=True)
class Holder:
    """A key with its certificate."""

    key: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def new_key(kind: str) -> Any:
    return {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "rsa-1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 (refused, as the tests show)
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }[kind]()


def usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


SIGNS = (usage(digital_signature=True), True)
CERTIFIES = (usage(key_cert_sign=True, crl_sign=True), True)


def issue(
    name: str,
    issuer: Holder | None = None,
    *,
    kind: str = "p256",
    key: Any = None,
    start: datetime = STAMPED - timedelta(days=30),
    end: datetime = STAMPED + timedelta(days=30),
    extensions: Any = (),
    hash_: Any = hashes.SHA256(),  # noqa: B008 (a constant)
) -> Holder:
    """Makes a key and its certificate, self-signed without an issuer; `extensions` are (value, critical)."""
    key = key or new_key(kind)
    signer = issuer.key if issuer else key
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hash_
    return Holder(key, builder.sign(signer, algorithm))


def authority_certificate(
    name: str, issuer: Holder | None, path_length: int | None = None, **made: Any
) -> Holder:
    constraints = (x509.BasicConstraints(ca=True, path_length=path_length), True)
    return issue(name, issuer, **({"extensions": [constraints, CERTIFIES]} | made))


def leaf_certificate(issuer: Holder, **made: Any) -> Holder:
    constraints = (x509.BasicConstraints(ca=False, path_length=None), True)
    return issue("TSA", issuer, **({"extensions": [constraints, SIGNS, (STAMPING, True)]} | made))


@dataclass(frozen=True)
class Authority:
    """Root, intermediate and the key that signs times.

    `token` makes a token; its keywords bend one part each.
    """

    root: Holder
    chain: tuple[Holder, ...]
    hash_name: str = "sha256"
    names: dict[str, Any] = field(default_factory=dict)

    @property
    def leaf(self) -> Holder:
        return self.chain[0]

    def info(self, imprint: bytes, **bent: Any) -> bytes:
        fields = {
            "version": "v1",
            "policy": POLICY,
            "message_imprint": {"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": imprint},
            "serial_number": 7,
            "gen_time": STAMPED,
            "accuracy": {"seconds": 1, "millis": 500},
            "nonce": 99,
            "tsa": asn1.GeneralName("directory_name", self._asn1(self.leaf).subject),
        }
        return tsp.TSTInfo({k: v for k, v in (fields | bent).items() if v is not None}).dump()

    def attributes(self, content: bytes, **bent: Any) -> list[Any]:
        leaf = self.leaf.der
        made = {
            "content_type": "tst_info",
            "message_digest": hashlib.new(self.hash_name, content).digest(),
            "signing_certificate_v2": tsp.SigningCertificateV2(
                {"certs": [{"cert_hash": hashlib.sha256(leaf).digest()}]}
            ),
        } | bent
        return [
            cms.CMSAttribute({"type": name, "values": [value]})
            for name, value in made.items()
            if value is not None
        ]

    def sign(self, data: bytes) -> bytes:
        key = self.leaf.key
        function = getattr(hashes, self.hash_name.upper())()
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(data, padding.PKCS1v15(), function)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(data, ec.ECDSA(function))
        return key.sign(data)

    def algorithm(self) -> dict[str, str]:
        key = self.leaf.key
        if isinstance(key, rsa.RSAPrivateKey):
            return {"algorithm": "rsassa_pkcs1v15"}
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return {"algorithm": f"{self.hash_name}_ecdsa"}
        return {"algorithm": "ed25519"}

    def token(
        self,
        imprint: bytes,
        *,
        content: bytes | None = None,
        attributes: list[Any] | None = None,
        certificates: Any = None,
        info: Any = None,
        attribute: Any = None,
        **bent: Any,
    ) -> bytes:
        """Returns a token: `info` bends the content, `attribute` signed attributes, the rest the frame."""
        content = self.info(imprint, **(info or {})) if content is None else content
        attributes = self.attributes(content, **(attribute or {})) if attributes is None else attributes
        signed = cms.CMSAttributes(attributes)
        leaf = self._asn1(self.leaf)
        signer = {
            "version": "v1",
            "sid": cms.SignerIdentifier(
                "issuer_and_serial_number", {"issuer": leaf.issuer, "serial_number": leaf.serial_number}
            ),
            "digest_algorithm": {"algorithm": self.hash_name},
            "signed_attrs": signed,
            "signature_algorithm": self.algorithm(),
            "signature": self.sign(signed.dump()),
        } | bent.pop("signer", {})
        frame = {
            "version": "v3",
            "digest_algorithms": [{"algorithm": self.hash_name}],
            "encap_content_info": {
                "content_type": "tst_info",
                "content": core.ParsableOctetString(content),
            },
            "certificates": [
                asn1.Certificate.load(holder.der)
                for holder in (self.chain if certificates is None else certificates)
            ],
            "signer_infos": [signer],
        } | bent
        return cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(frame)}).dump()

    def respond(self, query: bytes, *, status: str = "granted", **bent: Any) -> bytes:
        """Answers a request that asn1crypto can read."""
        asked = tsp.TimeStampReq.load(query, strict=True)
        assert asked["cert_req"].native
        assert asked.dump(force=True) == query
        imprint = asked["message_imprint"]
        assert imprint["hash_algorithm"]["algorithm"].native == "sha256"
        token = self.token(
            imprint["hashed_message"].native, **({"info": {"nonce": asked["nonce"].native}} | bent)
        )
        answer = {"status": {"status": status}, "time_stamp_token": cms.ContentInfo.load(token)}
        return tsp.TimeStampResp(answer).dump()

    @staticmethod
    def _asn1(holder: Holder) -> asn1.Certificate:
        return asn1.Certificate.load(holder.der)


def make_authority(kind: str = "p256", hash_name: str = "sha256", **leaf: Any) -> Authority:
    """Makes an authority whose keys are all of one kind; keywords go to the leaf's certificate."""
    root = authority_certificate("Root of time", None, kind=kind)
    issuing = authority_certificate("Issuer of time", root, 0, kind=kind)
    return Authority(root, (leaf_certificate(issuing, kind=kind, **leaf), issuing), hash_name)
