"""`/metrics`: the same counters, by Prometheus' own library."""

from __future__ import annotations

import httpx

from localgcl import Limiter
from tests.helpers.programs import Invoke


def test_it_tells_what_the_command_prints(
    client: httpx.Client, limiter: Limiter, invoke: Invoke
) -> None:
    """Both are one text."""
    assert client.get("/metrics").text == ""
    limiter.create("db", 2)
    limiter.create('b"\\', 2, slot_decay_per_second=0.01, active_slots=2)
    limiter.acquire("db").release()
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.text == invoke("metrics").output
    assert 'localgcl_grants_total{limit="db"} 1.0' in answer.text


def test_openmetrics_where_it_is_asked_for(client: httpx.Client, limiter: Limiter) -> None:
    """Prometheus asks for the newer format, and gets it."""
    limiter.create("db", 2)
    answer = client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
