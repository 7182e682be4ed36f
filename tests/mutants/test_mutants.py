"""The mutants still apply. Whether each is noticed, `python -m tests.mutants` tells in a while."""

from __future__ import annotations

import pytest

from tests.mutants.__main__ import ROOT, mutated
from tests.mutants.table import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_mutant_applies(mutant: Mutant) -> None:
    """The code has the text that it replaces, once, and what comes of it can be compiled."""
    source = (ROOT / "localgcl" / mutant.file).read_text(encoding="utf-8")
    compile(mutated(mutant, source), mutant.file, "exec")
    for tests in mutant.tests:
        assert (ROOT / tests).is_file()


def test_every_truth_has_mutants() -> None:
    """None of the ten truths goes untried, and every mutant has a name of its own."""
    assert {mutant.truth for mutant in MUTANTS} == set(range(1, 11))
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_a_mutant_that_does_not_apply() -> None:
    """Text that is not there, or there twice, is an error."""
    mutant = Mutant("name", 1, "file.py", "old", "new")
    for source in ("", "old and old"):
        with pytest.raises(ValueError, match="places"):
            mutated(mutant, source)
