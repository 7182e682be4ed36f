"""`localgcl` and `python -m localgcl`: the command line."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line: by click, unless it is one that can do without."""
    try:
        status = _do(sys.argv[1:])
    except KeyboardInterrupt:  # before there was anything to be interrupted
        status = 130
    # Everything is signed out of. What remains, a checkpoint above all, writes to the disk twice
    # over, and whoever uses the database next does as well.
    os._exit(status)


def _do(words: list[str]) -> int:
    from localgcl._child import ERROR_PATIENCE_SECONDS, Interrupted, say
    from localgcl._quick import read
    from localgcl._text import on_one_line
    from localgcl.errors import LocalGCLError

    try:
        found = read(words)
        if found is not None:
            return found[0].do(found[1])
    except LocalGCLError as error:
        say(f"Error: {on_one_line(str(error))}", ERROR_PATIENCE_SECONDS)
        return 1
    except Interrupted as interrupted:
        return interrupted.status
    from localgcl.cli import main as with_click

    with_click()
    return 0


if __name__ == "__main__":
    main()
