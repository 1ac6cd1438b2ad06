"""`palm-torch policy`: init, sign and check, what they print and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import workshop
from authority import AT, make_key, pem_of, public_pem, values_text
from cryptography.hazmat.primitives.asymmetric import ec

from palm_torch import cli
from palm_torch.cvm import simulated_gpu, simulated_gpu_state, simulated_snp, simulated_state
from palm_torch.policies import policy, reference_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from composite_run import CompositeRun
    from snp_run import SnpRun
    from workshop import GoodRun

    Palm = Callable[..., tuple[int, str, str]]

KEY = make_key("p256")


@pytest.fixture
def folder(good: GoodRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.palm.json").write_bytes(good.data)
    (tmp_path / "root.pem").write_text(workshop.pem(good.machine.root_certificate()), encoding="ascii")
    (tmp_path / "key.pem").write_bytes(pem_of(KEY))
    (tmp_path / "public.pem").write_bytes(public_pem(KEY))
    (tmp_path / "values.yaml").write_bytes(values_text({}))
    (tmp_path / "asking.yaml").write_bytes(good.policy_text({"claims.data": ["authority"]}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def palm(folder: Path, capsys: pytest.CaptureFixture[str]) -> Palm:
    del folder

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["policy", *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


# init ---------------------------------------------------------------------------------------------


def test_init_writes_a_policy_that_accepts_the_evidence(palm: Palm, folder: Path, good: GoodRun) -> None:
    code, out, err = palm("init", "train.palm.json", "--simulated-root", "root.pem")
    assert (code, err) == (0, "")
    assert "policy  policy.yaml" in out
    assert "verified by nobody" in out
    assert good.verify(policy=policy.load(folder / "policy.yaml")).checks


def test_init_takes_the_root_of_this_machine(
    palm: Palm, folder: Path, good: GoodRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated_state, "default_directory", lambda: good.folder)
    assert palm("init", "train.palm.json", "--simulated-root", "auto", "-o", "auto.yaml")[0] == 0
    assert good.verify(policy=policy.load(folder / "auto.yaml")).checks
    monkeypatch.setattr(simulated_state, "default_directory", lambda: folder / "none")
    code, _, err = palm("init", "train.palm.json", "--simulated-root", "auto", "-o", "other.yaml")
    assert code == 1
    assert "no root certificate in" in err
    assert not (folder / "other.yaml").exists()


def test_init_takes_the_root_of_the_simulated_machine_of_the_evidences_kind(
    palm: Palm, folder: Path, good: GoodRun, guest: SnpRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated_state, "default_directory", lambda: good.folder)
    monkeypatch.setattr(simulated_snp, "default_directory", lambda: guest.folder)
    (folder / "guest.palm.json").write_bytes(guest.data)
    code, _, err = palm("init", "guest.palm.json", "--simulated-root", "auto")
    assert (code, err) == (0, "")
    parsed = policy.load(folder / "policy.yaml")
    assert parsed.platform.simulated_root == workshop.pem(guest.machine.root_certificate())
    assert guest.verify(policy=parsed).checks
    monkeypatch.setattr(simulated_snp, "default_directory", lambda: folder / "none")
    code, _, err = palm("init", "guest.palm.json", "--simulated-root", "auto", "--force")
    assert code == 1
    assert "no root certificate in" in err


def test_init_takes_the_roots_of_the_simulated_gpus(
    palm: Palm, folder: Path, composite: CompositeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated_state, "default_directory", lambda: composite.folder / "machine")
    (folder / "gpu.palm.json").write_bytes(composite.data)
    roots = {"simulated_gpu_root": composite.gpus.root_certificate()}
    roots["simulated_rim_root"] = composite.gpus.rim_root_certificate()
    for name, root in roots.items():
        (folder / f"{name}.pem").write_text(workshop.pem(root), encoding="ascii")

    def accepted(folder_of_keys: Path, *words: str) -> dict[str, str | None]:
        monkeypatch.setattr(simulated_gpu_state, "default_directory", lambda: folder_of_keys)
        assert palm("init", "gpu.palm.json", "--simulated-root", "auto", "--force", *words)[0] == 0
        parsed = policy.load(folder / "policy.yaml")
        if parsed.platform.simulated_gpu_root is not None:
            assert composite.verify(policy=parsed).checks
        return {name: getattr(parsed.platform, name) for name in roots}

    admitted = {name: workshop.pem(root) for name, root in roots.items()}
    assert accepted(composite.folder / "gpus") == admitted
    nothing = dict.fromkeys(roots)
    assert accepted(folder / "none") == nothing
    simulated_gpu.SimulatedGpus(directory=folder / "others")
    assert accepted(folder / "others") == nothing  # the evidence is of no simulated GPU of this machine
    given = (
        "--simulated-gpu-root",
        "simulated_gpu_root.pem",
        "--simulated-rim-root",
        "simulated_rim_root.pem",
    )
    assert accepted(folder / "none", *given) == admitted


def test_init_without_a_root_demands_hardware(palm: Palm, folder: Path) -> None:
    assert palm("init", "train.palm.json")[0] == 0
    assert policy.load(folder / "policy.yaml").platform.simulated_root is None


def test_init_replaces_no_file_unless_told_to(palm: Palm, folder: Path) -> None:
    (folder / "policy.yaml").write_text("mine", encoding="ascii")
    code, _, err = palm("init", "train.palm.json")
    assert code == 2
    assert "policy.yaml: there is a file already; --force replaces it" in err
    assert (folder / "policy.yaml").read_text(encoding="ascii") == "mine"
    assert palm("init", "train.palm.json", "--force")[0] == 0
    assert policy.load(folder / "policy.yaml")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("missing.palm.json",), "missing.palm.json: cannot read the evidence"),
        (("values.yaml",), "not a JSON document"),
        (("train.palm.json", "--simulated-root", "missing.pem"), "cannot read the root certificate"),
        (("train.palm.json", "--simulated-root", "key.pem"), "key.pem: expected one certificate in PEM"),
    ],
)
def test_init_writes_nothing_where_something_is_wrong(
    palm: Palm, folder: Path, words: tuple[str, ...], says: str
) -> None:
    code, _, err = palm("init", *words)
    assert code == 2
    assert says in err
    assert not (folder / "policy.yaml").exists()


# sign ---------------------------------------------------------------------------------------------


def test_sign_writes_what_verifies(palm: Palm, folder: Path) -> None:
    code, out, err = palm("sign", "values.yaml", "--key", "key.pem", "-o", "signed.json")
    assert (code, err) == (0, "")
    found = reference_values.verify((folder / "signed.json").read_bytes(), key=KEY.public_key(), at=AT)
    assert found.values.issuer == "Example Laboratory"
    assert f"key               {found.key_id}" in out
    assert "claims.data       1 values" in out
    assert "claims.initial" not in out
    code, _, err = palm("sign", "values.yaml", "--key", "key.pem", "-o", "signed.json")
    assert code == 2
    assert "there is a file already" in err
    assert palm("sign", "values.yaml", "--key", "key.pem", "-o", "signed.json", "--force")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("values.yaml", "--key", "public.pem"), "public.pem: not a private key in PEM"),
        (("values.yaml", "--key", "missing.pem"), "missing.pem: cannot read the key"),
        (("missing.yaml", "--key", "key.pem"), "missing.yaml: cannot read the values"),
        (("key.pem", "--key", "key.pem"), "key.pem"),
    ],
)
def test_sign_writes_nothing_where_something_is_wrong(
    palm: Palm, folder: Path, words: tuple[str, ...], says: str
) -> None:
    code, _, err = palm("sign", *words)
    assert code == 2
    assert says in err
    assert not (folder / "reference-values.json").exists()
    private = pem_of(KEY).splitlines()[1].decode()
    assert private not in err


def test_sign_needs_a_key(palm: Palm) -> None:
    assert palm("sign", "values.yaml")[0] == 3


# check --------------------------------------------------------------------------------------------


def test_check_says_what_a_policy_demands_and_waves_through(palm: Palm, folder: Path, good: GoodRun) -> None:
    (folder / "policy.yaml").write_bytes(
        good.policy_text({"claims.initial": ["any"], "platform.tdx.rtmr1": []})
    )
    code, out, err = palm("check", "policy.yaml")
    assert (code, err) == (0, "")
    demands, waved, nothing = (
        out.partition("waves through")[0],
        out.partition("waves through")[2].partition("accepts nothing")[0],
        out.partition("accepts nothing")[2],
    )
    assert "  - claims.steps: >= 1 and <= 4" in demands
    assert "  - claims.initial: the policy accepts any" in waved
    assert "a simulated TEE in place of hardware" in waved
    assert "  - platform.tdx.rtmr1" in nothing
    (folder / "policy.yaml").write_bytes(good.policy_text({}))
    assert "names no value for: nothing" in palm("check", "policy.yaml")[1]


def test_check_resolves_what_the_policy_asks_an_authority(palm: Palm, folder: Path) -> None:
    palm("sign", "values.yaml", "--key", "key.pem")
    code, _, err = palm("check", "asking.yaml")
    assert code == 2
    assert "--reference-values FILE --authority-key PEM" in err
    given = ("check", "asking.yaml", "--reference-values", "reference-values.json")
    assert palm(*given)[0] == 3
    code, out, _ = palm(*given, "--authority-key", "public.pem", "--at", "2026-11-21T12:00:00Z")
    assert code == 0
    assert "authority: Example Laboratory, key " in out
    assert "[authority]" not in out
    code, _, err = palm(*given, "--authority-key", "public.pem", "--at", "2028-01-01T00:00:00Z")
    assert code == 1
    assert "FreshnessError: reference-values.json: they hold from" in err
    (folder / "public.pem").write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
    code, _, err = palm(*given, "--authority-key", "public.pem", "--at", "2026-11-21T12:00:00Z")
    assert code == 1
    assert "SignatureError" in err


def test_check_uses_the_clock_where_no_time_is_given(palm: Palm, folder: Path) -> None:
    (folder / "old.yaml").write_bytes(
        values_text({"issued": "2001-01-01T00:00:00Z", "expires": "2002-01-01T00:00:00Z"})
    )
    palm("sign", "old.yaml", "--key", "key.pem")
    code, _, err = palm(
        "check", "asking.yaml", "--reference-values", "reference-values.json", "--authority-key", "public.pem"
    )
    assert code == 1
    assert "they hold from 2001" in err


def test_check_refuses_what_is_no_policy(palm: Palm) -> None:
    code, out, err = palm("check", "values.yaml")
    assert (code, out) == (2, "")
    assert "values.yaml: " in err
