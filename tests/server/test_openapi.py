"""The description of the API: it has every endpoint, and the page shows what it says."""

from __future__ import annotations

import json
import re

import httpx

from localgcl.server import administration, openapi, slots


def test_every_endpoint_is_described(client: httpx.Client) -> None:
    """Each route has its operation, with a summary, its answers and its body."""
    described = client.get("/api/openapi.json").json()
    assert described == openapi.document()
    operations = {
        (method.upper(), path.removeprefix("/api"))
        for path, methods in described["paths"].items()
        for method in methods
    }
    routes = {
        (method, route.path_format)
        for route in (*administration.ROUTES, *slots.ROUTES)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert operations == routes - {("POST", administration.PREFIX)}
    for methods in described["paths"].values():
        for method, operation in methods.items():
            assert operation["summary"].endswith(".")
            assert ("requestBody" in operation) == (method in ("post", "patch"))


def test_every_reference_leads_somewhere() -> None:
    """What the description refers to is in it."""
    described = openapi.document()
    references = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(described)))
    assert "Limit" in references
    assert references <= set(described["components"]["schemas"])


def test_the_page_shows_it(client: httpx.Client) -> None:
    """Every path and key, without a script."""
    page = client.get("/api/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    described = openapi.document()
    for path in described["paths"]:
        assert path in page.text
    for key in described["components"]["schemas"]["TakeLease"]["properties"]:
        assert f"<code>{key}</code>" in page.text
    assert "<script" not in page.text
    assert "style=" not in page.text
