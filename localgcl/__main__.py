"""`localgcl` and `python -m localgcl`: the command line."""

from __future__ import annotations

import os
import signal
import sys

from localgcl._child import Interrupted, say
from localgcl._quick import read
from localgcl.errors import LocalGCLError


def main() -> None:
    """Run the command line: by click, unless it is one that can do without."""
    try:
        found = read(sys.argv[1:])
        if found is None:
            from localgcl.cli import main as with_click

            return with_click()
        status = found[0].do(found[1])
    except LocalGCLError as error:
        say(f"Error: {' '.join(str(error).splitlines())}")
        status = 1
    except Interrupted as interrupted:
        status = interrupted.status
    except KeyboardInterrupt:  # before there was anything to be interrupted
        status = 128 + signal.SIGINT
    # Everything is signed out of. What remains, a checkpoint above all, writes to the disk twice
    # over, and whoever uses the database next does as well.
    os._exit(status)


if __name__ == "__main__":
    main()
