"""The witness sees what is wrong, and nothing else: journals written by hand."""

from __future__ import annotations

import pytest

from tests.endurance.rate import Meter
from tests.endurance.wishes import ASLEEP
from tests.endurance.witness import PATIENCE_SECONDS, Witness

LIMITS = """
limit plain 2 0
limit other 1 0
limit rate 2 10
limit window 2 0 1.0
"""


def found(journal: str) -> list[str]:
    """Return which truths a journal breaks."""
    wrong: list[str] = []
    witness = Witness(lambda problem: wrong.append(problem.partition(" (")[0]))
    lines = (line.strip() for line in (LIMITS + journal).split("\n"))
    witness.read(_words(line) for line in lines if line)
    return wrong


def _words(line: str) -> list[str]:
    if line.startswith("saw"):
        return [word.strip() for word in line.replace("saw", "saw|", 1).split("|")]
    return line.split(" ")


OVERTAKEN = "".join(
    f"""
    ask q-{number} 1.2 0 1 plain
    in q-{number} 1.3
    """
    for number in range(101)
)
"""One more than a request for two limits may be overtaken."""

WRONG = {
    "too many at once": (
        "truth 1",
        """
        ask p-1 1.0 1 2 plain
        ask q-1 1.0 1 1 plain
        in p-1 1.1
        in q-1 1.2
        """,
    ),
    "too many after it was lowered": (
        "truth 1",
        """
        resize plain 1
        resized plain 1
        ask p-1 1.0 1 1 plain
        ask q-1 1.0 1 1 plain
        in p-1 1.1
        in q-1 1.1
        """,
    ),
    "too many of one of its limits": (
        "truth 1",
        """
        ask p-1 1.0 1 1,2 other,plain
        in p-1 1.1
        ask q-1 1.0 1 1 plain
        in q-1 1.2
        """,
    ),
    "another number than it asked for is shown": (
        "truth 8",
        """
        ask p-1 1.0 1 1,2 other,plain
        in p-1 1.1
        look 1.2
        saw p-1,other,1 p-1,plain,1 |
        """,
    ),
    "granted while paused": (
        "truth 1",
        """
        paused plain
        ask p-1 1.0 1 1 plain
        in p-1 1.1
        """,
    ),
    "too many in a window": (
        "truth 6",
        """
        ask p-1 1.0 0 1 window
        in p-1 1.1
        ask p-2 1.2 0 2 window
        in p-2 1.9
        """,
    ),
    "overtaken for ever": (
        "truth 4",
        f"""
        ask p-1 1.0 1 1 plain,other
        look 1.1
        saw | p-1,plain,1 p-1,other,1
        {OVERTAKEN}
        look 1.4
        saw | p-1,plain,1 p-1,other,1
        """,
    ),
    "its process is gone, and a view shows the slot": (
        "truth 2",
        """
        ask p-1 1.0 1 1 plain
        in p-1 1.1
        kill p 1.2
        dead p
        look 1.3
        saw p-1,plain,1 |
        """,
    ),
    "its process is gone, and a view shows it waiting": (
        "truth 2",
        """
        ask p-1 1.0 1 1 plain
        kill p 1.2
        dead p
        look 1.3
        saw | p-1,plain,1
        """,
    ),
    "a client that renews is told that its lease is gone": (
        "truth 3",
        """
        ask p-1 1.0 1 1 plain
        in p-1 1.1
        gone p-1 1.2
        """,
    ),
    "it holds, and no view shows it": (
        "truth 3",
        """
        ask p-1 1.0 1 1 plain
        in p-1 1.1
        look 1.2
        saw |
        """,
    ),
    "somebody who came later was served before": (
        "truth 4",
        """
        ask p-1 1.0 1 1 plain
        look 1.1
        saw | p-1,plain,1
        ask q-1 1.2 1 1 plain
        in q-1 1.3
        look 1.4
        saw q-1,plain,1 | p-1,plain,1
        """,
    ),
    "it holds one of its two limits": (
        "truth 5",
        """
        ask p-1 1.0 1 1 plain,other
        look 1.1
        saw p-1,plain,1 |
        """,
    ),
    "too many in a time": (
        "truth 6",
        """
        ask p-1 1.0 0 1 rate
        in p-1 1.0
        ask p-2 1.0 0 1 rate
        in p-2 1.01
        ask p-3 1.01 0 1 rate
        in p-3 1.02
        """,
    ),
    "it is shown with another number of slots": (
        "truth 8",
        """
        ask p-1 1.0 1 2 plain
        in p-1 1.0
        look 1.1
        saw p-1,plain,1 |
        """,
    ),
    "it was granted, and is shown as waiting": (
        "truth 8",
        """
        ask p-1 1.0 1 1 plain
        in p-1 1.0
        look 1.1
        saw p-1,plain,1 | p-1,plain,1
        """,
    ),
    "it was granted, and is shown as waiting, with no row left of what was restored": (
        "truth 8",
        """
        ghosts
        cleared
        ask p-1 1.0 1 1 plain
        in p-1 1.0
        look 1.1
        saw p-1,plain,1 | p-1,plain,1
        """,
    ),
    "it was released, and is shown as holding": (
        "truth 9",
        """
        ask p-1 1.0 1 1 plain
        in p-1 1.1
        out p-1 1.2
        free p-1 1.3
        look 1.4
        saw p-1,plain,1 |
        """,
    ),
    "it timed out, and is shown as waiting for long": (
        "truth 9",
        """
        ask p-1 1.0 1 1 plain
        not p-1 timed-out 2.0
        look 9.0
        saw | p-1,plain,1
        """,
    ),
    "it failed though nothing was the matter": (
        "truth 10",
        """
        trouble
        better 0.5
        ask p-1 1.0 1 1 plain
        lost p-1 1.1 DatabaseError
        """,
    ),
    "a view failed though nothing was the matter": (
        "truth 10",
        """
        trouble
        better 0.5
        look 1.0
        blind DatabaseError
        """,
    ),
    "an operator failed though nothing was the matter": (
        "truth 10",
        """
        trouble
        better 0.5
        try
        hindered DatabaseError
        """,
    ),
}


@pytest.mark.parametrize(("truth", "journal"), WRONG.values(), ids=WRONG)
def test_what_is_wrong(truth: str, journal: str) -> None:
    """Each truth that can be broken is seen to be broken, once."""
    assert found(journal) == [truth]


RIGHT = {
    "in turn": """
        ask p-1 1.0 1 2 plain
        ask q-1 1.0 1 1 plain
        in p-1 1.1
        out p-1 1.2
        in q-1 1.2
        free p-1 1.3
        """,
    "as many in a window as there may be": """
        ask p-1 1.0 0 2 window
        in p-1 1.3
        ask p-2 1.2 0 2 window
        in p-2 2.0
        """,
    "held at a window, and given back before it has passed": """
        ask p-1 1.0 1 2 window
        in p-1 1.1
        kill p 1.2
        dead p
        ask q-1 1.3 0 2 window
        in q-1 1.4
        """,
    "before and after a pause": """
        ask p-1 1.0 1 1 plain
        paused plain
        in p-1 1.1
        resuming plain
        ask q-1 1.0 1 1 plain
        in q-1 1.2
        """,
    "overtaken while it lacks room elsewhere": """
        ask p-1 1.0 1 1 plain,other
        look 1.1
        saw | p-1,plain,1 p-1,other,1
        ask q-1 1.2 1 1 plain
        in q-1 1.3
        look 1.4
        saw q-1,plain,1 | p-1,plain,1 p-1,other,1
        """,
    "lowered under its holders": """
        ask p-1 1.0 1 1 plain
        ask q-1 1.0 1 1 plain
        resize plain 1
        in p-1 1.1
        in q-1 1.1
        resized plain 1
        """,
    "its process is about to be killed": """
        ask p-1 1.0 1 2 plain
        in p-1 1.1
        kill p 1.2
        ask q-1 1.0 1 2 plain
        in q-1 1.3
        """,
    "freed by an operator": """
        ask p-1 1.0 1 2 plain
        in p-1 1.1
        excuse p-1
        ask q-1 1.0 1 2 plain
        in q-1 1.3
        look 1.4
        saw q-1,plain,2 |
        """,
    "reset while it was asked for": """
        ask p-1 1.0 1 2 plain
        shake plain
        calm plain 2 0 1
        in p-1 1.1
        ask q-1 1.2 1 2 plain
        in q-1 1.3
        """,
    "disabled": """
        shake plain
        calm plain 2 0 0
        ask p-1 1.0 1 2 plain
        in p-1 1.1
        ask q-1 1.2 1 2 plain
        in q-1 1.3
        """,
    "released while somebody looked": """
        ask p-1 1.0 1 1 plain
        in p-1 1.1
        look 1.2
        out p-1 1.2
        free p-1 1.3
        saw p-1,plain,1 |
        """,
    "granted while somebody looked": """
        ask p-1 1.0 1 1 plain
        look 1.2
        in p-1 1.1
        saw | p-1,plain,1
        """,
    "tidied up a little later": """
        ask p-1 1.0 1 1 plain
        not p-1 timed-out 2.0
        look 2.1
        saw | p-1,plain,1
        """,
    "its fork may have kept it alive": """
        ask p-1 1.0 1 1 plain
        in p-1 1.1
        fork p
        kill p 1.2
        dead p
        look 1.3
        saw p-1,plain,1 |
        """,
    "a row of a backup": """
        ask p-1 1.0 1 1 plain
        in p-1 1.1
        out p-1 1.1
        free p-1 1.1
        ghosts
        cleared
        look 1.3
        saw p-1,plain,1 |
        """,
    "a row of before the log was lost": """
        ghosts
        shake *
        ask p-1 1.0 1 1 plain
        look 1.1
        saw | p-1,plain,1
        in p-1 1.2
        look 1.3
        saw | p-1,plain,1
        cleared
        """,
    "a row of before the log was lost, seen just before it was cleared away": """
        ghosts
        shake *
        ask p-1 1.0 1 1 plain
        in p-1 1.2
        look 1.3
        cleared
        saw | p-1,plain,1
        """,
    "not overtaken for certain": """
        ask p-1 1.0 1 1 plain
        look 1.1
        saw | p-1,plain,1
        ask q-1 1.2 1 1 plain
        look 1.3
        in q-1 1.3
        saw | p-1,plain,1
        """,
    "a rate that is kept": """
        ask p-1 1.0 0 2 rate
        in p-1 1.0
        ask p-2 1.0 0 1 rate
        in p-2 1.1
        """,
    "a lease that came back early": """
        ask p-1 1.0 1 2 rate
        in p-1 1.0
        out p-1 1.01
        free p-1 1.02
        ask p-2 1.03 0 1 rate
        in p-2 1.03
        """,
    "a command whose wrapper was killed": """
        ask p-1 1.0 1 1 plain
        orphan p-1
        began p-1 1.1
        look 1.2
        saw p-1,plain,1 |
        out p-1 1.3
        """,
    "what was given back before its task was told that it is cancelled": """
        ask p-1 1.0 1 2 rate
        in p-1 1.0
        out p-1 1.01
        ask q-1 1.01 1 2 rate
        not p-1 cancelled 1.15
        in q-1 1.1
        """,
    "the disk was full": """
        ask p-1 1.0 1 1 plain
        trouble
        lost p-1 1.1 DatabaseError
        look 1.1
        blind DatabaseError
        try
        better 1.2
        hindered DatabaseError
        """,
}


@pytest.mark.parametrize("journal", RIGHT.values(), ids=RIGHT)
def test_what_may_be(journal: str) -> None:
    """What an operator, a fault or a slow process may bring about is no violation."""
    assert found(journal) == []


def test_what_takes_too_long() -> None:
    """A request that is never answered is seen, unless its process is gone."""
    witness = Witness(lambda problem: pytest.fail(problem))
    witness.read(_words(line) for line in LIMITS.strip().split("\n"))
    witness.read(
        [["ask", "p-1", "1.0", "1", "1", "plain"], ["ask", "q-1", "1.0", "1", "1", "rate"]]
    )
    witness.read([["kill", "q", "1.0"]])
    assert witness.too_long(1.0 + PATIENCE_SECONDS) == []
    assert [one.tag for one in witness.too_long(1.1 + PATIENCE_SECONDS)] == ["p-1"]


def test_who_waits_for_a_sleeper_waits_too_long_once_it_is_gone() -> None:
    """Its holder may keep the slot for ever; once that has been killed, the next one gets it."""
    witness = Witness(lambda problem: pytest.fail(problem))
    witness.read([["limit", ASLEEP, "1", "0"]])
    witness.read([["ask", f"{one}-1", "1.0", "1", "1", ASLEEP] for one in ("p", "q")])
    witness.read([["in", "p-1", "1.5"]])
    killed = 2.0 + PATIENCE_SECONDS
    assert witness.too_long(killed) == []
    witness.read([["kill", "p", str(killed)]])
    assert witness.too_long(killed + PATIENCE_SECONDS) == []
    assert [one.tag for one in witness.too_long(killed + PATIENCE_SECONDS + 0.1)] == ["q-1"]


def test_the_meter_finds_the_worst_time() -> None:
    """A burst is found in any stretch, however low the rate was before and after."""
    meter = Meter(2, 1.0)
    assert meter.admit(10.0, 10.0, 1) == 0
    assert meter.admit(20.0, 20.0, 2) == 0
    assert meter.admit(20.0, 20.5, 1) == 0.5
    meter.give_back("early", 1.0)
    assert meter.admit(20.5, 21.0, 1) == 0
