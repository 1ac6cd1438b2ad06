"""What every test shares: third-party vectors, a state folder of its own, Hypothesis profiles.

Nothing here imports torch: the tests of the verifier half run where it is not installed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from booted import BootedRun
    from composite_run import CompositeRun
    from relay import ResumedRun
    from snp_run import SnpRun
    from workshop import GoodRun

sys.path.insert(0, str(Path(__file__).parent / "support"))  # tests are not a package

VECTORS_VARIABLE: Final = "PALM_TORCH_VECTORS"
NO_VECTORS: Final = "none"
_COUNTS: Final = {"run": 0, "skipped": 0}

_SLOW_MACHINES = (hypothesis.HealthCheck.too_slow,)
for _name, _examples, _derandomize in (("default", 100, True), ("ci", 50, True), ("thorough", 2000, False)):
    hypothesis.settings.register_profile(
        _name,
        max_examples=_examples,
        derandomize=_derandomize,
        deadline=None,  # a test never asserts a time
        suppress_health_check=_SLOW_MACHINES,
    )
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure(config: pytest.Config) -> None:
    """Gives the run its own state folder (keys of simulated TEEs) and one thread per process."""
    folder = tempfile.TemporaryDirectory(prefix="palm-torch-tests-")
    config.add_cleanup(folder.cleanup)
    os.environ["XDG_STATE_HOME"] = folder.name
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _set_up_vectors(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test that asks for the vectors; files that take long come first, then those of many tests.

    Tests of a file run one after the other in one process: one that begins late is waited for.
    """
    for item in items:
        if "vectors" in getattr(item, "fixturenames", ()):
            item.add_marker("vectors")
    slow = {item.path for item in items if "slow" in item.keywords}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, -tests[item.path]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hides what other files of tests brought into the process."""
    import own_file

    own_file.begin(item)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Counts the tests that had the vectors they need, and those that did not, in whatever process."""
    if "vectors" in report.keywords:
        _COUNTS["run"] += report.when == "call" and not report.skipped
        _COUNTS["skipped"] += report.skipped


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints how many tests the third-party vectors reached, and leaves the line for `make check`."""
    line = f"vectors: {_COUNTS['run']} run, {_COUNTS['skipped']} skipped"
    terminalreporter.write_line(line)
    if getattr(config, "cache", None) is not None:
        (config.cache.mkdir("palm-torch") / "vectors").write_text(line + "\n", encoding="utf-8")


@pytest.fixture(autouse=True)
def _no_graphs_left() -> Iterator[None]:
    """Forgets what torch compiled during a test: its graphs would run in later ones, without their taps."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch"].compiler.reset()


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], bytes]:
    """Returns a reader of third-party vectors: a name relative to their folder in, bytes out.

    The test is skipped when `PALM_TORCH_VECTORS` is unset or `none`; a folder without files, or without
    the file asked for, is a failure.
    """
    folder = _vectors_folder()
    if folder is None:
        pytest.skip(f"{VECTORS_VARIABLE} is unset or 'none'")
    if not any(path.is_file() for path in folder.rglob("*")):
        pytest.fail(f"{VECTORS_VARIABLE}: expected a folder with files, found none in {folder}")

    def read(name: str) -> bytes:
        return (folder / name).read_bytes()

    return read


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> GoodRun:
    """Returns one challenged training run that was sealed well, and what is needed to bend it."""
    import workshop

    return workshop.make_good_run(tmp_path_factory.mktemp("machine") / "keys")


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> BootedRun:
    """Returns a run as `good` is one, of a machine with a boot log."""
    import booted

    return booted.make_booted_run(tmp_path_factory.mktemp("machine") / "keys")


@pytest.fixture(scope="session")
def guest() -> SnpRun:
    """Returns a run as `good` is one, of a simulated SEV-SNP guest."""
    import snp_run

    return snp_run.make_snp_run()


@pytest.fixture(scope="session")
def composite(tmp_path_factory: pytest.TempPathFactory) -> CompositeRun:
    """Returns a run as `good` is one, of a machine with one simulated GPU."""
    import composite_run

    return composite_run.make_composite_run(tmp_path_factory.mktemp("composite"))


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> CompositeRun:
    """Returns a run as `composite` is one, with two GPUs."""
    import composite_run

    return composite_run.make_composite_run(tmp_path_factory.mktemp("pair"), count=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a small corpus that was measured."""
    import loops

    return loops.corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture
def fresh_process() -> Iterator[None]:
    """Hides from a file's tests what others left alive."""
    import loops

    with loops.fresh_process():
        yield


@pytest.fixture(scope="module")
def few_sources() -> Iterator[None]:
    """Has sessions of a file's tests list little code, which they would look at for every answer."""
    import answering

    with answering.few_sources():
        yield


@pytest.fixture(scope="session")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> ResumedRun:
    """Returns one challenged training run in three sessions, with their keys and receipts."""
    import relay

    return relay.make_resumed_run(tmp_path_factory.mktemp("machine") / "keys")


def _vectors_folder() -> Path | None:
    value = os.environ.get(VECTORS_VARIABLE, NO_VECTORS)
    return None if value in ("", NO_VECTORS) else Path(value)


def _set_up_vectors(config: pytest.Config) -> None:
    folder = _vectors_folder()
    if folder is not None:  # tests may change the working directory
        os.environ[VECTORS_VARIABLE] = str((config.invocation_params.dir / folder).resolve())
