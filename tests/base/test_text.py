"""Text as it is shown."""

from __future__ import annotations

import pytest

from localgcl._base.text import shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("backup.sh --full", "backup.sh --full"),
        ("a\x1b[31mb\nc\x07", "a [31mb c "),
        ("\u202etxt.exe\u2028", " txt.exe "),
        ("数据库", "数据库"),
        ("x" * 50, "x" * 37 + "..."),
    ],
)
def test_shortened(text: str, shown: str) -> None:
    """Nothing that a terminal would obey gets through, and lines stay short."""
    assert shortened(text) == shown
