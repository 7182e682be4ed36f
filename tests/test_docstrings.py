"""What the docstrings of public names show runs as it stands."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType

import pytest

import localgcl.asyncio
import localgcl.models
import localgcl.sync

MODULES = (localgcl.sync, localgcl.asyncio, localgcl.models)
EXAMPLES = [
    one for module in MODULES for one in doctest.DocTestFinder().find(module) if one.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_example_of_a_docstring(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example prints what it shows, in a folder where there is nothing yet."""
    monkeypatch.chdir(tmp_path)
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.__name__)
def test_each_public_module_has_examples(module: ModuleType) -> None:
    """The finder of examples has looked at each of them."""
    assert any(one.name.startswith(module.__name__) for one in EXAMPLES)
