"""What the values of a policy mean: ranges, references, code, platform, the root of a simulated TEE."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import workshop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch.cvm import certificates
from palm_torch.digest import Digest, sha256_digest
from palm_torch.errors import PolicyError
from palm_torch.policies import policy
from palm_torch.policies.policy import Range, References

if TYPE_CHECKING:
    from workshop import GoodRun


def refused(text: str | bytes, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        policy.parse(text if isinstance(text, bytes) else text.encode("utf-8"))


# Values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "greatest", "inside", "outside", "text"),
    [
        (1, None, [1, 1.5, 10**9], [0, 0.999, -1], ">= 1"),
        (None, 0.5, [0.5, -3], [0.500001, 1], "<= 0.5"),
        (0, 0, [0, 0.0, -0.0], [1e-300, -1e-300], ">= 0 and <= 0"),
        (-2.5, 4, [-2.5, 4], [-2.6, 4.1], ">= -2.5 and <= 4"),
    ],
)
def test_ranges_are_closed(least: Any, greatest: Any, inside: Any, outside: Any, text: Any) -> None:
    allowed = Range(least=least, greatest=greatest)
    assert all(map(allowed.holds, inside))
    assert not any(map(allowed.holds, [*outside, math.nan]))
    assert str(allowed) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "needs 'least' or 'greatest'"),
        ({"least": 2, "greatest": 1}, "an empty range"),
        ({"least": math.nan}, "finite numbers|decimal number"),
        ({"greatest": math.inf}, "finite numbers|decimal number"),
        ({"least": -math.inf, "greatest": 1}, "finite numbers|decimal number"),
    ],
)
def test_a_range_that_says_nothing_is_an_error(good: GoodRun, value: Any, message: Any) -> None:
    refused(good.policy_text({"claims.steps": value}), message)
    refused(good.policy_text({"claims.arguments": {"lr": value}}), message)


def test_an_integer_beyond_all_doubles_is_no_bound(good: GoodRun) -> None:
    text = good.policy_text({"claims.steps": {"greatest": 1}}).replace(
        b"greatest: 1\n", b"greatest: 0x" + b"f" * 9000 + b"\n"
    )
    refused(text, "finite numbers|decimal number")


@pytest.mark.parametrize("role", ["data", "initial", "tokenizer", "architecture"])
def test_reference_lists_are_words_or_digests(good: GoodRun, role: str) -> None:
    path = f"claims.{role}"
    for words in (
        ["any"],
        ["none"],
        ["sha256:" + "00" * 32],
        ["sha256:" + "00" * 32, "palm-sha256:" + "11" * 32],
    ):
        assert getattr(good.policy({path: words}).claims, role) == tuple(words)
    refused(good.policy_text({path: []}), rf"^policy: claims\.{role}: an empty list")
    for mixed in (["any", "none"], ["any", "sha256:" + "00" * 32], ["sha256:" + "00" * 32, "none"]):
        refused(good.policy_text({path: mixed}), rf"^policy: claims\.{role}\[[01]\]: .*; name digests alone")
    for malformed in ("ANY", "00" * 32, "sha256:" + "AB" * 32, "md5:" + "00" * 16, "sha256:00", ""):
        refused(good.policy_text({path: [malformed]}), r"or write \[any\], \[none\] or \[authority\]$")


def test_references_are_sets_of_digests_or_a_word() -> None:
    digest = sha256_digest(b"")
    assert References.parse((str(digest),), what="x") == References(digests=frozenset({digest}), word=None)
    assert References.parse(("none",), what="x") == References(digests=frozenset(), word="none")


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"digests": []},
        {"unreviewed": False},
        {"covered_by_image": False, "digests": []},
        {"digests": ["palm-sha256:" + "00" * 32], "unreviewed": True},
        {"digests": ["palm-sha256:" + "00" * 32], "covered_by_image": True},
        {"covered_by_image": True, "unreviewed": True},
        {"digests": ["palm-sha256:" + "00" * 32], "covered_by_image": True, "unreviewed": True},
    ],
)
def test_exactly_one_thing_is_said_about_code(good: GoodRun, rule: Any) -> None:
    refused(good.policy_text({"code": rule}), "^policy: code: set exactly one of")


def test_each_thing_that_may_be_said_about_code(good: GoodRun) -> None:
    digest = Digest("palm-sha256", bytes(32))
    assert good.policy({"code": {"digests": [str(digest)]}}).code.digests == (digest,)
    assert good.policy({"code": {"covered_by_image": True}}).code.covered_by_image
    assert good.policy({"code": {"unreviewed": True, "digests": []}}).code.unreviewed
    refused(good.policy_text({"code": {"digests": ["any"]}}), "algorithm:hex")


def test_a_negative_number_of_declared_values(good: GoodRun) -> None:
    refused(good.policy_text({"claims.declared": -1}), r"^policy: claims\.declared: expected 0 or more")


def test_an_unknown_property(good: GoodRun) -> None:
    refused(good.policy_text({"claims.property": "training"}), "one of 'preprocess'.*got 'training'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mr_td": ["00"]}, "expected 48 bytes, got 1"),
        ({"rtmr0": ["AB" * 48]}, "lower-case"),
        ({"td_attributes": [0]}, "bit 0 can never be allowed"),
        ({"tcb_statuses": ["Revoked"]}, "tcb_statuses"),
        ({"min_tcb_evaluation_data_number": -1}, "expected 0 or more"),
        (
            {"max_collateral_age_days": -1},
            "max_collateral_age_days: expected a number from 0 to 36500, got -1",
        ),
        ({"max_collateral_age_days": 36_501}, "expected a number from 0 to 36500, got 36501"),
    ],
)
def test_platform_rules_that_do_not_parse(good: GoodRun, change: Any, message: Any) -> None:
    refused(good.policy_text({f"platform.tdx.{name}": value for name, value in change.items()}), message)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("version", 2, "version: this verifier reads policy version 1, got 2"),
        ("platform.tdx.mr_td", ["00"], r"platform\.tdx\.mr_td\[0\]: expected 48 bytes, got 1"),
        ("platform.tdx.ppid", ["00" * 16, "0"], r"platform\.tdx\.ppid\[1\]: "),
        ("platform.tdx.td_attributes", [0], r"platform\.tdx\.td_attributes: bit 0 can never be allowed"),
        ("platform.tdx.tcb_statuses", ["Fine"], r"platform\.tdx\.tcb_statuses: .*got 'Fine'"),
        (
            "platform.tdx.min_tcb_evaluation_data_number",
            -1,
            r"platform\.tdx\.min_tcb_evaluation_data_number: ",
        ),
        ("platform.simulated_root", "x", r"platform\.simulated_root: expected one PEM certificate"),
        ("code", {}, "code: set exactly one of"),
        ("code.digests", ["sha256:00"], r"code\.digests\[0\]: sha256: expected 32 bytes, got 1"),
        ("code.packages", ["x"], r"code\.packages\[0\]: expected 'algorithm:hex', got 'x'"),
        (
            "claims.data",
            [],
            r"claims\.data: an empty list; name digests, or write \[any\], \[none\] or \[auth",
        ),
        ("claims.initial", ["any", "none"], r"claims\.initial\[0\]: expected 'algorithm:hex', got 'any'; "),
        (
            "claims.initial_taken",
            "end",
            r"claims\.initial_taken: expected one of 'first_delivery', 'first_step'",
        ),
        ("claims.tokenizer", ["sha256:" + "00" * 32, "x"], r"claims\.tokenizer\[1\]: "),
        ("claims.steps", {}, r"claims\.steps: a range needs 'least' or 'greatest'"),
        ("claims.arguments.lr", {"least": 2, "greatest": 1}, r"claims\.arguments\.lr: an empty range"),
        ("claims.declared", -1, r"claims\.declared: expected 0 or more, got -1"),
    ],
)
def test_every_refusal_begins_with_the_file_and_the_rule(
    good: GoodRun, path: str, value: Any, says: str
) -> None:
    with pytest.raises(PolicyError, match=rf"^my\.yaml: {says}"):
        policy.parse(good.policy_text({path: value}), what="my.yaml")


# The root of a simulated TEE ----------------------------------------------------------------------


def root_pem(curve: ec.EllipticCurve) -> str:
    key = ec.generate_private_key(curve)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(workshop.NOW - timedelta(days=1))
        .not_valid_after(workshop.NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode("ascii")
    )


def test_the_root_of_a_simulated_tee_takes_the_place_of_the_hardware_root(good: GoodRun) -> None:
    anchor = good.policy().platform.requirements().anchor("tdx")
    assert anchor.simulated
    assert anchor.name == "simulated TEE"
    assert anchor != certificates.INTEL_SGX_ROOT
    other = good.policy({"platform.simulated_root": root_pem(ec.SECP256R1())})
    assert other.platform.requirements().anchor("tdx").simulated


@pytest.mark.parametrize(
    "text",
    [
        "",
        "root",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "\ud800",
        root_pem(ec.SECP521R1()),
    ],
    ids=["empty", "word", "damaged", "not Unicode", "another curve"],
)
def test_a_root_that_is_no_root_is_an_error_of_the_policy(good: GoodRun, text: Any) -> None:
    document = good.policy_text({"platform.simulated_root": text if text != "\ud800" else "SURROGATE"})
    refused(
        document.replace(b"SURROGATE", rb'"\ud800"'),
        r"simulated_root: expected one PEM certificate|not a YAML",
    )
