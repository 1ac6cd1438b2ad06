"""Reference values: what an authority signs, what verifies, and what a policy takes from them."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
from authority import AT, DIGEST, HEX, VALUES, make_key, pem_of, public_pem, values_text

from palm_torch import dsse
from palm_torch.cvm import appraisal, snp_rules
from palm_torch.digest import Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import EncodingError, FreshnessError, InputError, PolicyError, SignatureError
from palm_torch.policies import policy, reference_values

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

KEY = make_key("ed25519")
SIGNED = reference_values.sign(VALUES, key=KEY)


def verify(data: bytes, **changes: Any) -> reference_values.VerifiedValues:
    return reference_values.verify(data, **({"key": KEY.public_key(), "at": AT} | changes))


# Signing and verifying ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_what_an_authority_signs_verifies_under_its_key(kind: str) -> None:
    key = make_key(kind)
    found = verify(reference_values.sign(VALUES, key=key), key=key.public_key())
    assert found.values == VALUES
    assert found.key_id == dsse.key_id(key.public_key())
    assert str(found) == f"Example Laboratory, key {found.key_id}, until 2027-01-01T00:00:00Z"


def test_the_payload_is_canonical_json_of_its_own_type() -> None:
    envelope = reference_values.decode(SIGNED)
    assert envelope.payloadType == "application/vnd.palm-torch.reference-values+json"
    document = json.loads(envelope.payload)
    assert document["type"] == "palm-torch/reference-values/v1"
    assert document["claims"]["data"] == [str(at_hand.MANIFEST.digest)]
    assert document["code"] is None


@pytest.mark.parametrize(
    ("at", "good"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), True),
        (datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), False),
        (datetime(2027, 1, 1, tzinfo=UTC), True),
        (datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC), False),
    ],
)
def test_they_hold_from_one_moment_to_another(at: datetime, good: bool) -> None:  # noqa: FBT001 (a table)
    if good:
        assert verify(SIGNED, at=at).values == VALUES
        return
    with pytest.raises(FreshnessError, match=r"^reference values: they hold from 2026-01-01T00:00:00Z to"):
        verify(SIGNED, at=at)


def test_a_time_without_a_zone_is_no_time() -> None:
    with pytest.raises(InputError, match="at: expected a time with a time zone"):
        verify(SIGNED, at=datetime(2026, 6, 1))  # noqa: DTZ001 (the point)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a JSON document"),
        (b"{}", "missing key 'payload'"),
        (SIGNED + b"\n", "canonical"),
        (SIGNED.replace(b'"payload":', b'"payload": '), "canonical"),
        (b"[" * 10, "not a JSON document"),
    ],
)
def test_what_is_no_envelope(data: bytes, message: str) -> None:
    with pytest.raises(PolicyError, match=f"^refs.json.*{message}"):
        verify(data, what="refs.json")


def test_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_values, "MAX_BYTES", len(SIGNED) - 1)
    with pytest.raises(PolicyError, match="expected at most"):
        verify(SIGNED)
    with pytest.raises(PolicyError, match=r"at most \d+ bytes when signed"):
        reference_values.sign(VALUES, key=KEY)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"{}", "missing key"),
        (b"text", "not a JSON document"),
        (VALUES.encode() + b" ", "canonical"),
        (
            VALUES.encode().replace(b"values/v1", b"values/v2"),
            "type: expected 'palm-torch/reference-values/v1'",
        ),
        (VALUES.encode().replace(b'"claims"', b'"claim"'), "unknown key 'claim'"),
    ],
)
def test_a_signed_document_of_another_form_is_refused(payload: bytes, message: str) -> None:
    envelope = dsse.sign(payload, payload_type=reference_values.PAYLOAD_TYPE, key=KEY)
    with pytest.raises(PolicyError, match=message):
        verify(json.dumps(envelope.to_json(), separators=(",", ":"), sort_keys=True).encode())


# What values there are ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"issuer": ""}, "issuer: expected 1 to 200 printable characters, got ''"),
        ({"issuer": "a" * 201}, "issuer: expected 1 to 200"),
        ({"issuer": "a\nb"}, r"issuer: .* got 'a\\nb'"),
        ({"issuer": "a\u202eb"}, "issuer: "),
        ({"issued": "2026-01-01"}, "issued: expected YYYY-MM-DDTHH:MM:SSZ, got '2026-01-01'"),
        ({"expires": "2026-1-1T00:00:00Z"}, "expires: expected YYYY"),
        ({"expires": "2025-01-01T00:00:00Z"}, "expires: expected a time after 2026-01-01T00:00:00Z"),
        ({"claims": {"data": []}, "platform": None}, "names no value"),
        ({"claims": None, "platform": None}, "names no value"),
        ({"claims": {"data": ["sha256:00"]}}, r"claims\.data\[0\]: sha256: expected 32 bytes, got 1$"),
        ({"claims": {"data": ["any"]}}, r"claims\.data\[0\]: expected 'algorithm:hex', got 'any'"),
        ({"platform": {"tdx": {"mr_td": ["00"]}}}, r"platform\.tdx\.mr_td\[0\]: expected 48 bytes, got 1"),
        ({"platform": {"tdx": {"ppid": [HEX]}}}, r"platform\.tdx\.ppid\[0\]: expected 16 bytes"),
        ({"platform": {"tdx": {"xfam": ["AB" * 8]}}}, r"platform\.tdx\.xfam\[0\]: .*lower-case"),
        ({"platform": {"tdx": {"tcb_statuses": ["UpToDate"]}}}, "unknown key 'tcb_statuses'"),
        ({"platform": {}}, r"platform: names no kind of machine; list values under 'tdx', 'snp' or 'gpu'$"),
        ({"platform": {"snp": {"chip_id": [HEX]}}}, r"platform\.snp\.chip_id\[0\]: expected 64 bytes"),
        ({"platform": {"snp": {"image_id": ["AB" * 16]}}}, r"platform\.snp\.image_id\[0\]: .*lower-case"),
        ({"platform": {"snp": {"min_tcb": []}}}, "unknown key 'min_tcb'"),
        ({"platform": {"gpu": {"chip_ids": ["GH100"]}}}, r"platform\.gpu\.chip_ids: expected text such as"),
        ({"platform": {"gpu": {"count": 1}}}, "unknown key 'count'"),
        ({"simulated_root": "x"}, "unknown key 'simulated_root'"),
        ({"type": "other"}, "type: expected"),
    ],
)
def test_values_of_another_form(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        reference_values.parse(values_text(changes), what="values.yaml")


def test_what_an_authority_writes_is_yaml_with_dates_as_they_are() -> None:
    text = f"""\
issuer: Example Laboratory
issued: 2026-01-01T00:00:00Z
expires: 2027-01-01T00:00:00Z
code: {{digests: ["{DIGEST}"]}}
"""
    parsed = reference_values.parse(text.encode())
    assert parsed.issued == "2026-01-01T00:00:00Z"
    assert {path: listed for path, listed in parsed.lists().items() if listed} == {"code.digests": (DIGEST,)}
    with pytest.raises(PolicyError, match="line 2: 'issuer' appears twice"):
        reference_values.parse(b"issuer: a\nissuer: b\n")


def test_there_is_a_list_for_every_list_of_values_of_a_policy() -> None:
    """Beside what is a choice, not a measurement, every list of a policy may come from an authority."""
    paths = set(VALUES.lists())
    choices = {"td_attributes", "tcb_statuses", "min_tcb_evaluation_data_number", "max_collateral_age_days"}
    tdx = {field.name for field in dataclasses.fields(appraisal.TdxRules)} - choices
    assert {path.removeprefix("platform.tdx.") for path in paths if path.startswith("platform.tdx")} == tdx
    choices = {"min_tcb", "csp_id", "vmpl", "versions", "signing_keys"}
    snp = {
        field.name
        for field in dataclasses.fields(snp_rules.SnpRules)
        if not field.name.startswith(("allow_", "require_"))
    }
    assert {path.removeprefix("platform.snp.") for path in paths if "snp" in path} == snp - choices
    assert {path for path in paths if path.startswith("code")} == {"code.digests", "code.packages"}
    assert {path for path in paths if path.startswith("claims")} == {
        f"claims.{role}" for role in ("data", "initial", "tokenizer", "architecture")
    }


def test_values_of_one_kind_of_machine_say_nothing_of_the_other() -> None:
    for values in (
        reference_values.PlatformValues(tdx=reference_values.TdxValues(mr_td=(HEX,))),
        reference_values.PlatformValues(snp=reference_values.SnpValues(measurement=(HEX,))),
        reference_values.PlatformValues(
            gpu=reference_values.GpuValues(chip_ids=("NVIDIA:GH100:48B02D92494BADF4",))
        ),
    ):
        signed = reference_values.sign(dataclasses.replace(VALUES, platform=values), key=KEY)
        found = verify(signed).values
        assert found.platform == values
        assert next(path for path, listed in found.lists().items() if listed).startswith("platform.")
    with pytest.raises(EncodingError, match="names no kind of machine"):
        reference_values.PlatformValues()


# Files --------------------------------------------------------------------------------------------


def test_files(tmp_path: Path, good: GoodRun) -> None:
    values, key, rules = tmp_path / "values.json", tmp_path / "key.pem", tmp_path / "policy.yaml"
    values.write_bytes(SIGNED)
    key.write_bytes(public_pem(KEY))
    rules.write_bytes(good.policy_text({"claims.data": ["authority"]}))
    found = reference_values.load(values, key=key, at=AT)
    assert good.verify(policy=policy.load(rules, references=found)).checks
    for missing, path in ((values, "the reference values"), (key, "the authority's key")):
        absent = {"path": values, "key": key} | (
            {"path": tmp_path / "no"} if missing is values else {"key": tmp_path / "no"}
        )
        with pytest.raises(PolicyError, match=f"no: cannot read {path}: No such file"):
            reference_values.load(absent["path"], key=absent["key"], at=AT)
    key.write_bytes(public_pem(make_key("ed25519")))
    with pytest.raises(SignatureError, match=f"^{values}: expected a signature of key"):
        reference_values.load(values, key=key, at=AT)
    key.write_bytes(pem_of(KEY))
    with pytest.raises(PolicyError, match=f"^{key}: expected the authority's public key, got a private key"):
        reference_values.load(values, key=key, at=AT)
    key.write_bytes(public_pem(KEY))
    with pytest.raises(FreshnessError, match=f"^{values}: they hold from"):
        reference_values.load(values, key=key, at=datetime(2030, 1, 1, tzinfo=UTC))


# reference values at their bounds, and messages that name the file


def refusal(**changes: object) -> str:
    with pytest.raises(EncodingError) as caught:
        dataclasses.replace(VALUES, **changes)  # type: ignore[arg-type]
    return str(caught.value)


def enveloped(payload: bytes) -> bytes:
    envelope = dsse.sign(payload, payload_type=reference_values.PAYLOAD_TYPE, key=KEY)
    return encode_json(envelope.to_json())


def test_an_issuer_has_one_to_two_hundred_characters() -> None:
    for issuer in ("a", "a" * 200):
        assert dataclasses.replace(VALUES, issuer=issuer).issuer == issuer
    assert refusal(issuer="a" * 201) == (f"issuer: expected 1 to 200 printable characters, got {'a' * 40!r}")


def test_values_may_hold_for_one_moment() -> None:
    assert dataclasses.replace(VALUES, issued=VALUES.expires).issued == VALUES.expires


def test_a_message_says_what_is_wrong() -> None:
    assert refusal(type="x" * 81) == f"type: expected 'palm-torch/reference-values/v1', got {'x' * 80!r}"
    assert refusal(platform=None, claims=None) == (
        "names no value; list some under 'platform', 'code' or 'claims'"
    )
    with pytest.raises(InputError, match=r"^at: expected a time with a time zone$"):
        reference_values.verify(
            b"",
            key=KEY.public_key(),
            at=datetime(2026, 6, 1),  # noqa: DTZ001 (the point)
        )


def test_a_file_may_reach_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = reference_values.sign(VALUES, key=KEY)
    monkeypatch.setattr(reference_values, "MAX_BYTES", len(data))
    assert reference_values.sign(VALUES, key=KEY) == data
    assert reference_values.verify(data, key=KEY.public_key(), at=AT).values == VALUES


def test_a_message_names_the_file() -> None:
    key = KEY.public_key()
    for data, message in (
        (b"", "not a JSON document"),
        (enveloped(b"text"), "not a JSON document"),
        (enveloped(b"{}"), "missing key"),
    ):
        with pytest.raises(PolicyError, match=rf"^values\.json: {message}"):
            reference_values.verify(data, key=key, at=AT, what="values.json")
        with pytest.raises(PolicyError, match=rf"^reference values: {message}"):
            reference_values.verify(data, key=key, at=AT)
    with pytest.raises(PolicyError, match=r"^reference values: not a JSON document"):
        reference_values.decode(b"")
    for text, message in (
        (b"a: *x", ": line 1: YAML aliases"),
        (values_text({"issuer": 1}), r"\.issuer: expected"),
    ):
        with pytest.raises(PolicyError, match=rf"^values\.yaml{message}"):
            reference_values.parse(text, what="values.yaml")
        with pytest.raises(PolicyError, match=rf"^reference values{message}"):
            reference_values.parse(text)


def test_every_list_is_named_by_its_path() -> None:
    tdx = reference_values.TdxValues(mr_td=("ab" * 48,), xfam=("ab" * 8,), ppid=("ab" * 16,))
    snp = reference_values.SnpValues(measurement=("cd" * 48,), host_data=("cd" * 32,))
    gpu = reference_values.GpuValues(chip_ids=("NVIDIA:GH100:48B02D92494BADF4",))
    digest = Digest("sha256", bytes(32))
    found = dataclasses.replace(
        VALUES,
        platform=reference_values.PlatformValues(tdx=tdx, snp=snp, gpu=gpu),
        code=reference_values.CodeValues(packages=(digest,)),
        claims=reference_values.ClaimValues(tokenizer=(digest, digest)),
    ).lists()
    assert found.keys() == set(reference_values.PATHS)
    assert {path: listed for path, listed in found.items() if listed} == {
        "platform.tdx.mr_td": ("ab" * 48,),
        "platform.tdx.xfam": ("ab" * 8,),
        "platform.tdx.ppid": ("ab" * 16,),
        "platform.snp.measurement": ("cd" * 48,),
        "platform.snp.host_data": ("cd" * 32,),
        "platform.gpu.chip_ids": ("NVIDIA:GH100:48B02D92494BADF4",),
        "code.packages": (str(digest),),
        "claims.tokenizer": (str(digest), str(digest)),
    }


def test_a_file_has_at_most_four_mebibytes() -> None:
    with pytest.raises(PolicyError, match=r"^reference values: expected at most 4194304 bytes, got 4194305$"):
        reference_values.decode(bytes((4 << 20) + 1))
