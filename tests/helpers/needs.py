"""Programs that some tests need beside Python: where one is missing, they are skipped.

`.ci/run` installs them all and sets LOCALGCL_TEST_EVERYTHING, under which nothing is skipped.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

import pytest


def lacks(program: str) -> bool:
    """Whether tests that need a program are to be skipped."""
    return shutil.which(program) is None and not os.environ.get("LOCALGCL_TEST_EVERYTHING")


# The interpreter with Prefect, which brings too much to be in one environment with the rest.
PREFECT_PYTHON = os.environ.get("LOCALGCL_PREFECT_PYTHON") or (
    sys.executable if importlib.util.find_spec("prefect") else None
)

takes_prefect = pytest.mark.skipif(
    PREFECT_PYTHON is None and not os.environ.get("LOCALGCL_TEST_EVERYTHING"),
    reason="Prefect is not installed, and LOCALGCL_PREFECT_PYTHON names no other interpreter",
)

takes_root = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("LOCALGCL_TEST_EVERYTHING"),
    reason="only root can act for several users: run these tests as root, as with sudo",
)
