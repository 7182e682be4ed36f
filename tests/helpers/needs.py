"""Programs that some tests need beside Python: where one is missing, they are skipped.

`.ci/run` installs them all and sets LOCALGCL_TEST_EVERYTHING, under which nothing is skipped.
"""

from __future__ import annotations

import os
import shutil

import pytest


def lacks(program: str) -> bool:
    """Whether tests that need a program are to be skipped."""
    return shutil.which(program) is None and not os.environ.get("LOCALGCL_TEST_EVERYTHING")


takes_root = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("LOCALGCL_TEST_EVERYTHING"),
    reason="only root can act for several users: run these tests as root, as with sudo",
)
