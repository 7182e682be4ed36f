"""Print the lowest versions that pyproject.toml allows of the run-time packages, for pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

with (Path(__file__).parent.parent / "pyproject.toml").open("rb") as file:
    project = tomllib.load(file)["project"]
for requirement in (*project["dependencies"], *project["optional-dependencies"]["server"]):
    found = re.match(r"([\w.-]+)>=([\w.]+)", requirement)
    assert found is not None, requirement
    print(f"{found[1]}=={found[2]}")
