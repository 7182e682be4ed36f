"""The mutants still apply. Whether each is noticed, `python -m tests.mutants` tells in a while."""

from __future__ import annotations

import pytest

from tests.mutants.__main__ import ROOT, sources
from tests.mutants.table import MUTANTS, Mutant
from tests.mutants.trees import mutated


@pytest.fixture(scope="module")
def package() -> dict[str, str]:
    """The modules of localgcl."""
    return sources(ROOT)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_mutant_applies(package: dict[str, str], mutant: Mutant) -> None:
    """The package has what it changes, once, and what comes of it can be compiled."""
    path, source = mutated(mutant.place, mutant.change, package)
    compile(source, path, "exec")
    for tests in mutant.tests:
        assert (ROOT / tests).is_file()


def test_every_truth_has_mutants() -> None:
    """None of the ten truths goes untried, and every mutant has a name of its own."""
    assert {mutant.truth for mutant in MUTANTS} == set(range(1, 11))
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
