"""`/metrics`: the same counters, by Prometheus' own library."""

from __future__ import annotations

import httpx
import pytest

from localgcl import Limiter
from tests.helpers.programs import Invoke


def test_it_tells_what_the_command_prints(
    client: httpx.Client, limiter: Limiter, invoke: Invoke
) -> None:
    """Both are one text, but for times since 1970: each reading computes them again."""
    assert client.get("/metrics").text == ""
    limiter.create("db", 2)
    limiter.create('b"\\', 2, slot_decay_per_second=0.01, active_slots=2)
    limiter.acquire("db").release()
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    printed = invoke("metrics").output
    assert without_moments(answer.text) == without_moments(printed)
    assert moments(answer.text) == pytest.approx(moments(printed), abs=0.1)
    assert list(moments(printed)) == ['localgcl_last_granted_timestamp_seconds{limit="db"}']
    assert 'localgcl_grants_total{limit="db"} 1.0' in answer.text


def without_moments(text: str) -> list[str]:
    """Return the lines, without the values of times since 1970."""
    return [line for line in text.splitlines() if "_timestamp_seconds{" not in line]


def moments(text: str) -> dict[str, float]:
    """Return the values of times since 1970."""
    lines = [line.rpartition(" ") for line in text.splitlines() if "_timestamp_seconds{" in line]
    return {name: float(value) for name, _, value in lines}


def test_openmetrics_where_it_is_asked_for(client: httpx.Client, limiter: Limiter) -> None:
    """Prometheus asks for the newer format, and gets it."""
    limiter.create("db", 2)
    answer = client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
