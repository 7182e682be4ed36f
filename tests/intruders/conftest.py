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
    """Set scenes, each in a folder of its own that every user can reach."""
    memory = "/dev/shm"  # noqa: S108 - for the speed, where it can be had
    top = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    top.chmod(0o755)
    made: list[Scene] = []

    def set_up(ground: Ground) -> Scene:
        made.append(Scene(stage, top / str(len(made)), ground))
        return made[-1]

    yield set_up
    stage.clear()
    for one in made:
        one.close()
    shutil.rmtree(top)
