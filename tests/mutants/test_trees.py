"""A mutant follows the code where that is moved or formatted, and fails where it is ambiguous."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.trees import Change, Code, DoesNotApplyError, Sql, mutated

QUEUE = '''
"""The queue."""

NEXT = (
    "SELECT ticket FROM waits"
    " WHERE limit_key = ? ORDER BY ticket"
)

if True:
    DELAY: float = 1.0
else:
    DELAY = 2.0


def promote(keys, *, share=1):
    """Serve the queues; ORDER BY ticket."""
    for key in keys:
        if key and key > share:
            wake(key)  # at once
            count(key)


class Waiter:
    names = ["a", "b"]

    async def leave(self):
        def drop():
            return self.names

        try:
            drop()
        except (OSError, MemoryError) as error:
            raise ValueError("gone") from error
'''


# What is changed, and a piece of the result.
CHANGES: dict[str, tuple[str, Change, str]] = {
    "an expression": ("promote", Code("key > share", "key >= share"), "if key and key >= share:"),
    "a default": ("promote", Code("1", "2"), "def promote(keys, *, share=2):"),
    "a statement": ("promote", Code("count(key)", "return"), "wake(key)\n            return\n"),
    "a call": ("promote", Code("count(key)", "forget(key)"), "wake(key)\n            forget(key)"),
    "one more": ("promote", Code("wake(key)", "wake(key)\nbreak"), "break\n            count"),
    "a statement less": ("promote", Code("wake(key)", ""), "share:\n            count(key)"),
    "the whole body": ("promote", Code("wake(key)\ncount(key)", ""), "share:\n            pass"),
    "a method": ("Waiter.leave", Code("drop()", "return"), "try:\n            return\n"),
    "a class": ("Waiter", Code('["a", "b"]', "[]"), "names = []"),
    "what is caught": ("Waiter.leave", Code("(OSError, MemoryError)", "OSError"), "except OSError"),
    "a nested function": ("Waiter.leave.drop", Code("self.names", "None"), "return None"),
    "a constant": ("NEXT", Sql("ORDER BY ticket", "ORDER BY slots"), "? ORDER BY slots'"),
    "a part over two lines": ("NEXT", Sql("waits WHERE", "waiters\n  WHERE"), "FROM waiters\\n "),
    "one of two": ("DELAY", Code("1.0", "0.1"), "DELAY: float = 0.1\nelse:\n    DELAY = 2.0"),
}


@pytest.mark.parametrize(("place", "change", "piece"), CHANGES.values(), ids=CHANGES)
def test_what_is_changed(place: str, change: Change, piece: str) -> None:
    """Of the module only that changes, and the result can be compiled."""
    path, after = mutated(place, change, {"queue.py": QUEUE})
    compile(after, path, "exec")
    before = ast.unparse(ast.parse(QUEUE))
    assert piece in after
    assert piece not in before
    # Two lines where one becomes `pass` or two.
    assert len(set(after.splitlines()) - set(before.splitlines())) <= 2


def formatted(source: str) -> str:
    """Return the same code in another layout, with another comment."""
    other = ast.unparse(ast.parse(source)).replace("'", '"')
    return other.replace("wake(key)", "wake(\n  key,  # soon\n)").replace(" and key", " and  key")


@pytest.mark.parametrize(("place", "change", "piece"), CHANGES.values(), ids=CHANGES)
def test_moved_and_formatted(place: str, change: Change, piece: str) -> None:
    """Code that goes to another module and is formatted anew is changed as before."""
    moved = {"queue.py": "def serve(key):\n    wake(key)\n", "engine/later.py": formatted(QUEUE)}
    path, after = mutated(place, change, moved)
    assert path == "engine/later.py"
    assert after == mutated(place, change, {"queue.py": QUEUE})[1]


def test_one_function_that_is_moved() -> None:
    """A function that leaves its neighbours behind is found in its new module."""
    tree = ast.parse(QUEUE)
    promote = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    tree.body.remove(promote)
    split = {"queue.py": ast.unparse(tree), "grants.py": ast.unparse(promote)}
    path, after = mutated("promote", Code("key > share", "True"), split)
    assert path == "grants.py"
    assert "if key and True:" in after


def test_a_folder() -> None:
    """Where a name is ambiguous, a folder or a module of the package is named with it."""
    package = {"engine/queue.py": QUEUE, "engines.py": QUEUE, "sync.py": QUEUE}
    change = Code("key > share", "key < share")
    assert mutated("engine:promote", change, package)[0] == "engine/queue.py"
    assert mutated("sync:promote", change, package)[0] == "sync.py"
    with pytest.raises(DoesNotApplyError, match="3 places"):
        mutated("promote", change, package)


@pytest.mark.parametrize(
    ("place", "change", "problem"),
    [
        ("demote", Code("key", "None"), "nothing is called demote"),
        ("leave", Code("drop()", ""), "nothing is called leave"),
        ("server:promote", Code("key > share", ""), "nothing is called server:promote"),
        ("promote", Code("key < share", "None"), "0 places"),
        ("promote", Code("keys[0]", "None"), "0 places"),
        ("promote", Code("key", "None"), "4 places"),
        ("promote", Sql("ORDER BY ticket", ""), "0 places"),  # in a docstring
        ("NEXT", Sql("t", ""), "6 places"),
        ("promote", Code("key > share", "(key > share)"), "nothing changes"),
    ],
)
def test_what_does_not_apply(place: str, change: Change, problem: str) -> None:
    """What is not there is an error, and so is what is there twice."""
    with pytest.raises(DoesNotApplyError, match=problem):
        mutated(place, change, {"queue.py": QUEUE})
