"""What several test files use. Fixtures are in the `conftest.py` of their folders.

`waiting`, `descriptors`, `users` and `needs` know little of localgcl. `flavours`, `database`,
`usage` and `tasks` call it; `played` plays other processes inside this one. `programs` and `doctor`
are for the command line, `actors` for real processes, `served`, `websockets` and `page` for the
server. `interrupts`, `gate` and `foreign_files` bring about what is rare. `model` says what limits
come to, without SQL.
"""

from __future__ import annotations

import pkgutil

import pytest

# A failed assertion in here says as much as one in a test.
pytest.register_assert_rewrite(
    *(f"{__name__}.{one.name}" for one in pkgutil.iter_modules(__path__))
)
