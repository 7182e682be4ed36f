"""The file that says who may come in: which are read, which are refused, and of which is warned."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from localgcl.cli import _secrets
from localgcl.cli._secrets import SecretError, first_line
from tests.helpers.programs import Invoke

KNOWN = "app:pass:wörd"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that others can enter, as far as it is for this page to say."""
    made = tmp_path / "folder"
    made.mkdir(mode=0o755)
    return made


@pytest.fixture
def file(folder: Path) -> Path:
    """A file as it should be."""
    made = folder / "auth"
    made.write_text(f"{KNOWN}\nand more\n")
    made.chmod(0o600)
    return made


def of_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every file be somebody else's."""
    monkeypatch.setattr(_secrets, "_ours", lambda: (2**31, 2**31))


def test_a_file_as_it_should_be(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first line is read, by any way to it, and nothing else."""
    monkeypatch.chdir(file.parent)
    for path in (str(file), "auth", "./auth", "../folder/auth", f"{file.parent}//auth"):
        assert first_line(path) == (KNOWN, None)
    for content in (KNOWN, f"{KNOWN}\r\n"):
        file.write_bytes(content.encode())
        assert first_line(str(file)) == (KNOWN, None)


def test_links_of_ones_own(file: Path, folder: Path) -> None:
    """They are followed, as those of mounted secrets are, over folders and to links."""
    (folder / "data").symlink_to(".")
    (folder / "one").symlink_to("data/auth")
    (folder / "two").symlink_to(folder / "one")
    assert first_line(str(folder / "two")) == (KNOWN, None)
    folder.chmod(0o1777)
    assert first_line(str(folder / "two")) == (KNOWN, None)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o770])
@pytest.mark.parametrize("way", ["link", "shortcut/auth"])
def test_links_where_others_can_write(file: Path, folder: Path, mode: int, way: str) -> None:
    """Somebody else may have put them there, so they are not followed."""
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(mode)
    (shared / "link").symlink_to(file)
    (shared / "shortcut").symlink_to(folder)
    with pytest.raises(SecretError, match="symbolic link"):
        first_line(str(shared / way))


def test_links_of_others(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not followed wherever they are."""
    (folder / "link").symlink_to(file)
    of_strangers(monkeypatch)
    with pytest.raises(SecretError, match="symbolic link"):
        first_line(str(folder / "link"))


def test_links_in_a_circle(folder: Path) -> None:
    """They have an end."""
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    with pytest.raises(SecretError, match="symbolic link"):
        first_line(str(folder / "one"))


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_file_of_others_where_others_can_write(
    file: Path, folder: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be there in place of one's own."""
    of_strangers(monkeypatch)
    assert first_line(str(file)) == (KNOWN, None)  # in a folder where they cannot
    folder.chmod(mode)
    with pytest.raises(SecretError, match="another user"):
        first_line(str(file))


def test_what_is_no_file(folder: Path) -> None:
    """It is told what it is, at once, and neither waited for nor opened."""
    os.mkfifo(folder / "FIFO")
    (folder / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
    for path, kind in (
        (folder / "FIFO", "a FIFO"),
        (folder / "folder", "a folder"),
        (folder / "socket", "a socket"),
        (Path("/dev/null"), "a device"),
        (Path("/dev/tty"), "a device"),
    ):
        with pytest.raises(SecretError, match=f"is {kind}; give a regular file"):
            first_line(str(path))


def test_a_file_that_becomes_something_else(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is opened is what is looked at: a FIFO that is put in its place is not waited for."""
    look = os.stat

    def look_and_swap(path: str, **options: object) -> os.stat_result:
        status = look(path, **options)  # type: ignore[arg-type]
        if path == "auth" and stat.S_ISREG(status.st_mode):
            file.unlink()
            os.mkfifo(file)
        return status

    monkeypatch.setattr(os, "stat", look_and_swap)
    with pytest.raises(SecretError, match="is a FIFO"):
        first_line(str(file))


def test_what_is_no_line(file: Path) -> None:
    """Too long, or no text."""
    for content, told in ((b"a:" + b"x" * 5000, "longer than"), (b"\xff\xfe", "UTF-8")):
        file.write_bytes(content)
        with pytest.raises(SecretError, match=told):
            first_line(str(file))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o444])
def test_a_file_that_others_can_read(file: Path, folder: Path, mode: int) -> None:
    """It is read, as secrets of containers have to be, with a warning if others come as far."""
    file.chmod(mode)
    line, warning = first_line(str(file))
    reached = all(above.stat().st_mode & 0o011 for above in file.parents)
    assert line == KNOWN
    assert (warning is not None) == reached
    folder.chmod(0o700)
    assert first_line(str(file)) == (KNOWN, None)


def test_the_warning(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what helps, wherever the tests keep their files."""
    monkeypatch.chdir(file.parent)
    file.chmod(0o644)
    for above in file.parents[1:]:
        if not above.stat().st_mode & 0o011:
            monkeypatch.setattr(_secrets, "_OTHERS_ENTER", 0o777)
    warning = first_line("auth")[1]
    assert warning is not None
    assert "mode 0644" in warning
    assert "chmod 600 auth" in warning


def test_a_file_that_anybody_can_change(file: Path) -> None:
    """Whoever can write it says who may come in."""
    for mode in (0o666, 0o602):
        file.chmod(mode)
        with pytest.raises(SecretError, match="chmod 600"):
            first_line(str(file))


def test_it_is_told_in_one_line(invoke: Invoke, folder: Path) -> None:
    """By the command, which serves nothing then."""
    os.mkfifo(folder / "FIFO")
    done = invoke("serve", "--auth-file", str(folder / "FIFO"))
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert done.output.count("\n") == 1
