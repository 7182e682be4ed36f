"""All the peers, in the order of the table."""

from __future__ import annotations

from tests.benchmarks.peers.adapter import Adapter
from tests.benchmarks.peers.commands import Flock, Run, Sem
from tests.benchmarks.peers.libraries import (
    Diskcache,
    Filelock,
    Localgcl,
    Portalocker,
    PyrateLimiter,
)
from tests.benchmarks.peers.prefect_server import Prefect

ADAPTERS: dict[str, type[Adapter]] = {
    "localgcl": Localgcl,
    "run": Run,
    "prefect": Prefect,
    "pyrate": PyrateLimiter,
    "portalocker": Portalocker,
    "filelock": Filelock,
    "diskcache": Diskcache,
    "sem": Sem,
    "flock": Flock,
}
