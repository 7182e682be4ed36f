"""The folders of the package: imports point down only, and the hot path loads little."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import localgcl
import localgcl.sync
from localgcl import Limiter

# From the ground up: what is in a folder, or a module beside them, imports from the same folder and
# from the lines above its own, and from nowhere else.
LAYERS = (
    ("_base",),
    ("errors",),
    ("models",),
    ("_liveness",),
    ("_engine",),
    ("_storage",),
    ("_drivers",),
    ("_admin",),
    ("_doctor",),
    ("sync", "asyncio"),  # which never import each other
    ("testing",),
    ("pytest_plugin",),
    ("",),  # localgcl itself
    ("_run",),
    ("server",),
    ("cli",),
    ("__main__",),
)
LEVEL = {place: level for level, places in enumerate(LAYERS) for place in places}

PACKAGE = Path(localgcl.__file__).parent
FOLDERS = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
HEAVY = {"pydantic", "click", "filelock", "aiosqlite"}
SERVER = {"starlette", "uvicorn", "h11", "wsproto", "jinja2", "prometheus_client"}


def modules() -> dict[str, Path]:
    """Return every module of the package, by its name in the table."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(source: str, module: str, known: set[str]) -> Iterator[str]:
    """Yield the modules of the package that `source` imports, at its top or in its functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import, which is not read here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and str(node.value).startswith("localgcl."):
            names = [str(node.value)]  # what importlib is given
            if names[0].removeprefix("localgcl.") not in known:
                continue  # any other text
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == "localgcl":
                yield rest if rest in known else rest.rpartition(".")[0]


def place_of(module: str) -> str:
    """Return the folder that a module is in, or its own name if it is in none."""
    return module.partition(".")[0]


def test_every_folder_has_its_layer() -> None:
    """The table above is complete, and nothing in it is gone."""
    assert {place_of(module) for module in modules()} == set(LEVEL)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_down(module: str) -> None:
    """No module imports one of a layer above, wherever the import stands."""
    known = modules()
    here = place_of(module)
    for imported in imports(known[module].read_text(encoding="utf-8"), module, set(known)):
        there = place_of(imported)
        assert there == here or LEVEL[there] < LEVEL[here], f"{module} imports {imported}"


@pytest.mark.parametrize("place", LEVEL)
def test_no_circle_inside_a_folder(place: str) -> None:
    """The modules of a folder can be read one after another, each after what it imports."""
    known = modules()
    inside = {module: known[module] for module in known if place_of(module) == place}
    graph = {
        module: {
            imported
            for imported in imports(file.read_text(encoding="utf-8"), module, set(known))
            if imported in inside
        }
        for module, file in inside.items()
    }
    list(TopologicalSorter(graph).static_order())  # which raises CycleError


def test_the_engine_knows_no_database() -> None:
    """What decides sees a transaction, and neither SQLite nor FIFOs, not for types either."""
    known = modules()
    for module in known:
        if place_of(module) == "_engine":
            source = known[module].read_text(encoding="utf-8")
            assert "import sqlite3" not in source, module
            places = {place_of(imported) for imported in imports(source, module, set(known))}
            assert places <= {"_base", "_engine", "errors"}, module


def test_a_private_module_is_in_a_folder() -> None:
    """At the top are the modules that users import, and nothing else."""
    alone = {module for module in modules() if "." not in module and module not in FOLDERS}
    assert alone == {
        "",
        "__main__",
        "asyncio",
        "errors",
        "models",
        "pytest_plugin",
        "sync",
        "testing",
    }


@pytest.mark.parametrize("folder", sorted(FOLDERS - {"cli", "server"}))
def test_a_folder_says_what_is_in_it(folder: str) -> None:
    """Its docstring names every module of it."""
    source = (PACKAGE / folder / "__init__.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert len(tree.body) == 1, "no code"
    words = ast.get_docstring(tree) or ""
    for module in modules():
        if place_of(module) == folder and "." in module:
            assert f"`{module.partition('.')[2]}`" in words


def test_the_reader_of_imports_sees_them_all() -> None:
    """Each way to import is seen, inside a function too."""
    source = """
import localgcl.errors
from localgcl import __version__
from localgcl._engine import queue
from localgcl.cli._layout import bar
import os.path

def f():
    if TYPE_CHECKING:
        from localgcl.models import Limit
    importlib.import_module("localgcl.sync")
"""
    seen = set(imports(source, "x", set(modules())))
    assert seen == {"errors", "_engine.queue", "", "cli._layout", "models", "sync"}


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_slots_load_little() -> None:
    """What is loaded before a slot is asked for decides the start of every cron job."""
    loaded = loaded_by("from localgcl import concurrency")
    assert "localgcl.sync" in loaded
    assert not HEAVY & loaded


def test_the_face_loads_nothing_by_itself() -> None:
    """Each of its names comes from its home when it is asked for, and its modules do, too."""
    assert {name for name in loaded_by("import localgcl") if "localgcl" in name} == {"localgcl"}
    for name in localgcl.__all__:
        assert getattr(localgcl, name).__module__.startswith("localgcl.")
    assert localgcl.asyncio.AsyncLimiter is localgcl.AsyncLimiter
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        localgcl.nothing  # noqa: B018


def test_slots_of_an_existing_database_load_little(path: str) -> None:
    """A `with` block over a database that is there needs none of the heavy ones either."""
    with Limiter(path) as limiter:
        limiter.create("database", 1)
        limiter.create("api", 1, slot_decay_per_second=1000)
    loaded = loaded_by(
        f"""
import localgcl
limiter = localgcl.Limiter({path!r})
with limiter.concurrency("database", timeout_seconds=5, strict=True):
    pass
limiter.rate_limit("api", timeout_seconds=5, strict=True)
limiter.close()
"""
    )
    assert "sqlite3" in loaded
    assert not HEAVY & loaded


def test_only_serving_loads_the_server() -> None:
    """The libraries of the extra are needed by `serve` alone, and missed by nobody else."""
    loaded = loaded_by(
        """
import contextlib, sys
from localgcl.cli import localgcl
with contextlib.suppress(SystemExit):
    localgcl(["--db", "/nowhere/limits.db", "ls"])
with contextlib.suppress(SystemExit):
    localgcl(["serve", "--help"])
"""
    )
    assert "localgcl.cli.server" in loaded
    assert not SERVER & loaded


@pytest.mark.parametrize("module", ["localgcl", "localgcl.sync"])
def test_all_is_true(module: str) -> None:
    """What `__all__` promises is there, in order, and once."""
    face = importlib.import_module(module)
    names = list(face.__all__)
    assert names == sorted(set(names))
    for name in names:
        assert getattr(face, name) is not None
    assert set(names) <= set(dir(face))


def test_public_names_that_are_loaded_late_are_the_models() -> None:
    """`localgcl.Limit` and its siblings are the classes of `localgcl.models`."""
    from localgcl import models

    assert (localgcl.Limit, localgcl.Holder, localgcl.Waiter) == (
        models.Limit,
        models.Holder,
        models.Waiter,
    )
    with pytest.raises(AttributeError, match="no_such_name"):
        localgcl.no_such_name  # noqa: B018


def test_the_blocking_functions_are_the_same_objects_everywhere() -> None:
    """`from localgcl import concurrency` and `from localgcl.sync import concurrency` are one."""
    assert localgcl.concurrency is localgcl.sync.concurrency
    assert localgcl.rate_limit is localgcl.sync.rate_limit
    assert localgcl.sync.ConcurrencySlotAcquisitionError is localgcl.ConcurrencySlotAcquisitionError
    assert (
        localgcl.sync.AcquireConcurrencySlotTimeoutError
        is localgcl.AcquireConcurrencySlotTimeoutError
    )
