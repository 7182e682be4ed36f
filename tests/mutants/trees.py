"""How a mutant changes the code: by the names of definitions, and by syntax trees.

Neither the module of a definition nor the layout of the code matters. A mutated module has the
layout that `ast.unparse` gives it, and no comments.
"""

from __future__ import annotations

import ast
import functools
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass


class DoesNotApplyError(ValueError):
    """What a mutant changes is not there exactly once."""


@dataclass(frozen=True)
class Code:
    """Replaces an expression or a run of statements, whose syntax tree is that of `old`.

    An expression is replaced by an expression. Statements may be replaced by none.
    """

    old: str
    new: str

    def edits(self, definition: ast.stmt) -> list[Callable[[], None]]:
        """Return one function for each place in the definition; it changes the tree there."""
        old, new = _parsed(self.old), _parsed(self.new)
        if len(old) == len(new) == 1:
            match old[0], new[0]:
                case ast.Expr(value=one), ast.Expr(value=other):
                    old, new = [one], [other]
        sought = list(map(ast.dump, old))
        return [
            functools.partial(_replace, parent, field, start, len(sought), new)
            for parent in ast.walk(definition)
            for field, children in _children(parent)
            for start in range(len(children) - len(sought) + 1)
            if list(map(ast.dump, children[start : start + len(sought)])) == sought
        ]


@dataclass(frozen=True)
class Sql:
    """Replaces a part of a string. One run of white space is like any other."""

    old: str
    new: str

    def edits(self, definition: ast.stmt) -> list[Callable[[], None]]:
        """Return one function for each place in the definition; it changes the tree there."""
        sought = re.compile(r"\s+".join(map(re.escape, self.old.split())))
        statements = {node.value for node in ast.walk(definition) if isinstance(node, ast.Expr)}
        return [
            functools.partial(
                setattr, node, "value", text[: at.start()] + self.new + text[at.end() :]
            )
            for node in ast.walk(definition)
            if isinstance(node, ast.Constant) and node not in statements  # which are docstrings
            if isinstance(text := node.value, str)
            for at in sought.finditer(text)
        ]


Change = Code | Sql


def mutated(place: str, change: Change, sources: Mapping[str, str]) -> tuple[str, str]:
    """Return the path of the module that changes, and its mutated source.

    `place` is the qualified name of a function, a class or a constant. A folder goes before it
    where the name alone is ambiguous, as in `_engine:take`. `sources` are all modules of the
    package by their paths. What is changed must be there once in all that has this name.
    """
    folder, _, name = place.rpartition(":")
    found = []
    is_defined = False
    for path, source in sources.items():
        if folder in ("", re.split("[/.]", path)[0]) and any(_definitions(_tree(source), name)):
            is_defined = True
            tree = ast.parse(source)  # one that may be changed
            for definition in _definitions(tree, name):
                found += [(path, tree, definition, edit) for edit in change.edits(definition)]
    if not is_defined:
        raise DoesNotApplyError(f"nothing is called {place}")
    if len(found) != 1:
        raise DoesNotApplyError(f"{len(found)} places in {place} have {change.old!r}")
    path, tree, definition, edit = found[0]
    before = ast.dump(definition)
    edit()
    if ast.dump(definition) == before:
        raise DoesNotApplyError(f"nothing changes in {place}")
    return path, ast.unparse(tree)


@functools.cache
def _tree(source: str) -> ast.Module:
    return ast.parse(source)


def _parsed(source: str) -> list[ast.AST]:
    return list(ast.parse(textwrap.dedent(source)).body)


def _definitions(parent: ast.AST, name: str) -> Iterator[ast.stmt]:
    """Return what has this qualified name; alternatives to each other have the same."""
    first, _, rest = name.partition(".")
    for node in ast.iter_child_nodes(parent):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if node.name == first and rest:
                    yield from _definitions(node, rest)
                elif node.name == first:
                    yield node
            case ast.Assign(targets=[ast.Name(id=defined)]):
                if defined == name:
                    yield node
            case ast.AnnAssign(target=ast.Name(id=defined)):
                if defined == name:
                    yield node
            case ast.stmt() | ast.ExceptHandler():  # `if` and `try` around definitions
                yield from _definitions(node, name)


def _children(parent: ast.AST) -> Iterator[tuple[str, list[ast.AST]]]:
    """Return each field of a node that has nodes, as a list."""
    for field, value in ast.iter_fields(parent):
        if isinstance(value, ast.AST):
            yield field, [value]
        elif isinstance(value, list) and all(isinstance(one, ast.AST) for one in value):
            yield field, value


def _replace(parent: ast.AST, field: str, start: int, count: int, new: list[ast.AST]) -> None:
    value = getattr(parent, field)
    if isinstance(value, list):
        value[start : start + count] = new
        if field == "body" and not value:
            value.append(ast.Pass())
    else:
        setattr(parent, field, new[0])
