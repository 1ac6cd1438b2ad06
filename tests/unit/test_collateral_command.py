"""`palm-torch collateral fetch`: evidence in, one file out, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import publishing
import pytest
import web

from palm_torch import cli, collateral_file
from palm_torch.cvm import collateral

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun


@pytest.fixture
def folder(good: GoodRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "good.palm.json").write_bytes(good.data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def service(good: GoodRun) -> publishing.Service:
    assert good.bundle.collateral is not None
    return publishing.pccs(collateral.from_json(dict(good.bundle.collateral)))


def fetch(*words: str) -> int:
    return cli.main(["collateral", "fetch", "good.palm.json", *words])


def test_a_file_is_written_that_reads_back(
    folder: Path, service: publishing.Service, good: GoodRun, capsys: pytest.CaptureFixture[str]
) -> None:
    with web.serving(service) as server:
        assert fetch("--source", server.url, "-o", "c.json") == cli.ACCEPTED
        said = capsys.readouterr().out
        assert said.startswith("collateral  c.json\nfor         tdx: pck_crl, pck_crl_issuer_chain, ")
        found = collateral_file.read(folder / "c.json")
        assert (found.attester, found.collateral) == ("tdx", good.bundle.collateral)
        before = len(service.asked)
        assert fetch("--source", server.url, "-o", "c.json") == cli.MALFORMED
        assert "there is a file already; --force replaces it" in capsys.readouterr().err
        assert len(service.asked) == before
        assert fetch("--source", server.url, "-o", "c.json", "--force") == cli.ACCEPTED


def test_nothing_is_written_of_a_bad_answer(
    folder: Path, service: publishing.Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.instead[publishing.ROOT_CRL] = web.answer(b"00")
    with web.serving(service) as server:
        assert fetch("--source", server.url) == cli.MALFORMED
    assert capsys.readouterr().err.startswith("error: EncodingError: root CA CRL")
    assert [path.name for path in folder.iterdir()] == ["good.palm.json"]


def test_a_service_that_fails_is_no_malformed_evidence(
    folder: Path, service: publishing.Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.instead[publishing.ROOT_CRL] = web.answer(status="503 Busy")
    with web.serving(service) as server:
        assert fetch("--source", server.url) == cli.REJECTED
    said = capsys.readouterr().err
    assert said.startswith("error: FetchError: root CRL: http://127.0.0.1:")
    assert said.endswith("the service is busy: try again later\n")
    assert [path.name for path in folder.iterdir()] == ["good.palm.json"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--timeout", "0"], cli.USAGE, "--timeout"),
        (["--timeout", "nan"], cli.USAGE, "--timeout"),
        (["--timeout", "1e9"], cli.USAGE, "--timeout"),
        (["--source", "pccs.example"], cli.MALFORMED, "expected https://host/path"),
        ([], cli.MALFORMED, "of a simulated TEE, about which nobody publishes"),
        (["-o", "none/c.json", "--source", "{url}"], cli.MALFORMED, "cannot write here"),
    ],
)
def test_what_is_asked_for_wrongly(
    words: list[str], code: int, said: str, service: publishing.Service, capsys: pytest.CaptureFixture[str]
) -> None:
    with web.serving(service) as server:
        assert fetch(*(word.format(url=server.url) for word in words)) == code
    assert said in capsys.readouterr().err
