"""Files that `apply` is told to read: whatever lies there, the answer is content or an error."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localgcl import Limiter
from localgcl._base import reading
from localgcl._base.reading import read_file
from tests.helpers.programs import Invoke
from tests.helpers.waiting import DEADLINE_SECONDS

CONTENT = "[limits.a]\nlimit = 5\n"
CREATED = "+ a\nCreated 1, updated 0, deleted 0, unchanged 0.\n"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The place of a file that is not there yet."""
    return tmp_path / "limits.toml"


def make_socket(file: Path) -> None:
    """Make a socket at a path, however long that is."""
    with socket.socket(socket.AF_UNIX) as one:
        folder = os.open(file.parent, os.O_RDONLY)
        one.bind(f"/proc/self/fd/{folder}/{file.name}")
        os.close(folder)


def make_loop(file: Path) -> None:
    """Make a link that leads to itself."""
    file.symlink_to(file.name)


def make_large(file: Path) -> None:
    """Make a file larger than any that limits fill."""
    with file.open("wb") as opened:
        opened.truncate(reading.MAX_BYTES + 1)


# What lies there, and what is said of it; the exit code.
STRANGE: dict[str, tuple[Callable[[Path], Any], str, int]] = {
    "nothing": (str, "does not exist", 2),
    "a link to nothing": (lambda file: file.symlink_to("nowhere"), "does not exist", 2),
    "a directory": (Path.mkdir, "is a directory", 2),
    "a link to a directory": (lambda file: file.symlink_to("/"), "is a directory", 2),
    "a link to itself": (make_loop, "symbolic links", 1),
    "a FIFO": (os.mkfifo, "a FIFO that nobody writes to", 1),
    "a socket": (make_socket, "a socket", 1),
    "a device": (lambda file: file.symlink_to("/dev/zero"), "a device", 1),
    "a terminal": (lambda file: file.symlink_to("/dev/ptmx"), "a device", 1),
    "too much": (make_large, "larger than 16 MiB", 1),
    "no text": (lambda file: file.write_bytes(b"\xff\xfe"), "not UTF-8", 1),
}


@pytest.mark.parametrize("what", STRANGE)
def test_what_is_no_file_of_limits(
    invoke: Invoke, file: Path, path: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is an error that names it, without a wait and before anything is touched."""
    monkeypatch.setattr(reading, "_WRITER_SECONDS", 0.01)
    make, said, code = STRANGE[what]
    make(file)
    result = invoke("apply", str(file))
    assert (result.exit_code, result.stdout) == (code, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert said in last
    assert str(file) in last
    assert (len(result.stderr.splitlines()) == 1) is (code == 1)
    assert not os.path.exists(os.path.dirname(path))


@pytest.mark.parametrize("beside", ["below", "a name too long"])
def test_paths_that_lead_nowhere(invoke: Invoke, file: Path, beside: str) -> None:
    """A path that no file can have is an error too."""
    file.touch()
    asked = f"{file}/below" if beside == "below" else f"{file}{'x' * 300}"
    result = invoke("apply", asked)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {asked} cannot be read: ")


@as_root
@pytest.mark.parametrize("of", ["file", "folder"])
def test_without_permission(public: Path, of: str) -> None:
    """What this user may not read is named."""
    file = public / "limits.toml"
    file.write_text(CONTENT)
    (file if of == "file" else public).chmod(0o600)
    code = """
import os, sys
from localgcl._base.reading import read_file
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
try:
    read_file(sys.argv[1])
except PermissionError as error:
    print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{os.strerror(errno.EACCES)}\n", "")


def applied(path: str, words: str, **options: Any) -> str:
    """Run a shell's line with `apply FILE` at its end, and return what `apply` printed."""
    program = f'"{sys.executable}" -m localgcl --db "{path}" apply'
    done: subprocess.CompletedProcess[str] = subprocess.run(
        ["bash", "-c", words.replace("APPLY", program)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        **options,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    "words",
    [
        "APPLY -",
        "APPLY /dev/stdin",
        "APPLY /dev/fd/0",
        "APPLY /proc/self/fd/0",
        "APPLY /dev/fd/7 7<&0",
        "APPLY <(cat <&3) 3<&0",
        "cat | APPLY -",
        "cat | APPLY /dev/stdin",
        'mkfifo "$F"; cat <&3 3<&0 > "$F" & APPLY "$F"',
        'mkfifo "$F"; (exec > "$F"; sleep 1.2; cat <&3) 3<&0 & APPLY "$F"',
        'mkfifo "$F"; (sleep 0.3; cat <&3 > "$F") 3<&0 & APPLY "$F"',
        'cat > "$F"; ln -s "$F" "$F.link"; APPLY "$F.link"',
        'mkdir "$F"; cat > "$F/file"; APPLY "$F/../${F##*/}/.//file"',
    ],
)
def test_what_people_give_it(file: Path, words: str, path: str) -> None:
    """Standard input, process substitution, FIFOs and links work as before."""
    # A shell gives what it runs in the background no standard input of its own.
    given = f"exec 3<&0; {words.replace('3<&0', '')}"
    environment = {**os.environ, "F": str(file)}
    assert applied(path, given, input=CONTENT, env=environment) == CREATED


def test_standard_input_that_is_not_to_block(path: str) -> None:
    """It is waited for, however it was opened."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def write() -> None:
        for one in CONTENT:
            os.write(writer, one.encode())
        os.close(writer)

    thread = threading.Timer(0.5, write)
    thread.start()
    assert applied(path, "APPLY -", stdin=reader) == CREATED
    thread.join()
    os.close(reader)


@pytest.mark.parametrize("words", ["APPLY -", "APPLY /dev/stdin", "APPLY <(cat /dev/zero)"])
def test_input_without_an_end(path: str, words: str) -> None:
    """It is read up to a bound."""
    program = f'"{sys.executable}" -m localgcl --db "{path}" apply'
    done = subprocess.run(
        ["bash", "-c", f"{words.replace('APPLY', program)} < /dev/zero"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert "larger than 16 MiB" in done.stderr


# Links in a folder where others may write


@as_root
@pytest.mark.parametrize(
    ("mode", "owner_of_folder", "owner_of_link", "followed"),
    [
        (0o1777, 0, 65534, False),
        (0o777, 0, 65534, False),
        (0o2770, 0, 65534, False),
        (0o770, 0, 65534, False),
        (0o1777, 65533, 65534, False),
        (0o1777, 0, 0, True),
        (0o2770, 0, 0, True),
        (0o755, 0, 65534, True),  # whom root let put it there
        (0o1777, 65534, 65534, False),  # of its owner, which the kernel follows
        (0o755, 65534, 65534, False),  # a home folder: it may lead to what only root reads
        (0o755, 65534, 0, True),
        (0o770, 65534, 65534, False),
    ],
)
@pytest.mark.parametrize("place", ["the file", "a folder above it"])
def test_links_of_strangers(
    tmp_path: Path,
    mode: int,
    owner_of_folder: int,
    owner_of_link: int,
    followed: bool,
    place: str,
) -> None:
    """Root does not follow them, in every folder that others can write to or that is another's."""
    folder = tmp_path / "shared"
    folder.mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "secret").write_text(CONTENT)
    link = folder / "link"
    link.symlink_to("../target/secret" if place == "the file" else tmp_path / "target")
    os.chown(link, owner_of_link, owner_of_link, follow_symlinks=False)
    os.chown(folder, owner_of_folder, owner_of_folder)
    folder.chmod(mode)
    way = tmp_path / "way"
    way.symlink_to("shared/link")  # over which it is not reached either
    for begin in (link, way):
        asked = begin if place == "the file" else begin / "secret"
        if followed:
            assert read_file(str(asked)).decode() == CONTENT
        else:
            with pytest.raises(PermissionError) as caught:
                read_file(str(asked))
            assert "link is a link that another user has put" in str(caught.value)


@as_root
@pytest.mark.parametrize(
    ("mode", "owner_of_folder", "owner_of_link", "followed"),
    [
        (0o777, 0, 65533, False),
        (0o1777, 65533, 65533, False),
        (0o1777, 0, 65534, True),
        (0o777, 0, 0, True),
        (0o755, 65533, 65533, True),  # a folder of another, who keeps it as it is
    ],
)
def test_links_of_strangers_for_a_user(
    public: Path, mode: int, owner_of_folder: int, owner_of_link: int, followed: bool
) -> None:
    """The rule is not root's alone."""
    folder = public / "shared"
    folder.mkdir()
    (public / "target").write_text(CONTENT)
    (folder / "link").symlink_to("../target")
    os.chown(folder / "link", owner_of_link, owner_of_link, follow_symlinks=False)
    os.chown(folder, owner_of_folder, owner_of_folder)
    folder.chmod(mode)
    code = """
import os, sys
from localgcl._base.reading import read_file
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
try:
    print(read_file(sys.argv[1]).decode(), end="")
except PermissionError as error:
    print(error.strerror)
"""
    words = [sys.executable, "-c", code, str(folder / "link")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stderr == ""
    if followed:
        assert done.stdout == CONTENT
    else:
        assert "link is a link that another user has put" in done.stdout


@as_root
def test_a_link_that_is_swapped_in(tmp_path: Path) -> None:
    """However often it comes and goes: never is anything read that it leads to."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    (tmp_path / "secret").write_text("secret")
    (folder / "file").write_text("ours")
    (folder / "link").symlink_to("../secret")
    os.chown(folder / "link", 65534, 65534, follow_symlinks=False)
    code = """
import ctypes, sys
rename = ctypes.CDLL(None).renameat2
print("ready", flush=True)
while True:
    rename(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), 2)  # RENAME_EXCHANGE
"""
    words = [sys.executable, "-c", code, str(folder / "file"), str(folder / "link")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None
        swapper.stdout.readline()
        read: set[bytes | int | None] = set()
        for _ in range(3000):
            try:
                read.add(read_file(str(folder / "file")))
            except OSError as error:
                read.add(error.errno)
        swapper.kill()
    assert b"secret" not in read
    assert read & {b"ours"}
    assert read & {errno.EACCES, errno.ELOOP}


@as_root
def test_nothing_stays_open(tmp_path: Path, file: Path) -> None:
    """Neither of what was read nor of what was refused."""
    file.write_text(CONTENT)
    (tmp_path / "link").symlink_to("limits.toml")
    before = os.listdir("/proc/self/fd")
    read_file(str(tmp_path / "link"))
    for wrong in ("/dev/zero", str(tmp_path), str(tmp_path / "none"), str(file / "below")):
        with pytest.raises(OSError):  # noqa: PT011 - several, and none of ours
            read_file(wrong)
    assert os.listdir("/proc/self/fd") == before


def test_a_known_database_is_left_alone(invoke: Invoke, limiter: Limiter, file: Path) -> None:
    """What cannot be read changes nothing."""
    limiter.create("b", 1)
    file.symlink_to("/dev/zero")
    assert stat.S_ISCHR(file.stat().st_mode)
    assert invoke("apply", str(file), "--prune").exit_code == 1
    assert [one.name for one in limiter.read_all()] == ["b"]
