"""What is beside the limits: health, version, the missing CSRF token, and paths of nothing."""

from __future__ import annotations

import httpx


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
