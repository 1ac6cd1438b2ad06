"""A file that a script reads and runs is put where listing it fails: it is listed, or a warning remains."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import launched
import loops
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launched import Launcher

READS = f"{launched.STEPS}\nx = 1\nexec(open('configurator.py').read())\nstep(x)\n"
EVIL = "x = 666\n"
NO_DIGEST = "1 things that the script opened by itself, or could read, have no digest"


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of scripts as people write them


@pytest.fixture(scope="module", autouse=True)
def _fresh_process() -> Iterator[None]:
    with loops.fresh_process():
        yield


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    with launched.launcher(tmp_path, monkeypatch) as found:
        yield found


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def test_the_file_is_a_pipe(scripts: Launcher) -> None:
    pipe = scripts.folder / "configurator.py"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(EVIL,))
    writer.start()
    end = scripts.run(READS)
    writer.join()
    assert launched.opened_by(end) == {"configurator.py (could not be hashed)": None}
    assert NO_DIGEST in launched.warned_of(end)
    assert launched.code_of(end, "executed:") == {f"executed:<string>:{sha(EVIL).hex()[:12]}": sha(EVIL)}


@pytest.mark.parametrize("place", ["memory", "package", "library"])
def test_the_file_is_a_link_to_a_place_that_is_not_listed(
    scripts: Launcher, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    target = scripts.folder / "base.py"
    if place == "memory":
        target = Path("/dev/shm") / f"palm-test-{os.getpid()}"  # noqa: S108 (the place is the point)
    elif place == "package":
        digest = base64.urlsafe_b64encode(sha(EVIL)).rstrip(b"=").decode()
        site = scripts.folder / "site-packages"
        (site / "palm_zz-1.dist-info").mkdir(parents=True)
        (site / "palm_zz-1.dist-info/RECORD").write_text(f"base.py,sha256={digest},8\n", encoding="utf-8")
        monkeypatch.syspath_prepend(site)
        target = site / "base.py"
    target.write_text(EVIL, encoding="utf-8")
    link = scripts.folder / "configurator.py"
    link.symlink_to(target if place != "library" else os.__file__)
    try:
        end = scripts.run(READS if place != "library" else READS.replace("exec(", "str("))
    finally:
        target.unlink()
    expected = sha(EVIL) if place != "library" else hashlib.sha256(Path(os.__file__).read_bytes()).digest()
    assert list(launched.opened_by(end).values()) == [expected]


def test_a_lease_keeps_the_look_out_and_lets_the_script_in(scripts: Launcher) -> None:
    path = scripts.folder / "configurator.py"
    path.write_text(EVIL, encoding="utf-8")
    host = (
        "import fcntl, os, signal, sys, time\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "signal.signal(signal.SIGIO, lambda *_: None)\n"
        "fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
        "time.sleep(0.3)\n"
        "fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)\n"
    )
    with subprocess.Popen([sys.executable, "-c", host, str(path)], stdout=subprocess.PIPE) as leasing:
        assert leasing.stdout is not None
        if leasing.stdout.readline() != b"ready\n":
            pytest.skip("this file system has no leases")
        end = scripts.run(READS)
    assert launched.opened_by(end) == {"configurator.py (could not be hashed)": None}
    assert NO_DIGEST in launched.warned_of(end)


def test_a_descriptor_and_a_file_without_a_name_are_handed_down(scripts: Launcher) -> None:
    reading, writing = os.pipe()
    os.write(writing, EVIL.encode())
    os.close(writing)
    nameless = os.open(scripts.folder, os.O_TMPFILE | os.O_RDWR)
    os.write(nameless, EVIL.encode())
    try:
        end = scripts.run(
            f"{launched.STEPS}\nexec(open({reading}).read())\nexec(open('/dev/fd/{nameless}').read())\nstep(x)\n"
        )
    finally:
        os.close(nameless)
    found = launched.opened_by(end)
    assert found.pop(f"descriptor {reading} (could not be hashed)") is None
    assert list(found.values()) == [sha(EVIL)]


def test_a_file_of_a_package_is_edited(scripts: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    site = scripts.folder / "site-packages"
    (site / "palm_zz-1.dist-info").mkdir(parents=True)
    names = ("palm_test_zz.py", "defaults.json", "ops.inc")
    texts = ("exec(open(f'{HERE}/ops.inc').read())\nopen(f'{HERE}/defaults.json').read()\n", "{}", "x = 1\n")
    rows = []
    for name, text in zip(names, texts, strict=True):
        kept = text.replace("{HERE}", str(site))
        (site / name).write_text(kept, encoding="utf-8")
        digest = base64.urlsafe_b64encode(sha(kept)).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},1\n")
    (site / "palm_zz-1.dist-info/RECORD").write_text("".join(rows), encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    text = f"{launched.STEPS}\nimport palm_test_zz\nstep(palm_test_zz.x)\n"
    assert launched.opened_by(scripts.run(text)) == {}  # as its RECORD says
    del sys.modules["palm_test_zz"]
    (site / "ops.inc").write_text(EVIL, encoding="utf-8")
    (site / "defaults.json").write_text("[7]", encoding="utf-8")
    end = scripts.run(text)
    assert sorted(launched.opened_by(end).values(), key=str) == sorted([sha(EVIL), sha("[7]")], key=str)


def test_a_source_that_was_imported_is_read_again(scripts: Launcher) -> None:
    path = scripts.folder / "palm_test_settings.py"
    path.write_text("x = 1  \n", encoding="utf-8")
    text = (
        f"{launched.STEPS}\nimport os, palm_test_settings as settings\n"
        "open(settings.__file__).read()\n"
        "state = os.stat(settings.__file__)\n"
        f"open(settings.__file__, 'w').write({EVIL!r})\n"  # as the host would, in the meantime
        "os.utime(settings.__file__, ns=(state.st_atime_ns, state.st_mtime_ns))\n"
        "exec(open(settings.__file__).read())\nstep(x)\n"
    )
    end = scripts.run(text)
    assert launched.opened_by(end) == {
        "palm_test_settings.py": sha("x = 1  \n"),
        "palm_test_settings.py#2": sha(EVIL),
    }
    assert "2 files that the script opened by itself" in launched.warned_of(end)


def test_a_signal_handler_reads_while_another_file_is_hashed(scripts: Launcher) -> None:
    with (scripts.folder / "big.bin").open("wb") as stream:
        stream.truncate(1 << 28)
    (scripts.folder / "again.py").write_text(EVIL, encoding="utf-8")
    text = (
        f"{launched.STEPS}\nimport signal\n"
        "signal.signal(signal.SIGALRM, lambda *_: exec(open('again.py').read(), globals()))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.02)\n"
        "open('big.bin', 'rb').close()\n"
        "while 'x' not in globals(): pass\n"
        "step(x)\n"
    )
    before = signal.getsignal(signal.SIGALRM)
    try:
        end = scripts.run(text)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert launched.opened_by(end).keys() == {"again.py", "big.bin"}


def test_standard_input_is_no_terminal(scripts: Launcher) -> None:
    (scripts.folder / "in").write_text(EVIL, encoding="utf-8")
    kept = os.dup(0)
    try:
        with (scripts.folder / "in").open() as stream:
            os.dup2(stream.fileno(), 0)
        end = scripts.run(f"{launched.STEPS}\nimport os\nexec(os.read(0, 100))\nstep(x)\n")
    finally:
        os.dup2(kept, 0)
        os.close(kept)
    assert launched.opened_by(end) == {"(standard input)": None}
    assert NO_DIGEST in launched.warned_of(end)
    assert launched.code_of(end, "executed:") == {f"executed:<string>:{sha(EVIL).hex()[:12]}": sha(EVIL)}


def test_twin_a_plain_file_is_listed_with_its_digest(scripts: Launcher) -> None:
    (scripts.folder / "configurator.py").write_text(EVIL, encoding="utf-8")
    end = scripts.run(READS)
    assert launched.opened_by(end) == {"configurator.py": sha(EVIL)}
    assert NO_DIGEST not in launched.warned_of(end)
