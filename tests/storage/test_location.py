"""Which file is the database, and what is said of its place before a file is made there."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from localgcl import DatabaseError, Limiter
from localgcl._liveness import access
from localgcl._storage import location
from tests.helpers.descriptors import open_files
from tests.helpers.programs import Invoke
from tests.helpers.users import umask_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    return home


# The choice


def test_the_default(home: Path) -> None:
    """Told nothing, it is in the user's state folder."""
    assert location.choose(None) == (f"{home}/.local/state/localgcl/localgcl.db", "default")


def test_the_state_folder_of_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_STATE_HOME moves the default."""
    monkeypatch.setenv("XDG_STATE_HOME", "/srv/state")
    assert location.choose(None) == ("/srv/state/localgcl/localgcl.db", "default")


@pytest.mark.parametrize("state", ["", "relative/state", "~/state"])
def test_a_state_folder_that_counts_as_unset(
    home: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """An empty one is unset, and a relative one is to be ignored, says the specification."""
    monkeypatch.setenv("XDG_STATE_HOME", state)
    assert location.choose(None)[0] == f"{home}/.local/state/localgcl/localgcl.db"


def test_the_environment_comes_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """LOCALGCL_DB chooses."""
    monkeypatch.setenv("LOCALGCL_DB", "/srv/limits.db")
    assert location.choose(None) == ("/srv/limits.db", "environment")


def test_an_empty_environment_is_unset(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty LOCALGCL_DB chooses nothing."""
    monkeypatch.setenv("LOCALGCL_DB", "")
    assert location.choose(None) == (f"{home}/.local/state/localgcl/localgcl.db", "default")


@pytest.mark.parametrize("database", ["/srv/given.db", Path("/srv/given.db")], ids=repr)
def test_the_argument_comes_first(
    monkeypatch: pytest.MonkeyPatch, database: str | os.PathLike[str]
) -> None:
    """What is given wins over the environment."""
    monkeypatch.setenv("LOCALGCL_DB", "/srv/limits.db")
    assert location.choose(database) == ("/srv/given.db", "option")


@pytest.mark.parametrize("where", ["argument", "environment"])
def test_a_tilde_is_the_home(home: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """`~` is expanded, wherever it was written."""
    monkeypatch.setenv("LOCALGCL_DB", "~/limits.db")
    chosen, _ = location.choose("~/limits.db" if where == "argument" else None)
    assert chosen == f"{home}/limits.db"


def test_a_relative_path_is_fixed_when_it_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that changes its folder later keeps its database."""
    monkeypatch.chdir(tmp_path)
    limiter = Limiter("limits.db")
    limiter.create("database", 1)
    monkeypatch.chdir("/")
    assert limiter.read("database").limit == 1
    assert (tmp_path / "limits.db").exists()


ACCESS = access.Access(os.geteuid(), os.getegid(), 0o600)

ADDRESSES = [":memory:", "file:limits.db", "file:/x?mode=memory"]


@pytest.mark.parametrize("address", [*ADDRESSES, "", "a\0b", "~nobody-of-this-name/limits.db"])
def test_what_no_other_process_could_share(address: str) -> None:
    """Databases in memory, addresses and what is no path are refused."""
    with pytest.raises(ValueError, match=r"^the database "):
        location.choose(address)


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_no_other_process_could_share_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """They are refused wherever they come from."""
    monkeypatch.setenv("LOCALGCL_DB", address)
    with pytest.raises(ValueError, match="cannot be shared"):
        location.choose(None)


def test_a_relative_path_in_a_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removed the folder under a process gets an error of ours."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(DatabaseError, match="absolute"):
        Limiter("limits.db")


def test_an_address_in_the_environment_is_explained_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No traceback, and nothing that looks like success."""
    from click.testing import CliRunner

    from localgcl.cli import localgcl

    monkeypatch.setenv("LOCALGCL_DB", ":memory:")
    result = CliRunner().invoke(localgcl, ["ls"])
    assert result.exit_code == 2, (result.exception, result.output)
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: ")


# Parents and modes


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o277])
def test_missing_parents_are_for_their_user_alone(tmp_path: Path, mask: int) -> None:
    """All of them are made with mode 0700, whatever the umask; those that are there stay."""
    (tmp_path / "there").mkdir(mode=0o755)
    path = tmp_path / "there" / "one" / "two" / "three" / "limits.db"
    with umask_of(mask):
        Limiter(path).create("database", 1)
    modes = [stat.S_IMODE(folder.stat().st_mode) for folder in list(path.parents)[:4]]
    assert modes == [0o700, 0o700, 0o700, 0o755]


def test_parents_may_be_made_by_somebody_else_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten processes that start at once do not fail over who makes the folder."""
    path = str(tmp_path / "one" / "two" / "limits.db")
    mkdir = os.mkdir

    def beaten(folder: str, mode: int = 0o777) -> None:
        mkdir(folder, mode)
        mkdir(folder, mode)

    monkeypatch.setattr(os, "mkdir", beaten)
    location.make_parents(path)
    assert os.path.isdir(os.path.dirname(path))


def test_a_file_made_by_somebody_else_meanwhile_is_as_good(tmp_path: Path) -> None:
    """Making a file that is there leaves it as it is, and no trace."""
    path = tmp_path / "file"
    path.write_text("here already")
    access.make_file(str(path), ACCESS)
    assert path.read_text() == "here already"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_closed_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed later, it would take away the locks of a thread that has opened it by then."""
    link, seen = os.link, list[str]()

    def look_and_link(unfinished: str, path: str) -> None:
        seen.extend(open_files())
        link(unfinished, path)
        os.unlink(unfinished)  # as a cleaner may

    monkeypatch.setattr(os, "link", look_and_link)
    access.make_file(str(tmp_path / "limits.db"), ACCESS)
    assert seen
    assert not [name for name in seen if name.startswith(str(tmp_path))]
    assert os.listdir(tmp_path) == ["limits.db"]


# File systems

MOUNTINFO = """\
22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /srv rw - nfs4 server:/srv rw
31 30 0:27 / /srv/local rw,relatime shared:5 master:2 - xfs /dev/vdb rw
32 22 0:28 / /mnt/with\\040space rw - fuse.sshfs user@host: rw
33 22 0:29 / /mnt/over rw - ext4 /dev/vdc rw
34 33 0:30 / /mnt/over rw - cifs //server/share rw
35 22 0:31 / /mnt/back\\134slash rw - 9p host rw
"""


def _reads(text: str) -> Callable[..., io.BytesIO]:
    return lambda *_, **__: io.BytesIO(text.encode())


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel tell of these mounts."""
    monkeypatch.setattr(
        location, "open", lambda *_, **__: io.BytesIO(MOUNTINFO.encode()), raising=False
    )


@pytest.mark.usefixtures("mounted")
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/limits.db", "ext4"),
        ("/srv/limits.db", "nfs4"),
        ("/srv/deep/er/limits.db", "nfs4"),
        ("/srv/local/limits.db", "xfs"),
        ("/srv/locality/limits.db", "nfs4"),
        ("/srvice/limits.db", "ext4"),
        ("/mnt/with space/limits.db", "fuse.sshfs"),
        ("/mnt/over/limits.db", "cifs"),
        ("/mnt/back\\slash/limits.db", "9p"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    """The deepest mount counts, and of those on one place the last."""
    mount = location.mount_of(path)
    assert mount is not None
    assert mount[0] == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuse.sshfs"])
def test_network_file_systems_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke, path: str, kind: str
) -> None:
    """No database is made where WAL and FIFOs do not reach all processes; the reason is said."""
    monkeypatch.setattr(location, "mount_of", lambda _: kind and (kind, "/"))
    folder = tmp_path / "folder"
    folder.mkdir()
    limiter = Limiter(folder / "limits.db")
    with pytest.raises(DatabaseError) as caught:
        limiter.create("database", 1)
    with pytest.raises(DatabaseError):
        limiter.acquire("database")
    assert caught.value.path == str(folder / "limits.db")
    assert kind in str(caught.value)
    assert list(folder.iterdir()) == []
    assert limiter.read_all() == []
    result = invoke("create", "database", "--limit", "1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert not os.path.exists(path)


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs"])
def test_a_database_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """One that another machine has made, or that was copied there, is not opened either."""
    with Limiter(tmp_path / "limits.db") as maker:
        maker.create("database", 1)
    names = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(location, "mount_of", lambda _: (kind, "/"))
    limiter = Limiter(tmp_path / "limits.db")
    for call in (limiter.read_all, lambda: limiter.acquire("database"), limiter.waiters):
        with pytest.raises(DatabaseError, match=kind):
            call()
    assert sorted(os.listdir(tmp_path)) == names


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", None])
def test_other_file_systems_are_not(
    path: str, monkeypatch: pytest.MonkeyPatch, kind: str | None
) -> None:
    """What is local, and what cannot be told, goes on."""
    monkeypatch.setattr(location, "mount_of", lambda _: kind and (kind, "/"))
    assert Limiter(path).create("database", 1).limit == 1


def test_where_the_kernel_tells_nothing(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc nobody knows, and so nobody is refused."""

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(location, "open", missing, raising=False)
    assert location.mount_of(path) is None
    assert Limiter(path).create("database", 1).limit == 1


def test_a_link_to_a_network_file_system_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a link leads is where the file would be."""
    share = tmp_path / "share"
    share.mkdir()
    (tmp_path / "limits.db").symlink_to(share / "limits.db")
    mounts = f"22 1 0:1 / / rw - ext4 /dev/vda rw\n30 22 0:2 / {share} rw - nfs4 server:/ rw\n"
    monkeypatch.setattr(
        location, "open", lambda *_, **__: io.BytesIO(mounts.encode()), raising=False
    )
    with pytest.raises(DatabaseError, match="nfs4"):
        Limiter(tmp_path / "limits.db").create("database", 1)
    assert list(share.iterdir()) == []


def test_the_file_system_of_this_machine(tmp_path: Path) -> None:
    """The real /proc/self/mountinfo can be read."""
    assert location.mount_of(str(tmp_path / "limits.db"))
