"""What NVIDIA's attestation service thought of GPUs: shown beside a result that stands without it."""

from __future__ import annotations

import dataclasses
import io
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import relay
from composite_run import genuine
from cryptography import x509
from nras import NOW, Service, gpu_claims
from rich.console import Console
from workshop import put

from palm_torch import cli, terminal, verification
from palm_torch.appraisal import opinions
from palm_torch.cvm import eat, gpu_certificate, spdm
from palm_torch.errors import (
    BindingError,
    EvidenceError,
    FreshnessError,
    InputError,
    PlatformError,
    PolicyError,
    RejectedError,
    SignatureError,
    TrustAnchorError,
)
from palm_torch.gpu_files import Tokens
from palm_torch.result import Tier

if TYPE_CHECKING:
    from pathlib import Path

    from composite_run import CompositeRun
    from workshop import GoodRun

    from palm_torch.evidence import GpuEvidence
    from palm_torch.result import AttestationResult

BESIDE = "an opinion beside evidence that was accepted without it: "


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


def claims_of(item: GpuEvidence, **changes: Any) -> dict[str, Any]:
    """Returns what the service claims of a GPU whose report it was shown."""
    leaf = x509.load_der_x509_certificate(gpu_certificate.split_chain(item.chain)[0])
    nonce = spdm.parse_report(item.evidence).nonce.hex()
    return gpu_claims(leaf.serial_number, **{"eat_nonce": nonce, **changes})


def token(service: Service, item: GpuEvidence, **changes: Any) -> bytes:
    claims = claims_of(item, **changes)
    return service.bundle(claims, eat_nonce=claims["eat_nonce"])


def tokens(service: Service, *found: bytes) -> Tokens:
    keys = json.dumps({"keys": [service.jwk()]}).encode()
    return Tokens(tuple((f"{number}.json", data) for number, data in enumerate(found)), keys)


def test_opinions_are_added_to_a_result_that_stands_without_them(
    pair: CompositeRun, service: Service
) -> None:
    begin, end = pair.bundle.begin.gpus, pair.bundle.end.gpus
    warned = token(service, begin[0], **{"x-nvidia-attestation-warning": "an old driver"})
    plain = pair.verify()
    assert plain.opinions == ()
    found = pair.verify(tokens=tokens(service, token(service, end[1]), warned))
    assert dataclasses.replace(found, opinions=()) == plain
    assert [(item.about, item.warns) for item in found.opinions] == [
        (f"GPU 1 at end, {pair.chip_ids[1]}", None),
        (f"GPU 0 at begin, {pair.chip_ids[0]}", "an old driver"),
    ]
    (first, _) = found.opinions
    assert (first.issuer, first.keys) == (eat.ISSUER, (service.key_id,))
    assert first.says == "every check good, with driver 550.90.07, VBIOS 96.00.9F.00.01"
    assert (first.issued, first.expires) == ("2026-11-21T11:55:00+00:00", "2026-11-21T12:55:00+00:00")
    assert found.to_json()["opinions"][0]["about"] == first.about  # type: ignore[index, call-overload]


def test_gpus_of_a_segment_are_named(composite: CompositeRun, service: Service) -> None:
    run = relay.make(composite.machine, composite.request, gpus=composite.gpus)
    platform = composite.policy().platform
    policy = run.policy(
        {
            "platform.gpu": {
                "count": 1,
                "min_driver_version": "550.90.07",
                "min_vbios_version": "96.00.9F.00.01",
            },
            "platform.simulated_gpu_root": platform.simulated_gpu_root,
            "platform.simulated_rim_root": platform.simulated_rim_root,
        }
    )
    (item,) = run.bundle.segments[1].session.begin.gpus
    found = run.verify(policy=policy, tokens=tokens(service, token(service, item)))
    assert [opinion.about for opinion in found.opinions] == [
        f"GPU 0 at begin of segment 2, {composite.chip_ids[0]}"
    ]


def test_an_opinion_never_makes_up_for_anything(
    composite: CompositeRun, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = composite.bundle.end.gpus
    good = tokens(service, token(service, item))
    bare = put(composite.bundle, "gpu_endorsements", None)
    for evidence, options in (
        (bare, {}),
        (put(composite.bundle, "end.gpus", ()), {}),
        (None, {"policy": composite.policy({"platform.simulated_gpu_root": None})}),
    ):
        with pytest.raises(RejectedError) as without:
            composite.verify(evidence, **options)
        with pytest.raises(RejectedError) as beside:
            composite.verify(evidence, tokens=good, **options)
        assert (type(beside.value), str(beside.value)) == (type(without.value), str(without.value))
    rules = {
        "count": 1,
        "min_driver_version": "550.90.07",
        "min_vbios_version": "96.00.9F.00.01",
        "require_rims": False,
    }
    lenient = composite.policy({"platform.gpu": rules})
    doubted = composite.verify(bare, policy=lenient, tokens=good)
    assert dataclasses.replace(doubted, opinions=()) == composite.verify(bare, policy=lenient)
    assert any("nobody vouches for what the GPU runs" in line for line in doubted.not_checked)
    assert doubted.tier is Tier.WARNING
    genuine(monkeypatch, "machine", "gpu", "rim")
    assert composite.verify(tokens=good).tier is composite.verify().tier is Tier.AFFIRMING


@pytest.mark.parametrize(
    ("bend", "error", "message"),
    [
        (lambda _, item: token(Service(), item), SignatureError, "token: signature does not verify"),
        (
            lambda _, item: token(Service(key_id="other"), item),
            TrustAnchorError,
            "signed by key 'other', which is none of the 1 keys configured",
        ),
        (lambda service, item: token(service, item, ueid="7"), BindingError, "serial number .*, got 7"),
        (lambda service, item: token(service, item, secboot=False), PlatformError, "secboot"),
        (
            lambda service, item: token(service, item, **{"x-nvidia-gpu-driver-version": "550.90.08"}),
            BindingError,
            r"expected driver 550\.90\.07 and VBIOS .* of the GPU's report, got '550\.90\.08' and ",
        ),
        (
            lambda service, item: token(service, item, **{"x-nvidia-gpu-vbios-version": "96.00.9f.00.01"}),
            BindingError,
            "expected driver",
        ),
        (
            lambda service, item: token(service, item, eat_nonce="00" * 32),
            BindingError,
            rf"about nonce {'00' * 32}, over which no GPU .*: expected one of \w+ \(GPU 0 at begin\), \w+ \(",
        ),
        (
            lambda service, item: service.bundle(
                *[claims_of(item)] * 2, eat_nonce=claims_of(item)["eat_nonce"]
            ),
            BindingError,
            "expected 1 GPUs, as there is evidence, got 2",
        ),
        (lambda *_: b"[]", EvidenceError, "token: expected "),
        (lambda *_: b"\xff", EvidenceError, "not a JSON document"),
        (lambda *_: b'[["JWT","a"],{"GPU-0":"b"}]', EvidenceError, "expected 3 parts"),
    ],
)
def test_what_is_no_good_opinion_of_these_gpus_is_an_error(
    composite: CompositeRun, service: Service, bend: Any, error: type[Exception], message: str
) -> None:
    (item,) = composite.bundle.end.gpus
    with pytest.raises(error, match=f"^1.json, {BESIDE}.*{message}") as caught:
        composite.verify(tokens=tokens(service, token(service, item), bend(service, item)))
    if isinstance(caught.value, RejectedError):
        assert caught.value.checks == composite.verify().checks  # the evidence itself had passed


def test_an_opinion_is_judged_at_the_time_of_the_appraisal(composite: CompositeRun, service: Service) -> None:
    (item,) = composite.bundle.end.gpus
    found = tokens(service, token(service, item))
    assert composite.verify(tokens=found, at=NOW + timedelta(minutes=54)).opinions
    with pytest.raises(FreshnessError, match=BESIDE):
        composite.verify(tokens=found, at=NOW + timedelta(minutes=55))


def test_keys_are_a_key_set(composite: CompositeRun, service: Service) -> None:
    (item,) = composite.bundle.end.gpus
    with pytest.raises(PolicyError, match="key set"):
        composite.verify(tokens=Tokens((("a", token(service, item)),), b"{}"))


def test_evidence_of_no_gpu_has_no_opinions(good: GoodRun, composite: CompositeRun, service: Service) -> None:
    (item,) = composite.bundle.end.gpus
    with pytest.raises(BindingError, match="expected one of none: the evidence is of no GPU"):
        good.verify(tokens=tokens(service, token(service, item)))
    assert opinions.of_gpus(tokens(service), [], now=NOW) == ()


# Doors --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(composite: CompositeRun, service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("opinions")
    (made / "run.palm.json").write_bytes(composite.data)
    (made / "policy.yaml").write_bytes(composite.policy_text())
    (made / "request.json").write_bytes(composite.request)
    (made / "nras.json").write_bytes(token(service, composite.bundle.end.gpus[0]))
    (made / "forged.json").write_bytes(token(Service(), composite.bundle.end.gpus[0]))
    (made / "jwks.json").write_bytes(tokens(service).keys)
    return made


def door(folder: Path, **options: Any) -> AttestationResult:
    return verification.verify(
        folder / "run.palm.json",
        **{"policy": folder / "policy.yaml", "request": folder / "request.json", "at": NOW, **options},
    )


def test_the_library_takes_them(folder: Path) -> None:
    found = door(folder, nras=[folder / "nras.json"], jwks=folder / "jwks.json")
    assert len(found.opinions) == 1
    for options in ({"nras": [folder / "nras.json"]}, {"jwks": folder / "jwks.json"}):
        with pytest.raises(PolicyError, match="--nras and --jwks go together: give both"):
            door(folder, **options)
    with pytest.raises(EvidenceError, match="the token of NVIDIA's attestation service"):
        door(folder, nras=[folder / "none.json"], jwks=folder / "jwks.json")
    with pytest.raises(PolicyError, match="the key set"):
        door(folder, nras=[folder / "nras.json"], jwks=folder / "none.json")
    with pytest.raises(EvidenceError, match="at most 128 tokens, got 129"):
        door(folder, nras=[folder / "nras.json"] * 129, jwks=folder / "jwks.json")


def test_a_receipt_takes_none(folder: Path, composite: CompositeRun) -> None:
    run = relay.make(composite.machine, composite.request, gpus=composite.gpus)
    (folder / "run.palm-receipt.json").write_bytes(run.sessions[0].file.encode())
    with pytest.raises(InputError, match="a receipt; time stamps, the store and opinions are for sealed"):
        verification.verify(
            folder / "run.palm-receipt.json",
            policy=folder / "policy.yaml",
            nras=[folder / "nras.json"],
            jwks=folder / "jwks.json",
        )


def test_the_command_line_shows_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    words = ["verify", "run.palm.json", "--policy", "policy.yaml", "--request", "request.json"]
    words += ["--at", NOW.isoformat()]
    beside = [*words, "--nras", "nras.json", "--jwks", "jwks.json"]
    assert cli.main(words) == cli.ACCEPTED
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert cli.main(beside) == cli.ACCEPTED
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == verdict
    assert "WHAT OTHERS THINK, beside the evidence: nothing above hangs on it" in out
    assert f"{eat.ISSUER} on GPU 0 at end, NVIDIA:GH100:" in out
    assert cli.main([*beside, "--json"]) == cli.ACCEPTED
    assert [item["issuer"] for item in json.loads(capsys.readouterr().out)["opinions"]] == [eat.ISSUER]
    assert cli.main([*words, "--nras", "forged.json", "--jwks", "jwks.json"]) == cli.REJECTED
    assert f"REJECTED SignatureError: forged.json, {BESIDE}" in capsys.readouterr().out
    assert cli.main([*words, "--nras", "policy.yaml", "--jwks", "jwks.json"]) == cli.MALFORMED
    assert "MALFORMED EvidenceError: policy.yaml" in capsys.readouterr().out
    assert cli.main([*words, "--nras", "nras.json", "--jwks", "policy.yaml"]) == cli.MALFORMED
    assert "MALFORMED PolicyError: " in capsys.readouterr().out
    for half in (["--nras", "nras.json"], ["--jwks", "jwks.json"]):
        assert cli.main([*words, *half]) == cli.USAGE
        assert "--nras and --jwks go together" in capsys.readouterr().err
    assert cli.main([words[0], "run.palm.json", *beside[1:]]) == cli.USAGE
    said = capsys.readouterr().err
    assert "--nras, " in said
    assert "go with a single piece of evidence" in said


def test_what_others_say_cannot_draw(pair: CompositeRun, service: Service) -> None:
    warning = "x\n\x1b[2JACCEPTED (affirming)"
    evil = token(service, pair.bundle.end.gpus[0], **{"x-nvidia-attestation-warning": warning})
    result = pair.verify(tokens=tokens(service, evil))
    out = Console(file=io.StringIO(), width=200, highlight=False)
    terminal.show_result(out, result)
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in shown
    assert "it warns: x\\n" in shown
