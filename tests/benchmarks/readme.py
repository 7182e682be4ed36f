"""The tables and pictures of `README.md` in this folder, which the benchmarks write themselves."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

_FOLDER = os.path.dirname(__file__)
PATH = os.path.join(_FOLDER, "README.md")
# What lies there is part of neither the package nor the programs.
IMAGES = "../../examples/images"


def image(name: str) -> str:
    """Return where a picture lies, as the README links to it."""
    return f"{IMAGES}/{name}.svg"


def path_of(image: str) -> str:
    """Return the path of a picture, whose folder is made if it is missing."""
    path = os.path.normpath(os.path.join(_FOLDER, image))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def put(
    section: str, measured: str, table: str, notes: Sequence[str], image: str | None = None
) -> None:
    """Put a table, its picture and its notes where the README has a section for them."""
    with open(PATH, encoding="utf-8") as file:
        text = file.read()
    drawn = [] if image is None else [f"![The table below, drawn]({image})"]
    told = "\n".join(f"- {note}" for note in notes)
    folded = f"<details>\n<summary>What the table says</summary>\n\n{told}\n\n</details>"
    replaced = replace(
        text, section, "\n\n".join([*drawn, f"Measured on {measured}:", table, folded])
    )
    with open(PATH, "w", encoding="utf-8") as file:
        file.write(replaced)


def replace(text: str, section: str, content: str) -> str:
    """Return `text` with `content` between the marks of `section`; ValueError if they are not."""
    marks = re.compile(
        rf"(<!-- benchmarks: {section} -->\n).*?(<!-- end of benchmarks: {section} -->)",
        re.DOTALL,
    )
    replaced, count = marks.subn(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)
    if count != 1:
        raise ValueError(f"the README has {count} places for the benchmarks' {section}, not 1")
    return replaced
