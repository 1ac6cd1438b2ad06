"""The command line: what each verb prints, the verdict in the last line, and the exit codes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import workshop

from palm_torch import appraiser, cli, request, verification
from palm_torch.commands import arguments
from palm_torch.commit import manifest_file
from palm_torch.roles import Artifact, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relay import ResumedRun
    from workshop import GoodRun

AT = "2026-11-21T12:00:00Z"


@pytest.fixture(scope="module")
def run_(tmp_path_factory: pytest.TempPathFactory) -> GoodRun:
    return workshop.make_good_run(tmp_path_factory.mktemp("machine") / "keys")


@pytest.fixture(scope="module")
def files(run_: GoodRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the good run's evidence, request and policies, and with a forgery."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "good.palm.json").write_bytes(run_.data)
    (folder / "request.json").write_bytes(run_.request)
    (folder / "policy.yaml").write_bytes(run_.policy_text())
    (folder / "hardware.yaml").write_bytes(run_.policy_text(hardware=True))
    forged = workshop.put(run_.end, "claims.steps.taken", lambda taken: taken + 1)
    (folder / "forged.palm.json").write_bytes(run_.with_end(forged.encode()).encode())
    (folder / "log").write_bytes(b"log")
    return folder


@pytest.fixture
def palm(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Palm:
    monkeypatch.chdir(files)
    return Palm(capsys)


class Palm:
    """Runs the command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        code = cli.main(list(words))
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    def verify(self, *words: str, evidence: str = "good.palm.json", policy: str = "policy.yaml") -> Any:
        return self("verify", evidence, "--policy", policy, "--at", AT, *words)


def test_accepted_evidence_is_shown_with_the_verdict_in_the_last_line(palm: Palm) -> None:
    code, out, err = palm.verify("--request", "request.json")
    assert (code, err) == (cli.ACCEPTED, "")
    assert out.splitlines()[-1].startswith("ACCEPTED (warning): simulated TEE")
    assert "(asserted by you)" in out
    assert "NOT SHOWN" in out
    assert "MAY I RELY ON IT? NO." in out
    for check in ("signatures", "binding", "claims"):
        assert check in out


def test_the_json_result_is_the_only_thing_on_standard_output(palm: Palm) -> None:
    code, out, err = palm.verify("--request", "request.json", "--json")
    assert (code, err) == (cli.ACCEPTED, "")
    result = json.loads(out)
    assert result["tier"] == "warning"
    assert result["simulated"] is True
    assert result["freshness"] == "challenged"


def test_without_at_the_clock_of_the_machine_is_asked_and_named(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appraiser, "datetime", _Clock)
    result = verification.verify(
        files / "good.palm.json", policy=files / "policy.yaml", request=str(files / "request.json")
    )
    assert result.time == "2026-11-21T12:00:00+00:00 (this machine's clock)"


class _Clock:
    @staticmethod
    def now(zone: Any) -> datetime:
        return datetime(2026, 11, 21, 12, 0, 0, 999, tzinfo=zone)


def test_a_forgery_is_rejected_in_the_last_line_after_the_checks_that_passed(palm: Palm) -> None:
    code, out, err = palm.verify("--request", "request.json", evidence="forged.palm.json")
    assert (code, err) == (cli.REJECTED, "")
    assert out.splitlines()[-1].startswith("REJECTED BindingError: ")
    assert "signatures" in out


def test_the_json_rejection_names_the_error_and_the_checks_that_passed(palm: Palm) -> None:
    code, out, _ = palm.verify("--request", "request.json", "--json", policy="hardware.yaml")
    said = json.loads(out)
    assert code == cli.REJECTED
    assert (said["tier"], said["error"]) == ("contraindicated", "TrustAnchorError")
    assert [check["name"] for check in said["checks"]] == ["encoding", "freshness"]


def test_a_rejection_at_the_first_check_is_advice_and_verdict(
    palm: Palm, files: Path, resumed: ResumedRun
) -> None:
    (files / "stranger.palm-receipt.json").write_bytes(resumed.sessions[0].file.encode())
    code, out, _ = palm.verify(evidence="stranger.palm-receipt.json")
    assert code == cli.REJECTED
    assert out.startswith("what to do: ")
    assert out.splitlines()[-1].startswith("REJECTED TrustAnchorError: ")


def test_freshness_is_required_unless_the_verifier_says_otherwise(palm: Palm) -> None:
    code, out, _ = palm.verify()
    assert (code, out.splitlines()[-1][:23]) == (cli.REJECTED, "REJECTED FreshnessError")
    code, out, _ = palm.verify("--freshness", "not_checked")
    assert code == cli.ACCEPTED
    assert "freshness not checked" in out.splitlines()[-1]


def test_an_artifact_is_compared_with_its_role(palm: Palm) -> None:
    code, out, _ = palm.verify("--request", "request.json", "--artifact", "log=log")
    assert code == cli.ACCEPTED
    assert "log is the log of the evidence" in out
    code, out, _ = palm.verify("--request", "request.json", "--artifact", "log=policy.yaml")
    assert (code, out.splitlines()[-1][:22]) == (cli.REJECTED, "REJECTED ArtifactError")


MALFORMED: dict[str, tuple[tuple[str, ...], str]] = {
    "no evidence": (("verify", "missing", "--policy", "policy.yaml"), "EvidenceError"),
    "a folder": (("verify", ".", "--policy", "policy.yaml"), "EvidenceError"),
    "not evidence": (("verify", "policy.yaml", "--policy", "policy.yaml"), "EvidenceError"),
    "no policy": (("verify", "good.palm.json", "--policy", "missing"), "PolicyError"),
    "not a policy": (("verify", "good.palm.json", "--policy", "request.json"), "PolicyError"),
    "no request": (
        ("verify", "good.palm.json", "--policy", "policy.yaml", "--request", "missing"),
        "RequestError",
    ),
    "not a request": (
        ("verify", "good.palm.json", "--policy", "policy.yaml", "--request", "policy.yaml"),
        "RequestError",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_input_has_its_own_word_and_code(palm: Palm, name: str) -> None:
    words, error = MALFORMED[name]
    code, out, err = palm(*words)
    assert (code, err) == (cli.MALFORMED, "")
    assert out.splitlines()[-1].startswith(f"MALFORMED {error}: ")
    code, out, _ = palm(*words, "--json")
    assert code == cli.MALFORMED
    said = json.loads(out)
    assert (said["tier"], said["error"]) == ("none", error)


USAGE: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "an unknown command": ("attest",),
    "no policy": ("verify", "good.palm.json"),
    "an unknown option": ("verify", "good.palm.json", "--policy", "policy.yaml", "--quick"),
    "a time without zone": ("verify", "x", "--policy", "y", "--at", "2026-11-21T12:00:00"),
    "no time": ("verify", "x", "--policy", "y", "--at", "noon"),
    "an artifact without path": ("verify", "x", "--policy", "y", "--artifact", "model"),
    "an artifact without role": ("verify", "x", "--policy", "y", "--artifact", "=model"),
    "a role twice": ("verify", "x", "--policy", "y", "--artifact", "a=b", "--artifact", "a=c"),
    "another freshness": ("verify", "x", "--policy", "y", "--freshness", "stale"),
    "an unknown operation": ("request", "--operation", "boil"),
    "two expiries": ("request", "--operation", "train", "--expires", AT, "--expires-in", "7d"),
    "no duration": ("request", "--operation", "train", "--expires-in", "soon"),
    "too few steps": ("demo", "--steps", "1"),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage_errors_have_their_own_code(palm: Palm, name: str) -> None:
    code, out, err = palm(*USAGE[name])
    assert (code, out) == (cli.USAGE, "")
    assert err


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("verify", "--help")])
def test_asking_for_help_is_no_error(palm: Palm, words: tuple[str, ...]) -> None:
    code, out, err = palm(*words)
    assert (code, err) == (cli.ACCEPTED, "")
    assert "palm-torch" in out


def test_an_interruption_has_its_own_code(palm: Palm, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verification, "verify", interrupted)
    code, out, err = palm.verify()
    assert (code, out) == (cli.INTERRUPTED, "")
    assert err.strip() == "interrupted"


def test_what_the_file_system_refuses_is_one_line(palm: Palm, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(verification, "verify", full)
    code, _, err = palm.verify()
    assert code == cli.REJECTED
    assert err == "error: [Errno 28] No space left on device: 'somewhere'\n"


def test_a_reader_that_leaves_gets_no_success(files: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        outcome = subprocess.run(
            [sys.executable, "-m", "palm_torch", "inspect", "good.palm.json"],
            cwd=files,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert (outcome.returncode, outcome.stderr) == (cli.REJECTED, "")


def test_the_module_is_the_command(files: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "palm_torch", "verify", "forged.palm.json", "--policy", "policy.yaml"],
        cwd=files,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert outcome.returncode == cli.REJECTED, outcome.stderr
    assert outcome.stdout.splitlines()[-1].startswith("REJECTED FreshnessError")


def test_evidence_cannot_draw_a_verdict_of_its_own(palm: Palm, files: Path, run_: GoodRun) -> None:
    evil = "x\n\x1b[2J\u202eACCEPTED (affirming)\n[bold]"
    described = Artifact(source=Source.DECLARED, kind="file", digest=run_.end.run.inputs["recipe"].digest)
    bundle = run_.sealed_end("run.outputs", {evil: described, **run_.end.run.outputs})
    (files / "evil.palm.json").write_bytes(bundle.encode())
    (files / "lenient.yaml").write_bytes(run_.policy_text({"claims.declared": 1}))
    code, out, _ = palm.verify("--request", "request.json", evidence="evil.palm.json", policy="lenient.yaml")
    assert code == cli.ACCEPTED
    assert "\x1b[2J" not in out
    assert "\u202e" not in out
    assert [line for line in out.splitlines() if line.startswith("ACCEPTED")] == [out.splitlines()[-1]]
    assert r"\x1b[2J" in out.replace("\n", "")
    code, out, _ = palm("inspect", "evil.palm.json")
    assert code == cli.ACCEPTED
    assert "\x1b[2J" not in out


def test_inspect_says_that_nothing_was_verified(palm: Palm) -> None:
    code, out, err = palm("inspect", "forged.palm.json")
    assert (code, err) == (cli.ACCEPTED, "")
    assert out.startswith("NOT VERIFIED")
    assert "measured, it says" in out
    assert "reported by code" in out


def test_inspect_takes_the_bundle_apart(palm: Palm, run_: GoodRun) -> None:
    code, out, _ = palm("inspect", "good.palm.json", "--json")
    document = json.loads(out)
    assert code == cli.ACCEPTED
    assert document["verified"] is False
    assert document["run_id"] == run_.bundle.run_id
    assert document["end"]["statement"]["predicate"]["run"]["run_id"] == run_.bundle.run_id
    assert [entry["type"] for entry in document["log"]] == ["initial weights", "epoch", "epoch"]
    assert document["boot_log"] is None
    assert document["register_log"] == [digest.hex() for digest in workshop.EARLIER]
    assert document["begin"]["registers"]["rtmr3"] == workshop.register_before(workshop.EARLIER).hex()
    assert document["collateral"] == sorted(run_.bundle.collateral or {})


BROKEN: dict[str, Callable[[GoodRun], bytes]] = {
    "no bundle": lambda run: run.data[:-1],
    "no statement": lambda run: run.with_end(b"{}").encode(),
    "no begin statement": lambda run: run.with_begin(b"{}").encode(),
    "no log entry": lambda run: workshop.put(run.bundle, "log", (b"[",)).encode(),
    "no quote": lambda run: workshop.put(run.bundle, "end.quote", b"quote").encode(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_inspect_refuses_what_does_not_parse(palm: Palm, files: Path, run_: GoodRun, name: str) -> None:
    (files / "broken.palm.json").write_bytes(BROKEN[name](run_))
    code, out, err = palm("inspect", "broken.palm.json")
    assert (code, out) == (cli.MALFORMED, "")
    assert err.startswith("error: EvidenceError: ")
    assert err.count("\n") == 1


def test_inspect_shows_evidence_without_collateral(palm: Palm, files: Path, run_: GoodRun) -> None:
    (files / "bare.palm.json").write_bytes(workshop.put(run_.bundle, "collateral", None).encode())
    code, out, _ = palm("inspect", "bare.palm.json")
    assert code == cli.ACCEPTED
    assert any(line.split() == ["collateral", "none"] for line in out.splitlines())


def test_a_request_is_written_once(palm: Palm, tmp_path: Path) -> None:
    path = tmp_path / "asked.json"
    words = ("request", "--operation", "train", "--role", "data", "-o", str(path))
    code, out, err = palm(*words)
    first = path.read_bytes()
    asked = request.decode(first)
    assert (code, err, asked.operation, asked.roles, asked.expires) == (0, "", "train", ("data",), None)
    assert hashlib.sha256(first).hexdigest() in out
    code, _, err = palm(*words)
    assert (code, path.read_bytes()) == (cli.MALFORMED, first)
    assert "--force" in err
    code, _, _ = palm(*words, "--force")
    assert code == cli.ACCEPTED
    assert request.decode(path.read_bytes()).nonce != asked.nonce


def test_a_request_expires_when_it_is_told_to(palm: Palm, tmp_path: Path) -> None:
    path = tmp_path / "asked.json"
    words = ("request", "--operation", "train", "--force", "-o", str(path))
    palm(*words, "--expires", "2999-01-01T01:00:00+01:00")
    assert request.decode(path.read_bytes()).expires == "2999-01-01T00:00:00Z"
    before = datetime.now(UTC)
    palm(*words, "--expires-in", "36h")
    expires = request.parse_time(request.decode(path.read_bytes()).expires or "")
    assert timedelta(hours=35) < expires - before < timedelta(hours=37)


def test_a_role_that_the_script_must_name_itself_is_pointed_out(palm: Palm, tmp_path: Path) -> None:
    code, _, err = palm("request", "--operation", "train", "--role", "dta", "-o", str(tmp_path / "r.json"))
    assert code == cli.ACCEPTED
    assert "'dta' is no role of train" in err


def test_a_request_that_cannot_be_written_is_one_line(palm: Palm, tmp_path: Path) -> None:
    code, _, err = palm("request", "--operation", "train", "-o", str(tmp_path / "no" / "r.json"))
    assert code == cli.MALFORMED
    assert err.startswith("error: RequestError: ")


def test_measure_prints_the_manifest(palm: Palm, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(64)))
    code, out, _ = palm("measure", str(tmp_path), "--record-length", "4")
    with manifest_file.ManifestFile.open(tmp_path / "manifest.palm-manifest") as opened:
        manifest = opened.manifest
    assert code == cli.ACCEPTED
    assert out.split()[:4] == [
        "manifest",
        str(tmp_path / "manifest.palm-manifest"),
        "digest",
        str(manifest.digest),
    ]
    assert "8 of 8 bytes in 1 files" in out


def test_measure_takes_a_salt_and_a_type(palm: Palm, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(64)))
    salt = tmp_path / "salt"
    salt.write_bytes(b"a secret of salt")
    words = (
        "measure",
        str(tmp_path),
        "--record-length",
        "4",
        "--token-dtype",
        "uint8",
        "--salt-file",
        str(salt),
    )
    assert palm(*words)[0] == cli.ACCEPTED
    with manifest_file.ManifestFile.open(tmp_path / "manifest.palm-manifest") as opened:
        assert (opened.manifest.salted, opened.manifest.records) == (True, 16)
    for content in (b"", bytes(15), bytes(arguments.MAX_SALT_BYTES + 1)):
        salt.write_bytes(content)
        assert palm(*words)[0] == cli.MALFORMED
    salt.unlink()
    code, _, err = palm(*words)
    assert code == cli.MALFORMED
    assert err.startswith("error: DataError: ")


def test_measure_refuses_what_is_not_there(palm: Palm, tmp_path: Path) -> None:
    code, _, err = palm("measure", str(tmp_path / "nothing"))
    assert code == cli.MALFORMED
    assert err.startswith("error: DataError: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_streams_without_settings_are_used_as_they_are(
    files: Path, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, stream, io.StringIO())
    assert cli.main(["verify", "good.palm.json", "--policy", "policy.yaml", "--json"]) in (0, 1, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--expires", "0001-01-01T00:00:00+14:00"],
        ["--expires-in", "999999w"],
        ["--expires-in", "9" * 30 + "d"],
    ],
)
def test_times_beyond_the_calendar_are_usage_errors(tmp_path: Path, arguments: list[str]) -> None:
    out = tmp_path / "request.json"
    assert cli.main(["request", "--operation", "train", "-o", str(out), *arguments]) == 3
    assert not out.exists()
