"""What the tests share: a place of their own, time that they move, and processes that they play."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localgcl import Limiter
from localgcl._liveness import folder as _folder
from localgcl._storage import location
from localgcl._storage.database import Database
from localgcl.cli import localgcl
from tests.helpers.database import forget_everything
from tests.helpers.flavours import FLAVOURS, Flavour
from tests.helpers.played import Clock, Process
from tests.helpers.programs import Invoke

# The numbers below matplotlib's pictures come with threads, and the kernel gives a signal to any
# thread: `localgcl run` inside a test would wait for one in vain.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

# For the same reason, what starts pytest-xdist's workers blocks the signal that `run` waits for:
# each of them has a thread that reads its orders, and inherits this. A worker's main thread, and so
# all that its tests start, is as usual.
_OF_CHILDREN = {signal.SIGCHLD}
if "PYTEST_XDIST_WORKER" in os.environ:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_CHILDREN)


def pytest_configure(config: pytest.Config) -> None:
    """Let a worker fork: Python warns where there is any other thread, and that one only reads."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        warning = "ignore:This process .* is multi-threaded, use of:DeprecationWarning"
        config.addinivalue_line("filterwarnings", warning)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Prepare this process for starting workers; it runs no tests itself."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _OF_CHILDREN)


# Begun in the background of a shell, or by nohup, these would ignore signals that they send.
for number, usual in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Iterator[None]:
    """Keep a test away from the user's own database, and end what it has left open."""
    logging.getLogger("localgcl").setLevel(logging.NOTSET)  # `serve` wants no warnings
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path / "home"))
        patch.delenv("XDG_STATE_HOME", raising=False)
        patch.delenv(location.VARIABLE, raising=False)
        # Kept until they are closed: Python 3.13 warns of a connection that ends unclosed.
        made: list[Database] = []
        begin = Database.__init__

        def keep(self: Database, path: str) -> None:
            made.append(self)
            begin(self, path)

        patch.setattr(Database, "__init__", keep)
        yield
        forget_everything()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a database may be made; its folder is not there yet."""
    return str(tmp_path / "state" / "limits.db")


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def flavour(request: pytest.FixtureRequest) -> Iterator[Flavour]:
    """What a test calls: the blocking flavour, unless it is parametrized (`both_flavours`)."""
    used = FLAVOURS[getattr(request, "param", "blocking")]()
    yield used
    used.close()


@pytest.fixture
def limiter(flavour: Flavour, path: str) -> Limiter:
    """A limiter of a database that is not there yet."""
    return flavour.limiter(path)


@pytest.fixture
def invoke(path: str) -> Invoke:
    """Run the command line on the database at `path`."""

    def run(*arguments: str, answer: str | bytes | None = None) -> Result:
        return CliRunner().invoke(localgcl, ["--db", path, *arguments], input=answer)

    return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of this test; to be asked for before anything touches the database."""
    time = Clock()
    time.install(monkeypatch)
    return time


@pytest.fixture
def processes(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Process]]:
    """Make played processes, which end with the test."""
    made: list[Process] = []
    # They are all this one, which runs whatever becomes of them.
    monkeypatch.setattr(_folder, "is_running", lambda _: False)

    def make() -> Process:
        made.append(Process(limiter._database))
        return made[-1]

    yield make
    for process in made:
        process.die()
