"""Several users, one stage for all of them, and a scene for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.intruders.stage import Ground, Scene, Stage


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """The process that everybody else is forked from."""
    started = Stage()
    yield started
    started.close()


@pytest.fixture
def scene(stage: Stage) -> Iterator[Callable[[Ground], Scene]]:
    """Set a scene, in a folder that every user can reach; in memory, for the speed, if it can be."""
    memory = "/dev/shm"  # noqa: S108
    top = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    top.chmod(0o755)
    made: list[Scene] = []

    def set_up(ground: Ground) -> Scene:
        made.append(Scene(stage, top, ground))
        return made[-1]

    yield set_up
    for one in made:
        one.close()
    shutil.rmtree(top)
