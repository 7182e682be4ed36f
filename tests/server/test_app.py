"""What is beside the limits: health, version, the missing CSRF token, and paths of nothing."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from localgcl import Limiter
from localgcl.server import live
from localgcl.server.answers import NO_SUCH_API
from tests.helpers.served import LIMITS, Serve
from tests.helpers.waiting import until

AUTH = "app:password"
AUTHORIZED = {"authorization": "Basic " + base64.b64encode(AUTH.encode()).decode()}


def test_what_probes_and_clients_ask(client: httpx.Client) -> None:
    """The server says that it is there, that it can work, and whose version it stands for."""
    for where, content in (
        ("/api/health", True),
        ("/api/ready", {"message": "OK"}),
        ("/api/admin/version", "3.99.0"),
    ):
        answer = client.get(where)
        assert (answer.status_code, answer.json()) == (200, content)


def test_there_is_no_csrf_token(client: httpx.Client) -> None:
    """The one refusal after which a client goes on without, and no other tries again."""
    answer = client.get("/api/csrf-token", params={"client": "0a"})
    assert answer.status_code == 422
    assert "CSRF protection is disabled." in answer.json()["detail"]


NOTHING = [
    ("GET", "/api", 404),
    ("GET", "/api/", 404),
    ("GET", "/api/nothing", 404),
    ("GET", "/api/v2/concurrency_limits/", 405),
    ("GET", "/static/../page.py", 404),
    ("GET", "/static/%2e%2e/%2e%2e/app.py", 404),
    ("DELETE", "/", 405),
    ("POST", "/api/health", 405),
    ("GET", "/api/v2/concurrency_limits/a%2Fb", 404),
    ("GET", "/api/v2/concurrency_limits/%FF%FE", 404),
    ("GET", "/api/v2/concurrency_limits/%00", 404),
    ("PUT", "/api/v2/concurrency_limits/a", 405),
]


def test_paths_of_nothing(client: httpx.Client) -> None:
    """They are answered in JSON, and never with a page."""
    for method, where, status in NOTHING:
        answer = client.request(method, where)
        assert answer.status_code == status, where
        assert isinstance(answer.json()["detail"], str), where


UNKNOWN = [
    ("POST", "/api/flow_runs/"),
    ("POST", "/api/deployments/filter"),
    ("GET", "/api/work_pools/default"),
    ("GET", "/api/v2/nothing"),
    ("GET", "/api"),
    ("GET", "/api/"),
    ("PUT", "/api/logs/"),
]


def test_what_else_prefect_has_is_not_here(client: httpx.Client) -> None:
    """Whoever runs flows against this server is told what it serves, and what to do."""
    for method, where in UNKNOWN:
        answer = client.request(method, where, content=b"{}" if method != "GET" else None)
        assert (answer.status_code, answer.json()) == (404, {"detail": NO_SUCH_API}), where
    for where in ("/nothing", "/apis", "/ui/nothing", f"{LIMITS}/none", "/static/none"):
        answer = client.get(where)
        assert (answer.status_code, answer.json()["detail"] != NO_SUCH_API) == (404, True), where


FAULTS = ["/api/ready", f"{LIMITS}/db", "/ui/limits", "/ui/limits/db", "/metrics"]


@pytest.mark.parametrize("auth", [None, AUTH])
def test_a_fault_is_told_without_the_path(
    serve: Serve, limiter: Limiter, path: str, monkeypatch: pytest.MonkeyPatch, auth: str | None
) -> None:
    """Which file it is, is for those who have come in with a password on this machine."""
    monkeypatch.setattr(live, "SAMPLE_SECONDS", 0.02)
    limiter.create("db", 1)
    limiter.close()
    served = serve(auth=auth)
    folder = str(Path(path).parent)
    with served.client(headers=AUTHORIZED) as client:
        Path(path).unlink()
        Path(path).write_text("no database at all")
        until(lambda: client.get("/api/ready").status_code == 503)
        others: list[Any] = [{}] if auth is None else [{"x-forwarded-for": "10.0.0.1"}]
        for more in others:
            for where in FAULTS:
                answer = client.get(where, headers=more)
                assert answer.status_code == 503, where
                assert folder not in answer.text, where
                assert "doctor" in answer.text, where
        if auth is not None:
            # Probes of anybody are let in without looking at what they bring.
            assert folder not in client.get("/api/ready").text
            assert folder in client.get(f"{LIMITS}/db").json()["detail"]
    with served.client() as stranger:
        for where in ("/api/ready", "/api/health", *FAULTS):
            assert folder not in stranger.get(where).text, where
