"""Verification of SNP reports, against a simulated AMD that signs whatever a test asks for."""

from __future__ import annotations

import dataclasses
import warnings
from datetime import timedelta
from typing import Any

import pytest
import snp_world
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch.cvm import (
    certificates,
    der,
    hierarchies,
    revocation,
    simulated_snp_authority,
    snp,
    vcek,
)
from palm_torch.errors import (
    EncodingError,
    EvidenceError,
    InputError,
    PlatformError,
    SignatureError,
    TrustAnchorError,
)

ASK, ARK = 1, 2


def chain(leaf: bytes, **changes: bytes) -> list[bytes]:
    _, ask, ark = snp_world.authority().chain
    return [leaf, changes.get("ask", ask), changes.get("ark", ark)]


def refused(error: type[Exception], message: str, raw: bytes | None = None, *given: bytes) -> None:
    with pytest.raises(error, match=message):
        snp_world.verify(raw, snp_world.endorsements(given) if given else None)


def test_a_genuine_report() -> None:
    verified = snp_world.verify(given=snp_world.endorsements(crl=snp_world.crl()))
    assert (verified.kind, verified.signing_key, verified.simulated) == ("snp", "vcek", True)
    assert verified.report_data == snp_world.REPORT_DATA
    assert verified.runtime_register is None
    assert verified.machine == snp_world.chip_id()
    assert verified.state == "TCB boot loader 3, TEE 0, SNP 8, microcode 115"
    assert verified.caveats == ()
    assert verified.revocation_checked
    assert verified.endorsed.product == "Simulated"


def test_a_genuine_report_signed_by_a_cloud_providers_key() -> None:
    raw = snp_world.report(flags=snp_world.VLEK_FLAGS, chip_id=bytes(64))
    verified = snp_world.verify(raw, snp_world.endorsements(snp_world.vlek_chain()))
    assert (verified.signing_key, verified.endorsed.csp_id) == ("vlek", snp_world.CSP_ID)
    assert verified.endorsed.hardware_id is None
    assert [caveat.split(":")[0] for caveat in verified.caveats] == [
        "no revocation list of AMD was at hand",
        "the host masks the chip's identity",
    ]


def test_a_verified_report_cannot_be_made_elsewhere() -> None:
    verified = snp_world.verify()
    with pytest.raises(TypeError, match="verify_report alone"):
        dataclasses.replace(verified, token=object())


def test_both_spellings_of_a_chips_identity() -> None:
    chip = snp_world.chip_id()
    wrapped = snp_world.leaf(hardware_id=der.write(der.OCTET_STRING, chip))
    assert snp_world.verify(given=snp_world.endorsements(chain(wrapped))).machine == chip


def test_serial_number_zero_is_what_amd_uses() -> None:
    zero = snp_world.with_serial(snp_world.leaf(hardware_id=snp_world.chip_id()), b"\x00")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert snp_world.verify(given=snp_world.endorsements(chain(zero)))
    for serial in (b"\x80", b"\x00\x00", b""):
        refused(EncodingError, "positive serial number", None, *chain(snp_world.with_serial(zero, serial)))
    ask = snp_world.with_serial(snp_world.authority().ask.der, b"\x00")
    refused(EncodingError, "certificate 1: expected a positive", None, *chain(zero, ask=ask))


def test_roots_that_nobody_configured() -> None:
    with pytest.raises(TrustAnchorError, match="is not a configured trust anchor"):
        snp.verify_report(
            snp_world.report(),
            snp_world.endorsements(),
            anchors=[certificates.AMD_ARK_MILAN, certificates.INTEL_SGX_ROOT],
            now=snp_world.NOW,
        )


@pytest.mark.parametrize("count", [1, 2])
def test_certificates_that_are_still_to_be_fetched(count: int) -> None:
    with pytest.raises(TrustAnchorError, match=f"got {count}: `palm-torch collateral fetch`"):
        snp_world.verify(given=snp_world.endorsements(snp_world.authority().chain[:count]))


def test_time_counts() -> None:
    for shift in (timedelta(days=-2), timedelta(days=365 * 7)):
        with pytest.raises(TrustAnchorError, match=r"SNP certificate chain, .*: expected .* time"):
            snp_world.verify(now=snp_world.NOW + shift)


def test_a_time_says_which_zone_it_is_in() -> None:
    with pytest.raises(InputError, match="expected an aware datetime"):
        snp_world.verify(now=snp_world.NOW.replace(tzinfo=None))


def test_chains_with_wrong_signatures() -> None:
    leaf = snp_world.leaf(hardware_id=snp_world.chip_id())
    refused(SignatureError, "certificate 0: not signed", None, *chain(leaf[:-1] + bytes([leaf[-1] ^ 1])))
    ask = snp_world.authority().ask.der
    refused(
        SignatureError, "certificate 1: not signed", None, *chain(leaf, ask=ask[:-1] + bytes([ask[-1] ^ 1]))
    )


def test_a_root_that_did_not_sign_itself() -> None:
    ark = snp_world.authority().ark.der
    bent = ark[:-1] + bytes([ark[-1] ^ 1])
    anchor = certificates.TrustAnchor.from_certificate(bent, name="bent")
    with pytest.raises(SignatureError, match="root: not signed by itself"):
        snp.verify_report(
            snp_world.report(),
            snp_world.endorsements(chain(snp_world.authority().chain[0], ark=bent)),
            anchors=[anchor],
            now=snp_world.NOW,
        )


def test_padding_and_salt_are_fixed() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    key = rsa.generate_private_key(65537, 2048)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), 5)
        .not_valid_before(snp_world.START)
        .not_valid_after(snp_world.NOW)
    )
    for digest, scheme in (
        (hashes.SHA384(), padding.PKCS1v15()),
        (hashes.SHA384(), padding.PSS(padding.MGF1(hashes.SHA384()), 32)),
        (hashes.SHA384(), padding.PSS(padding.MGF1(hashes.SHA256()), 48)),
        (hashes.SHA256(), padding.PSS(padding.MGF1(hashes.SHA256()), 48)),
    ):
        made = builder.sign(key, digest, rsa_padding=scheme).public_bytes(Encoding.DER)
        refused(EncodingError, "expected a signature by RSASSA-PSS-SHA384$", None, *chain(made))


def test_keys_of_another_kind() -> None:
    p256 = ec.generate_private_key(ec.SECP256R1())
    leaf = snp_world.leaf(key=p256.public_key(), hardware_id=snp_world.chip_id())
    refused(TrustAnchorError, "certificate 0: expected a P-384 key", None, *chain(leaf))
    ask, key = snp_world.authority().ask.certificate, rsa.generate_private_key(65537, 3072)
    with pytest.raises(TrustAnchorError, match="expected a P-256 or P-384 key, got"):
        hierarchies.public_key(ask, "P-256", "P-384", what="x")
    small = simulated_snp_authority.make_issuer("small", None, snp_world.START, key=key)
    with pytest.raises(TrustAnchorError, match="expected a P-256 or P-384 or RSA-4096 key"):
        certificates.TrustAnchor.from_certificate(small.der, name="small")


def bare_leaf(*extensions: x509.ExtensionType) -> bytes:
    made = simulated_snp_authority._builder("SEV-VCEK", snp_world.authority().ask, snp_world.START, 1)
    made = made.public_key(snp_world.authority().vcek_key.public_key())
    for extension in extensions:
        made = made.add_extension(extension, critical=True)
    own = simulated_snp_authority.make_extensions(hardware_id=snp_world.chip_id())
    for oid, value in own.items():
        made = made.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False
        )
    signed = made.sign(
        snp_world.authority().ask.key, hashes.SHA384(), rsa_padding=simulated_snp_authority._PSS
    )
    return signed.public_bytes(Encoding.DER)


def test_what_a_leaf_says_of_its_use_counts() -> None:
    usage = simulated_snp_authority._ca_usage(crl_sign=False)
    end_entity = x509.BasicConstraints(ca=False, path_length=None)
    assert snp_world.verify(given=snp_world.endorsements(chain(bare_leaf(end_entity))))
    refused(TrustAnchorError, "key usage", None, *chain(bare_leaf(usage)))
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    refused(TrustAnchorError, "expected no CA", None, *chain(bare_leaf(constraints)))
    refused(TrustAnchorError, "critical extension", None, *chain(bare_leaf(x509.OCSPNoCheck())))


def test_an_issuer_needs_its_extensions() -> None:
    leaf = snp_world.leaf(hardware_id=snp_world.chip_id())
    ark = snp_world.authority().ark
    made = simulated_snp_authority.make_leaf(
        "SEV-Simulated",
        snp_world.authority().ask.key.public_key(),  # type: ignore[arg-type]  # a CA's key on purpose
        ark,
        snp_world.START,
        {},
    ).public_bytes(Encoding.DER)
    bare = snp_world.with_serial(made, b"\x01", issuer=ark)
    refused(TrustAnchorError, "certificate 1: No .*BasicConstraints", None, *chain(leaf, ask=bare))


def test_the_revocation_list() -> None:
    ask = snp_world.authority().ask.certificate
    for data, message in (
        (snp_world.crl(ask), "ASK or ASVK certificate: serial number .* has been revoked"),
        (snp_world.crl(age=timedelta(days=31)), "AMD revocation list: expected .* time"),
        (
            simulated_snp_authority.make_crl(snp_world.authority().ask, snp_world.NOW),
            "AMD revocation list: not signed by",
        ),
    ):
        with pytest.raises(SignatureError, match=message):
            snp_world.verify(given=snp_world.endorsements(crl=data))
    with pytest.raises(EncodingError, match="AMD revocation list"):
        snp_world.verify(given=snp_world.endorsements(crl=b"\x30\x00"))


def test_a_list_of_another_hierarchy() -> None:
    with pytest.raises(EncodingError, match="expected a signature by ecdsa-with-SHA256"):
        revocation.verify_crl(
            snp_world.crl(), issuer=snp_world.authority().ark.certificate, now=snp_world.NOW, what="list"
        )


@pytest.mark.parametrize("key", [2, 6, 7])
def test_no_other_signing_key(key: int) -> None:
    refused(SignatureError, f"expected 0 .VCEK. or 1 .VLEK., got {key}", snp_world.report(flags=key << 2))


def test_one_kind_of_key_never_passes_for_the_other() -> None:
    refused(SignatureError, "signed by a VLEK: expected the names", snp_world.report(flags=4))
    refused(SignatureError, "signed by a VCEK: expected the names", None, *snp_world.vlek_chain())


def test_names_belong_to_the_kind_of_key_and_the_product() -> None:
    chip, root = snp_world.chip_id(), snp_world.authority().ark.der
    other = snp_world.asvk("SEV-Other")
    for given in (
        chain(snp_world.leaf(name="SEV-VLEK", hardware_id=chip)),
        [snp_world.leaf(snp_world.asvk(), hardware_id=chip), snp_world.asvk().der, root],
        [snp_world.leaf(other, hardware_id=chip), other.der, root],
    ):
        refused(SignatureError, "expected the names SEV-VCEK, SEV-Simulated, ARK-Simulated", None, *given)


def test_a_subject_that_cannot_be_read() -> None:
    leaf = snp_world.leaf(hardware_id=snp_world.chip_id())
    at = leaf.rindex(b"\x0c\x08SEV-VCEK")
    broken = snp_world.with_serial(leaf[:at] + b"\x8c" + leaf[at + 1 :], b"\x01")
    refused(SignatureError, "a subject cannot be read", None, *chain(broken))


@pytest.mark.parametrize(
    "identity",
    [{}, {"csp_id": "x"}, {"hardware_id": b"\x01" * 64, "csp_id": "x"}],
    ids=["none", "csp", "both"],
)
def test_a_vcek_names_a_chip_and_nothing_else(identity: dict[str, Any]) -> None:
    refused(SignatureError, "expected it to name a chip only", None, *chain(snp_world.leaf(**identity)))


def test_a_vlek_names_a_provider_and_nothing_else() -> None:
    leaf = snp_world.leaf(snp_world.asvk(), name="SEV-VLEK", hardware_id=snp_world.chip_id())
    given = [leaf, snp_world.asvk().der, snp_world.authority().ark.der]
    refused(SignatureError, "cloud provider only", snp_world.report(flags=4), *given)


def test_another_key_signed() -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    refused(SignatureError, "signature does not verify", snp_world.report(other))
    raw = bytearray(snp_world.report())
    raw[0x2A0:0x2D0] = bytes(48)
    refused(SignatureError, "signature does not verify", bytes(raw))
    refused(EvidenceError, "expected 1184 bytes", bytes(raw[:-1]))


@pytest.mark.parametrize("component", ["boot_loader", "tee", "snp", "microcode"])
def test_security_versions_are_those_of_the_certificate(component: str) -> None:
    tcb = simulated_snp_authority.TCB
    other = dataclasses.replace(tcb, **{component: getattr(tcb, component) + 1})
    refused(PlatformError, "TCB version of the VCEK certificate", snp_world.report(reported_tcb=other))


def test_the_chip_is_that_of_the_certificate() -> None:
    refused(PlatformError, "chip of the VCEK certificate", snp_world.report(chip_id=bytes(64)))


def extended(name: str, value: bytes | None) -> list[bytes]:
    extensions = simulated_snp_authority.make_extensions(hardware_id=snp_world.chip_id())
    if value is None:
        del extensions[name]
    else:
        extensions[name] = value
    key = snp_world.authority().vcek_key.public_key()
    made = simulated_snp_authority.make_leaf(
        "SEV-VCEK", key, snp_world.authority().ask, snp_world.START, extensions
    )
    return chain(made.public_bytes(Encoding.DER))


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        (vcek.STRUCT_VERSION, None, EncodingError, "3704.1.1 is missing"),
        (vcek.STRUCT_VERSION, der.write_integer(1), EncodingError, "structure version 0"),
        (vcek.PRODUCT_NAME, None, EncodingError, "is missing"),
        (vcek.PRODUCT_NAME, der.write(vcek.IA5_STRING, b"\xff"), EncodingError, "ASCII"),
        (vcek.PRODUCT_NAME, der.write(der.OCTET_STRING, b"x"), EncodingError, "expected DER tag"),
        (vcek.PRODUCT_NAME, der.write(vcek.IA5_STRING, b"Milan"), SignatureError, "expected product"),
        (f"{vcek.TCB}.1", b"", EncodingError, "truncated"),
        (f"{vcek.TCB}.3", None, EncodingError, "3704.1.3.3 is missing"),
        (f"{vcek.TCB}.4", der.write_integer(1), EncodingError, "spare TCB component"),
        (f"{vcek.TCB}.8", der.write_integer(300), PlatformError, "microcode 300"),
        (vcek.HARDWARE_ID, bytes(63), EncodingError, "61 bytes after the DER element"),
        (vcek.HARDWARE_ID, der.write(der.OCTET_STRING, bytes(63)), EncodingError, "64 bytes, got 63"),
        (vcek.HARDWARE_ID, der.write(der.BIT_STRING, bytes(64)), EncodingError, "expected DER tag"),
    ],
)
def test_what_the_certificate_says_is_read_strictly(
    name: str, value: bytes | None, error: type[Exception], message: str
) -> None:
    refused(error, message, None, *extended(name, value))


def test_a_product_may_have_a_stepping() -> None:
    given = extended(vcek.PRODUCT_NAME, der.write(vcek.IA5_STRING, b"Simulated-B0"))
    assert snp_world.verify(given=snp_world.endorsements(given)).endorsed.product == "Simulated-B0"


def test_extensions_that_cannot_be_read() -> None:
    leaf = bare_leaf(x509.BasicConstraints(ca=False, path_length=None))
    at = (
        leaf.index(x509.BasicConstraints.oid.dotted_string.encode()) if False else leaf.index(b"\x55\x1d\x13")
    )
    assert at
    certificate = x509.load_der_x509_certificate(leaf[:at] + b"\x55\x1d\x0e" + leaf[at + 3 :])
    with pytest.raises(EncodingError, match="its extensions cannot be read"):
        vcek.read_endorsed(certificate, what="VCEK certificate")
