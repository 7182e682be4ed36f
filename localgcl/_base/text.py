"""Text as it is shown: names in quotes, and everything on one line and safe for a terminal."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_GIVEN = 60  # characters of a bad value, in an error
_MAX_SHOWN = 40  # characters of a command, for example, on a line that holds more
# Command lines can be megabytes long; `ps` needs to tell one from another.
MAX_COMMAND_LENGTH = 4096


def quoted(names: Iterable[str]) -> str:
    """Return names in a row, each in quotes."""
    return ", ".join(f"'{name}'" for name in names)


def on_one_line(text: str) -> str:
    """Return a text without what some program takes for the end of a line, like U+2028."""
    return " ".join(text.splitlines())


def printable(text: str) -> str:
    """Return a text without anything that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else " " for one in text)


def shortened(text: str, most: int = _MAX_SHOWN) -> str:
    """Return a text on one line, without what a terminal would obey, and not too long."""
    line = printable(text)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def in_ascii(text: str) -> str:
    """Return what somebody has given, in quotes, as an error shows it: cut, and in ASCII."""
    return ascii(text if len(text) <= _MAX_GIVEN else f"{text[:_MAX_GIVEN]}...")


def shell_quoted(text: str) -> str:
    """Return a text as one word of a shell, as `shlex.quote` does, without all that it imports."""
    if text and all(one.isascii() and (one.isalnum() or one in "@%+=:,./-_") for one in text):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


def lifeline_of(wake_fifo: str) -> str:
    """Return the name of the lifeline that a wake-up FIFO belongs to."""
    return wake_fifo.partition(".")[0]
